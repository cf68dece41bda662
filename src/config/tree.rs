//! A TOML document as a tree in which every value knows where it was said; one tree can be laid over another.

use super::duration::duration;
use super::problem::{Origin, Problem};
use super::size::size;
use crate::control::Quota;
use std::collections::BTreeSet;
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A table: its entries by key, in the order in which they were said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table(Vec<(String, Entry)>);

/// A value and where it was said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What TOML can say, as far as anything here is said with it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Whole(i64),
    Fraction(f64),
    Truth(bool),
    Moment,
    List(Vec<Entry>),
    Table(Table),
}

impl Value {
    /// What it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Whole(_) | Self::Fraction(_) => "a number",
            Self::Truth(_) => "true or false",
            Self::Moment => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    fn each_text_mut(&mut self, key: &str, change: &mut impl FnMut(&str, &mut String)) {
        match self {
            Self::Text(text) => change(key, text),
            Self::List(list) => list.iter_mut().for_each(|entry| entry.value.each_text_mut(key, change)),
            Self::Table(inner) => inner.each_text_mut(change),
            Self::Whole(_) | Self::Fraction(_) | Self::Truth(_) | Self::Moment => (),
        }
    }
}

impl Table {
    /// Reads a whole document. What cannot be read is told, one problem for each line, and the rest is taken as it
    /// stands.
    pub(super) fn parse(text: &str) -> (Self, Vec<Problem>) {
        let lines = Lines::of(text);
        let (document, errors) = DeTable::parse_recoverable(text);
        let tree = table(document.get_ref(), &lines);
        let paths = tree.paths("");
        let mut told = BTreeSet::new();
        let mut problems: Vec<Problem> = errors
            .iter()
            .map(|error| (Origin::Line(lines.at(error.span().map_or(0, |span| span.start))), error))
            .filter(|(origin, _)| told.insert(*origin))
            .map(|(origin, error)| {
                let said = error.span().and_then(|span| text.get(span)).unwrap_or_default().trim();
                let here = paths.iter().find(|(_, said_at)| *said_at == origin);
                // A key that stands twice is in the tree where it stood before.
                let is_before = |(path, said_at): &&(String, Origin)| {
                    *said_at < origin && path.rsplit('.').next() == Some(said)
                };
                let before = || paths.iter().filter(is_before).max_by_key(|(_, said_at)| *said_at);
                let key = here.or_else(before).map(|(path, _)| path.clone()).unwrap_or_default();
                Problem { origin, key, text: syntax(error.message(), said) }
            })
            .collect();
        problems.sort_by_key(|problem| problem.origin);
        (tree, problems)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, entry)| entry)
    }

    /// What stands at `path`, such as `law.rate`.
    pub(super) fn at(&self, path: &str) -> Option<&Entry> {
        match path.split_once('.') {
            None => self.get(path),
            Some((key, rest)) => match &self.get(key)?.value {
                Value::Table(inner) => inner.at(rest),
                _ => None,
            },
        }
    }

    /// Where what stands at `path` was said.
    pub(super) fn origin(&self, path: &str) -> Origin {
        self.at(path).map_or(Origin::Default, |entry| entry.origin)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.0.iter_mut().find(|(known, _)| known == key).map(|(_, entry)| entry)
    }

    pub(super) fn set(&mut self, key: &str, entry: Entry) {
        match self.get_mut(key) {
            Some(old) => *old = entry,
            None => self.0.push((key.to_owned(), entry)),
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.0.retain(|(known, _)| known != key);
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    /// Says `key` as `entry` does, unless it is said already.
    pub(super) fn complete(&mut self, key: &str, entry: Option<&Entry>) {
        if let Some(entry) = entry.filter(|_| self.get(key).is_none()) {
            self.set(key, entry.clone());
        }
    }

    /// The tables of the list `key`.
    pub(super) fn tables_mut(&mut self, key: &str) -> impl Iterator<Item = &mut Self> {
        let list = match self.get_mut(key) {
            Some(Entry { value: Value::List(list), .. }) => list.as_mut_slice(),
            _ => &mut [],
        };
        list.iter_mut().filter_map(|entry| match &mut entry.value {
            Value::Table(table) => Some(table),
            _ => None,
        })
    }

    /// Takes everything that `over` says; tables are laid over tables, anything else replaces what was there.
    pub(super) fn overlay(&mut self, over: Self) {
        for (key, entry) in over.0 {
            match (self.get_mut(&key), entry) {
                (Some(Entry { value: Value::Table(under), .. }), Entry { value: Value::Table(over), .. }) => {
                    under.overlay(over);
                }
                (_, entry) => self.set(&key, entry),
            }
        }
    }

    /// Says of everything in it that it was said at `origin`.
    pub(super) fn say_everywhere(&mut self, origin: Origin) {
        for (_, entry) in &mut self.0 {
            entry.origin = origin;
            if let Value::Table(inner) = &mut entry.value {
                inner.say_everywhere(origin);
            }
        }
    }

    /// Changes each text in it, which `change` gets with its key.
    pub(super) fn each_text_mut(&mut self, change: &mut impl FnMut(&str, &mut String)) {
        for (key, entry) in &mut self.0 {
            entry.value.each_text_mut(key, change);
        }
    }

    /// The path of every value in it, with the line on which it was said.
    fn paths(&self, of: &str) -> Vec<(String, Origin)> {
        let mut all = Vec::new();
        for (key, entry) in self.entries() {
            let path = format!("{of}{key}");
            match &entry.value {
                Value::Table(inner) => all.extend(inner.paths(&format!("{path}."))),
                Value::List(list) => {
                    for (n, element) in list.iter().enumerate() {
                        if let Value::Table(inner) = &element.value {
                            all.extend(inner.paths(&format!("{path}[{n}].")));
                        }
                    }
                }
                _ => (),
            }
            all.push((path, entry.origin));
        }
        all
    }
}

/// As a TOML value; strings on one line.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => quoted(f, text),
            Self::Whole(number) => number.fmt(f),
            // Always with a point: 1.0 is a fraction as well.
            Self::Fraction(number) => write!(f, "{number:?}"),
            Self::Truth(truth) => truth.fmt(f),
            // Nothing here is one: it is a problem wherever it stands.
            Self::Moment => Ok(()),
            Self::List(list) => {
                f.write_str("[")?;
                for (n, entry) in list.iter().enumerate() {
                    write!(f, "{}{}", if n == 0 { "" } else { ", " }, entry.value)?;
                }
                f.write_str("]")
            }
            Self::Table(table) => {
                f.write_str("{")?;
                for (n, (key, entry)) in table.entries().enumerate() {
                    write!(f, "{} {key} = {}", if n == 0 { "" } else { "," }, entry.value)?;
                }
                f.write_str(" }")
            }
        }
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

/// The parser's words, and the way out where they do not have it.
fn syntax(message: &str, said: &str) -> String {
    match message {
        "duplicate key" => format!("{said} stands here for the second time: leave one of them out"),
        message if message.starts_with("string values must be quoted") => {
            // Only what cannot be a secret is repeated.
            let plain = said.parse::<Quota>().is_ok() || duration(said).is_ok() || size(said).is_ok();
            format!("this value belongs in quotes: write \"{}\"", if plain { said } else { "..." })
        }
        message => format!("this is not TOML: {message}"),
    }
}

fn table(table: &DeTable<'_>, lines: &Lines) -> Table {
    let mut entries: Vec<_> = table.iter().collect();
    // The parser sorts by name; what people read is in their own order.
    entries.sort_by_key(|(key, _)| key.span().start);
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| -> (String, Entry) {
        let key_text: &std::borrow::Cow<'_, str> = key.get_ref();
        let origin = Origin::Line(lines.at(key.span().start));
        (key_text.clone().into_owned(), Entry { value: self::value(value.get_ref(), lines), origin })
    };
    Table(entries.into_iter().map(entry).collect())
}

fn value(value: &DeValue<'_>, lines: &Lines) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(number) => {
            let beyond = if number.as_str().starts_with('-') { i64::MIN } else { i64::MAX };
            Value::Whole(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(beyond))
        }
        DeValue::Float(number) => Value::Fraction(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(truth) => Value::Truth(*truth),
        DeValue::Datetime(_) => Value::Moment,
        DeValue::Array(list) => {
            let entry = |element: &Spanned<DeValue<'_>>| Entry {
                value: self::value(element.get_ref(), lines),
                origin: Origin::Line(lines.at(element.span().start)),
            };
            Value::List(list.iter().map(entry).collect())
        }
        DeValue::Table(inner) => Value::Table(table(inner, lines)),
    }
}

/// Where each line begins.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at + 1).collect())
    }

    /// The line that `at`, a place in bytes, is on; the first is 1.
    fn at(&self, at: usize) -> usize {
        self.0.partition_point(|begin| *begin <= at) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Table {
        let (tree, problems) = Table::parse(text);
        assert_eq!(problems, []);
        tree
    }

    #[test]
    fn every_value_knows_its_line() {
        let tree = parsed(
            "a = 1\n\n[t]\nb = [\n  'x',\n  2.5,\n]\n[[l]]\nc = true\n[[l]]\nd = -0x1\n"
                .replace("-0x1", "0x1_0")
                .as_str(),
        );
        assert_eq!(tree.get("a").unwrap().origin, Origin::Line(1));
        assert_eq!(tree.get("t").unwrap().origin, Origin::Line(3));
        let Value::Table(t) = &tree.get("t").unwrap().value else { panic!("no table") };
        let Value::List(b) = &t.get("b").unwrap().value else { panic!("no list") };
        assert_eq!(b[1], Entry { value: Value::Fraction(2.5), origin: Origin::Line(6) });
        let Value::List(l) = &tree.get("l").unwrap().value else { panic!("no list") };
        assert_eq!(l[1].origin, Origin::Line(10));
        let Value::Table(second) = &l[1].value else { panic!("no table") };
        assert_eq!(second.get("d").unwrap().value, Value::Whole(16));
    }

    #[test]
    fn what_is_no_toml_is_told_line_by_line_and_the_rest_is_taken() {
        let (tree, problems) = Table::parse(
            "[queue]\ndeadline = 30s\nlanes_max = 5\nlanes_max = 6\n[law]\nceiling = 300/min\nstart_rate = \"x\nname = \"a\"\n",
        );
        let told: Vec<_> = problems.iter().map(|problem| (problem.origin, problem.key.as_str())).collect();
        assert_eq!(
            told,
            [
                (Origin::Line(2), "queue.deadline"),
                (Origin::Line(4), "queue.lanes_max"),
                (Origin::Line(6), "law.ceiling"),
                (Origin::Line(7), "law.start_rate"),
            ]
        );
        assert!(problems[0].text.contains("write \"30s\""), "{problems:?}");
        assert!(problems[1].text.contains("lanes_max stands here for the second time"), "{problems:?}");
        let Value::Table(law) = &tree.get("law").unwrap().value else { panic!("no table") };
        assert_eq!(law.get("name").unwrap().value, Value::Text("a".to_owned()));
    }

    #[test]
    fn values_are_written_as_toml_that_reads_the_same() {
        let text = r#"x = ["a\"b\\c\n\u007f", 1, 0.25, 1.0, true, { y = "z", n = -3 }]"#;
        let tree = parsed(text);
        let again = parsed(&format!("x = {}", tree.get("x").unwrap().value));
        assert_eq!(again, tree);
    }

    #[test]
    fn a_tree_over_another_replaces_values_and_joins_tables() {
        let mut tree = parsed("a = 1\n[t]\nb = 2\nc = 3\n");
        tree.overlay(parsed("d = 4\n[t]\nc = 5\n"));
        let Value::Table(t) = &tree.get("t").unwrap().value else { panic!("no table") };
        assert_eq!(t.get("b").unwrap().value, Value::Whole(2));
        assert_eq!(t.get("c").unwrap(), &Entry { value: Value::Whole(5), origin: Origin::Line(3) });
        assert!(tree.get("a").is_some() && tree.get("d").is_some());
    }
}
