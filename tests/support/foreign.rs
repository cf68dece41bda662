//! Foreign programs: where they are, and one run of one to its end under a time limit.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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

fn drain(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    })
}
