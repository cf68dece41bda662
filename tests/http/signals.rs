//! What an answer teaches, beyond its status: from the wire to the lane.

use super::client::{Client, ask, request};
use super::origin::{Origin, Reply, ok, reply};
use super::through::{Through, eventually, fixed};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate::config::{Config, DialectSettings, ReplayPolicy, ResetUnit};

const GENESYS: &str = r#"{"message":"Rate limit exceeded the maximum. Retry the request in [100] seconds",
    "code":"too.many.requests.retry.after","status":429}"#;

fn genesys() -> Reply {
    reply("429 Too Many Requests", "Content-Type: application/json\r\nX-RateLimit-Limit: 300\r\n", GENESYS)
}

#[tokio::test]
async fn a_refusal_s_body_tells_how_long_to_wait_and_reaches_the_client_as_it_came() {
    let origin = Origin::start(|_| genesys()).await;
    let through = Through::with(origin.address, |proxy| proxy.replay_on_429 = ReplayPolicy::None, fixed(1e4));
    let response = ask(through.address, request("POST", "/", "", "abc")).await;
    assert_eq!((response.status, response.text().as_str()), (429, GENESYS));
    assert_eq!(response.field("x-ratelimit-limit"), Some("300"), "the API's own fields stay");
    assert_eq!(response.field("retry-after"), None, "and none is made up");
    let paused = through.gate.snapshot()[0].paused_seconds;
    assert!((90.0..=100.0).contains(&paused), "{paused}");
}

#[tokio::test]
async fn a_refusal_that_comes_compressed_is_read_and_passed_on_as_it_came() {
    let mut coded = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    coded.write_all(GENESYS.as_bytes()).unwrap();
    let coded = coded.finish().unwrap();
    let mut answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\
         Content-Length: {}\r\n\r\n",
        coded.len()
    )
    .into_bytes();
    answer.extend(&coded);
    let origin = Origin::start(move |_| Reply::Bytes(answer.clone())).await;
    let through = Through::with(origin.address, |proxy| proxy.replay_on_429 = ReplayPolicy::None, fixed(1e4));
    let response = ask(through.address, request("POST", "/", "Accept-Encoding: gzip\r\n", "abc")).await;
    assert_eq!((response.status, response.field("content-encoding")), (429, Some("gzip")));
    assert_eq!(response.body, coded);
    let paused = through.gate.snapshot()[0].paused_seconds;
    assert!((90.0..=100.0).contains(&paused), "{paused}");
}

#[tokio::test]
async fn github_s_403_is_absorbed_and_another_one_is_an_answer() {
    for (fields, tries, status) in [
        ("X-GitHub-Request-Id: C0DE\r\nX-RateLimit-Limit: 60\r\nX-RateLimit-Remaining: 0\r\n", 2, 200),
        ("X-RateLimit-Limit: 60\r\nX-RateLimit-Remaining: 0\r\n", 1, 403),
    ] {
        let refused = AtomicBool::new(false);
        let origin = Origin::start(move |_| {
            if refused.swap(true, Ordering::Relaxed) {
                ok("done")
            } else {
                reply("403 Forbidden", fields, "no")
            }
        })
        .await;
        let through = Through::to(origin.address);
        let response = ask(through.address, request("POST", "/", "", "abc")).await;
        assert_eq!((response.status, through.told.attempts().len()), (status, tries), "{fields}");
    }
}

#[tokio::test]
async fn an_overload_with_a_status_of_its_own_pauses_the_lane() {
    let origin = Origin::start(|_| reply("529 Overloaded", "Retry-After: 100\r\n", "busy")).await;
    let through = Through::to(origin.address);
    assert_eq!(ask(through.address, request("POST", "/", "", "abc")).await.status, 529);
    let lane = &through.gate.snapshot()[0];
    assert!((90.0..=100.0).contains(&lane.paused_seconds), "{lane:?}");
    assert_eq!(lane.throttled_total, 0, "it is no limit's word");
}

#[tokio::test]
async fn what_makes_no_sense_is_told_by_name_and_changes_nothing() {
    let fields = "X-RateLimit-Limit: lots\r\nRateLimit-Policy: ((\r\nInin-RateLimit-Allowed: 300\r\n";
    let origin = Origin::start(move |_| reply("200 OK", fields, "done")).await;
    let through = Through::to(origin.address);
    let response = ask(through.address, request("GET", "/", "", "")).await;
    assert_eq!((response.status, response.text().as_str()), (200, "done"));
    assert_eq!(response.field("x-ratelimit-limit"), Some("lots"));
    assert_eq!(through.told.ignored_signals(), ["x-ratelimit-limit", "ratelimit-policy"]);
}

#[tokio::test]
async fn an_operator_names_an_api_s_own_fields() {
    let fields = "X-Acme-Budget: 300\r\nX-Acme-Spent: 300\r\nX-Acme-Over-In: 100000\r\n";
    let origin = Origin::start(move |_| reply("429 Too Many Requests", fields, "no")).await;
    let mut config = Config::new(format!("http://{}", origin.address).parse().unwrap());
    config.lanes = fixed(1e4);
    config.proxy.replay_on_429 = ReplayPolicy::None;
    config.dialects.push(DialectSettings {
        name: "acme".into(),
        upstream: Some(0),
        limit: "x-acme-budget".parse().unwrap(),
        remaining: None,
        used: Some("x-acme-spent".parse().unwrap()),
        reset: Some("x-acme-over-in".parse().unwrap()),
        reset_in: ResetUnit::Milliseconds,
    });
    let through = Through::of(&config);
    assert_eq!(ask(through.address, request("GET", "/", "", "")).await.status, 429);
    let paused = through.gate.snapshot()[0].paused_seconds;
    assert!((90.0..=100.0).contains(&paused), "{paused}");
}

#[tokio::test]
async fn a_refusal_that_breaks_off_ends_without_a_clean_end() {
    let head = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 600\r\n";
    let rests =
        ["Content-Length: 100\r\n\r\n{\"code\":", "Transfer-Encoding: chunked\r\n\r\n8\r\n{\"code\":\r\n"];
    for (rest, policy) in
        rests.into_iter().flat_map(|rest| [(rest, ReplayPolicy::None), (rest, ReplayPolicy::All)])
    {
        let origin = Origin::start(move |_| Reply::Last(format!("{head}{rest}").into_bytes())).await;
        let through = Through::with(origin.address, |proxy| proxy.replay_on_429 = policy, fixed(1e4));
        let response = ask(through.address, request("POST", "/", "", "abc")).await;
        assert_eq!((response.status, response.text().as_str()), (429, "{\"code\":"));
        assert!(!response.whole, "{rest}");
    }
}

#[tokio::test]
async fn refusals_that_wait_count_as_memory() {
    let body = "x".repeat(5_000);
    let origin = Origin::start(move |_| reply("429 Too Many Requests", "Retry-After: 60\r\n", &body)).await;
    let through = Through::to(origin.address);
    let mut client = Client::connect(through.address).await;
    client.send(request("GET", "/", "", "")).await;
    eventually("the refusal is kept", || through.proxy.replay_bytes_in_use() == 5_000).await;
    client.leave(false);
    eventually("it is given back", || through.proxy.replay_bytes_in_use() == 0).await;
}

#[tokio::test]
async fn without_memory_for_the_refusal_the_request_waits_all_the_same() {
    let refused = AtomicBool::new(false);
    let origin = Origin::start(move |_| {
        if refused.swap(true, Ordering::Relaxed) {
            ok("done")
        } else {
            reply("429 Too Many Requests", "Retry-After: 0\r\n", &"x".repeat(5_000))
        }
    })
    .await;
    let through = Through::with(origin.address, |proxy| proxy.replay_bytes_total_max = 1_000, fixed(1e4));
    let response = ask(through.address, request("GET", "/", "", "")).await;
    assert_eq!((response.status, response.text().as_str()), (200, "done"));
}
