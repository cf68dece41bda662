//! A client made of bytes: it sends what no library would, and reads what came.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// One connection to the proxy.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body came to the end that its head announced.
    pub(crate) whole: bool,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        Self { stream, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self
    }

    /// The next response to a request other than HEAD, interim ones left out.
    pub(crate) async fn response(&mut self) -> Response {
        loop {
            let (status, fields) = self.head().await;
            if status / 100 != 1 || status == 101 {
                let (body, whole) = self.body(status, &fields).await;
                return Response { status, fields, body, whole };
            }
        }
    }

    /// The next status and fields, whatever they are.
    pub(crate) async fn head(&mut self) -> (u16, Vec<(String, String)>) {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return parse_head(&head);
            }
            assert!(self.read().await, "the connection ended in a head: {:?}", text(&self.unread));
        }
    }

    async fn body(&mut self, status: u16, fields: &[(String, String)]) -> (Vec<u8>, bool) {
        let field = |name| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        if status == 204 || status == 304 {
            return (Vec::new(), true);
        }
        if field("transfer-encoding") == Some("chunked") {
            return self.chunks().await;
        }
        let length = field("content-length").map(|length| length.parse().unwrap());
        while length.is_none_or(|length: usize| self.unread.len() < length) {
            if !self.read().await {
                return (std::mem::take(&mut self.unread), length.is_none());
            }
        }
        (self.unread.drain(..length.unwrap()).collect(), true)
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            while let Some(end) = find(&self.unread, b"\r\n") {
                let size = usize::from_str_radix(&text(&self.unread[..end]), 16).unwrap();
                let needed = end + 2 + size + 2;
                if self.unread.len() < needed {
                    break;
                }
                body.extend_from_slice(&self.unread[end + 2..end + 2 + size]);
                self.unread.drain(..needed);
                if size == 0 {
                    return (body, true);
                }
            }
            if !self.read().await {
                return (body, false);
            }
        }
    }

    /// Waits until the proxy closes, and returns what came before that.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.unread)
    }

    async fn read(&mut self) -> bool {
        let read =
            timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.expect("an answer in time");
        read.is_ok_and(|count| count > 0)
    }

    /// Leaves, with a FIN or with a RST.
    pub(crate) fn leave(self, reset: bool) {
        if reset {
            self.stream.set_zero_linger().unwrap();
        }
    }
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        text(&self.body)
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(address: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    Client::connect(address).await.send(request).await.response().await
}

/// A request with Host and the fields given, each with its line end.
pub(crate) fn request(method: &str, target: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: proxy.test\r\n{fields}{length}\r\n");
    [head.as_bytes(), body].concat()
}

pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn parse_head(head: &[u8]) -> (u16, Vec<(String, String)>) {
    let head = text(head);
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap_or_default();
    let fields = lines.filter_map(|line| line.split_once(':'));
    (status, fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect())
}

/// No answer in these tests takes longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(20);
