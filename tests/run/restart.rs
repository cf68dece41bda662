//! What a run learnt is where the next one starts.

use crate::client::{ask, get, metric};
use crate::process::{PATIENCE, Tidegate, eventually};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const CANARY: &str = "canary-8d2f6b1c4e";
const SESSIONS: usize = 60;

#[test]
fn a_restart_does_not_pay_for_the_limit_again() {
    // A start goes on while the first refusals are on their way.
    let api = Tidegate::sim(&["--limit", "50/s", "--latency", "400ms", "--jitter", "0ms"]);
    let folder = tempfile::tempdir().unwrap();
    let run = || Tidegate::run(&api.url(), &["--state-dir", folder.path().to_str().unwrap()]);

    let first = run();
    let paid_first = refusals_of(&first, 150);
    let learnt = lane(first.admin);
    assert!(learnt["limit"].is_object(), "{learnt}");
    first.signal(Signal::TERM);
    assert_eq!(first.end(PATIENCE).code, Some(0));
    let text = fs::read_to_string(file(folder.path())).unwrap();
    let kept: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&kept["version"], &kept["limits"][0]["route"]), (&1.into(), &learnt["route"]), "{text}");
    let hash = learnt["credential"].as_str().unwrap();
    assert!(!text.contains(CANARY) && !text.contains(hash), "{text}");

    let second = run();
    assert_eq!(ask(second.listen, &request(second.listen)).unwrap().status, 200);
    let remembered = lane(second.admin);
    let pace = |lane: &Value| lane["pace_rps"].as_f64().unwrap();
    assert!((pace(&remembered) - pace(&learnt)).abs() < 0.2 * pace(&learnt), "{learnt}\n{remembered}");
    assert!(remembered["limit"]["says"].as_str().unwrap().contains("remembered"), "{remembered}");
    let paid_again = refusals_of(&second, 150);
    assert!(paid_again < paid_first / 2.0, "{paid_again} refusals after a restart, {paid_first} before");
}

#[test]
fn a_damaged_memory_is_a_warning_and_written_anew() {
    let api = Tidegate::sim(&["--limit", "20/s", "--latency", "0ms", "--jitter", "0ms"]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(file(folder.path()), "{\"version\": 1, \"limits\": [{\"upst").unwrap();
    let tidegate = Tidegate::run(&api.url(), &["--state-dir", folder.path().to_str().unwrap()]);
    eventually("the warning", || {
        let log = tidegate.stderr();
        log.contains("limits.json") && log.contains("lanes start anew: it is damaged")
    });
    refusals_of(&tidegate, 80);
    tidegate.signal(Signal::TERM);
    assert_eq!(tidegate.end(PATIENCE).code, Some(0));
    let kept: Value = serde_json::from_slice(&fs::read(file(folder.path())).unwrap()).unwrap();
    assert_eq!(kept["limits"].as_array().unwrap().len(), 1, "{kept}");
}

/// Sessions that ask again and again until so many answers are in; gives how many tries the API refused by then.
fn refusals_of(tidegate: &Tidegate, answers: u32) -> f64 {
    let (listen, admin) = (tidegate.listen, tidegate.admin);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..SESSIONS {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    assert_eq!(ask(listen, &request(listen)).unwrap().status, 200);
                }
            });
        }
        eventually("the answers", || metric(admin, "tidegate_accepted_total", "") >= f64::from(answers));
        enough.store(true, Ordering::Relaxed);
        metric(admin, "tidegate_throttled_total", "")
    })
}

fn request(to: SocketAddr) -> String {
    format!(
        "GET /api/v2/users HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {CANARY}\r\nConnection: close\r\n\r\n"
    )
}

fn lane(admin: SocketAddr) -> Value {
    let page: Value = serde_json::from_str(&get(admin, "/api/v1/lanes").body).unwrap();
    page.pointer("/lanes/0").unwrap().clone()
}

fn file(state: &Path) -> PathBuf {
    state.join("limits.json")
}
