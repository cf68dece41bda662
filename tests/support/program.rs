//! The program under test as a child process: started on free ports, its addresses read from what it prints,
//! ended when dropped. And foreign programs, run to their end under a time limit.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a program of ours may take until it listens. Generous: the machine may be busy.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// `tidegate run` or `tidegate sim`, listening.
pub(crate) struct Program {
    child: Child,
    /// Its own folder for keys, so that a test leaves nothing in anyone's home.
    _state: TempDir,
    /// Where it listens, as `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// Where its metrics are, as `http://127.0.0.1:PORT`; empty for the simulator.
    pub(crate) admin: String,
}

impl Program {
    /// Starts `tidegate run` in front of `upstream`, on free ports.
    pub(crate) fn proxy(upstream: &str, more: &[&str]) -> Self {
        Self::start(&[&["run", "--upstream", upstream, "--admin", "127.0.0.1:0"], more].concat())
    }

    /// Starts `tidegate sim`, on a free port.
    pub(crate) fn sim(more: &[&str]) -> Self {
        Self::start(&[&["sim"], more].concat())
    }

    /// Starts the program on a free port and waits until it has said where it listens (and, for `run`, where its
    /// metrics are).
    fn start(arguments: &[&str]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(arguments)
            .args(["--listen", "127.0.0.1:0"])
            .env("XDG_STATE_HOME", state.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start tidegate: {error}"));
        let lines = lines_of(&mut child);
        let wants_admin = arguments.first() == Some(&"run");
        let mut program = Self { child, _state: state, url: String::new(), admin: String::new() };
        let mut said = String::new();
        let until = Instant::now() + START_PATIENCE;
        while program.url.is_empty() || (wants_admin && program.admin.is_empty()) {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => program.read_addresses(&line, &mut said),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("tidegate {arguments:?} does not listen; said:\n{said}")
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("tidegate {arguments:?} ended before it listened; said:\n{said}")
                }
            }
        }
        program
    }

    fn read_addresses(&mut self, line: &str, said: &mut String) {
        said.push_str(line);
        said.push('\n');
        if self.url.is_empty() && line.contains("listening on http://") {
            self.url = url_in(line);
        } else if self.admin.is_empty() && line.contains("/metrics") {
            self.admin = url_in(line);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after the wait.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a foreign program said and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// How it ended; none when it was still running at the time limit and was killed.
    pub(crate) status: Option<ExitStatus>,
    /// What it wrote to its standard output.
    pub(crate) stdout: Vec<u8>,
    /// What it wrote to its standard error, as text.
    pub(crate) stderr: String,
}

impl Ran {
    /// The standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The same, once it is sure that the program ended well.
    pub(crate) fn ok(self, what: &str) -> Self {
        let good = self.status.is_some_and(|status| status.success());
        assert!(good, "{what}: {:?}\nstdout: {}\nstderr: {}", self.status, self.text(), self.stderr);
        self
    }
}

/// Runs `command` with `input` on its standard input, for `patience` at most.
pub(crate) fn run(command: &mut Command, input: &[u8], patience: Duration) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // A program may end without reading all of its input: that is its own affair.
    thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = drain(child.stdout.take().unwrap());
    let stderr = drain(child.stderr.take().unwrap());
    let until = Instant::now() + patience;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() >= until => {
                drop(child.kill());
                drop(child.wait());
                break None;
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let stderr = String::from_utf8_lossy(&stderr.join().unwrap()).into_owned();
    Ran { status, stdout: stdout.join().unwrap(), stderr }
}

/// The first executable named `name` in the folders of PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| is_executable(path))
}

/// Whether `path` is a file that may be run.
pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The first `http://HOST:PORT` of a line, without a path.
fn url_in(line: &str) -> String {
    let Some((_, rest)) = line.split_once("http://") else { return String::new() };
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".:[]-".contains(c))).unwrap_or(rest.len());
    format!("http://{}", rest.get(..end).unwrap_or_default())
}

/// Everything that the child prints, line by line, until it closes both streams. Keeps reading for as long as it
/// runs, so that it never blocks on a full pipe.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let stdout: Box<dyn Read + Send> = Box::new(child.stdout.take().unwrap());
    let stderr: Box<dyn Read + Send> = Box::new(child.stderr.take().unwrap());
    for stream in [stdout, stderr] {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                // The receiver is gone once the addresses are known: the rest is read and forgotten.
                drop(sender.send(line));
            }
        });
    }
    receiver
}

fn drain(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    })
}
