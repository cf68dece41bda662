//! JMeter 5.6.3, headless: 100 closed-loop threads, an API that allows 10 requests a second and refuses the rest,
//! and not one error in the report. As reverse proxy (JMeter's host and port are Tidegate's) and as HTTP proxy
//! (`-H`/`-P`; host and port are the API's). Over TLS, with a certificate that JMeter takes as it takes any. And beside
//! production, by the recipe: the load test takes what is left.

use crate::Client;
use crate::curl::identity;
use crate::foreign::{find, is_executable, run};
use crate::plain::get;
use crate::process::Tidegate;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) const CLIENT: Client = Client {
    name: "jmeter",
    find: laid_out,
    get: "tests/jmeter/install.sh (needs java and mvn; Debian: apt-get install default-jre-headless maven)",
    cases: &[("hundred_threads_no_errors_in_every_mode_and_beside_production", all_modes)],
};

const PLAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jmeter/messages.jmx");
/// Production beside a load test, as the README has it.
const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/production.toml");
const PRODUCTION_PER_SECOND: u32 = 2;
/// From here on production's waits count: before, refusals teach the lane its limit.
const PRODUCTION_SETTLED_SECONDS: f64 = 10.0;
const LIMIT_PER_SECOND: f64 = 10.0;
/// How long the threads start new requests; those that wait by then still finish.
const LOAD_SECONDS: u32 = 48;
/// What the API gives is counted from here on: before, the limit is being learnt.
const SETTLED_SECONDS: u32 = 20;
/// Of the limit, at least.
const SHARE_MIN: f64 = 0.95;

/// Where install.sh puts JMeter by default, else `JMETER_HOME`.
fn laid_out() -> Option<PathBuf> {
    find("java")?;
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .map(|cache| cache.join("tidegate/jmeter-5.6.3"));
    let homes = [cache, std::env::var_os("JMETER_HOME").map(PathBuf::from)];
    homes.into_iter().flatten().map(|home| home.join("bin/jmeter")).find(|path| is_executable(path))
}

/// All at once, each with an API and a proxy of its own: the time is spent waiting, not computing.
fn all_modes(path: &Path) {
    let modes = [Mode::Server, Mode::Proxy, Mode::Tls, Mode::BesideProduction].map(|mode| {
        let path = path.to_owned();
        thread::spawn(move || one_mode(&path, mode))
    });
    let failed: Vec<_> = modes.into_iter().filter_map(|mode| mode.join().err()).collect();
    assert!(failed.is_empty(), "{} of 4 modes failed", failed.len());
}

/// How JMeter gets to the API, and who else does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Server,
    Proxy,
    Tls,
    BesideProduction,
}

fn one_mode(path: &Path, mode: Mode) {
    // One budget for everyone: production has no token, the load test has one.
    let sim = Tidegate::sim(&["--limit", "10/s", "--key", "none", "--retry-after", "1", "--latency", "40ms"]);
    let folder = tempfile::tempdir().unwrap();
    let own = match mode {
        Mode::Server | Mode::Proxy => Vec::new(),
        Mode::Tls => identity(folder.path()).to_vec(),
        Mode::BesideProduction => vec!["--config".to_owned(), RECIPE.to_owned()],
    };
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let proxy = Tidegate::run(&sim.url(), &own);
    let jtl = folder.path().join("out.jtl");
    let mut command = Command::new(path);
    command.args(["-n", "-t", PLAN, "-j"]).arg(folder.path().join("jmeter.log")).arg("-l").arg(&jtl);
    command.args(["-Jthreads=100", "-Jsample_variables=queue_ms", "-Jhost=127.0.0.1"]);
    command.arg(format!("-Jduration={LOAD_SECONDS}"));
    if mode == Mode::Proxy {
        command
            .args(["-H", "127.0.0.1", "-P", &proxy.listen.port().to_string()])
            .arg(format!("-Jport={}", sim.listen.port()));
    } else {
        command.arg(format!("-Jport={}", proxy.listen.port()));
    }
    if mode == Mode::Tls {
        // A handshake each before the first sample, on a machine that does all four modes at once.
        command.args(["-Jprotocol=https", "-Jconnect_timeout=30000"]);
    }
    let listen = proxy.listen;
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let production =
        (mode == Mode::BesideProduction).then(|| thread::spawn(move || production(listen, &until)));
    run(&mut command, b"", Duration::from_mins(3)).ok("jmeter");
    let samples = read_jtl(&fs::read_to_string(&jtl).unwrap());
    over.store(true, Ordering::Relaxed);
    let beside = production.map(|asked| asked.join().unwrap());
    if let Some(asked) = &beside {
        judge_production(asked);
    }
    let beside = beside.unwrap_or_default();
    judge(mode, &samples, &beside);
    // Nothing lost, nothing sent twice: what the API let in is what JMeter has in its report.
    let stats: serde_json::Value = serde_json::from_str(&get(sim.listen, "/__sim/stats").1).unwrap();
    assert_eq!(stats["accepted"].as_u64(), Some((samples.len() + beside.len()) as u64), "{mode:?}: {stats}");
    println!("    {mode:?}: the API refused {} of its calls", stats["refused"]);
}

/// One request of production.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// When its answer was there, in the clock of JMeter's report.
    answered_ms: u64,
    /// Since production began to ask.
    after_seconds: f64,
    queued_seconds: f64,
}

/// Asks evenly as production until the load is `over`; a request that gets anything but 200 ends it.
fn production(proxy: SocketAddr, over: &AtomicBool) -> Vec<Asked> {
    let start = Instant::now();
    let mut asked = Vec::new();
    for number in 0..300 {
        let due = Duration::from_secs(number) / PRODUCTION_PER_SECOND;
        thread::sleep(due.saturating_sub(start.elapsed()));
        if over.load(Ordering::Relaxed) {
            break;
        }
        asked.push(thread::spawn(move || {
            let queued_seconds = queued_seconds(proxy);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let answered_ms = now.as_millis().try_into().unwrap();
            Asked { answered_ms, after_seconds: due.as_secs_f64(), queued_seconds }
        }));
    }
    asked.into_iter().map(|asked| asked.join().unwrap()).collect()
}

fn queued_seconds(proxy: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(proxy).unwrap();
    let request = "GET /api/v2/conversations/messages HTTP/1.1\r\nHost: a\r\nX-Class: production\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "production got {answer}");
    let millis = answer.split("queue;dur=").nth(1).and_then(|rest| rest.split([',', ';', '\r']).next());
    millis.unwrap().parse::<f64>().unwrap() / 1e3
}

/// Once the lane is learnt, 99 of 100 requests wait two pacing intervals at most.
fn judge_production(asked: &[Asked]) {
    let settled = asked.iter().filter(|asked| asked.after_seconds >= PRODUCTION_SETTLED_SECONDS);
    let mut waits: Vec<f64> = settled.map(|asked| asked.queued_seconds).collect();
    waits.sort_by(f64::total_cmp);
    // Of fewer than a hundred, one may wait longer.
    let p99 = waits[waits.len() - 1 - waits.len().div_ceil(100)];
    println!("    production: {} requests, 0 errors, p99 wait {:.0} ms", asked.len(), p99 * 1e3);
    assert!(p99 <= 2.0 / LIMIT_PER_SECOND, "production waited {waits:?}");
}

fn judge(mode: Mode, samples: &[Sample], beside: &[Asked]) {
    let errors: Vec<_> = samples.iter().filter(|sample| !sample.success).collect();
    assert!(
        errors.is_empty(),
        "{mode:?}: {} errors of {}: {:?}",
        errors.len(),
        samples.len(),
        errors.first()
    );
    assert!(
        samples.iter().all(|sample| sample.code == "200"),
        "{mode:?}: a status other than 200 in the report"
    );
    assert!(
        samples.iter().all(|sample| sample.queue_ms.is_some()),
        "{mode:?}: a sample without its queue time"
    );
    let start = samples.iter().map(|sample| sample.start_ms).min().expect("an empty report");
    // To the end of the load only: after it threads stop, and their requests no longer come back as new ones.
    let window = start + u64::from(SETTLED_SECONDS) * 1000..start + u64::from(LOAD_SECONDS) * 1000;
    let ended = samples.iter().map(|sample| sample.start_ms + sample.elapsed_ms);
    let ended = ended.chain(beside.iter().map(|asked| asked.answered_ms));
    let accepted = ended.filter(|end| window.contains(end)).count();
    let rate = accepted as f64 / f64::from(LOAD_SECONDS - SETTLED_SECONDS);
    let share = rate / LIMIT_PER_SECOND;
    println!("    {mode:?}: {} samples, 0 errors, {:.1} % of the limit", samples.len(), share * 100.0);
    assert!(
        share >= SHARE_MIN,
        "{mode:?}: {rate:.2} requests a second are {:.1} % of the limit",
        share * 100.0
    );
}

/// One line of JMeter's report.
#[derive(Debug, PartialEq)]
struct Sample {
    start_ms: u64,
    elapsed_ms: u64,
    code: String,
    success: bool,
    queue_ms: Option<f64>,
}

fn read_jtl(text: &str) -> Vec<Sample> {
    let mut lines = text.lines();
    let names = fields(lines.next().expect("an empty report"));
    let column = |name: &str| {
        names
            .iter()
            .position(|known| known == name)
            .unwrap_or_else(|| panic!("no column {name} in {names:?}"))
    };
    let (start, elapsed, code) = (column("timeStamp"), column("elapsed"), column("responseCode"));
    let (success, queue) = (column("success"), column("queue_ms"));
    let sample = |line: &str| {
        let fields = fields(line);
        Sample {
            start_ms: fields[start].parse().unwrap(),
            elapsed_ms: fields[elapsed].parse().unwrap(),
            code: fields[code].clone(),
            success: fields[success] == "true",
            queue_ms: fields[queue].parse().ok(),
        }
    };
    lines.map(sample).collect()
}

/// The fields of one CSV line; quotes hold commas, and are doubled inside quotes.
fn fields(line: &str) -> Vec<String> {
    let (mut all, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    all.push(field);
    all
}
