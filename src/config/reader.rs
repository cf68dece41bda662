//! Reads one table key by key: what is there is shown, what is wrong is told, what was never asked for is unknown.
//!
//! So there is one list of keys, the reading itself: the effective configuration and the complaint about an unknown
//! key come from it.

use super::problem::{Origin, Problem, suggestion};
use super::tree::{Entry, Table, Value};
use std::fmt::Write;

/// Reads one table. [`Reader::finish`] when every key has been asked for.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    table: &'a Table,
    origin: Origin,
    /// Ends with a dot unless it is empty.
    path: String,
    asked: Vec<&'static str>,
    /// What was read, as TOML.
    shown: String,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Reads a whole document.
    pub(super) fn new(table: &'a Table, problems: &'a mut Vec<Problem>) -> Self {
        let (path, shown) = (String::new(), String::new());
        Self { table, origin: Origin::Default, path, asked: Vec::new(), shown, problems }
    }

    /// The value of `key` as `read` takes it. `None`: it is not there, or it is wrong and that was told.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        self.asked.push(key);
        let Some(entry) = self.table.get(key) else {
            self.show(format_args!("# {key} is not set\n"));
            return None;
        };
        match read(&entry.value) {
            Ok(taken) => {
                self.show(format_args!("{key} = {}\n", entry.value));
                Some(taken)
            }
            Err(text) => {
                self.wrong(entry.origin, key, text);
                None
            }
        }
    }

    /// Puts the value of `key` into `field`, if it is there and right.
    pub(super) fn set<T>(
        &mut self,
        field: &mut T,
        key: &'static str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) {
        if let Some(taken) = self.read(key, read) {
            *field = taken;
        }
    }

    /// The value of `key`, which has to be there.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(key) {
            self.wrong(self.origin, key, format!("is missing: write {key} = {example}"));
        }
        self.read(key, read)
    }

    /// Every element of the list `key`; a single value in place of a list is one of one.
    pub(super) fn each<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Vec<T> {
        let list = self.read(key, |value| match value {
            Value::List(elements) if elements.is_empty() => {
                Err("is empty: fill it, or leave it out".to_owned())
            }
            Value::List(elements) => Ok(elements.clone()),
            one => Ok(vec![Entry { value: one.clone(), origin: Origin::Default }]),
        });
        let mut taken = Vec::new();
        for element in list.unwrap_or_default() {
            match read(&element.value) {
                Ok(element) => taken.push(element),
                Err(text) if element.origin == Origin::Default => self.wrong(self.origin_of(key), key, text),
                Err(text) => self.wrong(element.origin, key, text),
            }
        }
        taken
    }

    /// Reads the table `key`, which stands under its own header.
    pub(super) fn table(&mut self, key: &'static str, read: impl FnOnce(&mut Reader<'_>)) {
        self.asked.push(key);
        match self.table.get(key).map(|entry| (&entry.value, entry.origin)) {
            None => (),
            Some((Value::Table(table), origin)) => {
                let shown = self.inner(table, origin, &format!("{key}."), read);
                let path = format!("{}{key}", self.path);
                self.show(format_args!("\n[{path}]\n{shown}"));
            }
            Some((other, origin)) => {
                let text = format!("is {}: write [{key}], and its keys on lines of their own", other.kind());
                self.wrong(origin, key, text);
            }
        }
    }

    /// Reads the table `key`, which stands in one line.
    pub(super) fn inline(&mut self, key: &'static str, example: &str, read: impl FnOnce(&mut Reader<'_>)) {
        let table = self.read(key, |value| match value {
            Value::Table(table) => Ok(table.clone()),
            other => Err(format!("is {}: write a table, such as {example}", other.kind())),
        });
        if let Some(table) = table {
            self.inner(&table, self.origin_of(key), &format!("{key}."), read);
        }
    }

    /// Reads each table of the list `key`.
    pub(super) fn tables(&mut self, key: &'static str, mut read: impl FnMut(&mut Reader<'_>)) {
        self.asked.push(key);
        let Some(entry) = self.table.get(key) else { return };
        let alone = std::slice::from_ref(entry);
        let elements = if let Value::List(elements) = &entry.value { elements } else { alone };
        for (n, element) in elements.iter().enumerate() {
            match &element.value {
                Value::Table(table) if !std::ptr::eq(element, entry) => {
                    let shown = self.inner(table, element.origin, &format!("{key}[{n}]."), &mut read);
                    self.show(format_args!("\n[[{key}]]\n{shown}"));
                }
                other => {
                    let text = format!("is {}: write [[{key}]], with two brackets, for each", other.kind());
                    self.wrong(element.origin, key, text);
                }
            }
        }
    }

    fn inner(
        &mut self,
        table: &Table,
        origin: Origin,
        path: &str,
        read: impl FnOnce(&mut Reader<'_>),
    ) -> String {
        let mut inner = Reader {
            table,
            origin,
            path: format!("{}{path}", self.path),
            asked: Vec::new(),
            shown: String::new(),
            problems: &mut *self.problems,
        };
        read(&mut inner);
        inner.finish()
    }

    /// Where this table was said.
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// Is `key` there, right or wrong?
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// Where `key` was said.
    pub(super) fn origin_of(&self, key: &str) -> Origin {
        self.table.get(key).map_or(Origin::Default, |entry| entry.origin)
    }

    /// Tells a mistake of `key`, which was said at `origin`.
    pub(super) fn wrong(&mut self, origin: Origin, key: &str, text: impl Into<String>) {
        let problem = Problem { origin, key: format!("{}{key}", self.path), text: text.into() };
        // What a lane inherits is wrong where it was said, and that is told once.
        let same = |told: &Problem| told.origin == problem.origin && told.text == problem.text;
        if !self.problems.iter().any(same) {
            self.problems.push(problem);
        }
    }

    /// Tells which keys mean nothing here, and returns the others as TOML.
    pub(super) fn finish(mut self) -> String {
        let asked = std::mem::take(&mut self.asked);
        for (key, entry) in self.table.entries().filter(|(key, _)| !asked.contains(key)) {
            let text = format!("there is no such key here: {}", suggestion(key, asked.iter().copied()));
            self.wrong(entry.origin, key, text);
        }
        self.shown
    }

    fn show(&mut self, line: std::fmt::Arguments<'_>) {
        self.shown.write_fmt(line).expect("a String takes every text");
    }
}
