//! An origin made of bytes: it answers by a script, and remembers what it saw.

use super::client::{find, parse_head, text};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Method and target.
    pub(crate) line: String,
    pub(crate) head: String,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Which request on that connection, from 0.
    pub(crate) turn: usize,
}

impl Seen {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What to answer.
pub(crate) enum Reply {
    /// These bytes, then wait for the next request.
    Bytes(Vec<u8>),
    /// These bytes, then close.
    Last(Vec<u8>),
    /// Nothing for a while, then this.
    After(Duration, Box<Self>),
    /// Nothing at all, until the peer goes.
    Silence,
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

/// An origin on a free port.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<usize>,
    cancelled: Mutex<usize>,
    bytes: Mutex<usize>,
}

impl Origin {
    /// Reads each request to its end, then asks the script.
    pub(crate) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(script, false).await
    }

    /// Asks the script when the head is there, and never reads a body.
    pub(crate) async fn hasty(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(script, true).await
    }

    async fn with(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static, hasty: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let script: Arc<Script> = Arc::new(script);
        let mut tasks = JoinSet::new();
        let seen = Arc::clone(&log);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *seen.connections.lock().unwrap() += 1;
                connections.spawn(serve(stream, Arc::clone(&script), Arc::clone(&seen), hasty));
            }
        });
        Self { address, log, _tasks: tasks }
    }

    /// Answers everything with 200 and `ok`.
    pub(crate) async fn friendly() -> Self {
        Self::start(|_| ok("ok")).await
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.log.connections.lock().unwrap()
    }

    /// Peers that went while they waited for an answer.
    pub(crate) fn cancelled(&self) -> usize {
        *self.log.cancelled.lock().unwrap()
    }

    /// Bytes that came, of whatever kind.
    pub(crate) fn bytes(&self) -> usize {
        *self.log.bytes.lock().unwrap()
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>, log: Arc<Log>, hasty: bool) {
    let mut unread = Vec::new();
    for turn in 0.. {
        let Some(seen) = read(&mut stream, &mut unread, &log, turn, hasty).await else {
            return;
        };
        log.seen.lock().unwrap().push(seen.clone());
        let mut reply = script(&seen);
        loop {
            match reply {
                Reply::Bytes(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                    break;
                }
                Reply::Last(bytes) => {
                    drop(stream.write_all(&bytes).await);
                    return;
                }
                Reply::After(wait, then) => {
                    if tokio::time::timeout(wait, left(&mut stream)).await.is_ok() {
                        *log.cancelled.lock().unwrap() += 1;
                        return;
                    }
                    reply = *then;
                }
                Reply::Silence => {
                    left(&mut stream).await;
                    *log.cancelled.lock().unwrap() += 1;
                    return;
                }
            }
        }
    }
}

async fn left(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}

async fn read(
    stream: &mut TcpStream,
    unread: &mut Vec<u8>,
    log: &Log,
    turn: usize,
    hasty: bool,
) -> Option<Seen> {
    let mut seen: Option<Seen> = None;
    loop {
        if seen.is_none()
            && let Some(end) = find(unread, b"\r\n\r\n")
        {
            let head: Vec<u8> = unread.drain(..end + 4).collect();
            let (_, fields) = parse_head(&head);
            let head = text(&head);
            let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
            seen = Some(Seen { line, head, fields, body: Vec::new(), turn });
        }
        if let Some(seen) = &mut seen {
            let length = seen.field("content-length").map(|length| length.parse::<usize>().unwrap());
            let chunked = seen.field("transfer-encoding") == Some("chunked");
            let end = match length {
                _ if hasty => Some(0),
                Some(length) => (unread.len() >= length).then_some(length),
                None if chunked => chunks_end(unread),
                None => Some(0),
            };
            if let Some(end) = end {
                // A chunked body is kept as it came on the wire.
                seen.body = unread.drain(..end).collect();
                return Some(seen.clone());
            }
        }
        match stream.read_buf(unread).await {
            Ok(count) if count > 0 => *log.bytes.lock().unwrap() += count,
            _ => return None,
        }
    }
}

/// Where a chunked body ends, its trailers included, if all of it is there.
fn chunks_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        let line = at + find(&bytes[at..], b"\r\n")?;
        let size = usize::from_str_radix(text(&bytes[at..line]).split(';').next().unwrap(), 16).unwrap();
        if size == 0 {
            return find(&bytes[line..], b"\r\n\r\n").map(|end| line + end + 4);
        }
        at = line + 2 + size + 2;
    }
    None
}

/// 200 with a body.
pub(crate) fn ok(body: &str) -> Reply {
    reply("200 OK", "", body)
}

/// A status, fields (each with its line end) and a body.
pub(crate) fn reply(status: &str, fields: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}").into_bytes())
}
