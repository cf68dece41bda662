//! An operator's orders to a running lane, and who may give them.

use crate::client::{Answer, ask, get};
use crate::process::{Tidegate, eventually};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::thread;

const LANE: &str = "/api/v1/lanes/messages%40none";

#[test]
fn a_paused_lane_sends_nothing_until_it_is_resumed() {
    let api = Tidegate::free_api();
    let tidegate = Tidegate::run(&api.url(), &[]);
    let (listen, admin) = (tidegate.listen, tidegate.admin);
    assert_eq!(get(listen, "/messages").status, 200);
    assert_eq!(lane(&order(admin, "", r#"{"action":"pause"}"#))["paused"], true);

    let waiting = thread::spawn(move || get(listen, "/messages"));
    eventually("the queue", || lane(&get(admin, LANE))["queue_depth"] == 1);
    let paused = lane(&get(admin, LANE));
    assert_eq!((&paused["paused_until"], &paused["in_flight"]), (&Value::Null, &0.into()));
    assert_eq!(lane(&order(admin, "", r#"{"action":"resume"}"#))["paused"], false);
    assert_eq!(waiting.join().unwrap().status, 200);

    let pinned = lane(&order(admin, "", r#"{"action":"pin","rate":"300/min"}"#));
    assert_eq!((&pinned["pinned_rps"], &pinned["pace_rps"]), (&5.0.into(), &5.0.into()));
    assert_eq!(lane(&order(admin, "", r#"{"action":"forget"}"#))["pinned_rps"], Value::Null);
    eventually("the log", || {
        let log = tidegate.stderr();
        ["pause", "resume", "pin", "forget"]
            .iter()
            .all(|action| log.contains(&format!("action=\"{action}\"")))
    });
    assert!(tidegate.stderr().contains("lane=\"messages@none\""), "{}", tidegate.stderr());
}

#[test]
fn a_token_is_asked_of_everyone_and_shown_to_nobody() {
    const TOKEN: &str = "canary-5b1e9d7f3c";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let api = Tidegate::free_api();
    let flags = ["--log", "trace", "--admin-token-file", file.to_str().unwrap()];
    let tidegate = Tidegate::run(&api.url(), &flags);
    assert_eq!(get(tidegate.listen, "/messages").status, 200);

    let pause = r#"{"action":"pause","for":"10ms"}"#;
    for wrong in ["", "Authorization: Bearer canary\r\n", &format!("X-Token: {TOKEN}\r\n")] {
        let answer = order(tidegate.admin, wrong, pause);
        assert_eq!(answer.status, 401, "{answer:?}");
        assert_eq!(answer.field("www-authenticate").as_deref(), Some("Bearer"));
        assert!(!answer.body.contains(TOKEN), "{answer:?}");
    }
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let answers = [
        order(tidegate.admin, &right, pause),
        order(tidegate.admin, &right, TOKEN),
        order(tidegate.admin, &right, r#"{"action":"stop"}"#),
    ];
    assert_eq!(answers.each_ref().map(|answer| answer.status), [200, 400, 400]);
    assert_eq!(get(tidegate.admin, LANE).status, 200, "looking needs no token");
    eventually("the log", || tidegate.stderr().contains("an operator's order"));
    for text in [tidegate.stderr(), tidegate.stdout(), get(tidegate.admin, "/metrics").body] {
        assert!(!text.contains(TOKEN), "{text}");
    }
}

fn order(to: SocketAddr, fields: &str, body: &str) -> Answer {
    let request = format!(
        "PATCH {LANE} HTTP/1.1\r\nHost: {to}\r\n{fields}Content-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    ask(to, &request).unwrap()
}

fn lane(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}
