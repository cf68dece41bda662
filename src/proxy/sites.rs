//! Which upstream does a request mean? By its authority, a prefix of its path, its host, or else the first.

use crate::config::{Upstream, UpstreamSettings};
use http::uri::{Authority, PathAndQuery, Scheme};
use std::sync::Arc;

/// The upstreams that requests may go to; at least one.
#[derive(Debug)]
pub(super) struct Sites {
    first: Site,
    others: Vec<Site>,
    /// Prefixes with the place of their upstream, longest first.
    prefixes: Vec<(String, usize)>,
}

/// One upstream.
#[derive(Debug)]
pub(super) struct Site {
    /// Its place among all.
    pub(super) place: usize,
    pub(super) upstream: Upstream,
    /// Its part of a lane's key.
    pub(super) key: Arc<str>,
}

impl Sites {
    /// # Panics
    /// Without an upstream.
    pub(super) fn new(upstreams: &[UpstreamSettings]) -> Self {
        let mut sites = upstreams.iter().enumerate().map(|(place, settings)| Site {
            place,
            upstream: settings.address.clone(),
            key: settings.key(),
        });
        let first = sites.next().expect("a configuration has an upstream");
        let others = sites.collect();
        let prefix = |(place, settings): (usize, &UpstreamSettings)| {
            let prefix = settings.prefix.as_deref()?.trim_end_matches('/');
            (!prefix.is_empty()).then(|| (prefix.to_owned(), place))
        };
        let mut prefixes: Vec<_> = upstreams.iter().enumerate().filter_map(prefix).collect();
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Self { first, others, prefixes }
    }

    /// The one that a target in absolute form names.
    pub(super) fn named(&self, scheme: Option<&Scheme>, authority: &Authority) -> Option<&Site> {
        self.all().find(|site| {
            site.upstream.answers_to(authority) || has_scheme_s_port(&site.upstream, scheme, authority)
        })
    }

    /// The one that a target in origin form leads to, and what is asked of it.
    pub(super) fn leading(&self, target: PathAndQuery, host: Option<&str>) -> (&Site, PathAndQuery) {
        for (prefix, place) in &self.prefixes {
            if let (Some(rest), Some(site)) = (without(&target, prefix), self.at(*place)) {
                return (site, rest);
            }
        }
        if self.others.is_empty() {
            return (&self.first, target);
        }
        let is_host = |site: &&Site| {
            host.is_some_and(|host| {
                host.eq_ignore_ascii_case(site.upstream.authority.as_str())
                    || host.eq_ignore_ascii_case(&site.key)
            })
        };
        (self.all().find(is_host).unwrap_or(&self.first), target)
    }

    /// The one that gets what names none.
    pub(super) fn first(&self) -> &Site {
        &self.first
    }

    /// The upstreams, for a sentence: the first few by name.
    pub(super) fn shown(&self) -> String {
        let shown: Vec<_> = self.all().take(SHOWN_MAX).map(|site| site.upstream.to_string()).collect();
        match (self.others.len() + 1).saturating_sub(SHOWN_MAX) {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Site> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn at(&self, place: usize) -> Option<&Site> {
        self.all().nth(place)
    }
}

/// `http://H:80/` is `http://H/`, and so means an upstream `https://H` too.
fn has_scheme_s_port(upstream: &Upstream, scheme: Option<&Scheme>, authority: &Authority) -> bool {
    let own_port = if scheme == Some(&Scheme::HTTPS) { 443 } else { 80 };
    upstream.authority.port().is_none()
        && authority.port_u16() == Some(own_port)
        && authority.host().eq_ignore_ascii_case(&upstream.host)
}

/// `target` without `prefix`, if it starts with it in whole segments. What is left stays as it is, byte for byte.
fn without(target: &PathAndQuery, prefix: &str) -> Option<PathAndQuery> {
    let rest = target.as_str().strip_prefix(prefix)?;
    match rest.bytes().next() {
        Some(b'/') => PathAndQuery::try_from(rest).ok(),
        None | Some(b'?') => PathAndQuery::try_from(format!("/{rest}")).ok(),
        Some(_) => None,
    }
}

/// Upstreams that an error names.
const SHOWN_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(upstreams: &[(&str, Option<&str>)]) -> Sites {
        let settings: Vec<_> = upstreams
            .iter()
            .map(|(url, prefix)| UpstreamSettings {
                prefix: prefix.map(str::to_owned),
                ..UpstreamSettings::new(url.parse().unwrap())
            })
            .collect();
        Sites::new(&settings)
    }

    fn gateway() -> Sites {
        sites(&[
            ("https://api.example.com", None),
            ("https://login.example.com", Some("/login")),
            ("https://deep.example.com", Some("/login/deep/")),
            ("http://127.0.0.1:9000", None),
        ])
    }

    #[test]
    fn a_prefix_leads_in_whole_segments_longest_first_and_falls_away() {
        for (target, place, rest) in [
            ("/login/oauth/token?x=%20/login", 1, "/oauth/token?x=%20/login"),
            ("/login", 1, "/"),
            ("/login/", 1, "/"),
            ("/login?x=1", 1, "/?x=1"),
            ("/login//a", 1, "//a"),
            ("/login/deep/a", 2, "/a"),
            ("/login/deeper", 1, "/deeper"),
            ("/logins", 0, "/logins"),
            ("/Login/a", 0, "/Login/a"),
            ("/api/login/a", 0, "/api/login/a"),
            ("*", 0, "*"),
        ] {
            let sites = gateway();
            let (site, left) = sites.leading(target.parse().unwrap(), None);
            assert_eq!((site.place, left.as_str()), (place, rest), "{target}");
        }
    }

    #[test]
    fn a_host_leads_when_it_names_an_upstream_exactly() {
        for (host, place) in [
            ("login.example.com", 1),
            ("LOGIN.example.com:443", 1),
            ("127.0.0.1:9000", 3),
            ("127.0.0.1:8080", 0),
            ("127.0.0.1", 0),
            ("login.example.com:8080", 0),
            ("other.example", 0),
        ] {
            let sites = gateway();
            let (site, _) = sites.leading("/x".parse().unwrap(), Some(host));
            assert_eq!(site.place, place, "{host}");
        }
        let (sites, host) = (gateway(), "127.0.0.1:9000");
        assert_eq!(sites.leading("/login/x".parse().unwrap(), Some(host)).0.place, 1, "the prefix wins");
    }

    #[test]
    fn an_authority_names_one_of_all() {
        for (target, place) in [
            ("http://api.example.com/", Some(0)),
            ("http://login.example.com/login/x", Some(1)),
            ("https://deep.example.com:443/", Some(2)),
            ("http://login.example.com:80/", Some(1)),
            ("http://login.example.com:8080/", None),
            ("http://127.0.0.1:9000/", Some(3)),
            ("http://other.example/", None),
        ] {
            let uri: http::Uri = target.parse().unwrap();
            let sites = gateway();
            let named = sites.named(uri.scheme(), uri.authority().unwrap());
            assert_eq!(named.map(|site| site.place), place, "{target}");
        }
    }

    #[test]
    fn a_few_are_shown() {
        assert_eq!(sites(&[("http://a", None)]).shown(), "http://a");
        assert_eq!(
            gateway().shown(),
            "https://api.example.com, https://login.example.com, https://deep.example.com and 1 more"
        );
    }
}
