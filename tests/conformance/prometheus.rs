//! Prometheus, for real: it scrapes a Tidegate under load with the shipped configuration, and every query of every
//! panel and rule has to return numbers.

use crate::Client;
use crate::foreign::find;
use crate::plain::get;
use crate::process::{Tidegate, eventually};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const CLIENT: Client = Client {
    name: "prometheus",
    find: || find("prometheus"),
    get: "Debian: apt-get install --no-install-recommends prometheus",
    cases: &[("every_query_returns_numbers", every_query)],
};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus");
const DASHBOARD: &str = include_str!("../../config/grafana/tidegate.json");
/// Enough for a limit to be learnt, twice over.
const LONGEST: Duration = Duration::from_secs(50);

fn every_query(path: &Path) {
    let sim = Tidegate::sim(&[
        "--limit",
        "10/s",
        "--headers",
        "x-ratelimit",
        "--retry-after",
        "1",
        "--latency",
        "10ms",
    ]);
    let proxy = Tidegate::run(&sim.url(), &[]);
    let _load = Load::start(proxy.listen, 20);
    let prometheus = Prometheus::start(path, proxy.admin);
    let mut wanted = panel_queries();
    assert!(wanted.len() > 30, "the dashboard's queries were not found: {wanted:?}");
    wanted.extend(prometheus.rule_queries());
    let until = Instant::now() + LONGEST;
    loop {
        wanted.retain(|(_, query)| !prometheus.returns_numbers(query));
        if wanted.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "without numbers after {LONGEST:?}: {wanted:#?}");
        thread::sleep(Duration::from_millis(200));
    }
    for rule in prometheus.rules() {
        assert_eq!(rule["health"], "ok", "{rule:#}");
    }
}

/// Clients that ask one thing after the other until the value is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(to: SocketAddr, clients: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let client = |stop: Arc<AtomicBool>| {
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    get(to, "/api/v2/messages");
                }
            })
        };
        let clients = (0..clients).map(|_| client(Arc::clone(&stop))).collect();
        Self { stop, clients }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // One that panicked has said so.
            client.join().ok();
        }
    }
}

/// A running Prometheus.
struct Prometheus {
    child: Child,
    _folder: TempDir,
    address: SocketAddr,
}

impl Prometheus {
    /// With the shipped files: only the target and the intervals are others.
    fn start(path: &Path, target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for rules in ["rules.yml", "alerts.yml"] {
            fs::copy(Path::new(SHIPPED).join(rules), folder.path().join(rules)).unwrap();
        }
        let shipped = fs::read_to_string(Path::new(SHIPPED).join("prometheus.yml")).unwrap();
        let ours = shipped.replace("\"127.0.0.1:9464\"", &format!("\"{target}\"")).replace(": 15s", ": 1s");
        assert!(ours.contains(&target.to_string()) && ours.matches(": 1s").count() == 2, "{shipped}");
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, ours).unwrap();
        let log = folder.path().join("log");
        let child = Command::new(path)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut started = Self { child, _folder: folder, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        eventually("Prometheus' address", || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(started.child.try_wait().unwrap().is_none(), "Prometheus ended: {said}");
            // Between the two stands what differs from version to version.
            let line = said.lines().find(|line| line.contains("\"Listening on\""));
            let address = line.and_then(|line| line.split("address=").nth(1));
            started.address = address.and_then(|text| text.parse().ok()).unwrap_or(started.address);
            said.contains("Server is ready") && started.address.port() != 0
        });
        started
    }

    fn rules(&self) -> Vec<Value> {
        let groups = self.api("/api/v1/rules");
        let groups = groups["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules.cloned().collect()
    }

    /// What has to return numbers: each rule's query, and what was recorded. An alert's query does so up to its
    /// comparison, unless something is wrong.
    fn rule_queries(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for rule in self.rules() {
            let (name, query) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
            if rule["type"] == "recording" {
                let mut labels = format!("__name__=\"{name}\"");
                for (label, value) in rule["labels"].as_object().into_iter().flatten() {
                    write!(labels, ",{label}={value}").unwrap();
                }
                all.push((format!("rule {name}"), format!("{{{labels}}}")));
                all.push((format!("rule {name}"), query.to_owned()));
            } else {
                let (left, _) = [" > ", " == "].iter().find_map(|sign| query.rsplit_once(sign)).unwrap();
                all.push((format!("alert {name}"), left.to_owned()));
            }
        }
        assert!(all.len() > 20, "the rules were not found: {all:?}");
        all
    }

    fn returns_numbers(&self, query: &str) -> bool {
        let encoded = query.bytes().fold(String::new(), |mut text, byte| {
            write!(text, "%{byte:02x}").unwrap();
            text
        });
        let data = self.api(&format!("/api/v1/query?query={encoded}"));
        // A value is [moment, "number"]; NaN and Inf are no numbers on a panel.
        let finite = |sample: &Value| {
            sample["value"][1].as_str().is_some_and(|text| text.parse().is_ok_and(f64::is_finite))
        };
        data["result"].as_array().unwrap().iter().any(finite)
    }

    /// GET, over HTTP/1.0 so that nothing comes in chunks; what is in `data`.
    fn api(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{path}: {answer}"));
        assert_eq!(body["status"], "success", "{path}: {body}");
        body["data"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after the wait.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Every query of the dashboard with the name of its panel, as Grafana would send it with nothing selected.
fn panel_queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let filled = |query: &str| {
        let query = query.replace("$__rate_interval", "5s").replace("$instance", ".*").replace("$lane", ".*");
        assert!(!query.contains('$'), "a variable that Grafana would not know: {query}");
        query
    };
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((format!("panel {}", panel["title"]), filled(target["expr"].as_str().unwrap())));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            // label_values(SERIES, LABEL): in PromQL's own words.
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
            let (series, label) = inner.rsplit_once(", ").unwrap();
            all.push((
                format!("variable {}", variable["name"]),
                filled(&format!("group by ({label}) ({series})")),
            ));
        }
    }
    all
}
