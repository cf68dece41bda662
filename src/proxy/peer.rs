//! Who asks: the client's side of a connection, as far as its requests care.

use std::net::IpAddr;

/// The client that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address, an IPv4 one never in IPv6 form.
    pub address: IpAddr,
    /// Did it speak TLS with us?
    pub over_tls: bool,
}
