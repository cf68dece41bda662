//! Why there is no connection, in words that say what to do.

use super::names::DnsError;
use crate::config::Upstream;
use crate::proxy::error::{BoxError, ErrorKind, ProxyError, find};
use rustls::{CertificateError, OtherError};
use std::io;

/// Why there is no connection, in words that say what to do.
pub(in crate::proxy) fn explain(error: BoxError, upstream: &Upstream) -> ProxyError {
    let error = match error.downcast::<ProxyError>() {
        Ok(known) => return *known,
        Err(error) => error,
    };
    let address = upstream.host_port();
    let (kind, detail) = if find::<DnsError>(&*error).is_some() {
        (
            ErrorKind::Dns,
            format!("The name {} does not resolve. Check --upstream and this machine's DNS.", upstream.host),
        )
    } else if let Some(tls) = find::<rustls::Error>(&*error) {
        explain_tls(tls, &address)
    } else {
        explain_io(find::<io::Error>(&*error).map(io::Error::kind), &address)
    };
    ProxyError::new(kind, detail).because(error)
}

fn explain_tls(error: &rustls::Error, address: &str) -> (ErrorKind, String) {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(problem)) if is_ca_itself(problem) => (
            ErrorKind::TlsCertificate,
            format!(
                "The certificate of {address} is not trusted: it is that of a CA (or one that signed itself), where a \
                 server's own is needed. Give the API a certificate that a CA issued to its name."
            ),
        ),
        rustls::Error::InvalidCertificate(problem) => (
            ErrorKind::TlsCertificate,
            format!(
                "The certificate of {address} is not trusted: {problem}. If it is issued by a private CA, \
                 start Tidegate with --upstream-ca FILE, a PEM file with that CA's certificate."
            ),
        ),
        other => (
            ErrorKind::TlsProtocol,
            format!(
                "TLS with {address} failed: {other}. Does that port speak TLS? If not, use http:// in --upstream."
            ),
        ),
    }
}

/// The verifier has no word of its own for this one, only its internal name.
pub(in crate::proxy) fn is_ca_itself(problem: &OtherError) -> bool {
    problem.to_string().contains("CaUsedAsEndEntity")
}

fn explain_io(kind: Option<io::ErrorKind>, address: &str) -> (ErrorKind, String) {
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => (
            ErrorKind::ConnectionRefused,
            format!("Nothing listens at {address}. Is the API running, and is --upstream right?"),
        ),
        Some(io::ErrorKind::TimedOut) => timed_out(address),
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            (ErrorKind::Unroutable, format!("There is no route to {address}. Check this machine's network."))
        }
        _ => (
            ErrorKind::ConnectionTerminated,
            format!("The connection to {address} ended while it was being made."),
        ),
    }
}

/// No connection in time.
pub(in crate::proxy) fn timed_out(address: &str) -> (ErrorKind, String) {
    (
        ErrorKind::ConnectionTimeout,
        format!(
            "No connection to {address} in time. Is it reachable from here, past the firewalls between, and does it answer as --upstream says (http:// or https://)?"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart() {
        let upstream: Upstream = "https://api.example.com".parse().unwrap();
        let io = |kind| BoxError::from(io::Error::from(kind));
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let ca_itself = OtherError(std::sync::Arc::new(io::Error::other("CaUsedAsEndEntity")));
        let ca_itself = rustls::Error::InvalidCertificate(CertificateError::Other(ca_itself));
        for (error, kind, word) in [
            (BoxError::from(DnsError(io::Error::other("x"))), ErrorKind::Dns, "--upstream"),
            (io(io::ErrorKind::ConnectionRefused), ErrorKind::ConnectionRefused, "api.example.com:443"),
            (io(io::ErrorKind::TimedOut), ErrorKind::ConnectionTimeout, "firewalls"),
            (io(io::ErrorKind::HostUnreachable), ErrorKind::Unroutable, "network"),
            (io(io::ErrorKind::UnexpectedEof), ErrorKind::ConnectionTerminated, "ended"),
            (BoxError::from(io::Error::other(unknown)), ErrorKind::TlsCertificate, "--upstream-ca"),
            (BoxError::from(io::Error::other(ca_itself)), ErrorKind::TlsCertificate, "that of a CA"),
            (
                BoxError::from(io::Error::other(rustls::Error::HandshakeNotComplete)),
                ErrorKind::TlsProtocol,
                "http://",
            ),
        ] {
            let told = explain(error, &upstream);
            assert_eq!(told.kind, kind);
            assert!(told.detail.contains(word), "{told}");
        }
    }
}
