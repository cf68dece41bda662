//! Grafana's own types judge the shipped dashboard; the provisioning files are read as Grafana reads them.

use crate::Client;
use crate::foreign::{Ran, find, is_executable, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) const CLIENT: Client = Client {
    name: "grafana",
    find: types,
    get: "tests/grafana/install.sh (needs Node and npm; Debian: apt-get install nodejs npm)",
    cases: &[
        ("dashboard_fits_the_schema", fits),
        ("mistakes_in_a_dashboard_are_found", mistakes_are_found),
        ("provisioning_is_read", provisioning),
    ],
};

const DASHBOARD: &str = include_str!("../../config/grafana/tidegate.json");
const TYPES: &str = include_str!("../grafana/dashboard.ts");
const SETTINGS: &str = include_str!("../grafana/tsconfig.json");
const PINS: &str = include_str!("../grafana/package-lock.json");
const PROVISIONING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/grafana/provisioning");

/// Where install.sh puts them, if they are those that are pinned now.
fn types() -> Option<PathBuf> {
    find("node")?;
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    let home = cache.join("tidegate/grafana-schema-13.2.3");
    let pinned = fs::read_to_string(home.join(".complete")).is_ok_and(|pins| pins == PINS);
    (pinned && is_executable(&home.join("node_modules/.bin/tsc"))).then_some(home)
}

fn fits(home: &Path) {
    check(home, DASHBOARD).ok("tsc");
}

fn mistakes_are_found(home: &Path) {
    for (right, wrong) in [
        ("\"lineInterpolation\": \"linear\"", "\"lineInterpolation\": \"straight\""),
        ("\"fillOpacity\"", "\"fillOpacty\""),
        ("\"type\": \"stat\"", "\"type\": \"singlestat\""),
        ("\"unit\": \"s\"", "\"units\": \"s\""),
        ("\"expr\": ", "\"query\": "),
    ] {
        let broken = DASHBOARD.replace(right, wrong);
        assert_ne!(broken, DASHBOARD, "{right} is not in the dashboard");
        let ran = check(home, &broken);
        assert!(ran.text().contains("error TS"), "{wrong} was not found: {ran:?}");
    }
}

/// The JSON as a literal of the type: so unknown fields are found too, and every text is held against its enum.
fn check(home: &Path, dashboard: &str) -> Ran {
    let folder = tempfile::tempdir_in(home).unwrap();
    let literal = format!(
        "import type {{ Shipped }} from './dashboard.ts';\nexport const shipped: Shipped = {dashboard};\n"
    );
    for (name, text) in
        [("dashboard.ts", TYPES), ("tsconfig.json", SETTINGS), ("shipped.ts", literal.as_str())]
    {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let mut command = Command::new(home.join("node_modules/.bin/tsc"));
    run(command.arg("--project").arg(folder.path()), b"", Duration::from_mins(1))
}

const SCRIPT: &str = r#"
const { readFileSync } = require("fs");
const { parse } = require("yaml");
const read = name => parse(readFileSync(process.argv[1] + "/" + name, "utf8"), { strict: true });
const [datasources, dashboards] = [read("datasources/tidegate.yaml"), read("dashboards/tidegate.yaml")];
const [source, provider] = [datasources.datasources[0], dashboards.providers[0]];
const good = datasources.apiVersion === 1 && dashboards.apiVersion === 1 && source.type === "prometheus" &&
  new URL(source.url).port === "9090" && provider.type === "file" && provider.options.path.startsWith("/");
console.log(good ? "good" : JSON.stringify([datasources, dashboards]));
"#;

fn provisioning(home: &Path) {
    let mut command = Command::new(find("node").unwrap());
    command.args(["-e", SCRIPT, PROVISIONING]).current_dir(home);
    assert_eq!(run(&mut command, b"", Duration::from_secs(20)).ok("node").text(), "good\n");
}
