//! How often a request allocates: at the gate, and on its whole way through the proxy.
//!
//! Counts are exact on a busy machine too, and they say what no profile does: what a request costs other requests, by
//! the allocator that they share. The proxy runs on this thread alone; its client and its origin, on threads of their own,
//! are not counted.

use crate::report::Report;
use allocation_counter::AllocationInfo;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;
use tidegate::config::Config;
use tidegate::control::{Lanes, LanesSettings, Rate};
use tidegate::gate::{Gate, Timer};
use tidegate::observe::Observer;
use tidegate::proxy::{CredentialKey, Parts, Proxy, accept, clients};
use tidegate::telemetry::Telemetry;
use tokio::sync::{oneshot, watch};

pub(crate) fn run(quick: bool, report: &mut Report) {
    let requests: u32 = if quick { 20 } else { 2_000 };
    report.table("Allocations of a request that no limit holds back", &["allocations", "bytes"]);
    report.row("at the gate".to_owned(), at_the_gate(requests));
    let get = "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n".to_owned();
    let fields: Vec<_> = (1..=8).map(|n| format!("X-Field-{n}: some value or other\r\n")).collect();
    let fields = fields.concat();
    let token = "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\n";
    let headed = format!("GET /api/v2/users/42 HTTP/1.1\r\nHost: api.example.com\r\n{token}{fields}\r\n");
    let body = format!("{}end", "x".repeat(1021));
    let post = format!("POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 1024\r\n\r\n{body}");
    for (name, request) in
        [("GET, one field", get), ("GET, ten fields and a token", headed), ("POST, 1 KiB", post)]
    {
        report.row(format!("through the proxy: {name}"), through_the_proxy(request, requests));
    }
}

/// Nothing paces it.
fn settings() -> LanesSettings {
    let mut settings = LanesSettings::default();
    settings.law.start_rate = Rate::FASTEST;
    settings
}

fn gate(settings: LanesSettings) -> (Gate, Arc<dyn Observer>) {
    let observer: Arc<dyn Observer> = Arc::new(Telemetry::new().unwrap());
    (Gate::new(Lanes::new(settings, Instant::now()), Arc::clone(&observer)), observer)
}

fn per_request(counted: &AllocationInfo, requests: u32) -> Vec<f64> {
    vec![counted.count_total as f64 / f64::from(requests), counted.bytes_total as f64 / f64::from(requests)]
}

fn at_the_gate(requests: u32) -> Vec<f64> {
    let (gate, _) = gate(settings());
    let key = crate::key(1);
    let pass = || (0..requests).for_each(|_| crate::contended::pass(&gate, &key));
    // What grows to its size is there by then.
    (0..20).for_each(|_| pass());
    per_request(&allocation_counter::measure(pass), requests)
}

/// One connection of a client, one to the origin, both kept.
fn through_the_proxy(request: String, requests: u32) -> Vec<f64> {
    let origin = origin(request.contains("POST"));
    let mut config = Config::new(format!("http://{origin}").parse().unwrap());
    config.lanes = settings();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (gate, observer) = gate(config.lanes.clone());
    let clients = clients(&config, 1).unwrap().remove(0);
    let credentials = CredentialKey::new([1; 32]);
    let parts = Parts { config: &config, gate: gate.clone(), clients, credentials, identity: None };
    let proxy = Proxy::new(parts, observer);
    let listener =
        runtime.block_on(async { accept::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))) }).unwrap();
    let address = listener.local_addr().unwrap();
    let (_close, closed) = watch::channel(false);
    let (hand, arrivals) = accept::arrivals();
    runtime.spawn(async move { gate.drive(Timer::runtime()).await });
    runtime.spawn(accept::deal(listener, vec![hand], proxy.clone(), closed.clone()));
    runtime.spawn(accept::take(arrivals, proxy, closed));
    let (say, warm) = oneshot::channel();
    let (go, goes) = std::sync::mpsc::channel();
    let (end, ended) = oneshot::channel();
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut ask = |count: u32| {
            let mut answer = [0_u8; 4096];
            for _ in 0..count {
                stream.write_all(request.as_bytes()).unwrap();
                read_until(&mut stream, &mut answer, BODY);
            }
        };
        ask(requests);
        say.send(()).unwrap();
        goes.recv().unwrap();
        ask(requests);
        end.send(()).unwrap();
    });
    runtime.block_on(warm).unwrap();
    go.send(()).unwrap();
    let counted = allocation_counter::measure(|| runtime.block_on(ended).unwrap());
    client.join().unwrap();
    per_request(&counted, requests)
}

/// What the origin answers ends with this.
const BODY: &[u8] = b"{\"id\":1}";

/// An origin that answers everything alike, as long as it is asked.
fn origin(reads_body: bool) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut request = [0_u8; 4096];
                let end: &[u8] = if reads_body { b"xend" } else { b"\r\n\r\n" };
                while read_until(&mut stream, &mut request, end) {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: keep-alive\r\nContent-Length: 8\r\n\r\n{\"id\":1}")
                        .unwrap();
                }
            });
        }
    });
    address
}

/// Reads what ends with `end`; false when nothing more comes.
fn read_until(stream: &mut TcpStream, buffer: &mut [u8], end: &[u8]) -> bool {
    let mut length = 0;
    loop {
        match stream.read(buffer.get_mut(length..).unwrap()) {
            Ok(0) | Err(_) => return false,
            Ok(more) => length += more,
        }
        if buffer.get(..length).unwrap().ends_with(end) {
            return true;
        }
    }
}
