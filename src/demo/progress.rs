//! A line that says how far it is: rewritten in place on a terminal, now and then elsewhere.

use std::io::{self, IsTerminal, Stderr, Write};
use std::time::{Duration, Instant};

/// How often the line is worth showing.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// How often it is written where it cannot be rewritten.
const LINE_EVERY: Duration = Duration::from_secs(4);

/// Shows one line of progress.
#[derive(Debug)]
pub(super) struct Progress<W> {
    out: W,
    in_place: bool,
    shown_at: Option<Instant>,
}

impl Progress<Stderr> {
    /// On stderr, as fits what it is.
    pub(super) fn on_stderr() -> Self {
        let out = io::stderr();
        let in_place = out.is_terminal();
        Self::new(out, in_place)
    }
}

impl<W: Write> Progress<W> {
    /// On `out`, where a row can be rewritten or not.
    pub(super) fn new(out: W, in_place: bool) -> Self {
        Self { out, in_place, shown_at: None }
    }

    /// Shows `line` if it is time to.
    pub(super) fn show(&mut self, now: Instant, line: &str) {
        if self.in_place {
            self.write(&rewritten(line));
        } else if self.shown_at.is_none_or(|at| now.saturating_duration_since(at) >= LINE_EVERY) {
            self.write(&format!("{line}\n"));
            self.shown_at = Some(now);
        }
    }

    /// Shows `line` as the last word of a part; what comes next starts on a row of its own.
    pub(super) fn finish(&mut self, line: &str) {
        let start = if self.in_place { rewritten(line) } else { line.to_owned() };
        self.write(&format!("{start}\n"));
        self.shown_at = None;
    }

    fn write(&mut self, text: &str) {
        // Nobody may be reading; the demo goes on.
        drop(self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()));
    }
}

/// Back to the start of the row, the line, and nothing of a longer one before it.
fn rewritten(line: &str) -> String {
    format!("\r{line}\x1b[K")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::clock;

    fn told(in_place: bool) -> String {
        let mut progress = Progress::new(Vec::new(), in_place);
        let start = clock::now();
        for (millis, line) in [(0, "a"), (250, "b"), (3_999, "c"), (4_000, "d")] {
            progress.show(start + Duration::from_millis(millis), line);
        }
        progress.finish("e");
        progress.show(start, "f");
        String::from_utf8(progress.out).unwrap()
    }

    #[test]
    fn a_terminal_sees_one_row_that_changes() {
        assert_eq!(told(true), "\ra\x1b[K\rb\x1b[K\rc\x1b[K\rd\x1b[K\re\x1b[K\n\rf\x1b[K");
    }

    #[test]
    fn a_log_sees_a_row_now_and_then() {
        assert_eq!(told(false), "a\nd\ne\nf\n");
    }
}
