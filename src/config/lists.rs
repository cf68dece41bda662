//! What each key of the tables that stand as often as needed means: upstreams, dialects, routes, lanes and classes,
//! which refer to each other by name.

use super::keys;
use super::problem::suggestion;
use super::reader::Reader;
use super::tree::Value;
use super::value::{count, name, parsed, share, text, truth, word};
use super::{
    ClassMatch, Config, DialectSettings, LaneMatch, PathPattern, Per, RefusalSign, ResetUnit, RouteSettings,
    Upstream, UpstreamSettings,
};
use crate::control::{ClassSettings, LaneRule};
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use std::path::PathBuf;
use std::sync::Arc;

/// Reads every table that stands as often as needed.
pub(super) fn read(root: &mut Reader<'_>, config: &mut Config) {
    let mut upstreams = Names::new("upstream");
    let mut prefixes = Vec::new();
    root.tables("upstream", |table| {
        config.upstreams.extend(upstream(table, &mut upstreams, &mut prefixes));
    });
    let mut dialects = Names::new("dialect");
    root.tables("dialect", |table| config.dialects.extend(dialect(table, &upstreams, &mut dialects)));
    let mut routes = Names::new("route");
    root.tables("route", |table| config.routes.extend(route(table, &upstreams, &mut routes)));
    let mut lanes = Names::new("lane");
    root.tables("lane", |table| lane(table, (&upstreams, &routes, &mut lanes), config));
    let mut classes = Names::new("class");
    root.tables("class", |table| class(table, &routes, &mut classes, config));
}

/// The names of one kind of table.
struct Names {
    kind: &'static str,
    known: Vec<Arc<str>>,
    /// One of them could not be read: a name that is not known may be that one.
    incomplete: bool,
}

impl Names {
    fn new(kind: &'static str) -> Self {
        Self { kind, known: Vec::new(), incomplete: false }
    }

    /// Takes the name of one more; the empty name stands for one that is wrong.
    fn add(&mut self, table: &mut Reader<'_>, name: Option<String>) -> Arc<str> {
        let name: Arc<str> = name.unwrap_or_default().into();
        if name.is_empty() {
            self.incomplete = true;
        } else if self.known.contains(&name) {
            let origin = if table.has("name") { table.origin_of("name") } else { table.origin() };
            let text = format!("another {} is called {name:?}: give each a name of its own", self.kind);
            table.wrong(origin, "name", text);
        }
        self.known.push(Arc::clone(&name));
        name
    }

    /// The place of the one that a value names.
    fn find(&self, value: &Value) -> Result<usize, String> {
        let name = text(value, "messages")?;
        match self.known.iter().position(|known| **known == *name) {
            Some(place) => Ok(place),
            None if self.incomplete => Ok(0),
            None => {
                let names = suggestion(name, self.known.iter().map(|name| &**name));
                Err(format!("{name:?} is no {}'s name: {names}", self.kind))
            }
        }
    }

    /// The name itself, once it is known to be one.
    fn checked(&self, value: &Value) -> Result<Arc<str>, String> {
        let place = self.find(value)?;
        Ok(self.known.get(place).cloned().unwrap_or_default())
    }
}

fn upstream(
    table: &mut Reader<'_>,
    names: &mut Names,
    prefixes: &mut Vec<String>,
) -> Option<UpstreamSettings> {
    let given = table.read("name", name);
    let url = "https://api.mypurecloud.com";
    let address = table.require("url", &format!("\"{url}\""), parsed::<Upstream>(url));
    let own = || address.as_ref().map(|address| address.host.clone());
    let name = names.add(table, if table.has("name") { given } else { own() });
    let prefix = table.read("prefix", prefix);
    if let Some(prefix) = &prefix {
        if prefixes.contains(prefix) {
            let text = format!("another upstream has {prefix:?} already: give each a prefix of its own");
            table.wrong(table.origin_of("prefix"), "prefix", text);
        }
        prefixes.push(prefix.clone());
    }
    let ca = table.read("ca_file", |value| text(value, "/etc/ssl/own-ca.pem").map(PathBuf::from));
    let blind = table.read("dangerous_accept_any_certificate", truth).unwrap_or(false);
    if address.as_ref().is_some_and(|address| address.scheme == Scheme::HTTP) {
        for (key, _) in [("ca_file", ca.is_some()), ("dangerous_accept_any_certificate", blind)]
            .into_iter()
            .filter(|(_, is_set)| *is_set)
        {
            let text = "goes with https:// only, and the URL says http://: change it, or leave this out";
            table.wrong(table.origin_of(key), key, text);
        }
    }
    Some(UpstreamSettings { name, address: address?, prefix, ca, verify: !blind })
}

fn dialect(table: &mut Reader<'_>, upstreams: &Names, names: &mut Names) -> Option<DialectSettings> {
    let given = table.require("name", "\"acme\"", name);
    let name = names.add(table, given);
    let upstream = table.read("upstream", |value| upstreams.find(value));
    let limit = table.require("limit", "\"X-Acme-Limit\"", field);
    let remaining = table.read("remaining", field);
    let used = table.read("used", field);
    let reset = table.read("reset", field);
    let units = word(&[("seconds", ResetUnit::Seconds), ("milliseconds", ResetUnit::Milliseconds)]);
    let reset_in = table.read("reset_in", units).unwrap_or_default();
    Some(DialectSettings { name, upstream, limit: limit?, remaining, used, reset, reset_in })
}

/// A field's name alone.
fn field(value: &Value) -> Result<HeaderName, String> {
    let name = text(value, "X-Acme-Limit")?;
    name.parse().map_err(|_| format!("{name:?} is not a field's name: write one, such as \"X-Acme-Limit\""))
}

/// Whole segments of a path, without a slash at the end.
fn prefix(value: &Value) -> Result<String, String> {
    let prefix = text(value, "/login")?;
    let trimmed = prefix.strip_suffix('/').unwrap_or(prefix);
    let segment = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'*' | b'%'))
    };
    match trimmed.strip_prefix('/') {
        Some(rest) if rest.split('/').all(segment) => Ok(trimmed.to_owned()),
        _ => Err(format!("{prefix:?} is not a prefix: write the beginning of a path, such as \"/login\"")),
    }
}

/// One for each of its paths.
fn route(table: &mut Reader<'_>, upstreams: &Names, names: &mut Names) -> Vec<RouteSettings> {
    let given = table.require("name", "\"messages\"", name);
    let name = names.add(table, given);
    let upstream = table.read("upstream", |value| upstreams.find(value));
    let methods = table.each("methods", method);
    let path = "/api/v2/conversations/messages/**";
    if !table.has("path") {
        table.wrong(table.origin(), "path", format!("is missing: write path = \"{path}\""));
    }
    let paths = table.each("path", parsed::<PathPattern>(path));
    let mut refusal = None;
    table.inline("refusal", REFUSAL, |inner| {
        let status = inner.require("status", "400", count(400..=599_u16));
        let body =
            inner.require("body", "\"rate limit exceeded\"", |value| {
                match text(value, "rate limit exceeded")? {
                    "" => Err("is empty, so every answer would be a refusal: write what the body contains"
                        .to_owned()),
                    body => Ok(body.to_owned()),
                }
            });
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        refusal = status.zip(body).map(|(status, body)| RefusalSign { status, body });
    });
    let route = |path| RouteSettings {
        name: Arc::clone(&name),
        upstream,
        methods: methods.clone(),
        path,
        refusal: refusal.clone(),
    };
    paths.into_iter().map(route).collect()
}

fn method(value: &Value) -> Result<Method, String> {
    let method = text(value, "POST")?;
    let capital = method.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_'));
    let known = Method::from_bytes(method.as_bytes()).ok().filter(|_| capital);
    known.ok_or_else(|| format!("{method:?} is not a method: write it in capitals, such as \"POST\""))
}

fn lane(
    table: &mut Reader<'_>,
    (upstreams, routes, lanes): (&Names, &Names, &mut Names),
    config: &mut Config,
) {
    let given = table.require("name", "\"messages\"", name);
    let name = lanes.add(table, given);
    let upstream = table.read("upstream", |value| upstreams.find(value));
    let of_routes = table.each("routes", |value| routes.checked(value));
    if table.has("routes") && routes.known.contains(&name) && !of_routes.contains(&name) {
        let text =
            format!("the route {name:?} has a lane of this name: add it to routes, or choose another name");
        table.wrong(table.origin_of("name"), "name", text);
    }
    let per = table.read("per", word(&[("credential", Per::Credential), ("upstream", Per::Upstream)]));
    let mut law = config.lanes.law.clone();
    keys::law(table, "law", &mut law);
    let ceiling = table.read("ceiling", parsed("300/min"));
    let mut deadline = config.lanes.queue.deadline;
    keys::deadline(table, &mut deadline);
    let key = upstream.and_then(|place| config.upstreams.get(place)).map(UpstreamSettings::key);
    config.lanes.rules.push(LaneRule { name: Arc::clone(&name), upstream: key, law, ceiling, deadline });
    let per = per.unwrap_or_default();
    config.lane_matches.push(LaneMatch { name, upstream, routes: of_routes, per });
}

fn class(table: &mut Reader<'_>, routes: &Names, classes: &mut Names, config: &mut Config) {
    let given = table.require("name", "\"production\"", name);
    let name = classes.add(table, given);
    let share = table.require("share", "\"20%\"", share).unwrap_or(0.0);
    let taken: f64 = config.lanes.classes.iter().map(|class| class.share).sum();
    if taken <= WHOLE && taken + share > WHOLE {
        let text = format!(
            "the shares are {}% with this one: together they may be 100% at most",
            ((taken + share) * 1e4).round() / 100.0
        );
        table.wrong(table.origin_of("share"), "share", text);
    }
    let routes = table.each("routes", |value| routes.checked(value));
    let header = table.read("header", header);
    let credentials = table.each("credentials", hash);
    if !["routes", "header", "credentials"].into_iter().any(|key| table.has(key)) {
        table.wrong(
            table.origin(),
            "name",
            "nothing says which requests belong to this class: add routes, header or credentials",
        );
    }
    config.lanes.classes.push(ClassSettings { name, share });
    config.class_matches.push(ClassMatch { routes, header, credentials });
}

/// `X-Class`, or `X-Class: production`.
fn header(value: &Value) -> Result<(HeaderName, Vec<String>), String> {
    let header = text(value, "X-Class: production")?;
    let (field, value) =
        header.split_once(':').map_or((header, None), |(field, value)| (field, Some(value.trim())));
    let advice =
        "write a field's name, or its name and value, such as \"X-Class\" or \"X-Class: production\"";
    let field: HeaderName = field.trim().parse().map_err(|_| format!("this is not a header: {advice}"))?;
    if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&field) {
        return Err(
            "a secret does not belong in this file: write credentials = [\"3f9a\"], with the hash that \
                    lanes show (messages@3f9a)"
                .to_owned(),
        );
    }
    match value {
        Some(value) if value.is_empty() || HeaderValue::from_str(value).is_err() => {
            Err(format!("this is not a header's value: {advice}"))
        }
        value => Ok((field, value.map(str::to_owned).into_iter().collect())),
    }
}

/// The beginning of a credential's hash, as lanes show it.
fn hash(value: &Value) -> Result<String, String> {
    let hash = text(value, "3f9a")?;
    if (4..=16).contains(&hash.len()) && hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(hash.to_ascii_lowercase());
    }
    // Someone may have written the token itself: it is not repeated.
    Err("this is no credential's hash: write the 4 to 16 hexadecimal digits that lanes show after the @, such as \
         \"3f9a\"; the credential itself does not belong here"
        .to_owned())
}

const REFUSAL: &str = "{ status = 400, body = \"rate limit exceeded\" }";
/// All of it, and a little for the sums of decimals.
const WHOLE: f64 = 1.0 + 1e-9;
