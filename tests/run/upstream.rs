//! Upstreams that are not there, or not who they should be.

use crate::client::get;
use crate::process::{Tidegate, eventually, tidegate};
use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

#[test]
fn an_unreachable_upstream_is_a_warning_and_then_502() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let tidegate = Tidegate::run(&upstream, &[]);
    eventually("the warning", || tidegate.stderr().contains("the upstream cannot be reached now"));
    let answer = get(tidegate.listen, "/x");
    assert_eq!(answer.status, 502, "{answer:?}");
    let status = answer.field("proxy-status").unwrap();
    assert!(status.contains("connection_refused"), "{status}");
}

#[test]
fn a_bad_certificate_is_named() {
    let (upstream, seen) = self_signed();
    let tidegate = Tidegate::run(&upstream, &[]);
    eventually("the warning", || {
        let told = tidegate.stderr();
        told.contains("the upstream cannot be reached now") && told.contains("is not trusted")
    });
    let answer = get(tidegate.listen, "/x");
    assert_eq!(answer.status, 502, "{answer:?}");
    let status = answer.field("proxy-status").unwrap();
    assert!(status.contains("tls_certificate_error"), "{status}");
    assert!(answer.body.contains("certificate"), "{answer:?}");
    assert_eq!(seen.lock().unwrap().as_slice(), b"", "no byte of a request goes to a stranger");
}

/// An https upstream that nobody vouches for, and the plain bytes that reached it.
fn self_signed() -> (String, Arc<std::sync::Mutex<Vec<u8>>>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let seen = Arc::<std::sync::Mutex<Vec<u8>>>::default();
    let heard = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut bytes = Vec::new();
            // It fails: that is what the test is about.
            rustls::StreamOwned::new(session, stream.unwrap()).read_to_end(&mut bytes).ok();
            heard.lock().unwrap().extend(bytes);
        }
    });
    (upstream, seen)
}

#[test]
fn a_ca_file_that_is_not_there_stops_the_start_and_says_which() {
    let ended =
        tidegate(&["run", "--upstream", "https://127.0.0.1:9", "--upstream-ca", "/does/not/exist.pem"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("/does/not/exist.pem") && ended.stderr.contains("PEM"), "{ended:?}");
}

#[test]
fn a_certificate_that_nobody_checks_is_a_warning_at_the_start() {
    let (upstream, _) = self_signed();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    let text = format!("[[upstream]]\nurl = \"{upstream}\"\ndangerous_accept_any_certificate = true\n");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let tidegate =
        Tidegate::run_with(&["--config", file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    eventually("the warning", || tidegate.stderr().contains("Whoever answers in its place gets every token"));
}
