//! The README keeps its word: every command in its `sh` blocks is run here, or is known to be run elsewhere; every
//! option exists; the metrics table is complete. A new command without a rule fails.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "it drives real programs in real time, and finds them by PATH"
)]

#[path = "support/foreign.rs"]
mod foreign;
#[path = "support/process.rs"]
#[expect(dead_code, reason = "tests/run uses all of it")]
mod process;

use foreign::{find, run};
use process::Tidegate;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const README: &str = include_str!("../README.md");
const CI: &str = include_str!("../.ci/run");
const ALIASES: &str = include_str!("../.cargo/config.toml");
const PLAN: &str = include_str!("jmeter/messages.jmx");
const LAWS: &str = include_str!("../benches/law/README.md");
const COSTS: &str = include_str!("../benches/proxy/README.md");
const METRICS: &str = concat!(
    include_str!("../src/telemetry/metrics/mod.rs"),
    include_str!("../src/telemetry/metrics/announced.rs"),
    include_str!("../src/telemetry/metrics/build.rs"),
    include_str!("../src/telemetry/metrics/connections.rs")
);

/// How the README's commands are exercised, by what they begin with.
const RULES: &[(&str, How)] = &[
    ("cargo run --release -- demo", How::Ci("target/release/tidegate demo --json")),
    ("cargo test --test with_real_clients", How::Ci("cargo test --locked")),
    ("cargo test", How::Ci("cargo test --locked")),
    ("cargo build --release", How::Ci("cargo build --release --locked")),
    ("cargo lint", How::Alias("lint")),
    ("cargo docs", How::Alias("docs")),
    (".ci/run", How::Ci("#!/usr/bin/env bash")),
    ("tests/jmeter/install.sh", How::Ci("tests/jmeter/install.sh")),
    ("~/.cache/tidegate/jmeter-5.6.3/bin/jmeter ", How::JMeter),
    ("target/release/tidegate ", How::Tidegate),
    (
        "prometheus --config.file=config/prometheus/prometheus.yml ",
        How::Conformance("tests/conformance/prometheus.rs"),
    ),
    ("curl ", How::Curl),
];

#[derive(Clone, Copy)]
enum How {
    /// `.ci/run` does it, in these words.
    Ci(&'static str),
    /// An alias of `.cargo/config.toml`, whose long form `.ci/run` has.
    Alias(&'static str),
    /// The conformance test runs this plan; here it is seen that the flags fit it.
    JMeter,
    /// A conformance test runs that program on that file.
    Conformance(&'static str),
    /// Run here: `--help` to its end, the others until they listen. They stay for the curls that follow.
    Tidegate,
    /// Run here, when there is a curl.
    Curl,
}

/// What the commands so far have started, as the reader's terminals.
#[derive(Default)]
struct Terminals {
    sim: Option<Tidegate>,
    proxy: Option<Tidegate>,
}

#[test]
fn every_command_works() {
    let mut terminals = Terminals::default();
    let commands = commands(README);
    assert!(commands.len() > 10, "the sh blocks were not found: {commands:?}");
    for command in &commands {
        let rule = RULES.iter().find(|(prefix, _)| command.starts_with(prefix));
        let (_, how) = rule.unwrap_or_else(|| panic!("no rule says how this is tested: {command}"));
        match how {
            How::Ci(words) => assert!(CI.contains(words), ".ci/run no longer has {words:?}, for {command}"),
            How::Alias(name) => alias(name),
            How::JMeter => jmeter(command),
            How::Conformance(test) => {
                assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(test).is_file(), "{test}");
            }
            How::Tidegate => terminals.tidegate(command),
            How::Curl => terminals.curl(command),
        }
    }
}

#[test]
fn every_option_exists() {
    let helps: String = ["run", "check", "sim", "demo"]
        .iter()
        .map(|command| tidegate(&[command, "--help"]))
        .collect::<Vec<_>>()
        .concat();
    // Of other programs.
    let foreign = ["--release", "--test", "--bench", "--storage"];
    for option in options(README).iter().filter(|option| !foreign.contains(&option.as_str())) {
        assert!(
            helps.contains(&format!("{option} ")) || helps.contains(&format!("{option}\n")),
            "no {option}"
        );
    }
}

#[test]
fn the_metrics_table_is_complete() {
    let (code, table) = (metric_names(METRICS), metric_names(README));
    let lacking: Vec<_> = code.difference(&table).collect();
    let stale: Vec<_> = table.difference(&code).collect();
    assert!(
        lacking.is_empty() && stale.is_empty(),
        "the README lacks {lacking:?}, and has {stale:?} for nothing"
    );
}

/// The rows of the README are those of the benches' reports. `UPDATE=1` writes them anew.
#[test]
fn the_laws_and_the_costs_are_those_of_the_reports() {
    let renewed = with_tables_of(&with_laws_of(README, LAWS), COSTS);
    if std::env::var("UPDATE").is_ok() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        return std::fs::write(path, renewed).unwrap();
    }
    assert!(README.lines().filter(|line| line.starts_with("| P")).count() >= 13, "every benchmark");
    assert!(README.lines().filter(|line| line.starts_with("| GET")).count() >= 8, "every size and protocol");
    for (here, report) in README.lines().zip(renewed.lines()) {
        assert_eq!(here, report, "not as in the report; UPDATE=1 writes it anew");
    }
    assert_eq!(README.lines().count(), renewed.lines().count(), "UPDATE=1 writes it anew");
}

#[test]
fn a_table_that_a_report_has_by_the_same_title_is_the_report_s() {
    let report = "**Costs**\n\n| | A |\n| --- | --- |\n| x | 1 |\n| y | 2 |\n\n**Other**\n\n| | B |\n";
    let text = "t\n**Costs**\n\n| | A |\n| x | 3 |\n\n**Own**\n\n| | C |\nend\n";
    assert_eq!(
        with_tables_of(text, report),
        "t\n**Costs**\n\n| | A |\n| --- | --- |\n| x | 1 |\n| y | 2 |\n\n**Own**\n\n| | C |\nend\n"
    );
}

#[test]
fn a_law_s_figure_that_is_not_the_report_s_is_replaced() {
    let report = "**Utilisation**\n\n| | A | B | C |\n| --- | --- | --- | --- |\n| P1 x | 1 | 2 | 3 |\n\n| P1 x | 9 | 9 | 9 |\n";
    let text = "t\n| | C | A |\n| --- | --- | --- |\n| P1 x | 3 | 7 |\n| P2 y | 1 | 1 |\n";
    assert_eq!(
        with_laws_of(text, report),
        "t\n| | C | A |\n| --- | --- | --- |\n| P1 x | 3 | 1 |\n| P2 y | not in the report |\n"
    );
}

#[test]
fn blocks_options_and_names_are_found() {
    let text =
        "`--a-b`\n```sh\none --two=3\n# remark\n```\n- x\n\n  ```sh\n  three\n  ```\n```text\nno\n```\n---\n";
    assert_eq!(commands(text), ["one --two=3", "three"]);
    assert_eq!(options(text).into_iter().collect::<Vec<_>>(), ["--a-b", "--two"]);
    assert_eq!(shell_words("a -d '{\"b\": 1}' c"), ["a", "-d", "{\"b\": 1}", "c"]);
    let names = metric_names("`tidegate_a_total`, \"tidegate_b\" tidegate::x x_tidegate_c");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["tidegate_a_total", "tidegate_b"]);
}

impl Terminals {
    fn tidegate(&mut self, command: &str) {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        if words.contains(&"--help") {
            assert!(tidegate(&words).contains("Usage"), "{command}");
            return;
        }
        if words.first() == Some(&"check") {
            assert!(tidegate(&words).contains("[[upstream]]"), "{command}");
            return;
        }
        // The same on free ports. No test calls a real API: an upstream that cannot be reached takes its place.
        let value = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
        let (upstream, listen) = (value("--upstream"), value("--listen"));
        let (own, theirs) = (Some(&"http://127.0.0.1:8081"), "https://127.0.0.1:9");
        let more: Vec<&str> = words.iter().skip(1).copied().collect();
        let more: Vec<&str> = without(&without(&more, "--upstream"), "--listen");
        match words.first() {
            Some(&"sim") => self.sim = Some(Tidegate::sim(&more)),
            Some(&"run") if upstream == own => {
                self.proxy = Some(Tidegate::run(&self.sim.as_ref().unwrap().url(), &more));
            }
            Some(&"run") => drop(Tidegate::run(theirs, &more)),
            _ => panic!("no way to test {command}"),
        }
        assert!(listen.is_none_or(|listen| listen.starts_with("127.0.0.1:808")), "{command}");
    }

    fn curl(&self, command: &str) {
        let Some(curl) = find("curl") else {
            let required = std::env::var("REQUIRE_CLIENTS").is_ok_and(|value| value == "1");
            assert!(!required, "curl is missing, and REQUIRE_CLIENTS=1");
            return;
        };
        let (sim, proxy) = (self.sim.as_ref().unwrap(), self.proxy.as_ref().unwrap());
        let here = command
            .replace("http://127.0.0.1:8080", &proxy.url())
            .replace("http://127.0.0.1:8081", &sim.url())
            .replace("http://127.0.0.1:9464", &format!("http://{}", proxy.admin));
        let mut words = Command::new(curl);
        words.args(["-q", "--fail", "--max-time", "20"]).args(shell_words(&here).iter().skip(1));
        let ran = run(&mut words, b"", Duration::from_secs(30)).ok(command);
        assert!(!ran.stdout.is_empty(), "{command}: nothing came");
    }
}

/// `flags` without `name` and its value.
fn without<'a>(flags: &[&'a str], name: &str) -> Vec<&'a str> {
    let at = flags.iter().position(|flag| *flag == name).unwrap_or(flags.len());
    flags
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != at && *index != at + 1)
        .map(|(_, flag)| *flag)
        .collect()
}

/// Runs the program to its end; what it prints.
fn tidegate(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    run(command.args(words), b"", Duration::from_secs(20)).ok("tidegate").text()
}

fn alias(name: &str) {
    let long = ALIASES
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} = ")))
        .map(|long| long.trim_matches('"'));
    let long = long.unwrap_or_else(|| panic!("no alias {name} in .cargo/config.toml"));
    assert!(CI.contains(&format!("cargo {long}")), ".ci/run has no `cargo {long}`");
}

/// The plan is there, the files go below target/, and every property is one that the plan reads.
fn jmeter(command: &str) {
    let mut words = command.split_whitespace().skip(1);
    while let Some(word) = words.next() {
        match word {
            "-n" => (),
            "-t" => assert!(
                Path::new(env!("CARGO_MANIFEST_DIR")).join(words.next().unwrap()).is_file(),
                "{command}"
            ),
            "-l" | "-j" => assert!(words.next().unwrap().starts_with("target/"), "{command}"),
            "-H" => assert_eq!(words.next(), Some("127.0.0.1")),
            "-P" => assert_eq!(words.next(), Some("8080")),
            property => {
                let name = property.strip_prefix("-J").and_then(|rest| rest.split('=').next());
                let name = name.unwrap_or_else(|| panic!("{property} in {command}"));
                let read = PLAN.contains(&format!("${{__P({name},")) || name == "sample_variables";
                assert!(read, "the plan does not read {name}: {command}");
            }
        }
    }
}

/// The words as a shell reads them, as far as single quotes go.
fn shell_words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (index, part) in command.split('\'').enumerate() {
        if index % 2 == 1 {
            words.last_mut().unwrap().push_str(part);
            continue;
        }
        for c in part.chars() {
            if c.is_whitespace() {
                words.push(String::new());
            } else {
                words.last_mut().unwrap().push(c);
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `text` with the figures of `report`'s first table in its own table of laws, which may have fewer columns.
fn with_laws_of(text: &str, report: &str) -> String {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut table =
        report.lines().skip_while(|line| !line.starts_with("| | ")).take_while(|line| line.starts_with('|'));
    let laws = cells(table.next().unwrap());
    let figures: Vec<Vec<String>> = table.map(cells).collect();
    let mut shown: Vec<String> = Vec::new();
    let mut renewed = String::new();
    for line in text.lines() {
        if line.starts_with("| | ") {
            shown = cells(line);
        }
        let name = cells(line).first().cloned().unwrap_or_default();
        let line = if line.starts_with("| P") && !shown.is_empty() {
            let row = figures.iter().find(|row| row.first() == Some(&name));
            let figure = |law: &String| {
                row.and_then(|row| row.get(laws.iter().position(|known| known == law)?).cloned())
            };
            let figures: Option<Vec<String>> = shown.iter().skip(1).map(figure).collect();
            let figures =
                figures.map_or_else(|| "not in the report".to_owned(), |figures| figures.join(" | "));
            format!("| {name} | {figures} |")
        } else {
            line.to_owned()
        };
        renewed.push_str(&line);
        renewed.push('\n');
    }
    renewed
}

/// `text` with the tables that stand in `report` under the same title, which is a line in bold.
fn with_tables_of(text: &str, report: &str) -> String {
    let table_under = |title: &str| -> Vec<&str> {
        let under = report.lines().skip_while(|line| *line != title).skip(2);
        under.take_while(|line| line.starts_with('|')).collect()
    };
    let mut renewed = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        renewed.push_str(line);
        renewed.push('\n');
        let table = if line.starts_with("**") { table_under(line) } else { Vec::new() };
        if table.is_empty() {
            continue;
        }
        while lines.next_if(|line| line.is_empty() || line.starts_with('|')).is_some() {}
        for line in std::iter::once("").chain(table).chain([""]) {
            renewed.push_str(line);
            renewed.push('\n');
        }
    }
    renewed
}

/// The lines of all `sh` blocks, indented ones too, without remarks.
fn commands(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut all = Vec::new();
    for line in text.lines().map(str::trim) {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside && !line.is_empty() && !line.starts_with('#') => all.push(line.to_owned()),
            _ => (),
        }
    }
    all
}

/// Every `--option` anywhere in the text.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    let options = words.filter(|word| {
        word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
    });
    options.map(str::to_owned).collect()
}

/// Every metric's name in the text. The suffixes that Prometheus adds to histograms count as the histogram.
fn metric_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names = words.filter(|word| word.starts_with("tidegate_"));
    names
        .map(|name| {
            name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count").to_owned()
        })
        .collect()
}
