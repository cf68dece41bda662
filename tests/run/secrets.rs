//! A token goes to the upstream and nowhere else.

use crate::client::{ask, get};
use crate::process::{Tidegate, eventually};

const CANARY: &str = "canary-3d9f1c7e5b";

#[test]
fn a_token_is_found_nowhere() {
    let api = Tidegate::free_api();
    for format in ["text", "json"] {
        let upstream = api.url();
        let tidegate = Tidegate::run(&upstream, &["--log", "trace", "--log-format", format]);
        for field in ["Authorization: Bearer", "Cookie: session=", "Proxy-Authorization: Basic", "X-Token:"] {
            let request = format!(
                "POST /messages?access_token={CANARY} HTTP/1.1\r\nHost: x\r\n{field} {CANARY}\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{CANARY}",
                CANARY.len()
            );
            assert_eq!(ask(tidegate.listen, &request).unwrap().status, 200);
        }
        eventually("the access log", || {
            tidegate.stderr().contains("tidegate::access")
                || tidegate.stderr().matches("total_ms").count() >= 4
        });
        for (place, text) in [
            ("/metrics", get(tidegate.admin, "/metrics").body),
            ("lanes", get(tidegate.admin, "/api/v1/lanes").body),
            ("log", tidegate.stderr()),
            ("greeting", tidegate.stdout()),
        ] {
            assert!(!text.contains(CANARY), "in {place}:\n{text}");
        }
    }
}
