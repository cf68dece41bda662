//! Starting: what is said, to whom, and with which exit code.

use crate::client::{get, metric};
use crate::process::{PATIENCE, Tidegate, eventually, tidegate};
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

/// Nothing listens there; most tests here ask nothing of it.
const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn help_has_examples_and_mistakes_have_exit_code_two() {
    for (args, says) in [
        (&["--help"][..], "tidegate run --upstream https://api.mypurecloud.com"),
        (&["run", "--help"], "--law fixed --rate 300/min"),
        (&["sim", "--help"], "--model anchored --retry-after reset"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let ended = tidegate(args);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains(says), "{ended:?}");
    }
    for (args, says) in [
        (&["run", "--upstream", NOWHERE, "--colour"][..], "--colour"),
        (&["run", "--upstream", NOWHERE, "--law", "fixed"], "--rate 10/s"),
        (&["run", "--upstream", NOWHERE, "--rate", "10/s"], "add --law fixed, or leave --rate out"),
        (&["run", "--upstream", "api.example.com"], "https://api.mypurecloud.com"),
        (&["run"], "--upstream"),
    ] {
        let ended = tidegate(args);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(says) && ended.stdout.is_empty(), "{ended:?}");
    }
}

#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    for (flag, other) in [("--listen", "--admin"), ("--admin", "--listen")] {
        let ended = tidegate(&["run", "--upstream", NOWHERE, flag, &taken, other, "127.0.0.1:0"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(&format!("cannot listen on {taken}")), "{ended:?}");
        assert!(ended.stderr.contains(&format!("{flag} 127.0.0.1:0")), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "one clear message: {ended:?}");
        assert!(!ended.stdout.contains("listening"), "{ended:?}");
    }
    let ended = tidegate(&["sim", "--listen", &taken]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("--listen 127.0.0.1:0"), "{ended:?}");
}

#[test]
fn the_greeting_says_what_to_do_next() {
    let tidegate = Tidegate::run(NOWHERE, &[]);
    let (said, port) = (tidegate.stdout(), tidegate.listen.port());
    assert_ne!(port, 0);
    for part in [
        format!("listening on http://127.0.0.1:{port}"),
        format!("admin on http://{}/metrics", tidegate.admin),
        format!("jmeter -n -t plan.jmx -l out.jtl -H 127.0.0.1 -P {port}"),
    ] {
        assert!(said.contains(&part), "{part} not in\n{said}");
    }
    assert_eq!(get(tidegate.admin, "/healthz").status, 200);
    assert_eq!(get(tidegate.admin, "/readyz").status, 200);
    tidegate.signal(Signal::INT);
    assert_eq!(tidegate.end(PATIENCE).code, Some(0), "nothing was queued: it ends at once");
}

#[test]
fn metrics_are_there_after_the_first_request() {
    let api = Tidegate::free_api();
    let tidegate = Tidegate::run(&api.url(), &[]);
    let answer = get(tidegate.listen, "/api/v2/users/7d1c2a94-3b0e-4f57-9a44-2f8f0a5f0c11");
    assert_eq!(answer.status, 200, "{answer:?}");
    eventually("the request's end", || metric(tidegate.admin, "tidegate_requests_total", "") > 0.0);
    let page = get(tidegate.admin, "/metrics");
    assert_eq!(page.field("content-type").unwrap(), "text/plain; version=0.0.4; charset=utf-8");
    for name in [
        r#"tidegate_requests_total{lane="users@none",method="GET",status="200"} 1"#,
        r#"tidegate_upstream_responses_total{lane="users@none",status="200"} 1"#,
        r#"tidegate_throttled_total{lane="users@none"} 0"#,
        r#"tidegate_retries_total{lane="users@none",reason="throttled"} 0"#,
        r#"tidegate_refused_total{lane="users@none",reason="queue_full"} 0"#,
        r#"tidegate_abandoned_total{lane="users@none"} 0"#,
        r#"tidegate_queue_depth{lane="users@none"} 0"#,
        r#"tidegate_in_flight{lane="users@none"} 0"#,
        r#"tidegate_lane_pace_requests_per_second{lane="users@none"} "#,
        r#"tidegate_queue_wait_seconds_count{lane="users@none"} 1"#,
        r#"tidegate_upstream_duration_seconds_count{lane="users@none"} 1"#,
        "tidegate_build_info{",
        "tidegate_lanes 1",
        "tidegate_lanes_max 1000",
        "tidegate_queue_tickets_max 10000",
        "tidegate_replay_buffer_bytes 0",
        "tidegate_replay_buffer_bytes_max 268435456",
        "tidegate_client_connections ",
        "tidegate_client_connections_max ",
        r#"tidegate_setting{key="listen.http2.streams_max"} 100"#,
        r#"tidegate_setting{key="queue.deadline"} 120"#,
        "tidegate_draining 0",
    ] {
        assert!(page.body.lines().any(|line| line.starts_with(name)), "{name} not in\n{}", page.body);
    }
    let lanes: serde_json::Value = serde_json::from_str(&get(tidegate.admin, "/api/v1/lanes").body).unwrap();
    assert_eq!(lanes.pointer("/lanes/0/route").unwrap(), "/api/v2/users/{id}");
}

#[test]
fn the_key_is_kept_for_its_owner_alone() {
    let tidegate = Tidegate::run(NOWHERE, &[]);
    let key = tidegate.key_file();
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let folder = key.parent().unwrap().to_str().unwrap();
    let free = "127.0.0.1:0";
    let args = ["run", "--upstream", NOWHERE, "--listen", free, "--admin", free, "--state-dir", folder];
    let ended = crate::process::tidegate(&args);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&format!("chmod 600 {}", key.display())), "{ended:?}");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_a_warning() {
    let tidegate = Tidegate::run(NOWHERE, &["--state-dir", "/dev/null/state"]);
    eventually("the warning", || tidegate.stderr().contains("/dev/null/state"));
    assert_eq!(get(tidegate.admin, "/readyz").status, 200);
}

#[test]
fn connections_leave_files_for_the_upstream_and_for_the_operator() {
    // The soft limit goes up to the hard one: at 100 there would be room for 18.
    let proxy = Tidegate::run_after("ulimit -S -n 100 && ulimit -H -n 200", NOWHERE);
    let count = |name| metric(proxy.admin, name, "").to_string();
    let room = ((200 - 64) / 2).to_string();
    assert_eq!(count("tidegate_client_connections_max"), room);
    assert!(proxy.stderr().contains("bounded by the limit of open files"), "{}", proxy.stderr());
    let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(proxy.listen).unwrap()).collect();
    eventually("as many as there is room for", || count("tidegate_client_connections") == room);
    assert_eq!(get(proxy.admin, "/healthz").status, 200);
    assert_eq!(count("tidegate_client_connections"), room);
    drop(clients);
    // Who waited is served now, and has files for an upstream that is not there.
    assert_eq!(get(proxy.listen, "/").status, 502);
}
