//! What a request that waits costs a running program, with its connection, and a connection that asks nothing.

use crate::report::Report;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) fn run(quick: bool, report: &mut Report) {
    let connections = if quick { 20 } else { 2_000 };
    let streams = if quick { 2 } else { 100 };
    report.table("Memory of the program, by what it grew (PSS), requests of seven fields", &["bytes"]);
    let each = |on_each: usize, first: &[u8]| {
        let program = Program::start();
        // The first touch code and tables that all share.
        let mut kept = program.connect(50.min(connections), first);
        let before = program.bytes(quick);
        let count = if on_each > 1 { connections / 20 } else { connections };
        kept.extend(program.connect(count, first));
        (program.bytes(quick) - before) / (count * on_each) as f64
    };
    let asks = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n";
    report.row("an idle connection, HTTP/1.1".to_owned(), vec![each(1, asks)]);
    report.row("an idle connection, HTTP/2".to_owned(), vec![each(1, &http2(0))]);
    let fields: Vec<_> = FIELDS.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let get = format!("GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n{}\r\n", fields.concat());
    report
        .row("a request that waits, HTTP/1.1, and its connection".to_owned(), vec![each(1, get.as_bytes())]);
    let name = format!("a request that waits, HTTP/2, {streams} on each connection");
    report.row(name, vec![each(streams, &http2(streams))]);
}

const HOST: &str = "api.example.com";
const PATH: &str = "/api/v2/users/42";
const FIELDS: [(&str, &str); 6] = [
    ("authorization", "Bearer 0123456789abcdef0123456789abcdef"),
    ("x-field-1", "some value or other"),
    ("x-field-2", "some value or other"),
    ("x-field-3", "some value or other"),
    ("user-agent", "bench/1.0"),
    ("accept", "*/*"),
];

/// A connection's beginning, and so many requests.
fn http2(streams: usize) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let literal = |(name, value): &(&str, &str)| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    // `:method: GET` and `:scheme: http` of HPACK's static table, and the others as they are.
    let mut block = vec![0x82, 0x86];
    block.extend([(":path", PATH), (":authority", HOST)].iter().chain(&FIELDS).flat_map(literal));
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, &[])[..]].concat();
    for number in 0..u32::try_from(streams).unwrap() {
        bytes.extend(frame(1, 5, 2 * number + 1, &block));
    }
    bytes
}

/// A program that lets one request go in a second, and keeps all others.
struct Program {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Program {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let config = directory.path().join("tidegate.toml");
        std::fs::write(&config, "[queue]\ndeadline = \"1d\"\nlane_tickets_max = 100000\n").unwrap();
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let (port, nobody) = (free(), free());
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["run", "--law", "fixed", "--rate", "1/s", "--admin", "127.0.0.1:0", "--log", "error"])
            .args([
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--upstream",
                &format!("http://127.0.0.1:{nobody}"),
            ])
            .arg("--config")
            .arg(&config)
            .arg("--state-dir")
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(10), "it does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, _directory: directory }
    }

    /// So many connections, each of which begins with `first`.
    fn connect(&self, count: usize, first: &[u8]) -> Vec<TcpStream> {
        let one = |_| {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
            stream.write_all(first).unwrap();
            // Who is answered at once, by HTTP/2's settings too, has taken it: so it is not in the kernel still.
            stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            let _waits = stream.read(&mut [0; 1024]);
            stream
        };
        (0..count).map(one).collect()
    }

    /// What it has in memory, when it has come to rest.
    fn bytes(&self, quick: bool) -> f64 {
        std::thread::sleep(Duration::from_millis(if quick { 100 } else { 2_000 }));
        let text =
            std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kibibytes: f64 =
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN);
        kibibytes * 1024.0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
