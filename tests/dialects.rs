//! One answer of each vendor (`dialects/*.http`), and what it teaches.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use http::response::Parts;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use tidegate::control::{Hint, Level, Outcome};
use tidegate::proxy::signals::{Dialects, Said};

/// The file's name, and what its answer comes to: what became of the request, then each limit, then what was ignored.
/// Times are in seconds.
const TABLE: &[(&str, &str)] = &[
    ("absurd", "accepted | x-ratelimit 1/40 | ignored x-ratelimit-reset"),
    ("akamai", "limited for 12.5 | x-ratelimit 60/60"),
    ("anthropic", "accepted | anthropic:requests 1/50 ends 1.2 window 60"),
    ("anthropic-overload", "overloaded"),
    ("auth0", "accepted | x-ratelimit 1/10 ends 1"),
    (
        "auth0-quota",
        "accepted | auth0-client:per_hour 1/100 ends 1200 window 3600 | auth0-client:per_day 1/300 ends 16800 window 86400",
    ),
    ("azure", "accepted"),
    ("brevo", "accepted | x-sib-ratelimit 2/100 ends 57"),
    ("discord", "accepted | x-ratelimit:abcd1234 1/5 ends 1.25"),
    ("discord-global", "limited for 64.57 at Credential"),
    ("discord-shared", "limited for 65 | x-ratelimit:abcd1234 1/10 ends 1.5"),
    ("genesys", "accepted | inin 61/300 ends 38"),
    ("genesys-refusal", "limited for 42"),
    (
        "genesys-refusal-key",
        "limited for 17 at Credential | client.credentials.token.rate.per.minute 300/300 window 60 at Credential",
    ),
    ("genesys-refusal-old", "limited | body 300/300 window 60"),
    ("github", "accepted | x-ratelimit:core 13/5000 ends 1800"),
    ("github-forbidden", "accepted | x-ratelimit:core 299/5000 ends 1800"),
    ("github-refusal", "limited for 1800 | x-ratelimit:core 60/60 ends 1800"),
    ("github-secondary", "limited for 60 | x-ratelimit:core 299/5000 ends 1800"),
    ("gitlab", "accepted | ratelimit:throttle_authenticated_web 7/60 ends 40"),
    ("gitlab-partial", "accepted | ratelimit 7/60 ends 40"),
    ("google", "limited at Credential"),
    ("gooddata", "accepted | x-ratelimit 1/200 ends 60"),
    ("gorgias", "accepted | gorgias 10/40"),
    ("ietf-03", "accepted | ratelimit:10/s 9/10 ends 7 window 1 | ratelimit:50/min ?/50 window 60"),
    ("ietf-06", "accepted | ratelimit:10/s 9/10 ends 7 window 1 | ratelimit:50/min ?/50 window 60"),
    ("ietf-07", "limited for 5 | ratelimit 100/100 ends 5 window 10"),
    ("ietf-10", "accepted | ratelimit:burst 50/100 ends 30 window 60 | ratelimit:daily ?/1000 window 86400"),
    ("ietf-10-problem", "limited for 90 at Upstream"),
    (
        "ietf-10-refusal",
        "limited for 90 at Credential | ratelimit:burst 50/100 ends 30 window 60 | \
         ratelimit:per-user 1000/1000 ends 90 window 3600 at Credential",
    ),
    ("lemlist", "accepted | x-ratelimit 9/20 ends 2"),
    ("mailerlite", "limited for 59 | x-ratelimit 120/120 ends 60"),
    (
        "malformed",
        "limited | ignored retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, ratelimit-policy, \
         ratelimit",
    ),
    ("okta", "limited for 21 | x-rate-limit 600/600 ends 21"),
    ("openai", "accepted | x-ratelimit:requests 1/60 ends 1 window 60"),
    ("openai-refusal", "limited for 0.812 | x-ratelimit:requests 1/5000 ends 0.012 window 60"),
    ("plain", "accepted"),
    ("prisjakt", "accepted | x-rate-limit 100/1000 ends 600"),
    ("shopify", "accepted | shopify 32/40 at Credential"),
    ("shopify-refusal", "limited for 2 | shopify 40/40 at Credential"),
    ("slack", "limited for 30"),
    ("telnyx", "limited for 1 | x-ratelimit 20/20 ends 1"),
    ("webex", "limited for 23"),
    ("x", "accepted | x-rate-limit 50/900 ends 600"),
    ("zendesk", "accepted | zendesk-ratelimit:tickets-index 1/100 ends 41 | ratelimit 1/700 ends 41"),
    ("zendesk-refusal", "limited for 41 | zendesk-ratelimit:tickets-index 100/100 ends 41"),
];

#[test]
fn every_vendor_s_answer_teaches_what_it_says() {
    let mut wrong = String::new();
    for (name, expected) in TABLE {
        let (head, body) = answer(&fs::read_to_string(folder().join(format!("{name}.http"))).unwrap());
        // One vendor is known by its host.
        let dialects = Dialects::new(&format!("api.{name}.nu"), []);
        let mut said = dialects.head(head.status, &head.headers);
        if said.is_body_worth_reading(&head, None) {
            dialects.add_body(&mut said, &head, body.as_bytes(), None);
        }
        let found = shown(&said);
        if found != *expected {
            writeln!(wrong, "{name}\n  should be  {expected}\n  is         {found}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn every_file_has_its_line() {
    let files: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let lines: BTreeSet<_> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, lines);
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialects")
}

/// An answer as it stands in a file.
fn answer(text: &str) -> (Parts, String) {
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let mut answer = http::Response::builder().status(status);
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        answer = answer.header(name, value);
    }
    (answer.body(()).unwrap().into_parts().0, body.to_owned())
}

fn shown(said: &Said) -> String {
    let mut text = match said.report.outcome {
        Outcome::Accepted => "accepted".to_owned(),
        Outcome::Limited(hint) => format!("limited{}", hinted(hint)),
        Outcome::Overloaded(hint) => format!("overloaded{}", hinted(hint)),
        other => panic!("{other:?}"),
    };
    for limit in &said.report.announced {
        let used = limit.used.map_or_else(|| "?".to_owned(), |used| used.to_string());
        write!(text, " | {} {used}/{}", limit.name, limit.requests).unwrap();
        for (word, time) in [("ends", limit.reset), ("window", limit.window)] {
            if let Some(time) = time {
                write!(text, " {word} {}", rounded(time.as_secs_f64())).unwrap();
            }
        }
        text += &at(limit.level);
    }
    if !said.ignored.is_empty() {
        write!(text, " | ignored {}", said.ignored.join(", ")).unwrap();
    }
    text
}

fn hinted(hint: Hint) -> String {
    let wait = hint.retry_after.map(|wait| format!(" for {}", rounded(wait.as_secs_f64())));
    wait.unwrap_or_default() + &at(hint.level.unwrap_or_default())
}

fn at(level: Level) -> String {
    if level == Level::Route { String::new() } else { format!(" at {level:?}") }
}

/// Moments since 1970 have microseconds only.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}
