//! h2load: many streams over few connections, and the same over HTTP/1.1.

use crate::Client;
use crate::curl::identity;
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
    cases: &[
        ("thousand_requests_h2c", h2c),
        ("thousand_requests_http1", http1),
        ("thousand_requests_tls", tls),
    ],
};

fn h2c(path: &Path) {
    thousand(path, &["-c", "5", "-m", "20"], false);
}

fn http1(path: &Path) {
    thousand(path, &["--h1", "-c", "20"], false);
}

fn tls(path: &Path) {
    thousand(path, &["-c", "5", "-m", "20"], true);
    thousand(path, &["--h1", "-c", "20"], true);
}

/// An API without a limit must not be slowed once the start is over, so the learnt law has to let these pass.
fn thousand(path: &Path, how: &[&str], secure: bool) {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let flags = secure.then(|| identity(folder.path()));
    let proxy = Tidegate::run(&origin.url(), &flags.iter().flatten().map(String::as_str).collect::<Vec<_>>());
    let scheme = if secure { "https" } else { "http" };
    let url = format!("{scheme}://{}/hello", proxy.listen);
    let mut command = Command::new(path);
    command.args(["-n", "1000"]).args(how).arg(&url);
    let text = run(&mut command, b"", Duration::from_mins(1)).ok("h2load").text();
    assert!(text.contains("1000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
    assert!(text.contains("status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{text}");
    assert_eq!(origin.seen().len(), 1000, "each request arrives once");
}
