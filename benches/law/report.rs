//! The table of laws, for people and for programs. Every figure is the median of the runs.

use crate::scenario::Scenario;
use crate::scenario::figures::Figures;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The figures of laws at scenarios.
pub(crate) struct Table {
    /// Id and what it is about.
    scenarios: Vec<(String, String)>,
    laws: Vec<&'static str>,
    /// By scenario, then by law.
    medians: Vec<Vec<Figures>>,
}

impl Table {
    /// `runs`: by scenario, then by law, then by seed.
    pub(crate) fn new(scenarios: &[Scenario], laws: Vec<&'static str>, runs: Vec<Vec<Vec<Figures>>>) -> Self {
        let name = |scenario: &Scenario| (scenario.id.clone().unwrap_or_default(), about(scenario));
        let medians = |laws: Vec<Vec<Figures>>| laws.iter().map(|runs| median(runs)).collect();
        Self {
            scenarios: scenarios.iter().map(name).collect(),
            laws,
            medians: runs.into_iter().map(medians).collect(),
        }
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        self.section(&mut text, "Utilisation % / share of calls refused %, steady", &|figures| {
            let percent = |name: &str| figures[name] * 100.0;
            Some(format!("{:.1} / {:.2}", percent("utilisation"), percent("refused_share")))
        });
        let title = "Calls refused before that / seconds to 95 % / most calls in a second";
        self.section(&mut text, title, &|figures| {
            let reached = seconds(figures["reaches_95"]);
            Some(format!("{:.0} / {reached} / {:.0}", figures["refused_learning"], figures["worst_second"]))
        });
        self.section(&mut text, "Seconds to 95 % of a limit that halved / that doubled", &|figures| {
            Some(format!("{} / {}", seconds(*figures.get("tracks_1")?), seconds(*figures.get("tracks_2")?)))
        });
        self.section(&mut text, "Jain's index of four proxies", &|figures| {
            (figures["proxies"] > 1.0).then(|| format!("{:.3}", figures["fairness"]))
        });
        self.section(
            &mut text,
            "Seconds of delay beyond an oracle's that knows the limiter and its phase",
            &|figures| Some(format!("{:.2}", figures.get("mean_delay")?)),
        );
        text
    }

    /// One table; scenarios for which `cell` has nothing are left out.
    fn section(&self, text: &mut String, title: &str, cell: &dyn Fn(&Figures) -> Option<String>) {
        let rows = self.scenarios.iter().zip(&self.medians).filter_map(|((id, about), laws)| {
            let cells: Option<Vec<String>> = laws.iter().map(cell).collect();
            Some(format!("| {id} {about} | {} |", cells?.join(" | ")))
        });
        let rows: Vec<String> = rows.collect();
        let columns = vec!["---"; self.laws.len() + 1].join(" | ");
        writeln!(text, "**{title}**\n\n| | {} |\n| {columns} |", self.laws.join(" | ")).unwrap();
        writeln!(text, "{}\n", rows.join("\n")).unwrap();
    }

    pub(crate) fn json(&self) -> String {
        let mut all = Map::new();
        for ((id, about), laws) in self.scenarios.iter().zip(&self.medians) {
            let mut of = Map::new();
            of.insert("about".to_owned(), json!(about));
            for (law, figures) in self.laws.iter().zip(laws) {
                // JSON has no infinity: what was never reached is null.
                let figures =
                    figures.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
                of.insert((*law).to_owned(), Value::Object(figures));
            }
            all.insert(id.clone(), Value::Object(of));
        }
        serde_json::to_string_pretty(&Value::Object(all)).unwrap()
    }
}

/// A scenario in a few words.
fn about(scenario: &Scenario) -> String {
    let server = &scenario.server;
    let mut words = format!("{} {}", server.model, server.limits.join(" + "));
    for moved in &scenario.change {
        write!(words, ", then {}", moved.limits.join(" + ")).unwrap();
    }
    if server.headers.is_some() {
        words.push_str(", with headers");
    }
    if let Some(proxies) = scenario.proxies {
        write!(words, ", {} proxies", proxies.count).unwrap();
    }
    if let Some(count) = scenario.demand.burst_of {
        write!(words, ", bursts of {count}").unwrap();
    }
    words
}

fn median(runs: &[Figures]) -> Figures {
    let value = |name: &str| {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run.get(name).copied()).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    runs[0].keys().map(|name| (*name, value(name))).collect()
}

fn seconds(value: f64) -> String {
    if value.is_finite() { format!("{value:.0}") } else { "never".to_owned() }
}
