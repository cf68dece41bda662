//! Golden timelines: what the API let in and refused, second by second, in the run of the first seed.
//!
//! They are compared to the request. A change of the law shows in them first; `UPDATE=1` writes them afresh, and the
//! difference is read like a difference of code.

use crate::closed_loop::Log;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const SECONDS_A_LINE: usize = 20;

/// The timeline of `log`, over so many seconds: `accepted` or `accepted/refused` for each.
pub(crate) fn of(log: &Log, seconds: f64) -> String {
    let mut text = "# Let in, or let in/refused, in each second of the first seed's run.\n".to_owned();
    let mut second = 0;
    while (second as f64) < seconds {
        if second % SECONDS_A_LINE == 0 {
            write!(text, "{}{second:>4}:", if second == 0 { "" } else { "\n" }).unwrap();
        }
        let (from, until) = (second as f64, (second + 1) as f64);
        match (log.accepted_in(from, until), log.refused_in(from, until)) {
            (accepted, 0) => write!(text, " {accepted}").unwrap(),
            (accepted, refused) => write!(text, " {accepted}/{refused}").unwrap(),
        }
        second += 1;
    }
    text.push('\n');
    text
}

/// Compares the timeline with the one that is kept, or writes it. Says what differs.
pub(crate) fn compare(name: &str, timeline: &str, update: bool) -> Option<String> {
    let path = path(name);
    if update {
        std::fs::write(&path, timeline).unwrap();
        return None;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs =
        timeline.lines().zip(kept.lines().chain(std::iter::repeat(""))).find(|(now, kept)| now != kept);
    let rest = || (timeline != kept).then_some(("(no more)", "(more)"));
    let (now, kept) = differs.or_else(rest)?;
    Some(format!(
        "its timeline is another one, from here on:\n    was {kept}\n    is  {now}\n    (UPDATE=1 writes {})",
        path.display()
    ))
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios").join(name).with_extension("txt")
}
