//! The program as a child process: what it printed, where it listens, how it ended.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take that is quick on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running `tidegate`.
pub(crate) struct Tidegate {
    child: Child,
    folder: TempDir,
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// Where metrics are; port 0 with `sim`, which has none.
    pub(crate) admin: SocketAddr,
}

/// How a `tidegate` ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Tidegate {
    /// `tidegate run` before `upstream` on free ports.
    pub(crate) fn run(upstream: &str, more: &[&str]) -> Self {
        let args = ["run", "--upstream", upstream, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        Self::start(&[&args, more].concat())
    }

    /// `tidegate run` with nothing but `args`.
    pub(crate) fn run_with(args: &[&str]) -> Self {
        Self::start(&[&["run"], args].concat())
    }

    /// As [`Self::run`], in a shell that says `first` before it.
    pub(crate) fn run_after(first: &str, upstream: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{first}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tidegate")]);
        let args = ["run", "--upstream", upstream, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        Self::start_by(shell, &args)
    }

    /// `tidegate sim` on a free port.
    pub(crate) fn sim(more: &[&str]) -> Self {
        Self::start(&[&["sim", "--listen", "127.0.0.1:0"], more].concat())
    }

    /// An API that refuses nothing and answers at once.
    pub(crate) fn free_api() -> Self {
        Self::sim(&["--limit", "none", "--latency", "0ms", "--jitter", "0ms"])
    }

    /// Where clients connect, as a URL without a path.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    fn start(args: &[&str]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_tidegate")), args)
    }

    fn start_by(program: Command, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = spawn(program, args, &folder);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut started = Self { child, folder, listen: nowhere, admin: nowhere };
        // The greeting is written and flushed as a whole: its last line says that all of it is there.
        eventually("the greeting", || {
            assert!(started.child.try_wait().unwrap().is_none(), "{args:?} ended: {}", started.stderr());
            started.stdout().contains("To stop:")
        });
        let said = started.stdout();
        let listen = address_after("listening on http://", &said);
        started.listen = listen.or_else(|| address_after("listening on https://", &said)).unwrap();
        started.admin = address_after("admin on http://", &said).unwrap_or(nowhere);
        started
    }

    /// What it printed for people so far.
    pub(crate) fn stdout(&self) -> String {
        read(self.folder.path().join("stdout"))
    }

    /// What it logged so far.
    pub(crate) fn stderr(&self) -> String {
        read(self.folder.path().join("stderr"))
    }

    /// Where its key is kept.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.path().join("state/credential.key")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, for as long as `patience`.
    pub(crate) fn end(mut self, patience: Duration) -> Ended {
        let code = wait(&mut self.child, patience);
        Ended { code, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Tidegate {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after the wait.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs `tidegate` to an end that it is expected to find by itself.
pub(crate) fn tidegate(args: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let mut child = spawn(Command::new(env!("CARGO_BIN_EXE_tidegate")), args, &folder);
    let code = wait(&mut child, PATIENCE);
    child.kill().ok();
    child.wait().ok();
    let file = |name| read(folder.path().join(name));
    Ended { code, stdout: file("stdout"), stderr: file("stderr") }
}

/// Tries until `holds`; fails with `what` when patience is at its end.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "no sign of {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Its state goes into `folder`, as if it were the home: no test leaves a key in anyone's own.
fn spawn(mut command: Command, args: &[&str], folder: &TempDir) -> Child {
    let file = |name: &str| File::create(folder.path().join(name)).unwrap();
    command.args(args).stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
    command.env("HOME", folder.path()).env("XDG_STATE_HOME", folder.path().join("home"));
    if args.first() == Some(&"run") && !args.contains(&"--state-dir") {
        command.arg("--state-dir").arg(folder.path().join("state"));
    }
    command.spawn().unwrap()
}

fn wait(child: &mut Child, patience: Duration) -> Option<i32> {
    let until = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < until, "still running after {patience:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn address_after(words: &str, text: &str) -> Option<SocketAddr> {
    let rest = text.split(words).nth(1)?;
    rest.split(|c: char| !(c.is_ascii_alphanumeric() || ".:[]".contains(c))).next()?.parse().ok()
}

fn read(path: PathBuf) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
