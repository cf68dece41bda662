//! Node's `fetch`: many POSTs at once from one event loop.

use crate::Client;
use crate::foreign::{find, run};
use crate::origin::Origin;
use crate::process::Tidegate;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) const CLIENT: Client = Client {
    name: "node",
    find: with_fetch,
    get: "Node 18 or newer; Debian: apt-get install nodejs",
    cases: &[("posts_at_once", posts_at_once)],
};

/// Node, when it is new enough to have `fetch`.
fn with_fetch() -> Option<PathBuf> {
    let path = find("node")?;
    let ran = run(Command::new(&path).args(["-p", "typeof fetch"]), b"", Duration::from_secs(20));
    (ran.text().trim() == "function").then_some(path)
}

const SCRIPT: &str = r#"
const base = process.argv[1];
const post = async n => {
  const body = JSON.stringify({ n, text: "x".repeat(1000) });
  const answer = await fetch(base + "/echo/" + n, { method: "POST", body, headers: { "content-type": "application/json" } });
  if (answer.status !== 200 || await answer.text() !== body) throw new Error("message " + n + ": " + answer.status);
  if (!/queue;dur=[\d.]+/.test(answer.headers.get("server-timing"))) throw new Error("no queue time");
};
Promise.all(Array.from({ length: 40 }, (_, n) => post(n))).then(() => console.log("good"), error => { console.error(error); process.exit(1); });
"#;

fn posts_at_once(path: &Path) {
    let origin = Origin::start();
    let proxy = Tidegate::run(&origin.url(), &["--law", "fixed", "--rate", "200/s"]);
    let mut command = Command::new(path);
    command.args(["-e", SCRIPT, &proxy.url()]);
    assert_eq!(run(&mut command, b"", Duration::from_secs(30)).ok("node").text(), "good\n");
    assert_eq!(origin.seen().len(), 40);
}
