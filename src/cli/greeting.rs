//! What a person reads on stdout after a start: where we listen, and what to do next.

use crate::config::Upstream;
use crate::sim::SimSettings;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Says where the proxy is and how JMeter gets to it. Flushed: whoever started us may wait for these lines.
///
/// # Errors
/// When stdout cannot be written.
pub fn greet_run(
    out: &mut impl Write,
    upstream: &Upstream,
    listen: SocketAddr,
    admin: SocketAddr,
) -> io::Result<()> {
    let near = reachable(listen);
    let (host, port) = (near.ip(), near.port());
    let (server, own_port) =
        (&upstream.host, if upstream.authority.port().is_some() { upstream.port } else { 80 });
    write!(
        out,
        "listening on http://{listen} -> {upstream}\n\
         admin on http://{admin}/metrics\n\
         \n\
         JMeter, as its proxy (samplers: protocol http, server name {server}, port {own_port}):\n  \
           jmeter -n -t plan.jmx -l out.jtl -H {host} -P {port}\n\
         JMeter or any client, as the server (samplers: protocol http, server name {host}, port {port}):\n  \
           jmeter -n -t plan.jmx -l out.jtl\n\
         What it learns:  curl -s http://{}/api/v1/lanes\n\
         To stop:         Ctrl-C or SIGTERM; what is queued is served first\n",
        reachable(admin),
    )?;
    out.flush()
}

/// Says where the simulated API is and how to point the proxy at it.
///
/// # Errors
/// When stdout cannot be written.
pub fn greet_sim(out: &mut impl Write, settings: &SimSettings, listen: SocketAddr) -> io::Result<()> {
    let near = reachable(listen);
    let limits: Vec<_> = settings.limits.iter().map(ToString::to_string).collect();
    let limits = if limits.is_empty() { "nothing".to_owned() } else { limits.join(" and ") };
    write!(
        out,
        "listening on http://{listen}, limited to {limits} on {}\n\
         account at http://{near}/__sim/stats\n\
         \n\
         Put Tidegate in front:  tidegate run --upstream http://{near}\n\
         To stop:                Ctrl-C or SIGTERM\n",
        settings.path,
    )?;
    out.flush()
}

/// An address that a client on this machine can use: "every interface" is not one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(upstream: &str, listen: &str) -> String {
        let mut out = Vec::new();
        let upstream = upstream.parse().unwrap();
        greet_run(&mut out, &upstream, listen.parse().unwrap(), "127.0.0.1:9464".parse().unwrap()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_run_greeting_has_what_a_person_copies() {
        let text = greeting("https://api.mypurecloud.com", "127.0.0.1:18080");
        for part in [
            "listening on http://127.0.0.1:18080 -> https://api.mypurecloud.com\n",
            "admin on http://127.0.0.1:9464/metrics\n",
            "jmeter -n -t plan.jmx -l out.jtl -H 127.0.0.1 -P 18080\n",
            "protocol http, server name api.mypurecloud.com, port 80)",
            "server name 127.0.0.1, port 18080)",
            "\n  jmeter",
        ] {
            assert!(text.contains(part), "{part:?} not in\n{text}");
        }
    }

    #[test]
    fn every_interface_is_reached_by_loopback() {
        let text = greeting("http://10.0.0.7:9000", "0.0.0.0:80");
        assert!(text.contains("listening on http://0.0.0.0:80 "), "{text}");
        assert!(text.contains("-H 127.0.0.1 -P 80\n"), "{text}");
        assert!(text.contains("server name 10.0.0.7, port 9000)"), "{text}");
    }
}
