//! One run of a load generator against one program, and what the program used meanwhile.

use crate::peers::Peer;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is asked, over what, by how many connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) connections: usize,
    pub(crate) over: Over,
    pub(crate) post: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Http1,
    Http1Tls,
    /// In the clear, ten streams on each connection.
    Http2,
    /// The same over TLS.
    Http2Tls,
}

impl Case {
    /// The port of `peer` for it, if it speaks that.
    pub(crate) fn port(&self, peer: &Peer) -> Option<u16> {
        match self.over {
            Over::Http1 => peer.ports.plain,
            Over::Http2 => peer.ports.h2c,
            Over::Http1Tls | Over::Http2Tls => peer.ports.tls,
        }
    }
}

/// The figures of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) requests_per_second: f64,
    /// Microseconds; none of h2load, which does not tell.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    /// Microseconds of the program's threads for each request.
    pub(crate) cpu: f64,
}

/// Runs `case` for `seconds`.
///
/// # Errors
/// What the generator said, if anything went wrong: a figure with errors in it is none.
pub(crate) fn run(peer: &Peer, case: &Case, seconds: u32, directory: &Path) -> Result<Run, String> {
    let port = case.port(peer).ok_or("not spoken")?;
    let processes = peer.processes();
    let tls = matches!(case.over, Over::Http1Tls | Over::Http2Tls);
    let url = format!("{}://127.0.0.1:{port}{}", if tls { "https" } else { "http" }, case.path);
    let before = cpu(&processes);
    let (text, requests) = if matches!(case.over, Over::Http2 | Over::Http2Tls) {
        let mut command = Command::new("h2load");
        command.args(["-t1", &format!("-c{}", case.connections), "-m10", &format!("-D{seconds}"), &url]);
        let text = said(&mut command);
        let done = after(&text, "status codes: ").and_then(number);
        let failed =
            text.contains(" 0 failed, 0 errored, 0 timeout") && text.contains("2xx, 0 3xx, 0 4xx, 0 5xx");
        (text, done.filter(|_| failed))
    } else {
        let mut command = Command::new("wrk");
        let connections = format!("-c{}", case.connections);
        command.args(["-t1", &connections, &format!("-d{seconds}s"), "--timeout", "10s", "--latency"]);
        if case.post {
            let script = directory.join("post.lua");
            let lua = "wrk.method = 'POST'\nwrk.body = string.rep('x', 1024)\n";
            fs::write(&script, lua).map_err(|error| error.to_string())?;
            command.arg("-s").arg(script);
        }
        let text = said(command.arg(&url));
        let words = text.lines().find(|line| line.contains(" requests in "));
        let done = words.and_then(|line| number(line.trim_start()));
        let good = !text.contains("Non-2xx") && !text.contains("Socket errors");
        (text, done.filter(|_| good))
    };
    let used = cpu(&processes) - before;
    let requests = requests.filter(|requests| *requests > 0.0);
    let requests = requests.ok_or_else(|| format!("{} at {}: {text}", peer.name, case.name))?;
    Ok(Run {
        requests_per_second: requests / f64::from(seconds),
        p50: after(&text, "50%").and_then(microseconds),
        p99: after(&text, "99%").and_then(microseconds),
        cpu: used / requests,
    })
}

/// System calls for each request, from a short run under strace.
pub(crate) fn system_calls(peer: &Peer, case: &Case, directory: &Path) -> Option<f64> {
    let summary = directory.join(format!("strace-{}", peer.name));
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-o"]).arg(&summary);
    peer.processes().iter().for_each(|process| {
        command.args(["-p", &process.to_string()]);
    });
    let mut tracer = command.stderr(Stdio::null()).spawn().ok()?;
    std::thread::sleep(Duration::from_millis(500));
    let begin = Instant::now();
    let ran = run(peer, case, 2, directory);
    let id = i32::try_from(tracer.id()).ok().and_then(rustix::process::Pid::from_raw)?;
    rustix::process::kill_process(id, rustix::process::Signal::INT).ok();
    tracer.wait().ok()?;
    let requests = ran.ok()?.requests_per_second * 2.0;
    assert!(begin.elapsed() < Duration::from_mins(1), "strace hangs");
    let text = fs::read_to_string(summary).ok()?;
    let total = text.lines().find(|line| line.ends_with("total"))?;
    // % time, seconds, usecs/call, calls
    Some(number(total.split_whitespace().nth(3)?)? / requests)
}

/// Bytes (PSS) that `count` kept connections cost, each after one request, of a program that has done nothing else.
pub(crate) fn bytes_idle(peer: &Peer, count: usize) -> Option<f64> {
    let port = peer.ports.plain?;
    let mut kept = Vec::with_capacity(count);
    let mut before = 0.0;
    // The first few touch code and tables that all share.
    for number in 0..FIRST + count {
        if number == FIRST {
            before = kilobytes(&peer.processes(), "smaps_rollup", "Pss:");
        }
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
        let mut answer = [0_u8; 4096];
        if stream.read(&mut answer).ok()? == 0 {
            return None;
        }
        kept.push(stream);
    }
    let after = kilobytes(&peer.processes(), "smaps_rollup", "Pss:");
    Some((after - before) * 1024.0 / count as f64)
}

/// Connections before those that are counted.
const FIRST: usize = 50;

/// Resident kilobytes of a program's processes, shared pages counted in each.
pub(crate) fn resident(peer: &Peer) -> f64 {
    kilobytes(&peer.processes(), "status", "VmRSS:")
}

fn kilobytes(processes: &[u32], file: &str, field: &str) -> f64 {
    let of = |process: &u32| {
        let text = fs::read_to_string(format!("/proc/{process}/{file}")).ok()?;
        number(text.lines().find_map(|line| line.strip_prefix(field))?.trim_start())
    };
    processes.iter().filter_map(of).sum()
}

/// Microseconds that the threads of `processes` have run so far.
fn cpu(processes: &[u32]) -> f64 {
    let mut nanoseconds = 0.0;
    for process in processes {
        for thread in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            nanoseconds += number(&text).unwrap_or_default();
        }
    }
    nanoseconds / 1_000.0
}

fn said(command: &mut Command) -> String {
    let output = command.output();
    output
        .map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.split_once(word).map(|(_, rest)| rest.trim_start())
}

/// The number that `text` begins with.
fn number(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// wrk's `812.00us`, `2.21ms`, `1.02s`.
fn microseconds(text: &str) -> Option<f64> {
    let word = text.split_whitespace().next()?;
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let scale = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(number(word)? * scale)
}
