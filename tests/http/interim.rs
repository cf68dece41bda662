//! Answers before the answer: what becomes of 1xx, of 101 above all, and of the body that 100 invites.

use super::client::{Client, ask, request};
use super::origin::{Origin, Reply, reply};
use super::through::Through;

const HINTS: &str =
    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: X-Hint\r\nX-Hint: 1\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nX-Final: 1\r\nContent-Length: 2\r\n\r\nok";

/// Everything that came until the proxy closed.
async fn all(through: &Through, request: impl AsRef<[u8]>) -> String {
    let mut client = Client::connect(through.address).await;
    client.send(request).await;
    String::from_utf8(client.rest().await).unwrap()
}

#[tokio::test]
async fn early_hints_are_left_out_and_the_answer_is_whole() {
    let before = [
        HINTS.to_owned(),
        HINTS.repeat(5),
        "HTTP/1.1 102 Processing\r\n\r\n".to_owned(),
        format!("HTTP/1.1 100 Continue\r\n\r\n{HINTS}"),
        "HTTP/1.1 199 Whatever\r\nContent-Length: 5\r\n\r\n".to_owned(),
    ];
    for interim in before {
        let answer = format!("{interim}{OK}").into_bytes();
        let origin = Origin::start(move |_| Reply::Bytes(answer.clone())).await;
        let through = Through::to(origin.address);
        for asks in [
            request("GET", "/", "Connection: close\r\n", ""),
            request("POST", "/", "Connection: close\r\n", "abc"),
            b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        ] {
            let answer = all(&through, &asks).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") || answer.starts_with("HTTP/1.0 200 OK\r\n"));
            assert!(answer.ends_with("\r\n\r\nok") && answer.contains("\r\nx-final: 1\r\n"), "{answer}");
            for gone in ["HTTP/1.1 1", "link:", "x-hint"] {
                assert!(!answer.contains(gone), "{interim}: {answer}");
            }
        }
        assert_eq!(origin.connections(), 1, "its connection is as good as before");
    }
}

#[tokio::test]
async fn interim_answers_alone_are_none() {
    let origin = Origin::start(|_| Reply::Last(HINTS.repeat(2).into_bytes())).await;
    let through = Through::to(origin.address);
    let response = ask(through.address, request("POST", "/", "", "abc")).await;
    assert_eq!(response.status, 502);
    assert!(response.field("proxy-status").unwrap().contains("connection_terminated"), "{response:?}");
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_a_502() {
    let switch =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x01\x02";
    let origin = Origin::start(move |_| Reply::Bytes(switch.into())).await;
    let through = Through::to(origin.address);
    for fields in ["", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"] {
        for method in ["GET", "POST"] {
            let before = origin.seen().len();
            let answer =
                all(&through, request(method, "/", &format!("{fields}Connection: close\r\n"), "")).await;
            assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
            assert!(answer.contains("\r\nproxy-status: tidegate; error=http_protocol_error; "), "{answer}");
            assert!(!answer.contains("websocket") && !answer.contains('\x01'), "{answer}");
            assert_eq!(origin.seen().len(), before + 1, "it is not asked again");
        }
    }
    assert_eq!(origin.connections(), origin.seen().len(), "such a connection is not used again");
}

#[tokio::test]
async fn a_final_word_comes_before_the_body_is_invited() {
    for status in ["401 Unauthorized", "403 Forbidden", "413 Content Too Large", "417 Expectation Failed"] {
        let origin = Origin::hasty(move |_| reply(status, "", "no")).await;
        let through = Through::to(origin.address);
        for length in ["Content-Length: 3", "Transfer-Encoding: chunked"] {
            let mut client = Client::connect(through.address).await;
            client
                .send(format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{length}\r\n\r\n"))
                .await;
            let (first, _) = client.head().await;
            assert!(status.starts_with(&first.to_string()), "the first line is the final one");
        }
        assert!(origin.seen().iter().all(|seen| seen.field("expect") == Some("100-continue")));
    }
}
