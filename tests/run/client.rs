//! A client that says exactly what a test wants and hears everything that comes.

use crate::process::PATIENCE;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and fields.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A field's value, by its name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// GET `path` on a connection of its own.
pub(crate) fn get(to: SocketAddr, path: &str) -> Answer {
    ask(to, &format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")).unwrap()
}

/// Sends `request` as it stands and reads the answer to its last byte: one that is cut is an error.
pub(crate) fn ask(to: SocketAddr, request: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE * 3))?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, String::from_utf8_lossy(&bytes).into_owned());
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
    let whole = match answer.field("content-length") {
        Some(length) => length.parse() == Ok(body.len()),
        None => answer.field("transfer-encoding").is_none() || body.ends_with("0\r\n\r\n"),
    };
    if whole { Ok(answer) } else { Err(cut()) }
}

/// The sum of a metric's samples whose labels contain `labels`.
pub(crate) fn metric(admin: SocketAddr, name: &str, labels: &str) -> f64 {
    let page = get(admin, "/metrics").body;
    let samples = page.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
    });
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
