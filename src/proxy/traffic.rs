//! What the operator says about a request: its route, its lane and its class. The first rule that fits counts.

use super::credential::CredentialKey;
use super::fields::Fields;
use super::route::Routes;
use super::sites::Site;
use crate::config::{ClassMatch, Config, LaneMatch, Per, RefusalSign, RouteSettings};
use crate::control::{ClassId, CredentialHash, LaneKey};
use http::{HeaderName, Method};
use std::sync::Arc;

/// The rules, in the operator's order.
#[derive(Debug)]
pub(super) struct Traffic {
    credentials: CredentialKey,
    routes: Vec<RouteSettings>,
    /// For what no rule names.
    folded: Routes,
    lanes: Vec<LaneMatch>,
    classes: Vec<Class>,
}

/// Where a request belongs.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// Who asks, whether or not the lane tells them apart.
    pub(super) credential: Option<CredentialHash>,
    pub(super) key: LaneKey,
    pub(super) class: ClassId,
    /// How its route refuses beside a 429.
    pub(super) sign: Option<&'a RefusalSign>,
}

/// [`ClassMatch`], ready to be asked.
#[derive(Debug)]
struct Class {
    routes: Vec<Arc<str>>,
    header: Option<(HeaderName, Vec<String>)>,
    credentials: Vec<Prefix>,
}

/// The first digits of a hash.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    digits: u64,
    /// Bits of a hash that they leave open.
    open: u32,
}

impl Traffic {
    pub(super) fn new(config: &Config, credentials: CredentialKey) -> Self {
        Self {
            credentials,
            routes: config.routes.clone(),
            folded: Routes::new(config.proxy.routes_max, config.proxy.route_names_max),
            lanes: config.lane_matches.clone(),
            classes: config.class_matches.iter().map(Class::new).collect(),
        }
    }

    /// Where a request to `site` belongs; `path` is without the upstream's prefix.
    pub(super) fn place(&self, site: &Site, method: &Method, path: &str, fields: &Fields) -> Place<'_> {
        let is_here = |upstream: Option<usize>| upstream.is_none_or(|upstream| upstream == site.place);
        let credential = self.credentials.of(fields);
        let rule = self.routes.iter().find(|rule| {
            is_here(rule.upstream)
                && (rule.methods.is_empty() || rule.methods.contains(method))
                && rule.path.matches(path)
        });
        let route = rule.map_or_else(|| self.folded.class(path), |rule| Arc::clone(&rule.name));
        let class = self.class(&route, credential, fields);
        let lane = self.lanes.iter().find(|lane| is_here(lane.upstream) && is_among(&lane.routes, &route));
        let (own, route) = match lane {
            None => (credential, route),
            Some(lane) => (credential.filter(|_| lane.per == Per::Credential), Arc::clone(&lane.name)),
        };
        let key = LaneKey { upstream: Arc::clone(&site.key), credential: own, route };
        Place { credential, key, class, sign: rule.and_then(|rule| rule.refusal.as_ref()) }
    }

    fn class(&self, route: &str, credential: Option<CredentialHash>, fields: &Fields) -> ClassId {
        let place = self.classes.iter().position(|class| class.fits(route, credential, fields));
        let number = place.and_then(|place| u16::try_from(place + 1).ok());
        ClassId(number.unwrap_or_default())
    }
}

impl Class {
    fn new(rule: &ClassMatch) -> Self {
        Self {
            routes: rule.routes.clone(),
            header: rule.header.clone(),
            credentials: rule.credentials.iter().map(|digits| Prefix::new(digits)).collect(),
        }
    }

    fn fits(&self, route: &str, credential: Option<CredentialHash>, fields: &Fields) -> bool {
        let has_credential = self.credentials.is_empty()
            || credential.is_some_and(|hash| self.credentials.iter().any(|prefix| prefix.fits(hash)));
        let has_header = self.header.as_ref().is_none_or(|(name, values)| {
            let mut lines = fields.all(name);
            lines.any(|line| values.is_empty() || values.iter().any(|value| line == value.as_bytes()))
        });
        has_credential && has_header && is_among(&self.routes, route)
    }
}

impl Prefix {
    /// Digits that are none of a hash fit none.
    fn new(digits: &str) -> Self {
        let open =
            u32::try_from(digits.len()).ok().and_then(|count| 64_u32.checked_sub(count.checked_mul(4)?));
        match (u64::from_str_radix(digits, 16), open) {
            (Ok(digits), Some(open)) => Self { digits, open },
            _ => Self { digits: 1, open: 64 },
        }
    }

    fn fits(self, hash: CredentialHash) -> bool {
        hash.0.checked_shr(self.open).unwrap_or_default() == self.digits
    }
}

/// No names: all of them.
fn is_among(names: &[Arc<str>], name: &str) -> bool {
    names.is_empty() || names.iter().any(|known| **known == *name)
}

#[cfg(test)]
mod tests {
    use super::super::sites::Sites;
    use super::*;
    use crate::config::UpstreamSettings;
    use http::{HeaderMap, HeaderValue, StatusCode};

    fn route(name: &str, path: &str) -> RouteSettings {
        let (name, path) = (name.into(), path.parse().unwrap());
        RouteSettings { name, upstream: None, methods: Vec::new(), path, refusal: None }
    }

    fn lane(name: &str, routes: &[&str], per: Per) -> LaneMatch {
        let routes = routes.iter().map(|&route| route.into()).collect();
        LaneMatch { name: name.into(), upstream: None, routes, per }
    }

    fn class(routes: &[&str], header: Option<(&'static str, &[&str])>, credentials: &[&str]) -> ClassMatch {
        let header = header.map(|(name, values)| {
            (HeaderName::from_static(name), values.iter().map(|&value| value.to_owned()).collect())
        });
        ClassMatch {
            routes: routes.iter().map(|&route| route.into()).collect(),
            header,
            credentials: credentials.iter().map(|&digits| digits.to_owned()).collect(),
        }
    }

    /// Two upstreams and these rules.
    fn config(set: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::new("http://a".parse().unwrap());
        config.upstreams.push(UpstreamSettings::new("http://b".parse().unwrap()));
        set(&mut config);
        config
    }

    const KEY: [u8; 32] = [0; 32];

    /// Upstream, credential, route, class and whether there is a sign, for a request to the first upstream.
    fn placed(
        config: &Config,
        method: &str,
        path: &str,
        fields: &[(&'static str, &'static str)],
    ) -> (bool, String, u16, bool) {
        at(config, None, method, path, fields)
    }

    fn at(
        config: &Config,
        host: Option<&str>,
        method: &str,
        path: &str,
        fields: &[(&'static str, &'static str)],
    ) -> (bool, String, u16, bool) {
        let sites = Sites::new(&config.upstreams);
        let (site, _) = sites.leading("/".parse().unwrap(), host);
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let traffic = Traffic::new(config, CredentialKey::new(KEY));
        let place = traffic.place(site, &method.parse().unwrap(), path, &headers.into());
        assert_eq!(place.key.upstream, site.key);
        (place.key.credential.is_some(), place.key.route.to_string(), place.class.0, place.sign.is_some())
    }

    const TOKEN: (&str, &str) = ("authorization", "Bearer t");

    #[test]
    fn the_first_route_that_fits_counts_and_the_folded_class_stands_in() {
        let config = config(|config| {
            let refusal = Some(RefusalSign { status: StatusCode::BAD_REQUEST, body: "rate limit".into() });
            config.routes = vec![
                RouteSettings { methods: vec![Method::POST], ..route("send", "/messages/**") },
                RouteSettings { upstream: Some(1), refusal, ..route("token", "/oauth/token") },
                route("messages", "/messages/**"),
                route("all", "/messages/1"),
            ];
        });
        for (host, method, path, name, sign) in [
            (None, "POST", "/messages/1", "send", false),
            (None, "GET", "/messages/1", "messages", false),
            (None, "GET", "/users/42", "/users/{id}", false),
            (None, "POST", "/oauth/token", "/oauth/token", false),
            (Some("b"), "POST", "/oauth/token", "token", true),
        ] {
            let expected = (true, name.to_owned(), 0, sign);
            assert_eq!(at(&config, host, method, path, &[TOKEN]), expected, "{host:?} {method} {path}");
        }
    }

    #[test]
    fn the_first_lane_that_fits_takes_its_routes_together() {
        let config = config(|config| {
            config.routes = vec![route("send", "/send"), route("read", "/read")];
            config.lane_matches = vec![
                lane("talk", &["send", "read"], Per::Credential),
                LaneMatch { upstream: Some(1), ..lane("elsewhere", &[], Per::Credential) },
                lane("folded", &["/users/{id}"], Per::Upstream),
            ];
        });
        for (host, path, expected) in [
            (None, "/send", (true, "talk")),
            (None, "/read", (true, "talk")),
            (None, "/users/42", (false, "folded")),
            (None, "/users", (true, "/users")),
            (Some("b"), "/users/42", (true, "elsewhere")),
        ] {
            let (credential, route, ..) = at(&config, host, "GET", path, &[TOKEN]);
            assert_eq!((credential, route.as_str()), expected, "{host:?} {path}");
        }
    }

    #[test]
    fn the_first_class_whose_every_criterion_holds_counts() {
        let hash = CredentialKey::new(KEY).hash(&HeaderValue::from_static("Bearer t"));
        let (short, long) = (hash.short(4), hash.short(16));
        let (strange, longer) = (format!("+{}", hash.short(4)), format!("{long}0"));
        let config = config(|config| {
            config.routes = vec![route("send", "/send")];
            config.class_matches = vec![
                class(&["send"], Some(("x-load-test", &["yes", "1"])), &[]),
                class(&[], None, &["", "xyz", &strange, &longer]),
                class(&[], Some(("x-urgent", &[])), &[&short]),
                class(&["send"], None, &["ffff", &long]),
            ];
        });
        for (path, fields, number) in [
            ("/send", &[("x-load-test", "yes")][..], 1),
            ("/send", &[("x-load-test", "no"), ("x-load-test", "1")], 1),
            ("/send", &[("x-load-test", "no")], 0),
            ("/other", &[("x-load-test", "yes")], 0),
            ("/other", &[TOKEN, ("x-urgent", "")], 3),
            ("/other", &[("x-urgent", "")], 0),
            ("/send", &[TOKEN], 4),
            ("/send", &[("authorization", "Bearer u")], 0),
        ] {
            assert_eq!(placed(&config, "GET", path, fields).2, number, "{path} {fields:?}");
        }
    }

    #[test]
    fn a_lane_that_is_shared_by_all_still_tells_classes_by_credential() {
        let hash = CredentialKey::new(KEY).hash(&HeaderValue::from_static("Bearer t"));
        let config = config(|config| {
            config.lane_matches = vec![lane("all", &[], Per::Upstream)];
            config.class_matches = vec![class(&[], None, &[&hash.short(5)])];
        });
        assert_eq!(placed(&config, "GET", "/x", &[TOKEN]), (false, "all".to_owned(), 1, false));
    }
}
