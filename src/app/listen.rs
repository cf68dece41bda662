//! Takes the addresses, and says what to do when one cannot be had.

use crate::proxy::accept;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::TcpListener;

/// An address could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}; choose another address with {flag} ADDR, or let the system choose: {flag} {}", why(cause), any_port(*address))]
pub struct ListenError {
    /// The flag that chooses the address.
    pub(super) flag: &'static str,
    pub(super) address: SocketAddr,
    pub(super) cause: io::Error,
}

/// Listens on `address`, which `flag` has chosen.
pub(super) fn listen(
    flag: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let listener = accept::bind(address);
    listener
        .and_then(|listener| listener.local_addr().map(|bound| (listener, bound)))
        .map_err(|cause| ListenError { flag, address, cause })
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "the port is taken by another program".into(),
        ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        ErrorKind::PermissionDenied => "ports below 1024 need more rights".into(),
        _ => error.to_string(),
    }
}

/// The same address with a port that is free for sure.
fn any_port(address: SocketAddr) -> SocketAddr {
    let ip = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(ip, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_way_out() {
        let (_held, taken) = listen("--listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(taken.port(), 0);
        let error = listen("--admin", taken).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot listen on {taken}: the port is taken by another program; choose another address with \
                 --admin ADDR, or let the system choose: --admin 127.0.0.1:0"
            )
        );
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_named() {
        let error = listen("--listen", "192.0.2.1:80".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1:80: this machine has no such address"), "{error}");
    }
}
