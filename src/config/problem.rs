//! What is wrong with a configuration: everything at once, each with its place and what to write instead.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was said.
    pub origin: Origin,
    /// The key's path, such as `upstream[0].url`; empty when the mistake is no key's.
    pub key: String,
    /// What is wrong and what to write instead. It never repeats a secret.
    pub text: String,
}

/// Where a value was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// On the command line, by this flag.
    Flag(&'static str),
    /// In the file, on this line; the first is 1.
    Line(usize),
}

/// Every mistake of a configuration, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblems {
    /// What the file is called; empty without one.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Problem { origin, key, text }) in self.problems.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            match origin {
                Origin::Flag(flag) => write!(f, "{flag}")?,
                Origin::Line(line) => write!(f, "{}:{line}", self.file)?,
                Origin::Default => f.write_str(if self.file.is_empty() { "tidegate" } else { &self.file })?,
            }
            if !key.is_empty() && !matches!(origin, Origin::Flag(_)) {
                write!(f, ": {key}")?;
            }
            write!(f, ": {text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigProblems {}

/// The one of `known` that `meant` is a slip of the finger from.
pub(super) fn nearest<'a>(meant: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let slips = |known: &&str| strsim::osa_distance(meant, known);
    let close_enough = |known: &&str| slips(known) <= known.len().max(meant.len()).div_ceil(3);
    known.into_iter().filter(close_enough).min_by_key(slips)
}

/// "did you mean this?", or what there is to choose from.
pub(super) fn suggestion<'a>(meant: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(meant, known.clone()) {
        return format!("did you mean {near:?}?");
    }
    let all: Vec<&str> = known.into_iter().collect();
    if all.is_empty() { "there is none".to_owned() } else { format!("there is {}", all.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_key() {
        let known = ["deadline", "lane_idle", "lane_tickets_max", "lanes_max"];
        for (meant, near) in [
            ("dedline", Some("deadline")),
            ("daedline", Some("deadline")),
            ("lane_max", Some("lanes_max")),
            ("max_lanes", None),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(meant, known), near, "{meant}");
        }
        assert_eq!(suggestion("dead_line", known), "did you mean \"deadline\"?");
        assert_eq!(suggestion("colour", known), "there is deadline, lane_idle, lane_tickets_max, lanes_max");
    }

    #[test]
    fn every_problem_has_a_line_of_its_own() {
        let problem = |origin, key: &str| Problem { origin, key: key.to_owned(), text: "wrong".to_owned() };
        let problems = ConfigProblems {
            file: "a.toml".to_owned(),
            problems: vec![
                problem(Origin::Default, ""),
                problem(Origin::Flag("--rate"), "law.rate"),
                problem(Origin::Line(3), "upstream[0].url"),
                problem(Origin::Line(4), ""),
            ],
        };
        let lines = "a.toml: wrong\n--rate: wrong\na.toml:3: upstream[0].url: wrong\na.toml:4: wrong";
        assert_eq!(problems.to_string(), lines);
    }
}
