//! h2load: many streams over few connections, and the same over HTTP/1.1.

use crate::Client;
use crate::foreign::{find, run};
use crate::origin::Origin;
use crate::process::Tidegate;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub(crate) const CLIENT: Client = Client {
    name: "h2load",
    find: || find("h2load"),
    get: "Debian: apt-get install nghttp2-client",
    cases: &[("thousand_requests_h2c", h2c), ("thousand_requests_http1", http1)],
};

fn h2c(path: &Path) {
    thousand(path, &["-c", "5", "-m", "20"]);
}

fn http1(path: &Path) {
    thousand(path, &["--h1", "-c", "20"]);
}

/// An API without a limit must not be slowed once the start is over, so the learnt law has to let these pass.
fn thousand(path: &Path, how: &[&str]) {
    let origin = Origin::start();
    let proxy = Tidegate::run(&origin.url(), &[]);
    let url = format!("{}/hello", proxy.url());
    let mut command = Command::new(path);
    command.args(["-n", "1000"]).args(how).arg(&url);
    let text = run(&mut command, b"", Duration::from_mins(1)).ok("h2load").text();
    assert!(text.contains("1000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
    assert!(text.contains("status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{text}");
    assert_eq!(origin.seen().len(), 1000, "each request arrives once");
}
