//! slowhttptest: clients that are slow on purpose. They are gone in time, and others are served meanwhile.

use crate::Client;
use crate::foreign::{find, run};
use crate::origin::Origin;
use crate::process::Tidegate;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub(crate) const CLIENT: Client = Client {
    name: "slowhttptest",
    find: || find("slowhttptest"),
    get: "Debian: apt-get install slowhttptest",
    cases: &[
        ("slow_heads_are_cut", slow_heads),
        ("slow_bodies_are_cut", slow_bodies),
        ("slow_readers_keep_nobody_out", slow_readers),
    ],
};

/// Sixty clients that are slow in `mode`, for so many seconds at most. What it said, without its colours.
fn attacked(path: &Path, mode: &[&str], seconds: &str) -> String {
    let origin = Origin::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("brief.toml");
    let brief = "[listen]\nhead_timeout = \"3s\"\nbody_idle = \"3s\"\nkeep_alive_idle = \"3s\"\n";
    std::fs::write(&file, brief).unwrap();
    let config = file.to_str().unwrap();
    let proxy = Tidegate::run(&origin.url(), &["--law", "fixed", "--rate", "1000/s", "--config", config]);
    let mut command = Command::new(path);
    command.args(mode).args(["-c", "60", "-r", "60", "-i", "1", "-l", seconds, "-p", "3", "-u"]);
    command.arg(format!("{}/api/v2/users/me", proxy.url()));
    let text = run(&mut command, b"", Duration::from_secs(40)).ok("slowhttptest").text();
    let mut plain = String::new();
    for (index, part) in text.split('\u{1b}').enumerate() {
        plain.push_str(if index == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) });
    }
    assert!(plain.contains("service available:   YES"), "{plain}");
    assert!(!plain.contains("service available:   NO"), "{plain}");
    plain
}

fn slow_heads(path: &Path) {
    let said = attacked(path, &["-H"], "20");
    assert!(said.contains("No open connections left"), "{said}");
}

fn slow_bodies(path: &Path) {
    let said = attacked(path, &["-B", "-s", "8192"], "20");
    assert!(said.contains("No open connections left"), "{said}");
}

fn slow_readers(path: &Path) {
    attacked(path, &["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5"], "6");
}
