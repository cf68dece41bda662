//! A dry run: traffic passes as it comes, and the program says what it would set.

use crate::client::{ask, get, metric};
use crate::process::Tidegate;
use serde_json::Value;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_dry_run_changes_nothing_and_says_what_it_would_set() {
    let api =
        Tidegate::sim(&["--limit", "10/s", "--latency", "0ms", "--jitter", "0ms", "--retry-after", "7"]);
    let tidegate = Tidegate::run(&api.url(), &["--mode", "observe"]);
    let (listen, admin) = (tidegate.listen, tidegate.admin);
    let request = format!("GET /api/v2/users HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n");
    let began = Instant::now();
    let sessions: Vec<_> = (0..30)
        .map(|_| {
            let request = request.clone();
            thread::spawn(move || ask(listen, &request).unwrap())
        })
        .collect();
    let answers: Vec<_> = sessions.into_iter().map(|session| session.join().unwrap()).collect();
    assert!(began.elapsed() < Duration::from_secs(7), "nobody waited: {:?}", began.elapsed());
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(refused.len() >= 5, "{} refused", refused.len());
    for answer in &refused {
        assert_eq!(answer.field("retry-after").as_deref(), Some("7"), "{answer:?}");
        assert_eq!(answer.field("proxy-status"), None, "the API's own answer: {answer:?}");
    }
    let stats: Value = serde_json::from_str(&get(api.listen, "/__sim/stats").body).unwrap();
    let sent = metric(admin, "tidegate_upstream_responses_total", "");
    assert!((sent - 30.0).abs() < 0.5, "each once: {sent}, {stats}");
    assert!((metric(admin, "tidegate_lane_observed", "") - 1.0).abs() < 1e-9);
    let page: Value = serde_json::from_str(&get(admin, "/api/v1/lanes").body).unwrap();
    let lane = page.pointer("/lanes/0").unwrap();
    assert_eq!(lane.get("mode").unwrap(), "observe");
    let says = lane.pointer("/limit/says").unwrap().as_str().unwrap();
    assert!(says.contains("let through in the second before the first refusal"), "{says}");
}
