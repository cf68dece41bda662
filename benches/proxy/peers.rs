//! The programs that are compared, each started with a configuration of its own in a directory that goes with them.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where a program answers, by how it is spoken to. None where it does not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ports {
    /// HTTP/1.1 in the clear.
    pub(crate) plain: Option<u16>,
    /// HTTP/2 in the clear, without an upgrade.
    pub(crate) h2c: Option<u16>,
    /// TLS, with ALPN for both.
    pub(crate) tls: Option<u16>,
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) ports: Ports,
    /// None of its own: the direct connection, whose other end is the origin.
    children: Vec<Child>,
}

impl Peer {
    /// The processes that do its work, workers included.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut all = Vec::new();
        for child in &self.children {
            let id = child.id();
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            all.push(id);
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        all
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // nginx's workers stay if their master is killed; asked to end, it ends them.
        for child in &self.children {
            if let Some(id) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
                rustix::process::kill_process(id, rustix::process::Signal::TERM).ok();
            }
        }
        let begin = Instant::now();
        for child in &mut self.children {
            while matches!(child.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(20));
            }
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The origin, and in front of it whoever is there. Fields go in their order, the directory last.
#[derive(Debug)]
pub(crate) struct Peers {
    /// Direct first, then the proxies.
    pub(crate) all: Vec<Peer>,
    /// What all of them ask; it ends after them.
    _origin: Peer,
    _directory: TempDir,
}

/// The name of the direct connection.
pub(crate) const DIRECT: &str = "direct";
/// The name of ours.
pub(crate) const OURS: &str = "Tidegate";
/// The name of the one that ratios are to.
pub(crate) const HAPROXY: &str = "HAProxy";

impl Peers {
    pub(crate) fn start(cores: usize) -> Self {
        let directory = TempDir::new().unwrap();
        let at = directory.path();
        certificate(at);
        fs::create_dir(at.join("www")).unwrap();
        fs::write(at.join("www/16k"), vec![b'x'; 16 << 10]).unwrap();
        fs::write(at.join("www/1m"), vec![b'x'; 1 << 20]).unwrap();
        let of_origin = three_ports();
        let plain = of_origin.plain.unwrap();
        let origin = nginx(at, "origin", 1, &origin_servers(at, of_origin), of_origin);
        let mut all = vec![Peer { name: DIRECT, ports: of_origin, children: Vec::new() }];
        all.push(ours(at, plain));
        let ports = three_ports();
        all.push(nginx(at, "nginx", cores, &nginx_servers(ports, plain), ports));
        all.push(haproxy(at, cores, plain));
        for peer in all.iter().chain([&origin]) {
            let ports = [peer.ports.plain, peer.ports.h2c, peer.ports.tls];
            ports.into_iter().flatten().for_each(|port| until_it_answers(peer.name, port));
        }
        Self { all, _origin: origin, _directory: directory }
    }
}

fn three_ports() -> Ports {
    Ports { plain: Some(free_port()), h2c: Some(free_port()), tls: Some(free_port()) }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until_it_answers(name: &str, port: u16) {
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{name} does not answer on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn certificate(at: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(at.join("hap.pem"), format!("{cert}{key}")).unwrap();
    fs::write(at.join("cert.pem"), cert).unwrap();
    fs::write(at.join("key.pem"), key).unwrap();
    // As Tidegate wants a key of its own to be.
    fs::set_permissions(at.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
}

fn start(name: &'static str, ports: Ports, command: &mut Command) -> Peer {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = quiet.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    Peer { name, ports, children: vec![child] }
}

/// Ours with its defaults: adaptive, and no limit that binds.
fn ours(at: &Path, origin: u16) -> Peer {
    let program = env!("CARGO_BIN_EXE_tidegate");
    let run = |port: u16| {
        let mut command = Command::new(program);
        command.args(["run", "--upstream", &format!("http://127.0.0.1:{origin}")]);
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin", "127.0.0.1:0", "--log", "error"]);
        command.arg("--state-dir").arg(at.join(format!("state-{port}")));
        command
    };
    let port = free_port();
    let mut peer = start(OURS, Ports { plain: Some(port), h2c: Some(port), tls: None }, &mut run(port));
    // One listener speaks TLS or does not, so this is a second program. Only one of them works at a time.
    let port = free_port();
    let mut command = run(port);
    command.arg("--tls-cert").arg(at.join("cert.pem")).arg("--tls-key").arg(at.join("key.pem"));
    peer.children.append(&mut start(OURS, Ports::default(), &mut command).children);
    peer.ports.tls = Some(port);
    peer
}

/// `servers` within what all nginx have in common.
fn nginx(at: &Path, name: &'static str, workers: usize, servers: &str, ports: Ports) -> Peer {
    let path = at.join(format!("{name}.conf"));
    let dir = at.display();
    let text = format!(
        "user root; daemon off; worker_processes {workers}; worker_rlimit_nofile 19000; pid {dir}/{name}.pid;
error_log {dir}/{name}.err crit;
events {{ worker_connections 9000; multi_accept on; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; sendfile on; tcp_nodelay on;
 tcp_nopush off; server_tokens off; open_file_cache max=10; client_body_buffer_size 64k;
 client_body_temp_path {dir}/{name}.b; proxy_temp_path {dir}/{name}.p; fastcgi_temp_path {dir}/{name}.f;
 uwsgi_temp_path {dir}/{name}.u; scgi_temp_path {dir}/{name}.s; default_type application/json;
 ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem; ssl_session_cache shared:S:1m;
{servers} }}\n"
    );
    fs::write(&path, text).unwrap();
    start(name, ports, Command::new("nginx").arg("-c").arg(path))
}

fn listens(ports: Ports, reuse: &str) -> String {
    let mut text = String::new();
    for (port, how) in [(ports.plain, ""), (ports.h2c, " http2"), (ports.tls, " ssl http2")] {
        if let Some(port) = port {
            writeln!(text, "listen 127.0.0.1:{port}{how} backlog=4096{reuse};").unwrap();
        }
    }
    text
}

fn origin_servers(at: &Path, ports: Ports) -> String {
    let body = format!("{{\"id\":1,\"name\":\"{}\"}}", "x".repeat(238));
    let www = at.join("www");
    let www = www.display();
    format!(
        " server {{ {} location / {{ return 200 '{body}'; }}
  location = /16k {{ root {www}; }} location = /1m {{ root {www}; }} }}",
        listens(ports, "")
    )
}

fn nginx_servers(ports: Ports, origin: u16) -> String {
    format!(
        " upstream o {{ server 127.0.0.1:{origin}; keepalive 2048; keepalive_requests 100000000;
  keepalive_timeout 600s; }}
 proxy_http_version 1.1; proxy_set_header Connection \"\";
 server {{ {} location / {{ proxy_pass http://o; }} }}",
        listens(ports, " reuseport")
    )
}

fn haproxy(at: &Path, threads: usize, origin: u16) -> Peer {
    let ports = three_ports();
    let (plain, h2c, tls) = (ports.plain.unwrap(), ports.h2c.unwrap(), ports.tls.unwrap());
    let path = at.join("haproxy.cfg");
    let dir = at.display();
    let text = format!(
        "global\n maxconn 9000\n nbthread {threads}\ndefaults\n mode http\n timeout connect 10s\n timeout client 600s
 timeout server 600s\n timeout http-keep-alive 600s\n http-reuse always\n option http-keep-alive
frontend f\n bind 127.0.0.1:{plain} backlog 4096\n bind 127.0.0.1:{h2c} proto h2 backlog 4096
 bind 127.0.0.1:{tls} ssl crt {dir}/hap.pem alpn h2,http/1.1 backlog 4096\n default_backend o
backend o\n server s 127.0.0.1:{origin} pool-max-conn 4096\n"
    );
    fs::write(&path, text).unwrap();
    start(HAPROXY, ports, Command::new("haproxy").arg("-db").arg("-f").arg(path))
}
