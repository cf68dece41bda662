//! The quota at the door: whoever asks too often is told so by us, and the API never hears of it.

use super::client::{ask, request};
use super::origin::Origin;
use super::through::{Through, eventually, fixed};
use std::time::Duration;
use tidegate::config::{AdmissionSettings, Config};

async fn with_quota(burst: u32, clients_max: usize) -> (Origin, Through) {
    let origin = Origin::friendly().await;
    let mut config = Config::new(format!("http://{}", origin.address).parse().unwrap());
    config.lanes = fixed(10_000.0);
    let quota = "1/h".parse().unwrap();
    config.admission = Some(AdmissionSettings { quota, burst, clients_max });
    let through = Through::of(&config);
    (origin, through)
}

fn get(token: &str) -> Vec<u8> {
    let fields = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    request("GET", "/", &fields, "")
}

#[tokio::test]
async fn a_caller_over_its_quota_gets_our_429_and_the_api_hears_nothing() {
    let (origin, through) = with_quota(2, 10).await;
    for _ in 0..2 {
        assert_eq!(ask(through.address, get("a")).await.status, 200);
    }
    let response = ask(through.address, get("a")).await;
    assert_eq!(response.status, 429);
    let wait: u64 = response.field("retry-after").unwrap().parse().unwrap();
    assert!((3_500..=3_600).contains(&wait), "{wait}");
    let line = response.field("proxy-status").unwrap();
    assert!(line.starts_with("tidegate; error=http_request_denied"), "{line}");
    assert_eq!(response.field("cache-control"), Some("no-store"));
    assert_eq!(origin.seen().len(), 2);
    let lanes = through.gate.snapshot();
    assert_eq!(lanes.iter().map(|lane| lane.throttled_total).sum::<u64>(), 0, "the API refused nothing");
    eventually("it is told", || through.told.exchanges().len() == 3).await;
    assert_eq!(through.told.exchanges()[2].local_error, Some("admission_quota"));
    assert_eq!(through.told.attempts().len(), 2);
}

#[tokio::test]
async fn callers_are_told_apart_by_credential_and_else_by_address() {
    let (_origin, through) = with_quota(1, 10).await;
    for (token, status) in [("a", 200), ("a", 429), ("b", 200), ("", 200), ("", 429), ("b", 429)] {
        assert_eq!(ask(through.address, get(token)).await.status, status, "{token}");
    }
    assert_eq!(through.proxy.callers(), 3);
}

#[tokio::test]
async fn callers_beyond_the_bound_share_what_one_has() {
    let (_origin, through) = with_quota(1, 1).await;
    for (token, status) in [("a", 200), ("b", 200), ("c", 429), ("d", 429)] {
        assert_eq!(ask(through.address, get(token)).await.status, status, "{token}");
    }
}

#[tokio::test]
async fn without_a_quota_anyone_may_ask_as_often_as_they_like() {
    let origin = Origin::friendly().await;
    let through = Through::to(origin.address);
    let asked = tokio::time::timeout(Duration::from_secs(20), async {
        for _ in 0..200 {
            assert_eq!(ask(through.address, get("a")).await.status, 200);
        }
    });
    asked.await.unwrap();
    assert_eq!(through.proxy.callers(), 0);
}
