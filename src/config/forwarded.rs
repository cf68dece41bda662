//! What the upstream is told of who asks: `Forwarded` (RFC 7239) and `X-Forwarded-*`, and whose word counts.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What becomes of `Forwarded`, `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardedSettings {
    /// What is done.
    pub mode: ForwardedMode,
    /// Clients whose own fields are kept by [`ForwardedMode::Append`]: proxies in front of this one. By default nobody.
    pub trusted: Vec<Network>,
}

/// What is done with the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedMode {
    /// They pass as they come: Tidegate stands at the client's side, and adds nothing to what the client says of itself.
    #[default]
    Pass,
    /// They are taken away.
    Off,
    /// The client's address is added to them; what a client said that is not trusted is taken away first.
    Append,
    /// They say what Tidegate knows, whatever the client said.
    Replace,
}

/// Addresses that begin with the same bits: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Text that is no network.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a network: write an IP address and how many bits count, such as 10.0.0.0/8 or fd00::/8"
)]
pub struct NetworkError(String);

impl ForwardedSettings {
    /// Does the word of a client with this address count?
    pub fn trusts(&self, client: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(client))
    }
}

impl Network {
    /// Is `address` in it? IPv4 addresses that are written as IPv6 (`::ffff:10.0.0.1`) are IPv4 addresses.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => begin_alike(
                u128::from(u32::from(own)),
                u128::from(u32::from(other)),
                32 - u32::from(self.bits),
            ),
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                begin_alike(u128::from(own), u128::from(other), 128 - u32::from(self.bits))
            }
            _ => false,
        }
    }
}

fn begin_alike(a: u128, b: u128, open: u32) -> bool {
    (a ^ b).checked_shr(open).unwrap_or_default() == 0
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse::<u8>().map_err(|_| wrong()))?;
        if bits > most { Err(wrong()) } else { Ok(Self { address, bits }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_asked() {
        for (network, address, is_in) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("192.168.1.1", "192.168.1.1", true),
            ("192.168.1.1", "192.168.1.2", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1/128", "::1", true),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), is_in, "{network} {address}");
        }
        for wrong in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0/8",
            "example.com",
            "10.0.0.1:80",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
