//! A token goes to the upstream and nowhere else: not into a log at any level, a metric, a page or an error.

use crate::client::{Answer, ask, get};
use crate::process::{Tidegate, eventually};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

const CANARY: &str = "canary-3d9f1c7e5b";

/// An upstream that keeps what it hears, and answers with more secrets, by path.
struct Api {
    address: SocketAddr,
    heard: Arc<Mutex<String>>,
}

impl Api {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<String>>::default();
        let kept = Arc::clone(&heard);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, kept) = (stream.unwrap(), Arc::clone(&kept));
                thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().clone()
    }
}

/// One request, one answer, and the end of the connection.
fn serve(mut stream: TcpStream, heard: &Mutex<String>) {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let text = loop {
        let Ok(count) = stream.read(&mut part) else { return };
        bytes.extend(part.iter().take(count));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            body.len() >= length.map_or(0, |length| length.parse().unwrap())
        });
        if whole || count == 0 {
            break text;
        }
    };
    heard.lock().unwrap().push_str(&text);
    let secrets = format!("Set-Cookie: session={CANARY}\r\nX-Api-Key: {CANARY}\r\n");
    let answer = |status: &str, fields: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\n{secrets}{fields}Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let path = text.split(' ').nth(1).unwrap_or_default();
    let refusal = format!("{{\"code\":\"too.many.requests.retry.after\",\"message\":\"{CANARY}\"}}");
    let json = "Content-Type: application/json\r\nRetry-After: 600\r\n";
    let answer = match path.split('?').next().unwrap_or_default() {
        "/refused" => answer("429 Too Many Requests", json, &refusal),
        "/broken" => format!("HTTP/1.1 {CANARY}\r\n\r\n"),
        "/gone" | "" => return,
        _ => answer("200 OK", "RateLimit-Policy: \"default\";q=100;w=60\r\n", CANARY),
    };
    // A client that is gone by now has heard enough.
    stream.write_all(answer.as_bytes()).ok();
}

fn request(method: &str, target: &str, fields: &str) -> String {
    let length = CANARY.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{CANARY}"
    )
}

/// Every place where a request may put a secret.
fn secretive(method: &str, target: &str) -> String {
    let fields = ["Authorization: Bearer", "Cookie: session=", "Proxy-Authorization: Basic", "X-Token:"];
    let fields: String = fields.map(|field| format!("{field} {CANARY}\r\n")).concat();
    request(method, &format!("{target}?access_token={CANARY}"), &fields)
}

/// As [`secretive`], over the protocol whose library logs the most.
#[tokio::main(flavor = "current_thread")]
async fn over_http2(to: SocketAddr) {
    let stream = TokioIo::new(tokio::net::TcpStream::connect(to).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let mut request = http::Request::post(format!("http://{to}/messages?access_token={CANARY}"));
    for name in ["authorization", "cookie", "x-token"] {
        request = request.header(name, CANARY);
    }
    let request = request.body(Full::new(Bytes::from_static(CANARY.as_bytes()))).unwrap();
    tokio::select! {
        response = sender.send_request(request) => assert_eq!(response.unwrap().status(), 200),
        ended = connection => panic!("{ended:?}"),
    }
}

fn written(api: &Api) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    let text = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [admission]\nquota = \"1/h\"\nburst = 20\n[[upstream]]\nurl = \"http://{}\"\n",
        api.address
    );
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (folder, file)
}

#[test]
fn a_token_is_found_nowhere() {
    let api = Api::start();
    let (_folder, file) = written(&api);
    for format in ["text", "json"] {
        let tidegate = Tidegate::run_with(&["--config", &file, "--log", "trace", "--log-format", format]);
        let say = |request: &str, status: u16| -> Answer {
            let answer = ask(tidegate.listen, request).unwrap();
            assert_eq!(answer.status, status, "{request}\n{answer:?}");
            answer
        };
        say(&secretive("POST", "/messages"), 200);
        say(&secretive("POST", "/refused"), 429);
        let elsewhere = format!("http://elsewhere.test/?access_token={CANARY}");
        let two_hosts = format!("Host: y\r\nAuthorization: Bearer {CANARY}\r\n");
        let odd_coding = format!("Transfer-Encoding: gzip, chunked\r\nCookie: {CANARY}\r\n");
        let ours = [
            say(&secretive("POST", "/gone"), 502),
            say(&secretive("GET", "/broken"), 502),
            say(&request("GET", &elsewhere, &format!("Cookie: {CANARY}\r\n")), 403),
            say(&request("GET", &format!("/?access_token={CANARY}"), &two_hosts), 400),
            say(&request("GET", &format!("http://u:{CANARY}@x/"), ""), 400),
            say(&secretive("TRACE", "/messages"), 405),
            say(&request("CONNECT", &format!("{CANARY}.test:443"), ""), 501),
            say(&format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{odd_coding}\r\n0\r\n\r\n"), 501),
        ];
        let over_quota = (0..30)
            .map(|_| ask(tidegate.listen, &secretive("GET", "/messages")).unwrap())
            .find(|answer| answer.body.contains("admission_quota"));
        assert!(over_quota.is_some(), "the door refuses at last");
        eventually("the log of every request", || tidegate.stderr().contains("admission_quota"));
        over_http2(tidegate.listen);
        let log = tidegate.stderr();
        assert!(log.contains("upstream answered"), "the level is trace:\n{log}");
        let pages = ["/metrics", "/api/v1/lanes"].map(|path| get(tidegate.admin, path).body);
        let answers = ours.into_iter().chain(over_quota).map(|answer| ("answer", answer.head + &answer.body));
        let mut places = vec![("log", log), ("greeting", tidegate.stdout())];
        places.extend(pages.map(|page| ("page", page)));
        places.extend(answers);
        for (place, text) in places {
            assert!(!text.contains(CANARY), "in a {place}:\n{text}");
        }
    }
    let heard = api.heard();
    for sent in ["?access_token=", "authorization: Bearer ", "cookie: session= ", "x-token: "] {
        assert!(heard.contains(&format!("{sent}{CANARY}")), "{sent} reaches the API:\n{heard}");
    }
    assert!(!heard.contains("proxy-authorization"), "that one was for us:\n{heard}");
}
