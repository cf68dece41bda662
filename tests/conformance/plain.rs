//! The few things that the cases do without a foreign client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The port of `http://127.0.0.1:PORT`, for clients that want it apart.
pub(crate) fn port(url: &str) -> &str {
    url.rsplit(':').next().unwrap()
}

/// One GET over a connection of its own; head and body as text.
pub(crate) fn get(base: &str, path: &str) -> (String, String) {
    let authority = base.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}
