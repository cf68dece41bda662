//! How much of what was sent has a client not taken yet? The kernel knows, and is asked for one connection at a time.
//!
//! # Why so
//! An answer that fits the kernel's send buffer is gone as far as a program can see, and may lie there for as long as the
//! client likes. What tells of it without `unsafe` code is `sock_diag(7)`, which `ss` asks: a datagram to the
//! kernel and one back, 5 µs, asked at most twice in a `write_stall` of a connection.

use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Ends {
    own: SocketAddr,
    peer: SocketAddr,
}

impl Ends {
    /// `None` when the client has left.
    pub(in crate::proxy) fn of(stream: &TcpStream) -> Option<Self> {
        Some(Self { own: stream.local_addr().ok()?, peer: stream.peer_addr().ok()? })
    }

    /// Bytes that were written and that the other end has not acknowledged; `None` when nobody knows.
    #[cfg(target_os = "linux")]
    pub(in crate::proxy) fn untaken(self) -> Option<u64> {
        sock_diag::send_queue(self).map(u64::from)
    }

    /// Nobody knows here.
    #[cfg(not(target_os = "linux"))]
    pub(in crate::proxy) fn untaken(self) -> Option<u64> {
        None
    }
}

#[cfg(target_os = "linux")]
mod sock_diag {
    use super::Ends;
    use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
    };
    use std::net::{IpAddr, SocketAddr};

    /// What the kernel holds of what was written, if the connection is there.
    pub(super) fn send_queue(ends: Ends) -> Option<u32> {
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG));
        let socket = socket.ok()?;
        sendto(&socket, &question(ends)?, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).ok()?;
        let mut answer = [0; 512];
        // The kernel has answered before the question returns.
        let (_, length) = recv(&socket, &mut answer, RecvFlags::DONTWAIT).ok()?;
        let answer = answer.get(..length)?;
        (u16::from_ne_bytes(bytes(answer, TYPE)?) == SOCK_DIAG_BY_FAMILY).then_some(())?;
        Some(u32::from_ne_bytes(bytes(answer, SEND_QUEUE)?))
    }

    /// A `nlmsghdr` and an `inet_diag_req_v2` that name one connection.
    fn question(Ends { own, peer }: Ends) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(QUESTION);
        let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        text.extend_from_slice(&u32::try_from(QUESTION).ok()?.to_ne_bytes());
        text.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        text.extend_from_slice(&REQUEST.to_ne_bytes());
        text.extend_from_slice(&[0; 8]); // sequence, port
        text.extend_from_slice(&[u8::try_from(family.as_raw()).ok()?, TCP, 0, 0]);
        text.extend_from_slice(&ANY_STATE.to_ne_bytes());
        text.extend_from_slice(&own.port().to_be_bytes());
        text.extend_from_slice(&peer.port().to_be_bytes());
        text.extend_from_slice(&sixteen(own));
        text.extend_from_slice(&sixteen(peer));
        text.extend_from_slice(&scope(peer).to_ne_bytes());
        text.extend_from_slice(&NO_COOKIE);
        Some(text)
    }

    fn sixteen(address: SocketAddr) -> [u8; 16] {
        match address.ip() {
            IpAddr::V4(four) => {
                let [a, b, c, d] = four.octets();
                [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
            }
            IpAddr::V6(six) => six.octets(),
        }
    }

    fn scope(address: SocketAddr) -> u32 {
        if let SocketAddr::V6(six) = address { six.scope_id() } else { 0 }
    }

    fn bytes<const N: usize>(answer: &[u8], at: usize) -> Option<[u8; N]> {
        answer.get(at..at + N)?.try_into().ok()
    }

    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    /// `NLM_F_REQUEST`
    const REQUEST: u16 = 1;
    const TCP: u8 = 6;
    const ANY_STATE: u32 = u32::MAX;
    const NO_COOKIE: [u8; 8] = [0xff; 8];
    const QUESTION: usize = 16 + 56;
    /// `nlmsg_type`
    const TYPE: usize = 4;
    /// `idiag_wqueue`: behind the header, four bytes, the ends of the connection, a timer and the receive queue.
    const SEND_QUEUE: usize = 16 + 4 + 48 + 4 + 4;
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn shows_what_is_untaken(listen: SocketAddr, own: impl FnOnce(u16) -> SocketAddr) {
        const BYTES: usize = 100_000;
        let listener = TcpListener::bind(listen).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = own(port);
        let socket =
            if to.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() };
        let socket = socket.unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut client = socket.connect(to).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let ends = Ends::of(&server).unwrap();
        assert_eq!(ends.untaken(), Some(0));
        server.write_all(&vec![0; BYTES]).await.unwrap();
        let untaken = ends.untaken().unwrap();
        assert!((BYTES as u64 / 2..=BYTES as u64).contains(&untaken), "{untaken}");
        client.read_exact(&mut vec![0; BYTES]).await.unwrap();
        settles(ends).await;
        drop((server, client));
        drop(listener);
        assert_eq!(
            ends.untaken().filter(|untaken| *untaken > 1),
            None,
            "it is gone, or only its end is on its way"
        );
    }

    async fn settles(ends: Ends) {
        for _ in 0..500 {
            if ends.untaken() == Some(0) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("all was read, and not acknowledged");
    }

    #[tokio::test]
    async fn what_a_client_has_not_taken_is_known_in_both_families() {
        let four = |port| (Ipv4Addr::LOCALHOST, port).into();
        shows_what_is_untaken((Ipv4Addr::LOCALHOST, 0).into(), four).await;
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            shows_what_is_untaken((Ipv6Addr::LOCALHOST, 0).into(), |port| (Ipv6Addr::LOCALHOST, port).into())
                .await;
            // A client of the older family on a listener for both.
            shows_what_is_untaken((Ipv6Addr::UNSPECIFIED, 0).into(), four).await;
        }
    }
}
