//! curl: the plain manners of HTTP/1.1 and HTTP/2, and of an HTTP proxy.

use crate::Client;
use crate::foreign::{Ran, find, run};
use crate::origin::Origin;
use crate::process::Tidegate;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub(crate) const CLIENT: Client = Client {
    name: "curl",
    find: || find("curl"),
    get: "Debian: apt-get install curl",
    cases: &[
        ("get", get),
        ("post_json", post_json),
        ("head_has_length_and_no_body", head),
        ("chunked_upload", chunked_upload),
        ("upload_above_the_replay_cap", large_upload),
        ("expect_100_continue", expect_continue),
        ("keep_alive_is_reused", keep_alive),
        ("http2_prior_knowledge", http2),
        ("as_http_proxy", as_proxy),
        ("other_authority_is_403", other_authority),
        ("connect_is_501_with_advice", connect),
        ("a_429_is_absorbed", refused_once),
        ("leaves_while_queued", leaves_while_queued),
        ("trusts_the_simulated_api_over_tls", simulated_tls),
        ("speaks_tls_to_the_proxy", tls),
    ],
};

/// An API without a limit behind a proxy that need not learn: what is judged here is HTTP.
fn unhurried() -> (Origin, Tidegate) {
    let origin = Origin::start();
    let proxy = Tidegate::run(&origin.url(), &["--law", "fixed", "--rate", "1000/s"]);
    (origin, proxy)
}

fn curl_with_input(curl: &Path, arguments: &[&str], input: &[u8]) -> Ran {
    // -q: no ~/.curlrc; --noproxy is not given, so the environment's proxies are taken away instead.
    let mut command = Command::new(curl);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.args(["-q", "-sS", "--max-time", "20"]).args(arguments);
    run(&mut command, input, Duration::from_secs(30))
}

fn curl(curl: &Path, arguments: &[&str]) -> Ran {
    curl_with_input(curl, arguments, b"").ok("curl")
}

fn get(path: &Path) {
    let (origin, proxy) = unhurried();
    let url = format!("{}/api/v2/users/me?expand=groups", proxy.url());
    let ran = curl(path, &["-i", "-H", "Authorization: Bearer secret", "-H", "X-Mine: yes", &url]);
    let text = ran.text();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(text.ends_with("\r\n\r\nhello\n"), "{text}");
    let timing = text.lines().find(|line| line.to_ascii_lowercase().starts_with("server-timing:"));
    let timing = timing.unwrap_or_else(|| panic!("no Server-Timing in {text}"));
    assert!(timing.contains("queue;dur=") && timing.contains("upstream;dur="), "{timing}");
    let seen = origin.last();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/api/v2/users/me?expand=groups"));
    assert_eq!(seen.header("host"), origin.authority(), "Host must be the upstream's");
    assert_eq!(seen.header("authorization"), "Bearer secret");
    assert_eq!(seen.header("x-mine"), "yes");
}

fn post_json(path: &Path) {
    let (origin, proxy) = unhurried();
    let body = r#"{"text":"grüße"}"#;
    let url = format!("{}/echo", proxy.url());
    let ran = curl(path, &["-H", "Content-Type: application/json", "-d", body, &url]);
    assert_eq!(ran.text(), body);
    let seen = origin.last();
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(seen.header("content-length"), body.len().to_string());
    assert_eq!(origin.seen().len(), 1);
}

fn head(path: &Path) {
    let (origin, proxy) = unhurried();
    let text = curl(path, &["--head", &format!("{}/hello", proxy.url())]).text();
    assert!(text.to_ascii_lowercase().contains("content-length: 6"), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "a HEAD answer has no body: {text}");
    assert_eq!(origin.last().method, "HEAD");
}

fn chunked_upload(path: &Path) {
    let (origin, proxy) = unhurried();
    let body: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
    let url = format!("{}/echo", proxy.url());
    let arguments = ["-X", "POST", "-H", "Transfer-Encoding: chunked", "-H", "Expect:", "-T", "-", &url];
    let ran = curl_with_input(path, &arguments, &body).ok("curl");
    assert!(ran.stdout == body, "{} bytes came back of {}", ran.stdout.len(), body.len());
    assert!(origin.last().body == body, "the API saw another body");
}

fn large_upload(path: &Path) {
    let (origin, proxy) = unhurried();
    let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 241) as u8).collect();
    let url = format!("{}/echo", proxy.url());
    let ran = curl_with_input(path, &["-H", "Expect:", "--data-binary", "@-", &url], &body).ok("curl");
    assert!(ran.stdout == body, "{} bytes came back of {}", ran.stdout.len(), body.len());
    assert_eq!(origin.seen().len(), 1);
}

fn expect_continue(path: &Path) {
    let (origin, proxy) = unhurried();
    let url = format!("{}/echo", proxy.url());
    let ran =
        curl(path, &["-v", "-H", "Expect: 100-continue", "--expect100-timeout", "10", "-d", "ready", &url]);
    assert_eq!(ran.text(), "ready");
    assert!(ran.stderr.contains("< HTTP/1.1 100 Continue"), "{}", ran.stderr);
    assert_eq!(origin.last().body, "ready");
}

fn keep_alive(path: &Path) {
    let (origin, proxy) = unhurried();
    let urls =
        [format!("{}/one", proxy.url()), format!("{}/two", proxy.url()), format!("{}/three", proxy.url())];
    let form = "%{num_connects} ";
    let ran = curl(
        path,
        &["-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null", "-w", form, &urls[0], &urls[1], &urls[2]],
    );
    assert_eq!(ran.text(), "1 0 0 ", "one connection for three requests");
    assert_eq!(origin.seen().len(), 3);
}

fn http2(path: &Path) {
    let (origin, proxy) = unhurried();
    let url = format!("{}/echo/two", proxy.url());
    let ran = curl(
        path,
        &["--http2-prior-knowledge", "-d", "over h2", "-w", " %{http_version} %{http_code}", &url],
    );
    assert_eq!(ran.text(), "over h2 2 200");
    assert_eq!(origin.last().header("host"), origin.authority());
}

fn as_proxy(path: &Path) {
    let (origin, proxy) = unhurried();
    let target = format!("{}/echo/absolute", origin.url());
    let ran = curl(path, &["-x", &proxy.url(), "-d", "absolute", "-w", " %{http_code}", &target]);
    assert_eq!(ran.text(), "absolute 200");
    let seen = origin.last();
    assert_eq!(seen.path, "/echo/absolute", "the API gets the path, not the absolute form");
    assert_eq!(seen.header("proxy-connection"), "", "a header of this hop only");
}

fn other_authority(path: &Path) {
    let (origin, proxy) = unhurried();
    let ran = curl(path, &["-i", "-x", &proxy.url(), "http://elsewhere.example/"]);
    let text = ran.text();
    assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
    assert!(text.to_ascii_lowercase().contains("proxy-status:"), "ours are told from the API's: {text}");
    assert!(text.contains(&origin.authority()), "it says which authority is served: {text}");
    assert_eq!(origin.seen().len(), 0);
}

fn connect(path: &Path) {
    let (origin, proxy) = unhurried();
    let url = format!("{}/", proxy.url());
    let ran = curl(path, &["-i", "-X", "CONNECT", "--request-target", "api.example.com:443", &url]);
    let text = ran.text();
    assert!(text.starts_with("HTTP/1.1 501 "), "{text}");
    assert!(text.contains("http://"), "it says what to do instead: {text}");
    let tunnel = curl_with_input(path, &["-p", "-x", &proxy.url(), "https://api.example.com/"], b"");
    assert!(tunnel.stderr.contains("501"), "a tunnel fails with the status: {}", tunnel.stderr);
    assert_eq!(origin.seen().len(), 0);
}

fn refused_once(path: &Path) {
    let (origin, proxy) = unhurried();
    let url = format!("{}/refuse-once/{}", proxy.url(), "letter");
    let text = curl(path, &["-i", "-d", "one letter", &url]).text();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(text.contains("retries;desc=\"1\""), "{text}");
    let bodies: Vec<_> = origin.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["one letter", "one letter"], "byte for byte the same");
}

fn leaves_while_queued(path: &Path) {
    let origin = Origin::start();
    let proxy = Tidegate::run(&origin.url(), &["--law", "fixed", "--rate", "1/s"]);
    curl(path, &[&format!("{}/queue?first", proxy.url())]);
    let url = format!("{}/queue?ghost", proxy.url());
    let ran = curl_with_input(path, &["--max-time", "0.3", "-d", "boo", &url], b"");
    assert_eq!(
        ran.status.and_then(|status| status.code()),
        Some(28),
        "curl gives up by itself: {}",
        ran.stderr
    );
    curl(path, &[&format!("{}/queue?last", proxy.url())]);
    let paths: Vec<_> = origin.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/queue?first", "/queue?last"], "nothing of a client that left reaches the API");
}

fn simulated_tls(path: &Path) {
    let sim = Tidegate::sim(&["--tls", "--headers", "ietf", "--latency", "0ms", "--jitter", "0ms"]);
    let said = sim.stdout();
    let file = said.split("certificate in ").nth(1).and_then(|rest| rest.split(" (").next()).unwrap();
    let port = sim.listen.port();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{port}/");
        for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let form = "%{http_code} %{http_version} %header{ratelimit-policy}";
            let ran = curl(path, &[flag, "--cacert", file, "-o", "/dev/null", "-w", form, &url]);
            assert_eq!(ran.text(), format!("200 {version} \"default\";q=10;w=1"), "{host}");
        }
        let stranger = curl_with_input(path, &["-o", "/dev/null", &url], b"");
        assert_eq!(stranger.status.and_then(|status| status.code()), Some(60), "{}", stranger.stderr);
        let proxy = Tidegate::run(&format!("https://{host}:{port}"), &["--upstream-ca", file]);
        let ran = curl(path, &["-o", "/dev/null", "-w", "%{http_code}", &proxy.url()]);
        assert_eq!(ran.text(), "200", "as the greeting has it: {said}");
    }
}

/// TLS in front: each protocol and version that curl speaks, one connection for two requests, and none too old.
fn tls(path: &Path) {
    let origin = Origin::start();
    let folder = tempfile::tempdir().unwrap();
    let flags = identity(folder.path());
    let flags = flags.each_ref().map(String::as_str);
    let proxy = Tidegate::run(&origin.url(), &[&["--law", "fixed", "--rate", "1000/s"][..], &flags].concat());
    let url = format!("https://localhost:{}/hello", proxy.listen.port());
    let form = "%{http_code} %{http_version} %{num_connects};";
    let trust = ["--noproxy", "*", "--cacert", flags[1], "-w", form, "-o", "/dev/null", "-o", "/dev/null"];
    for (how, said) in [
        (&["--http1.1"][..], "200 1.1 1;200 1.1 0;"),
        (&["--http2"], "200 2 1;200 2 0;"),
        (&["--http2", "--tlsv1.3"], "200 2 1;200 2 0;"),
        (&["--http1.1", "--tls-max", "1.2"], "200 1.1 1;200 1.1 0;"),
        (&["--http2", "--tls-max", "1.2"], "200 2 1;200 2 0;"),
        (&["--http2", "--data", "abc"], "200 2 1;200 2 0;"),
    ] {
        assert_eq!(curl(path, &[how, &trust, &[&url, &url]].concat()).text(), said, "{how:?}");
    }
    let old = curl_with_input(path, &[&["--tls-max", "1.1"][..], &trust, &[&url]].concat(), b"");
    assert_eq!(old.status.and_then(|status| status.code()), Some(35), "{}", old.stderr);
    let stranger = curl_with_input(path, &["--noproxy", "*", &url], b"");
    assert_eq!(stranger.status.and_then(|status| status.code()), Some(60), "{}", stranger.stderr);
}

/// A certificate for localhost and its key in `folder`, as the flags of `tidegate run`.
pub(crate) fn identity(folder: &Path) -> [String; 4] {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert_file, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    [
        "--tls-cert".to_owned(),
        cert_file.display().to_string(),
        "--tls-key".to_owned(),
        key_file.display().to_string(),
    ]
}
