//! slowhttptest: clients that are slow on purpose. They are gone in time, and others are served meanwhile.

use crate::Client;
use crate::foreign::{find, run};
use crate::origin::Origin;
use crate::plain::get;
use crate::process::{Tidegate, eventually};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const CLIENT: Client = Client {
    name: "slowhttptest",
    find: || find("slowhttptest"),
    get: "Debian: apt-get install slowhttptest",
    cases: &[
        ("slow_heads_are_cut", slow_heads),
        ("slow_bodies_are_cut", slow_bodies),
        ("slow_readers_are_cut", slow_readers),
    ],
};

/// Sixty clients that are slow in `mode`, for so many seconds at most, and what is seen `meanwhile`. What it said, without
/// its colours.
fn attacked(path: &Path, mode: &[&str], seconds: &str, meanwhile: impl FnOnce(&Tidegate)) -> String {
    let origin = Origin::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("brief.toml");
    let brief = "[listen]\nhead_timeout = \"3s\"\nbody_idle = \"3s\"\nkeep_alive_idle = \"3s\"\nwrite_stall = \"3s\"\n";
    std::fs::write(&file, brief).unwrap();
    let config = file.to_str().unwrap();
    let proxy = Tidegate::run(&origin.url(), &["--law", "fixed", "--rate", "1000/s", "--config", config]);
    let mut command = Command::new(path);
    command.args(mode).args(["-c", "60", "-r", "60", "-i", "1", "-l", seconds, "-p", "3", "-u"]);
    command.arg(format!("{}/api/v2/users/me", proxy.url()));
    let text = thread::scope(|scope| {
        let running =
            scope.spawn(|| run(&mut command, b"", Duration::from_secs(40)).ok("slowhttptest").text());
        meanwhile(&proxy);
        running.join().unwrap()
    });
    let mut plain = String::new();
    for (index, part) in text.split('\u{1b}').enumerate() {
        plain.push_str(if index == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) });
    }
    assert!(plain.contains("service available:   YES"), "{plain}");
    assert!(!plain.contains("service available:   NO"), "{plain}");
    plain
}

fn slow_heads(path: &Path) {
    let said = attacked(path, &["-H"], "20", |_| ());
    assert!(said.contains("No open connections left"), "{said}");
}

fn slow_bodies(path: &Path) {
    let said = attacked(path, &["-B", "-s", "8192"], "20", |_| ());
    assert!(said.contains("No open connections left"), "{said}");
}

/// They ask ten times at once, and read 5 bytes/s of what does not fit their buffers. With so much to read they do not
/// notice themselves that they were cut: the proxy says it.
fn slow_readers(path: &Path) {
    attacked(path, &["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5", "-k", "10"], "12", |proxy| {
        eventually("slow readers", || connections(proxy) > 30);
        let start = Instant::now();
        // It connects now and then to see whether it is served.
        eventually("their end", || connections(proxy) < 5);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    });
}

fn connections(proxy: &Tidegate) -> usize {
    let (_, page) = get(proxy.admin, "/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix("tidegate_client_connections ")).unwrap();
    line.parse().unwrap()
}
