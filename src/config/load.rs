//! Flags over a file over the defaults: what each says is laid over the other, read once, and checked as a whole.

use super::problem::{ConfigProblems, Origin, Problem};
use super::reader::Reader;
use super::tree::{Entry, Table, Value};
use super::{Config, Upstream, keys, lists};
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{io, path};

/// `config/default.toml`: what is documented there is what runs.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// What a configuration is made of, beside [`DEFAULTS`].
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file.
    pub file: Option<PathBuf>,
    /// What the command line says, and goes over the file.
    pub flags: Vec<Flag>,
    /// Where state is kept when nobody says it.
    pub state_dir: Option<PathBuf>,
}

/// One key that the command line sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The flag, such as `--rate`.
    pub flag: &'static str,
    /// The key's table, such as `law` or `listen.tls`; empty for a key of none. `upstream` is the default upstream.
    pub table: &'static str,
    /// The key, such as `rate`.
    pub key: &'static str,
    /// Its value, as a file would have it in quotes.
    pub value: String,
}

/// A configuration, and the file that would give the same.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For the program.
    pub config: Config,
    /// For people: every key with its value, as TOML.
    pub effective: String,
}

/// Puts a configuration together.
///
/// # Errors
/// Every mistake at once.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigProblems> {
    load_over(DEFAULTS, sources)
}

/// What is in the file, unless it is too large to be a configuration, or endless as a device is.
fn text_of(file: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("the file cannot be read: {error}");
    let mut text = Vec::new();
    File::open(file)
        .map_err(unreadable)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "the file has more than {FILE_BYTES_MAX} bytes: no configuration has; is it another file?"
        ));
    }
    String::from_utf8(text).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
        format!("the file cannot be read: line {line} is not UTF-8; save it as UTF-8")
    })
}

fn load_over(defaults: &str, sources: &Sources) -> Result<Loaded, ConfigProblems> {
    let name = sources.file.as_deref().map(|file| file.display().to_string()).unwrap_or_default();
    let problem = |origin, text| Problem { origin, key: String::new(), text };
    let fail = |problems| ConfigProblems { file: name.clone(), problems };
    let text = match &sources.file {
        None => String::new(),
        Some(file) => text_of(file).map_err(|text| fail(vec![problem(Origin::Default, text)]))?,
    };
    let (mut tree, not_toml) = layers(defaults, &text, sources);
    complete(&mut tree);
    let mut problems = Vec::new();
    let mut config = Config::bare();
    let mut root = Reader::new(&tree, &mut problems);
    keys::read(&mut root, &mut config);
    if clash(config.listen, config.admin) {
        let (key, origin) = ["admin.address", "listen.address"]
            .map(|key| (key, tree.origin(key)))
            .into_iter()
            .find(|(_, origin)| *origin != Origin::Default)
            .unwrap_or(("admin.address", Origin::Default));
        let text = format!(
            "clients (listen.address {}) and operators (admin.address {}) cannot connect to the same port: give \
             each its own, or 0 for a free one",
            config.listen, config.admin
        );
        root.wrong(origin, key, text);
    }
    lists::read(&mut root, &mut config);
    let effective = root.finish();
    // What stands on a line that is no TOML is wrong for that reason.
    problems.retain(|problem| not_toml.iter().all(|told| told.origin != problem.origin));
    problems.extend(not_toml);
    // One that is there and wrong has been told.
    if config.upstreams.is_empty() && (problems.is_empty() || tree.get("upstream").is_none()) {
        let text = "there is no upstream: add [[upstream]] with url = \"https://api.mypurecloud.com\" to a file, or \
                    --upstream URL to the command line";
        problems.push(problem(Origin::Default, text.to_owned()));
    }
    if problems.is_empty() {
        return Ok(Loaded { config, effective });
    }
    problems.sort_by_key(|problem| problem.origin);
    Err(fail(problems))
}

/// Flags over the file's `text` over the defaults, with paths made absolute: what is relative in a file is relative to
/// the file.
fn layers(defaults: &str, text: &str, sources: &Sources) -> (Table, Vec<Problem>) {
    let (mut tree, mut problems) = Table::parse(defaults);
    debug_assert_eq!(problems, [], "tests read the defaults");
    tree.say_everywhere(Origin::Default);
    if let Some(directory) = sources.state_dir.as_deref().and_then(Path::to_str) {
        tree.set("state_dir", Entry { value: Value::Text(directory.to_owned()), origin: Origin::Default });
    }
    let (mut file, not_toml) = Table::parse(text);
    problems.extend(not_toml);
    let folder = sources.file.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new(""));
    file.each_text_mut(&mut |key, text| {
        if is_path(key) {
            *text = absolute(&folder.join(&*text));
        }
    });
    tree.overlay(file);
    // A law from the command line leaves the file's pace without use.
    if sources.flags.iter().any(|flag| flag.flag == "--law" && flag.value != "fixed")
        && let Some(Entry { value: Value::Table(law), .. }) = tree.get_mut("law")
    {
        law.remove("rate");
    }
    for flag in &sources.flags {
        let mut value = flag.value.clone();
        if is_path(flag.key) {
            value = absolute(Path::new(&value));
        }
        let entry = Entry { value: Value::Text(value), origin: Origin::Flag(flag.flag) };
        match flag.table {
            "" => tree.set(flag.key, entry),
            "upstream" => set_upstream(&mut tree, flag.key, entry),
            path => {
                let inner = path.split('.').try_fold(&mut tree, |tree, key| match tree.get_mut(key) {
                    Some(Entry { value: Value::Table(table), .. }) => Some(table),
                    _ => None,
                });
                if let Some(table) = inner {
                    table.set(flag.key, entry);
                }
            }
        }
    }
    (tree, problems)
}

/// A URL chooses the default upstream: one that is there becomes the first, another one is put first. Any other key is
/// the first upstream's.
fn set_upstream(tree: &mut Table, key: &str, entry: Entry) {
    if !matches!(tree.get("upstream"), Some(Entry { value: Value::List(_), .. })) {
        tree.set("upstream", Entry { value: Value::List(Vec::new()), origin: entry.origin });
    }
    let Some(Entry { value: Value::List(upstreams), .. }) = tree.get_mut("upstream") else { return };
    if key == "url" {
        let meant = address(&entry);
        let same = |known: &Entry| match &known.value {
            Value::Table(known) => meant.is_some() && known.get("url").and_then(address) == meant,
            _ => false,
        };
        let first = match upstreams.iter().position(same) {
            Some(place) => upstreams.remove(place),
            None => Entry { value: Value::Table(Table::default()), origin: entry.origin },
        };
        upstreams.insert(0, first);
    }
    if let Some(Entry { value: Value::Table(first), .. }) = upstreams.first_mut() {
        first.set(key, entry);
    }
}

fn address(entry: &Entry) -> Option<Upstream> {
    if let Value::Text(url) = &entry.value { url.parse().ok() } else { None }
}

/// What the tables of a list leave out: a lane goes by `[law]` and `[queue]`, and some keys have a default.
fn complete(tree: &mut Table) {
    let default = |value| Some(Entry { value, origin: Origin::Default });
    let general = [
        ("law", tree.at("law.name").cloned()),
        ("rate", tree.at("law.rate").cloned()),
        ("mode", tree.at("law.mode").cloned()),
        ("ceiling", tree.at("law.ceiling").cloned()),
        ("probe_period", tree.at("law.probe_period").cloned()),
        ("shared", tree.at("law.shared").cloned()),
        ("headroom", tree.at("law.headroom").cloned()),
        ("shape", tree.at("law.shape").cloned()),
        ("burst", tree.at("law.burst").cloned()),
        ("slowness", tree.at("law.slowness").cloned()),
        ("deadline", tree.at("queue.deadline").cloned()),
        ("per", default(Value::Text("credential".to_owned()))),
    ];
    for lane in tree.tables_mut("lane") {
        let has_other_law = lane.get("law").is_some_and(|law| law.value != Value::Text("fixed".to_owned()));
        for (key, entry) in &general {
            if *key != "rate" || !has_other_law {
                lane.complete(key, entry.as_ref());
            }
        }
    }
    for upstream in tree.tables_mut("upstream") {
        upstream.complete("dangerous_accept_any_certificate", default(Value::Truth(false)).as_ref());
    }
    for dialect in tree.tables_mut("dialect") {
        dialect.complete("reset_in", default(Value::Text("seconds".to_owned())).as_ref());
    }
}

/// Can only one of two listeners have its address?
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let takes = |wide: IpAddr, ip: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || ip.is_ipv4());
    let same = one.ip() == other.ip() || takes(one.ip(), other.ip()) || takes(other.ip(), one.ip());
    one.port() != 0 && one.port() == other.port() && same
}

fn is_path(key: &str) -> bool {
    matches!(key, "ca_file" | "cert_file" | "key_file" | "token_file" | "state_dir")
}

/// From here, if it can be said where that is.
fn absolute(path: &Path) -> String {
    path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// Several hundred times the largest file that is shipped.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PathPattern, Per, ResetUnit, RouteSettings};
    use crate::control::{LawName, Quota};
    use std::fs;
    use std::time::Duration;

    fn flag(flag: &'static str, table: &'static str, key: &'static str, value: &str) -> Flag {
        Flag { flag, table, key, value: value.to_owned() }
    }

    fn upstream() -> Flag {
        flag("--upstream", "upstream", "url", "https://api.example.com")
    }

    /// What a file with `text` and `flags` come to.
    fn loaded(text: &str, flags: &[Flag]) -> Result<Loaded, ConfigProblems> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.toml");
        fs::write(&file, text).unwrap();
        load(&Sources { file: Some(file), flags: flags.to_vec(), state_dir: Some("/state".into()) })
    }

    fn config(text: &str) -> Config {
        loaded(text, &[]).unwrap_or_else(|problems| panic!("{problems}\nin\n{text}")).config
    }

    /// `line: key: text` of each problem.
    fn problems(text: &str, flags: &[Flag]) -> Vec<String> {
        let shown = |Problem { origin, key, text }: &Problem| match origin {
            Origin::Line(line) => format!("{line}: {key}: {text}"),
            Origin::Flag(flag) => format!("{flag}: {text}"),
            Origin::Default => format!("{key}: {text}"),
        };
        loaded(text, flags).expect_err(text).problems.iter().map(shown).collect()
    }

    /// The keys of [`DEFAULTS`] that are set there, each with the lines of the file without it.
    fn defaults_without_each_key() -> Vec<(String, String)> {
        let lines: Vec<&str> = DEFAULTS.lines().collect();
        let set = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase());
        let without =
            |n: usize| lines.iter().enumerate().filter(move |(at, _)| *at != n).map(|(_, line)| *line);
        (0..lines.len())
            .filter(|n| set(lines[*n]))
            .map(|n| (lines[n].to_owned(), without(n).collect::<Vec<_>>().join("\n")))
            .collect()
    }

    /// [`DEFAULTS`] with everything that stands there as an example.
    fn all_keys() -> String {
        let shown = |line: &str| {
            line.starts_with("#[")
                || line.starts_with('#')
                    && line.get(1..2).is_some_and(|c| c.chars().all(|c| c.is_ascii_lowercase()))
        };
        DEFAULTS
            .lines()
            .map(|line| line.strip_prefix('#').filter(|_| shown(line)).unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_defaults_are_those_of_the_program() {
        let (_, problems) = Table::parse(DEFAULTS);
        assert_eq!(problems, []);
        let sources = Sources { flags: vec![upstream()], ..Sources::default() };
        let expected = Config::new("https://api.example.com".parse().unwrap());
        assert_eq!(load(&sources).unwrap().config, expected);
    }

    #[test]
    fn a_default_that_is_left_out_is_the_same() {
        let sources = Sources { flags: vec![upstream()], ..Sources::default() };
        let expected = load(&sources).unwrap().config;
        let all = defaults_without_each_key();
        let name = |key: &str| key.split(' ').next().unwrap().to_owned();
        assert!(all.len() > 25, "{all:?}");
        for (key, text) in all {
            let without = load_over(&text, &sources).unwrap();
            assert_eq!(without.config, expected, "without {key}");
            assert!(
                without
                    .effective
                    .lines()
                    .any(|line| line.ends_with(" is not set") && line.contains(&name(&key))),
                "{key}"
            );
        }
    }

    #[test]
    fn each_default_says_the_range_that_holds() {
        let mut checked = 0;
        let mut range = None;
        let mut table = "";
        for line in DEFAULTS.lines() {
            if let Some(header) = line.strip_prefix('[') {
                table = header.trim_end_matches(']');
            }
            if let Some((from, to)) = line.strip_prefix("# From ").and_then(|rest| {
                let (range, _) = rest.split_once(". ")?;
                range.split_once(" to ")
            }) {
                range = Some((from, to));
            }
            let Some((key, default)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let Some((from, to)) = range.take() else { continue };
            let quote = if default.starts_with('"') { "\"" } else { "" };
            let with = |value: &str| {
                // What holds together with others is not what is looked at here.
                let more = match (table, key) {
                    ("replay", "bytes_max") => "bytes_total_max = \"1GiB\"",
                    ("replay", "bytes_total_max") => "bytes_max = \"0B\"",
                    _ => "",
                };
                loaded(&format!("[{table}]\n{key} = {quote}{value}{quote}\n{more}\n"), &[upstream()])
            };
            for edge in [from, to] {
                assert!(with(edge).is_ok(), "{key} = {edge}: {:?}", with(edge).map(|_| ()));
            }
            let beyond = match quote {
                "" => ["-1".to_owned(), "99999999999".to_owned()],
                _ if to.ends_with('B') => ["1B".to_owned(), "65GiB".to_owned()],
                _ => ["1ms".to_owned(), "24h".to_owned()],
            };
            let told: Vec<_> = beyond.iter().filter_map(|value| with(value).err()).collect();
            assert!(
                !told.is_empty() || (from, to) == ("0s", "1d"),
                "{key}: nothing is beyond {from} to {to}"
            );
            for problems in told {
                assert!(problems.to_string().contains(&format!("from {from} to {to}")), "{key}: {problems}");
            }
            checked += 1;
        }
        assert!(checked > 20, "{checked}");
    }

    #[test]
    fn every_key_stands_in_the_defaults_and_no_other() {
        let mut text = all_keys();
        let token = tempfile::NamedTempFile::new().unwrap();
        fs::write(token.path(), "t").unwrap();
        text = text.replace("/etc/tidegate/token", token.path().to_str().unwrap());
        // The law that a pace goes with.
        text = text.replace("name = \"learnt\"", "name = \"fixed\"");
        let all = loaded(&text, &[]).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        // Every key that was asked for was there: a key that is missing shows as one that is not set.
        let missing: Vec<_> = all.effective.lines().filter(|line| line.ends_with(" is not set")).collect();
        assert_eq!(missing, [""; 0], "in\n{}", all.effective);
        assert_eq!(all.config.lane_matches[0].per, Per::Credential);
    }

    #[test]
    fn every_file_in_the_folder_loads_and_comes_back_the_same() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let mut files = 0;
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let mut sources =
                Sources { file: Some(file.clone()), state_dir: Some("/state".into()), ..Sources::default() };
            if file.ends_with("default.toml") {
                sources.flags.push(upstream());
            }
            let first = load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
            let again = loaded(&first.effective, &[])
                .unwrap_or_else(|problems| panic!("{problems}\n{}", first.effective));
            assert_eq!(again.config, first.config, "{}", file.display());
            assert_eq!(again.effective, first.effective, "{}", file.display());
            files += 1;
        }
        assert!(files >= 1, "{files}");
    }

    /// The name of the first route that fits.
    fn route_of<'a>(config: &'a Config, method: &str, path: &str) -> Option<&'a str> {
        let method = method.parse().unwrap();
        let fits = |route: &&RouteSettings| {
            (route.methods.is_empty() || route.methods.contains(&method)) && route.path.matches(path)
        };
        config.routes.iter().find(fits).map(|route| &*route.name)
    }

    #[test]
    fn genesys_has_its_regions_and_routes() {
        let config = config(include_str!("../../config/genesys.toml"));
        assert_eq!(config.upstreams.len(), 34, "17 regions");
        assert_eq!(&*config.default_upstream().name, "api.mypurecloud.com");
        for upstream in &config.upstreams {
            let (kind, domain) = upstream.address.host.split_once('.').unwrap();
            assert!(upstream.verify && upstream.address.port == 443);
            assert_eq!(upstream.prefix.clone().unwrap(), format!("/{domain}/{kind}"));
        }
        for (method, path, route) in [
            ("POST", "/oauth/token", Some("token")),
            ("GET", "/oauth/token", None),
            ("POST", "/api/v2/conversations/messages", Some("messages")),
            ("POST", "/api/v2/conversations/messages/agentless", Some("messages-agentless")),
            ("POST", "/api/v2/conversations/messages/7a3e/inbound/open/message", Some("messages-inbound")),
            ("GET", "/api/v2/conversations/messages/7a3e", Some("messages")),
            ("GET", "/api/v2/conversations/calls", Some("conversations")),
            ("POST", "/api/v2/analytics/conversations/details/query", Some("analytics")),
            ("GET", "/api/v2/workforcemanagement/managementunits", Some("workforce")),
            ("GET", "/api/v2/users/7a3e/presences/purecloud", Some("presence")),
            ("GET", "/api/v2/users/me", Some("users")),
            ("GET", "/api/v2/routing/queues", Some("routing")),
            ("POST", "/api/v2/notifications/channels", Some("channels")),
            ("GET", "/api/v2/flows/divisionviews", Some("flows")),
            ("PUT", "/api/v2/architect/ivrs/7a3e", Some("architect")),
            ("POST", "/api/v2/taskmanagement/workitems", Some("tasks")),
            ("GET", "/api/v2/organizations/me", None),
        ] {
            assert_eq!(route_of(&config, method, path), route, "{method} {path}");
        }
        let sign = config.routes[0].refusal.as_ref().unwrap();
        assert_eq!((sign.status.as_u16(), sign.body.as_str()), (400, "rate limit exceeded"));
        assert_eq!(config.lanes.ceiling, None, "a number of someone else's is no default");
    }

    #[test]
    fn production_and_a_load_test_share_one_lane() {
        let config = config(include_str!("../../config/production.toml"));
        let [lane] = &config.lane_matches[..] else { panic!("{:?}", config.lane_matches) };
        assert_eq!((lane.per, lane.routes.len(), lane.upstream), (Per::Upstream, 0, None));
        assert!((config.lanes.classes[0].share - 0.5).abs() < 1e-9);
        let (field, values) = config.class_matches[0].header.as_ref().unwrap();
        assert_eq!((field.as_str(), &values[..]), ("x-class", &["production".to_owned()][..]));
    }

    const EVERYTHING: &str = r#"
[law]
name = "fixed"
rate = "100/30s"
ceiling = "20/s"
[queue]
deadline = "20s"
[admission]
quota = "7/s"
[[upstream]]
url = "https://api.example.com"
ca_file = "ca.pem"
[[upstream]]
name = "login"
url = "https://login.example.com"
prefix = "/login/"
dangerous_accept_any_certificate = true
[[dialect]]
name = "acme"
upstream = "login"
limit = "X-Acme-Limit"
used = "X-Acme-Used"
reset = "X-Acme-Reset"
reset_in = "milliseconds"
[[dialect]]
name = "plain"
limit = "x-plain"
[[route]]
name = "token"
upstream = "login"
methods = "POST"
path = ["/oauth/token", "/oauth/**"]
refusal = { status = 400, body = "rate \"limit\"" }
[[route]]
name = "messages"
path = "/api/v2/conversations/messages/**"
[[lane]]
name = "login"
upstream = "login"
routes = ["token"]
law = "learnt"
probe_period = "10s"
[[lane]]
name = "all"
per = "upstream"
rate = "1/s"
ceiling = "3/s"
deadline = "5s"
[[class]]
name = "production"
share = "50%"
header = "X-Class: production"
[[class]]
name = "batch"
share = 0.25
routes = "messages"
credentials = ["3F9A"]
"#;

    #[test]
    fn tables_mean_what_they_say() {
        let config = config(EVERYTHING);
        let [api, login] = &config.upstreams[..] else { panic!("{:?}", config.upstreams) };
        assert_eq!((&*api.name, api.verify), ("api.example.com", true));
        assert!(api.ca.as_ref().unwrap().is_absolute() && api.ca.as_ref().unwrap().ends_with("ca.pem"));
        assert_eq!((&*login.name, login.prefix.as_deref(), login.verify), ("login", Some("/login"), false));
        let [acme, plain] = &config.dialects[..] else { panic!("{:?}", config.dialects) };
        assert_eq!((&*acme.name, acme.upstream, acme.limit.as_str()), ("acme", Some(1), "x-acme-limit"));
        assert_eq!((&acme.remaining, acme.used.as_ref().unwrap().as_str()), (&None, "x-acme-used"));
        assert_eq!((acme.reset_in, plain.reset_in), (ResetUnit::Milliseconds, ResetUnit::Seconds));
        let [token, oauth, messages] = &config.routes[..] else { panic!("{:?}", config.routes) };
        assert_eq!((&*token.name, &*oauth.name), ("token", "token"));
        assert_eq!((token.upstream, messages.upstream), (Some(1), None));
        assert_eq!((&token.methods[..], &messages.methods[..]), (&[http::Method::POST][..], &[][..]));
        assert_eq!(oauth.path, "/oauth/**".parse::<PathPattern>().unwrap());
        assert_eq!(token.refusal.as_ref().unwrap().body, "rate \"limit\"");
        let rules = &config.lanes.rules;
        let [login, all] = &rules[..] else { panic!("{rules:?}") };
        assert_eq!((&*login.name, login.upstream.as_deref()), ("login", Some("login.example.com:443")));
        assert_eq!((login.law.name, all.law.name), (LawName::Learnt, LawName::Fixed));
        assert!((login.law.probe_period_seconds - 10.0).abs() < 1e-9);
        assert_eq!((login.deadline, all.deadline), (Duration::from_secs(20), Duration::from_secs(5)));
        let ceiling = |requests| Some(Quota { requests, window: Duration::from_secs(1) });
        assert_eq!((login.ceiling, all.ceiling), (ceiling(20), ceiling(3)));
        assert!((all.law.fixed_rate.get() - 1.0).abs() < 1e-9);
        assert!((config.lanes.law.fixed_rate.get() - 100.0 / 30.0).abs() < 1e-9);
        assert_eq!(config.lane_matches[1].per, Per::Upstream);
        assert_eq!(&*config.lane_matches[0].routes[0], "token");
        let [production, batch] = &config.class_matches[..] else { panic!("{:?}", config.class_matches) };
        assert_eq!(production.header.as_ref().unwrap().1, ["production"]);
        assert_eq!(
            (&batch.routes[..], &batch.credentials[..]),
            (&["messages".into()][..], &["3f9a".to_owned()][..])
        );
        assert!((config.lanes.classes[1].share - 0.25).abs() < 1e-9);
        let admission = config.admission.unwrap();
        assert_eq!((admission.quota.requests, admission.burst, admission.clients_max), (7, 10, 10_000));
    }

    #[test]
    fn what_is_shown_is_a_file_that_means_the_same() {
        let first = loaded(EVERYTHING, &[]).unwrap();
        let again = loaded(&first.effective, &[])
            .unwrap_or_else(|problems| panic!("{problems}\n{}", first.effective));
        assert_eq!(again.config, first.config, "{}", first.effective);
        assert_eq!(again.effective, first.effective);
    }

    #[test]
    fn a_dialect_has_a_limit_and_names_fields() {
        let text = "[[upstream]]\nurl = \"https://api.example.com\"\n[[dialect]]\nname = \"acme\"\nused = \"a b\"\n\
                    reset_in = \"minutes\"\nupstream = \"api\"\n";
        let found = problems(text, &[]);
        let expected = [
            "3: dialect[0].limit: is missing: write limit = \"X-Acme-Limit\"",
            "5: dialect[0].used: \"a b\" is not a field's name: write one, such as \"X-Acme-Limit\"",
            "6: dialect[0].reset_in: \"minutes\" means nothing here: write \"seconds\" or \"milliseconds\"",
        ];
        assert_eq!(found[..3], expected);
        assert!(found[3].starts_with("7: dialect[0].upstream: \"api\" is no upstream's name"), "{found:?}");
    }

    #[test]
    fn nine_mistakes_are_nine_lines() {
        let text = r#"[listen]
address = "8080"
conections_max = 5
[law]
name = "fixed"
ceiling = 300/min
[queue]
deadline = "2 fortnights"
lanes_max = 0
[[upstream]]
url = "api.example.com"
[[route]]
name = "messages"
path = "api/v2"
upstream = "nowhere"
[[lane]]
name = "x"
routes = ["mesages"]
per = 5
[[class]]
name = "a"
share = "70%"
header = "X-A"
[[class]]
name = "a"
share = "40%"
header = "Authorization: Bearer t0psecret"
[drain]
grace = ["1s"]
"#;
        let found = problems(text, &[]);
        let expected = [
            (2, "listen.address", "127.0.0.1:8080"),
            (3, "listen.conections_max", "did you mean \"connections_max\"?"),
            (5, "law.name", "add for example rate = \"10/s\""),
            (6, "law.ceiling", "in quotes: write \"300/min\""),
            (8, "queue.deadline", "\"30s\""),
            (9, "queue.lanes_max", "from 1 to 100000"),
            (11, "upstream[0].url", "https://api.mypurecloud.com"),
            (14, "route[0].path", "it starts with a slash"),
            (18, "lane[0].routes", "did you mean \"messages\"?"),
            (19, "lane[0].per", "write \"credential\" or \"upstream\""),
            (25, "class[1].name", "a name of its own"),
            (26, "class[1].share", "110"),
            (27, "class[1].header", "credentials = [\"3f9a\"]"),
            (29, "drain.grace", "is a list"),
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, (line, key, advice)) in found.iter().zip(expected) {
            assert!(found.starts_with(&format!("{line}: {key}: ")), "{line} {key}: {found}");
            assert!(found.contains(advice), "{advice}: {found}");
            assert!(!found.contains("t0psecret"), "{found}");
        }
    }

    const HEAD: &str = "[[upstream]]\nurl = \"https://a\"\n";

    /// What is wrong, and how what is said of it begins.
    const ALONE: &[(&str, &str)] = &[
        ("", ": there is no upstream: add [[upstream]]"),
        ("upstream = []\n", ": there is no upstream: add [[upstream]]"),
        (
            "[upstream]\nurl = \"http://a\"\n",
            "1: upstream: is a table: write [[upstream]], with two brackets",
        ),
        ("admin = \"x\"\n[[upstream]]\nurl = \"http://a\"\n", "1: admin: is a text: write [admin]"),
        ("[[upstream]]\n", "1: upstream[0].url: is missing: write url = \"https://api.mypurecloud.com\""),
        (
            "[[upstream]]\nurl = http://u:s3cret@a\n",
            "2: upstream[0].url: this value belongs in quotes: write \"...\"",
        ),
        (
            "[[upstream]]\nurl = \"http://u:s3cret@a\"\n",
            "2: upstream[0].url: \"(not shown: it has user information)\"",
        ),
        (
            "[[upstream]]\nurl = \"http://a/?key=s3cret\"\n",
            "2: upstream[0].url: \"(not shown: it has a query or a fragment)\"",
        ),
        (
            "[[upstream]]\nurl = \"http://a\"\nca_file = \"x\"\n",
            "3: upstream[0].ca_file: goes with https:// only",
        ),
        (
            "[[upstream]]\nurl = \"http://a\"\nprefix = \"/\"\n",
            "3: upstream[0].prefix: \"/\" is not a prefix",
        ),
    ];

    /// The same for what follows a right upstream of two lines.
    const BEHIND_AN_UPSTREAM: &[(&str, &str)] = &[
        ("[[upstream]]\nurl = \"https://a\"\n", "3: upstream[1].name: another upstream is called \"a\""),
        ("colour = 1\n", "3: upstream[0].colour: there is no such key here: there is name, url"),
        ("[lane]\n", "3: lane: is a table: write [[lane]]"),
        ("[law]\nrate = \"10/s\"\n", "4: law.rate: goes with the law \"fixed\" only"),
        (
            "[[lane]]\nname = \"x\"\nrate = \"1/s\"\n",
            "5: lane[0].rate: goes with the law \"fixed\" only, because the other laws find the pace themselves: add law = \"fixed\"",
        ),
        ("[[lane]]\nname = \"x\"\nlaw = \"fixed\"\n", "5: lane[0].law: \"fixed\" needs a pace"),
        ("[[lane]]\nname = \"x\"\n[law]\nceiling = \"x\"\n", "6: law.ceiling: \"x\" is not a rate"),
        ("[replay]\nbytes_max = \"1GiB\"\n", "4: replay.bytes_max: is more than bytes_total_max"),
        (
            "[admin]\naddress = \"0.0.0.0:8080\"\n",
            "4: admin.address: clients (listen.address 127.0.0.1:8080)",
        ),
        ("[listen]\naddress = \"127.0.0.1:9464\"\n", "4: listen.address: clients"),
        ("[admin]\ntoken_file = \"s3cret\"\n", "4: admin.token_file: the file cannot be read"),
        (
            "[[route]]\nname = \"x\"\nmethods = [\"get\"]\npath = \"/\"\n",
            "5: route[0].methods: \"get\" is not a method",
        ),
        ("[[route]]\nname = \"other\"\npath = \"/\"\n", "4: route[0].name: \"other\" is"),
        ("[[route]]\nname = \"x\"\npath = []\n", "5: route[0].path: "),
        (
            "[[route]]\nname = \"x\"\npath = \"/\"\nrefusal = { status = 200, body = \"x\" }\n",
            "6: route[0].refusal.status: 200 is out of range: write a whole number from 400 to 599",
        ),
        (
            "[[route]]\nname = \"x\"\npath = \"/\"\nrefusal = { status = 400 }\n",
            "6: route[0].refusal.body: is missing",
        ),
        (
            "[[route]]\nname = \"a\"\npath = \"/\"\n[[route]]\nname = \"b\"\npath = \"/b\"\n[[lane]]\nname = \"a\"\nroutes = [\"b\"]\n",
            "10: lane[0].name: the route \"a\" has a lane of this name",
        ),
        ("[[class]]\nname = \"x\"\nshare = 0.1\n", "3: class[0].name: nothing says which requests"),
        (
            "[[class]]\nname = \"x\"\nshare = 0.1\ncredentials = [\"s3cret\"]\n",
            "6: class[0].credentials: this is no credential's hash",
        ),
        ("state_dir = 5\n", "3: upstream[0].state_dir: there is no such key here"),
        ("[queue]\nlanes_max = 9223372036854775808\n", "4: queue.lanes_max: 9223372036854775807 is out"),
        ("[queue\n", "3: queue: this is not TOML: unclosed table"),
    ];

    #[test]
    fn each_mistake_is_told_where_it_is_with_the_way_out() {
        let alone = ALONE.iter().map(|(text, says)| ((*text).to_owned(), says));
        let behind = |(text, says): &'static (&str, &'static str)| (format!("{HEAD}{text}"), says);
        for (text, says) in alone.chain(BEHIND_AN_UPSTREAM.iter().map(behind)) {
            let found = problems(&text, &[]);
            assert_eq!(found.len(), 1, "{text}{found:#?}");
            assert!(found[0].starts_with(says), "{says}\n{found:#?}");
            assert!(!found[0].contains("s3cret"), "{found:?}");
        }
    }

    #[test]
    fn flags_go_over_the_file_and_the_file_over_the_defaults() {
        let head = "[[upstream]]\nurl = \"https://a\"\n[[upstream]]\nurl = \"https://b\"\nprefix = \"/b\"\n";
        let text = format!(
            "[law]\nname = \"fixed\"\nrate = \"10/s\"\nceiling = \"9/s\"\n[listen]\naddress = \"127.0.0.1:1\"\n{head}[[lane]]\nname = \"x\"\n"
        );
        let with =
            |flags: &[Flag]| loaded(&text, flags).unwrap_or_else(|problems| panic!("{problems}")).config;
        let config = with(&[]);
        assert_eq!((config.listen.port(), config.admin.port()), (1, 9_464));
        let config =
            with(&[flag("--law", "law", "name", "learnt"), flag("--ceiling", "law", "ceiling", "3/s")]);
        assert_eq!(config.lanes.law.name, LawName::Learnt);
        assert_eq!(config.lanes.rules[0].law.name, LawName::Learnt, "a lane inherits from the flags");
        assert_eq!(config.lanes.rules[0].ceiling.unwrap().requests, 3);
        let config = with(&[flag("--rate", "law", "rate", "5/s")]);
        assert!((config.lanes.rules[0].law.fixed_rate.get() - 5.0).abs() < 1e-9);

        let urls =
            |config: &Config| config.upstreams.iter().map(|u| u.address.to_string()).collect::<Vec<_>>();
        let choose = |url| flag("--upstream", "upstream", "url", url);
        let ca = flag("--upstream-ca", "upstream", "ca_file", "/ca.pem");
        let config = with(&[choose("https://B:443/"), ca.clone()]);
        assert_eq!(urls(&config), ["https://b", "https://a"]);
        assert_eq!(config.default_upstream().prefix.as_deref(), Some("/b"));
        assert_eq!(config.default_upstream().ca.as_deref(), Some(Path::new("/ca.pem")));
        let config = with(&[choose("https://c")]);
        assert_eq!(urls(&config), ["https://c", "https://a", "https://b"]);
        assert_eq!(urls(&with(&[ca])), ["https://a", "https://b"]);
    }

    #[test]
    fn mistakes_of_flags_name_the_flag() {
        for (flags, says) in [
            (
                &[flag("--rate", "law", "rate", "10/s")][..],
                "--rate: goes with the law \"fixed\" only, because the other laws find the pace themselves: add --law fixed, or leave --rate out",
            ),
            (
                &[flag("--law", "law", "name", "fixed")],
                "--law: \"fixed\" needs a pace: add for example --rate 10/s",
            ),
            (&[flag("--grace", "drain", "grace", "30")], "--grace: \"30\" is not a duration"),
            (&[flag("--upstream", "upstream", "url", "api")], "--upstream: \"api\" is not an upstream"),
            (
                &[flag("--admin", "admin", "address", "127.0.0.1:8080")],
                "--admin: clients (listen.address 127.0.0.1:8080)",
            ),
            (
                &[flag("--probe-period", "law", "probe_period", "1s")],
                "--probe-period: \"1s\" is out of range: write from 5s to 1h",
            ),
        ] {
            let found = problems(HEAD, flags);
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].starts_with(says), "{found:#?}");
        }
    }

    #[test]
    fn listeners_that_share_a_port_clash() {
        for (one, other, clashes) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
        ] {
            let (a, b) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!((clash(a, b), clash(b, a)), (clashes, clashes), "{one} {other}");
        }
    }

    #[test]
    fn an_upstream_that_is_not_there_does_not_hide_other_mistakes() {
        let found = problems("[log]\nlevel = \"loud\"\n", &[]);
        assert_eq!(found.len(), 2, "{found:#?}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let problems =
            load(&Sources { file: Some("/nowhere/t.toml".into()), ..Sources::default() }).unwrap_err();
        assert!(problems.to_string().starts_with("/nowhere/t.toml: the file cannot be read: "), "{problems}");
    }

    #[test]
    fn a_file_that_is_no_text_or_too_large_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let told = |bytes: &[u8]| {
            fs::write(file.path(), bytes).unwrap();
            let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
            load(&sources).unwrap_err().to_string()
        };
        assert!(told(b"# fine\n# gr\xfc\xdfe\n").contains("line 2 is not UTF-8"));
        let most = usize::try_from(FILE_BYTES_MAX).unwrap();
        assert!(told(&vec![b'#'; most]).contains("there is no upstream"));
        assert!(told(&vec![b'#'; most + 1]).contains("more than 1048576 bytes"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "([a-z_]{1,6}|\\[|\\]|=|\"|\n|[0-9]{1,4}|upstream|law|url|lane|\\{|\\}|,|\\.|#|.){0,60}") {
            // It ends, without a panic, and says something where it refuses.
            if let Err(problems) = loaded(&text, &[]) {
                proptest::prop_assert!(!problems.problems.is_empty());
            }
        }
    }
}
