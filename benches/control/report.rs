//! The bench's tables, for people and for programs.

use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// Tables in the order of their making.
#[derive(Debug, Default)]
pub(crate) struct Report {
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    title: &'static str,
    columns: &'static [&'static str],
    rows: Vec<(String, Vec<f64>)>,
}

impl Report {
    /// Starts a table.
    pub(crate) fn table(&mut self, title: &'static str, columns: &'static [&'static str]) {
        self.tables.push(Table { title, columns, rows: Vec::new() });
    }

    /// Adds a row to the last table: a figure for each column.
    pub(crate) fn row(&mut self, name: String, figures: Vec<f64>) {
        let table = self.tables.last_mut().unwrap();
        assert_eq!(figures.len(), table.columns.len(), "{name}");
        table.rows.push((name, figures));
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for Table { title, columns, rows } in &self.tables {
            writeln!(text, "**{title}**\n\n| | {} |", columns.join(" | ")).unwrap();
            writeln!(text, "| --- |{}", " ---: |".repeat(columns.len())).unwrap();
            for (name, figures) in rows {
                let cells: Vec<String> = figures.iter().map(|figure| shown(*figure)).collect();
                writeln!(text, "| {name} | {} |", cells.join(" | ")).unwrap();
            }
            text.push('\n');
        }
        text
    }

    /// Writes target/control.md and target/control.json.
    pub(crate) fn write(&self) {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(target.join("control.md"), self.markdown()).unwrap();
        let json = serde_json::to_string_pretty(&self.json()).unwrap();
        std::fs::write(target.join("control.json"), json).unwrap();
    }

    fn json(&self) -> Value {
        let of_row = |columns: &[&str], figures: &[f64]| -> Value {
            let cells = columns.iter().zip(figures).map(|(name, figure)| ((*name).to_owned(), json!(figure)));
            Value::Object(cells.collect())
        };
        let of_table = |table: &Table| -> Value {
            let rows =
                table.rows.iter().map(|(name, figures)| (name.clone(), of_row(table.columns, figures)));
            Value::Object(rows.collect())
        };
        let all: Map<String, Value> =
            self.tables.iter().map(|table| (table.title.to_owned(), of_table(table))).collect();
        Value::Object(all)
    }
}

/// Three or four digits that matter.
fn shown(figure: f64) -> String {
    match figure.abs() {
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        0.001.. => format!("{figure:.3}"),
        0.0 => "0".to_owned(),
        _ => format!("{figure:.1e}"),
    }
}
