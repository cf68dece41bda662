//! How a client's connection begins: its options, the TLS handshake, and which HTTP it speaks, each with its time.

use super::Proxy;
use super::connection::linger;
use super::identity::HTTP2;
use super::respond::TLS_EXPECTED;
use super::socket::{Transport, Wire, is_blank};
use super::taking::is_known;
use crate::config::ProxySettings;
use bytes::BytesMut;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Without these the connection works, only slower or longer.
pub(super) fn prepare(stream: &TcpStream, settings: &ProxySettings) {
    drop(stream.set_nodelay(true));
    let socket = socket2::SockRef::from(stream);
    drop(socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE)));
    // Where we cannot see whether a client takes what the kernel holds, the kernel has to look itself.
    if !is_known(stream) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        drop(socket.set_tcp_user_timeout(Some(settings.write_stall)));
    }
}

/// Shakes hands if TLS is spoken here, and finds out which HTTP. `None` when the client left or took too long.
pub(super) async fn open(stream: TcpStream, proxy: &Proxy) -> Option<(Transport, BytesMut, bool)> {
    let settings = proxy.settings();
    let Some(identity) = &proxy.shared.identity else {
        let mut transport = Transport::Plain(Wire::new(stream));
        let (first, is_http2) = timeout(settings.head_timeout, first_bytes(&mut transport)).await.ok()??;
        return Some((transport, first, is_http2));
    };
    let shaken = timeout(settings.handshake_timeout, async {
        let mut first = [0];
        stream.peek(&mut first).await.ok()?;
        if first.iter().any(u8::is_ascii_uppercase) {
            // It never saw TLS: a word that it understands. Whether it arrives or not, the connection is closed.
            drop(stream.try_write(TLS_EXPECTED));
            linger(&stream).await;
            return None;
        }
        let shaken = identity.acceptor().accept(Wire::new(stream)).await;
        shaken.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed")).ok()
    });
    let tls = shaken.await.ok()??;
    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(HTTP2);
    let mut transport = Transport::Tls(Box::new(tls));
    let (first, has_preface) = timeout(settings.head_timeout, first_bytes(&mut transport)).await.ok()??;
    Some((transport, first, is_http2 || has_preface))
}

/// Reads until it is clear what the client speaks; `None` when it left before that.
async fn first_bytes(transport: &mut Transport) -> Option<(BytesMut, bool)> {
    let mut bytes = BytesMut::with_capacity(FIRST_READ);
    loop {
        match transport.read_buf(&mut bytes).await.ok()? {
            0 => return None,
            _ if bytes.starts_with(PREFACE) => return Some((bytes, true)),
            _ if is_blank(&bytes) && bytes.len() < FIRST_READ => (),
            _ if !PREFACE.starts_with(&bytes) => return Some((bytes, false)),
            _ => (),
        }
    }
}

/// What every HTTP/2 connection starts with (RFC 9113 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FIRST_READ: usize = 1024;

/// After so long without traffic the kernel asks whether the client is still there.
const TCP_KEEPALIVE: Duration = Duration::from_mins(1);
