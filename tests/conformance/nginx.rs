//! nginx as the API: its `limit_req` is a limiter that others wrote, refuses without Retry-After, and counts
//! milliseconds between requests instead of windows.

use crate::Client;
use crate::foreign::{find, is_executable, run};
use crate::process::Tidegate;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const CLIENT: Client = Client {
    name: "nginx",
    find: nginx_and_curl,
    get: "Debian: apt-get install nginx-light curl",
    cases: &[("limit_req_is_learnt", limit_req)],
};

/// nginx, when there is a curl to drive it with. /usr/sbin is not in everyone's PATH.
fn nginx_and_curl() -> Option<PathBuf> {
    find("curl")?;
    find("nginx").or_else(|| Some(PathBuf::from("/usr/sbin/nginx")).filter(|path| is_executable(path)))
}

/// nginx in the foreground, ended when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts nginx on a free port with 10 requests a second allowed.
fn start(path: &Path, folder: &Path) -> (Server, String) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let here = folder.display();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {here}/pid;\nerror_log {here}/error.log crit;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {here}/b;\n  proxy_temp_path {here}/p;\n\
           fastcgi_temp_path {here}/f;\n  uwsgi_temp_path {here}/u;\n  scgi_temp_path {here}/s;\n\
           limit_req_zone $server_name zone=api:1m rate=10r/s;\n  limit_req_status 429;\n\
           server {{\n    listen 127.0.0.1:{port};\n    server_name api;\n\
             location / {{ limit_req zone=api burst=2 nodelay; try_files /none @ok; }}\n\
             location @ok {{ return 200 hello; }}\n  }}\n}}\n"
    );
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let child = Command::new(path)
        .args(["-e", "stderr", "-p"])
        .arg(folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server(child);
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "nginx does not listen on {port}");
        thread::sleep(Duration::from_millis(20));
    }
    (server, format!("http://127.0.0.1:{port}"))
}

fn limit_req(path: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let (_server, api) = start(path, folder.path());
    let proxy = Tidegate::run(&api, &[]);
    let url = format!("{}/api/v2/things?n=[1-150]", proxy.url());
    let mut command = Command::new(find("curl").unwrap());
    command.args([
        "-q",
        "-sS",
        "--parallel",
        "--parallel-max",
        "30",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}\n",
        &url,
    ]);
    let start = Instant::now();
    let text = run(&mut command, b"", Duration::from_secs(90)).ok("curl").text();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(text.lines().filter(|code| *code == "200").count(), 150, "{text}");
    // 150 at 10/s are 15 s at best. Generous above: learning without a Retry-After takes a few of them.
    assert!((14.0..40.0).contains(&seconds), "150 requests took {seconds:.1} s");
}
