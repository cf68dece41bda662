//! What a person reads on stdout after a start: where we listen, and what to do next.

use crate::config::UpstreamSettings;
use crate::sim::SimSettings;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// What there is to say of a proxy that runs.
#[derive(Clone, Copy, Debug)]
pub struct Greeting<'a> {
    /// Where requests may go, at least one; the first is the default.
    pub upstreams: &'a [UpstreamSettings],
    /// The configuration file.
    pub file: Option<&'a Path>,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Do they speak TLS there?
    pub over_tls: bool,
    /// Where metrics are.
    pub admin: SocketAddr,
}

impl Greeting<'_> {
    /// Says where the proxy is and how JMeter gets to it. Flushed: whoever started us may wait for these lines.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { upstreams, file, listen, over_tls, admin } = self;
        let scheme = if *over_tls { "https" } else { "http" };
        let near = reachable(*listen);
        let (host, port) = (near.ip(), near.port());
        let shown: Vec<_> =
            upstreams.iter().take(UPSTREAMS_SHOWN).map(|upstream| upstream.address.to_string()).collect();
        let more = upstreams.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        writeln!(out, "listening on {scheme}://{listen} -> {}{more}", shown.join(", "))?;
        writeln!(out, "admin on http://{admin}/metrics")?;
        if let Some(file) = file {
            writeln!(out, "configured by {}", file.display())?;
        }
        // JMeter speaks to proxies in the clear.
        if let Some(UpstreamSettings { address, .. }) = upstreams.first().filter(|_| !over_tls) {
            let own_port = if address.authority.port().is_some() { address.port } else { 80 };
            write!(
                out,
                "\n\
                 JMeter, as its proxy (samplers: protocol http, server name {}, port {own_port}):\n  \
                   jmeter -n -t plan.jmx -l out.jtl -H {host} -P {port}\n",
                address.host,
            )?;
        }
        write!(
            out,
            "JMeter or any client, as the server (samplers: protocol {scheme}, server name {host}, port {port}):\n  \
               jmeter -n -t plan.jmx -l out.jtl\n\
             What it learns:  curl -s http://{}/api/v1/lanes\n\
             To stop:         Ctrl-C or SIGTERM; what is queued is served first\n",
            reachable(*admin),
        )?;
        out.flush()
    }
}

/// Says where the simulated API is and how to point the proxy at it. `certificate` is the file of one that speaks
/// HTTPS.
///
/// # Errors
/// When stdout cannot be written.
pub fn greet_sim(
    out: &mut impl Write,
    settings: &SimSettings,
    listen: SocketAddr,
    certificate: Option<&Path>,
) -> io::Result<()> {
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let near = format!("{scheme}://{}", reachable(listen));
    let limits = settings.allowed_at(0.0);
    let limits = if limits.is_empty() { "nothing".to_owned() } else { limits.join(" and ") };
    writeln!(out, "listening on {scheme}://{listen}, limited to {limits} on {}", settings.path)?;
    for change in &settings.changes {
        writeln!(out, "after {}s limited to {}", change.at_seconds, settings.written(change.quota))?;
    }
    if let Some(rate) = settings.others {
        writeln!(out, "an unseen tenant spends {rate} of each limit")?;
    }
    writeln!(out, "account at {near}/__sim/stats")?;
    let mut trust = String::new();
    if let Some(file) = certificate.map(Path::display) {
        writeln!(out, "certificate in {file} (curl --cacert {file})")?;
        trust = format!(" --upstream-ca {file}");
    }
    write!(
        out,
        "\n\
         Put Tidegate in front:  tidegate run --upstream {near}{trust}\n\
         To stop:                Ctrl-C or SIGTERM\n"
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

/// More would be a wall of names.
const UPSTREAMS_SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Rate;
    use crate::sim::limits::Change;

    fn greeting(upstreams: &[&str], file: Option<&str>, listen: &str) -> String {
        let mut out = Vec::new();
        let upstreams: Vec<_> =
            upstreams.iter().map(|url| UpstreamSettings::new(url.parse().unwrap())).collect();
        let (listen, admin) = (listen.parse().unwrap(), "127.0.0.1:9464".parse().unwrap());
        let greeting =
            Greeting { upstreams: &upstreams, file: file.map(Path::new), listen, over_tls: false, admin };
        greeting.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_run_greeting_has_what_a_person_copies() {
        let text = greeting(&["https://api.mypurecloud.com"], None, "127.0.0.1:18080");
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
        assert!(!text.contains("configured"), "{text}");
    }

    #[test]
    fn many_upstreams_are_counted() {
        let upstreams = ["https://a", "https://b", "http://c:1", "https://d", "https://e"];
        let text = greeting(&upstreams, Some("config/genesys.toml"), "127.0.0.1:18080");
        assert!(text.contains("-> https://a, https://b, http://c:1 and 2 more\n"), "{text}");
        assert!(text.contains("configured by config/genesys.toml\n"), "{text}");
        let text = greeting(&upstreams[..3], None, "127.0.0.1:18080");
        assert!(text.contains("-> https://a, https://b, http://c:1\n"), "{text}");
    }

    #[test]
    fn every_interface_is_reached_by_loopback() {
        let text = greeting(&["http://10.0.0.7:9000"], None, "0.0.0.0:80");
        assert!(text.contains("listening on http://0.0.0.0:80 "), "{text}");
        assert!(text.contains("-H 127.0.0.1 -P 80\n"), "{text}");
        assert!(text.contains("server name 10.0.0.7, port 9000)"), "{text}");
    }

    #[test]
    fn the_sim_greeting_says_how_to_reach_and_trust_it() {
        let said = |settings: &SimSettings, certificate| {
            let mut out = Vec::new();
            greet_sim(&mut out, settings, "0.0.0.0:8081".parse().unwrap(), certificate).unwrap();
            String::from_utf8(out).unwrap()
        };
        let plain = said(&SimSettings::default(), None);
        assert!(plain.contains("listening on http://0.0.0.0:8081, limited to 10/s on /\n"), "{plain}");
        assert!(plain.contains("tidegate run --upstream http://127.0.0.1:8081\n"), "{plain}");
        let change = Change { at_seconds: 60.0, quota: "5/s".parse().unwrap() };
        let moving =
            SimSettings { changes: vec![change], others: Some(Rate::new(1.5)), ..SimSettings::default() };
        let tls = said(&moving, Some(Path::new("/s/sim-8081.pem")));
        for part in [
            "listening on https://0.0.0.0:8081,",
            "after 60s limited to 5/s\n",
            "an unseen tenant spends 1.5/s of each limit\n",
            "account at https://127.0.0.1:8081/__sim/stats\n",
            "tidegate run --upstream https://127.0.0.1:8081 --upstream-ca /s/sim-8081.pem\n",
        ] {
            assert!(tls.contains(part), "{part:?} not in\n{tls}");
        }
    }
}
