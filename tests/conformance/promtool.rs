//! promtool: the metrics page is what Prometheus expects, names and help texts included, and the shipped configuration
//! and rules do what they say.

use crate::Client;
use crate::foreign::{find, run};
use crate::origin::Origin;
use crate::plain::get;
use crate::process::Tidegate;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub(crate) const CLIENT: Client = Client {
    name: "promtool",
    find: || find("promtool"),
    get: "Debian: apt-get install --no-install-recommends prometheus",
    cases: &[
        ("check_metrics", check_metrics),
        ("check_shipped_config", check_shipped_config),
        ("test_shipped_rules", test_shipped_rules),
    ],
};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus");

fn check_shipped_config(path: &Path) {
    for (what, files) in [("config", &["prometheus.yml"][..]), ("rules", &["rules.yml", "alerts.yml"])] {
        let mut command = Command::new(path);
        command.args(["check", what]).args(files).current_dir(SHIPPED);
        let ran = run(&mut command, b"", Duration::from_secs(20)).ok("promtool check");
        assert!(ran.text().contains("SUCCESS"), "{ran:?}");
    }
}

fn test_shipped_rules(path: &Path) {
    let mut command = Command::new(path);
    command.args(["test", "rules", "tests/rules.yml", "tests/alerts.yml"]).current_dir(SHIPPED);
    let ran = run(&mut command, b"", Duration::from_secs(20)).ok("promtool test rules");
    assert_eq!(ran.text().matches("SUCCESS").count(), 2, "{ran:?}");
}

fn check_metrics(path: &Path) {
    let origin = Origin::start();
    let proxy = Tidegate::run(&origin.url(), &["--law", "fixed", "--rate", "100/s"]);
    // Traffic first, so that every family has series: a good answer, and a refusal that is absorbed.
    assert!(get(proxy.listen, "/hello").0.starts_with("HTTP/1.1 200 "));
    assert!(get(proxy.listen, "/refuse-once/metrics").0.starts_with("HTTP/1.1 200 "));
    let (head, body) = get(proxy.admin, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for name in ["tidegate_requests_total", "tidegate_throttled_total", "tidegate_queue_wait_seconds_bucket"]
    {
        assert!(body.contains(name), "{name} is not in\n{body}");
    }
    let mut command = Command::new(path);
    let ran = run(command.args(["check", "metrics"]), body.as_bytes(), Duration::from_secs(20));
    let ran = ran.ok("promtool check metrics");
    assert_eq!((ran.text(), ran.stderr), (String::new(), String::new()), "promtool has remarks");
}
