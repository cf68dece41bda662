//! The rules of the house, as a plain scan of the source: who may know whom, what must not be written where.
//! Each rule is a function from text to complaints, and is itself tested on a bad example.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a panic is how a test fails")]

use std::fs;
use std::path::Path;

/// A module, the modules of this crate that it may name, and the crates that it must not. The longest prefix of a
/// file's path decides. A new module needs a line here: that is the moment to think about its place.
const MODULES: &[(&str, &[&str], &[&str])] = &[
    // The pure core and the pure models: no clock, no I/O, nothing that differs between two runs or two machines.
    ("control", &[], IMPURE),
    ("sim/limits", &["control"], IMPURE),
    // What is told and what may be said; they know of HTTP its words only.
    ("observe", &["control"], &["tokio", "hyper", "axum", "prometheus", "serde", "tracing"]),
    ("config", &["control"], &["tokio", "hyper", "axum", "prometheus", "tracing"]),
    // The async face of the core: it does not know that requests are HTTP.
    ("gate", &["control", "observe"], &["http", "hyper", "axum", "prometheus", "serde", "tracing"]),
    // HTTP's face: it sees outcomes and passes, never the law's numbers, and nobody's counters.
    ("proxy", &["gate", "control", "observe", "config"], &["prometheus", "axum"]),
    ("telemetry", &["observe", "control", "config"], &["hyper", "axum"]),
    // Of the configuration it knows what people write in both: durations, and the token's type.
    ("admin", &["gate", "telemetry", "control", "observe", "config"], &["prometheus", "hyper_rustls"]),
    ("sim", &["control", "gate"], &["prometheus", "hyper_rustls"]),
    // The top: it puts the parts together, so it may know them all.
    ("cli", &["app", "config", "control", "demo", "proxy", "sim", "telemetry"], &["prometheus"]),
    ("demo", &["app", "config", "control", "gate", "sim"], &["prometheus"]),
    ("app", &["admin", "config", "control", "gate", "observe", "proxy", "sim", "telemetry"], &["prometheus"]),
    ("lib", &[], &[]),
    ("main", &[], &["hyper", "prometheus"]),
];

/// What the pure parts must not contain: clocks, I/O, and floating-point functions that differ between machines.
const IMPURE: &[&str] = &[
    "tokio",
    "http",
    "hyper",
    "serde",
    "tracing",
    "prometheus",
    "Instant::now",
    "SystemTime",
    ".powf(",
    ".exp(",
    ".ln(",
];

const LINES_MAX: usize = 400;
const METRIC_NAMES: (&str, &str) = ("telemetry/metrics", "tidegate_");
const NAMES_OF_NOTHING: &[&str] = &["util", "utils", "common", "helpers", "misc", "types", "manager"];
const UNFINISHED: &[&str] = &[concat!("FIX", "ME"), concat!("TO", "DO"), concat!("X", "XX")];

/// Everything wrong with one source file; `module` is its path under `src`, without `.rs` or `/mod.rs`.
fn complaints(module: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
    if !text.starts_with("//!") {
        found.push("does not open with //! and what it is for".to_owned());
    }
    if shipped.lines().count() > LINES_MAX {
        found.push(format!("has more than {LINES_MAX} lines before its tests"));
    }
    let code: String = shipped.lines().map(|line| without_comment(line).to_owned() + "\n").collect();
    if !is_within(module, METRIC_NAMES.0) && code.contains(METRIC_NAMES.1) {
        found.push(format!("names a metric ({}…): names live in {}", METRIC_NAMES.1, METRIC_NAMES.0));
    }
    let rule = MODULES
        .iter()
        .filter(|(prefix, ..)| is_within(module, prefix))
        .max_by_key(|(prefix, ..)| prefix.len());
    let Some((prefix, may_know, must_not)) = rule else {
        found.push("is in no line of MODULES: say who it may know".to_owned());
        return found;
    };
    if code.contains("crate::{") {
        found
            .push("groups modules in crate::{…}: one `use` each, so that this test can read them".to_owned());
    }
    for other in named(&code) {
        let own = prefix.split('/').next() == Some(other);
        let module = MODULES.iter().any(|(module, ..)| *module == other);
        if module && !own && !may_know.contains(&other) {
            found.push(format!("{prefix} must not know {other}"));
        }
    }
    found.extend(
        must_not.iter().filter(|word| holds(&code, word)).map(|word| format!("{prefix} must not use {word}")),
    );
    found
}

/// The line up to its comment; the `//` of a URL is not one.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'));
    &line[..comment.unwrap_or(line.len())]
}

fn is_within(module: &str, prefix: &str) -> bool {
    module.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The module in each `crate::module`.
fn named(code: &str) -> impl Iterator<Item = &str> {
    code.split("crate::").skip(1).map(|rest| rest.split(|c| !is_word(c)).next().unwrap_or_default())
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether `code` uses `word`: as it stands when it has punctuation, else as a crate's name (`word::…`, `use word`).
fn holds(code: &str, word: &str) -> bool {
    if !word.chars().all(is_word) || word.starts_with(char::is_uppercase) {
        return code.contains(word);
    }
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let whole = !before.ends_with(is_word) && !before.ends_with("::") && !after.starts_with(is_word);
        whole && (after.starts_with("::") || before.trim_end().ends_with("use"))
    })
}

/// Bullets of the map (``//! - [`name`]``) against `pub mod name;` lines.
fn map_complaints(lib: &str) -> Vec<String> {
    let between = |line: &str, open: &str, close: char| -> Option<String> {
        line.trim().strip_prefix(open)?.split(close).next().map(str::to_owned)
    };
    let shown: Vec<_> = lib.lines().filter_map(|line| between(line, "//! - [`", '`')).collect();
    let there: Vec<_> = lib.lines().filter_map(|line| between(line, "pub mod ", ';')).collect();
    let missing =
        there.iter().filter(|name| !shown.contains(name)).map(|name| format!("the map lacks {name}"));
    let stale = shown
        .iter()
        .filter(|name| !there.contains(name))
        .map(|name| format!("the map names {name}, which is gone"));
    missing.chain(stale).collect()
}

/// Dependencies without a reason behind them.
fn dependency_complaints(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && line.split_once(" # ").is_none_or(|(_, why)| why.len() < 10)
        {
            found.push(format!("no reason behind: {line}"));
        }
    }
    found
}

/// Every file below `folder`, as (path from the crate's root, text); what is not text is left out.
fn files(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    let mut open = vec![root.join(folder)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = fs::read_to_string(&path) {
            all.push((path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), text));
        }
    }
    all.sort();
    all
}

fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn sources_keep_the_rules() {
    let mut found = Vec::new();
    for (path, text) in files("src") {
        let Some(module) = path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")) else {
            continue;
        };
        let module = module.trim_end_matches("/mod");
        found.extend(complaints(module, &text).into_iter().map(|complaint| format!("{path}: {complaint}")));
    }
    none(&found);
}

#[test]
fn nothing_is_left_unfinished_or_named_after_nothing() {
    let mut found = Vec::new();
    for (path, text) in
        ["src", "tests", "benches", "config", ".ci", "README.md"].into_iter().flat_map(files_if_there)
    {
        found.extend(
            UNFINISHED.iter().filter(|word| text.contains(**word)).map(|word| format!("{path}: {word}")),
        );
        let parts = path.split(['/', '.']).filter(|part| NAMES_OF_NOTHING.contains(part));
        found.extend(parts.map(|part| format!("{path}: {part} says nothing of what is inside")));
    }
    none(&found);
}

fn files_if_there(folder: &str) -> Vec<(String, String)> {
    if Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).exists() { files(folder) } else { Vec::new() }
}

#[test]
fn the_map_names_every_module_and_no_other() {
    none(&map_complaints(include_str!("../src/lib.rs")));
}

#[test]
fn every_dependency_has_its_reason() {
    none(&dependency_complaints(include_str!("../Cargo.toml")));
}

#[test]
fn the_rules_find_what_they_are_for() {
    let found = |module: &str, text: &str| complaints(module, &format!("//! A file.\n{text}\n"));
    assert_eq!(complaints("control/lane", "use std::fmt;\n"), ["does not open with //! and what it is for"]);
    assert_eq!(found("control/lane", "use crate::gate::Gate;"), ["control must not know gate"]);
    assert_eq!(found("control/lane", "use crate::{control::Rate, gate};").len(), 1);
    assert_eq!(found("control/lane", "let t = tokio::time::sleep(d);"), ["control must not use tokio"]);
    assert_eq!(found("control/law", "x.powf(0.5); Instant::now()").len(), 2);
    assert_eq!(found("sim/limits", "use serde;"), ["sim/limits must not use serde"]);
    assert_eq!(found("gate/pass", "fn f() -> http::StatusCode"), ["gate must not use http"]);
    assert_eq!(found("admin", "counter(\"tidegate_x_total\")").len(), 1);
    assert_eq!(found("finance", "").len(), 1);
    assert_eq!(found("gate", &"\n".repeat(LINES_MAX + 1)).len(), 1);
    // And leave alone what is fine: comments, tests, own paths, words inside words, URLs.
    assert_eq!(found("control/lane", "// tokio::spawn would be wrong\nuse crate::control::Rate;"), [""; 0]);
    assert_eq!(found("control", "#[cfg(test)]\nmod tests { fn t() { Instant::now(); } }"), [""; 0]);
    assert_eq!(found("gate", "let http_like = my_http::x(\"http://a\"); // tidegate_x"), [""; 0]);
    assert_eq!(found("telemetry/metrics", "\"tidegate_requests_total\""), [""; 0]);
    assert_eq!(map_complaints("//! - [`a`]: x\n//! - [`old`]: y\npub mod a;\npub mod b;").len(), 2);
    let manifest = "[dependencies]\nbytes = \"1\" # body chunks without copies\nhttp = \"1\"\n[profile.dev]\ndebug = 1\n";
    assert_eq!(dependency_complaints(manifest), ["no reason behind: http = \"1\""]);
}
