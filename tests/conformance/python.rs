//! Python's `http.client`: what most scripts end up on, with one connection kept for many requests.

use crate::Client;
use crate::foreign::{find, run};
use crate::origin::Origin;
use crate::process::Tidegate;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub(crate) const CLIENT: Client = Client {
    name: "python3",
    find: || find("python3"),
    get: "Debian: apt-get install python3",
    cases: &[("one_connection_for_all", one_connection)],
};

const SCRIPT: &str = r#"
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)
connection.connect()
socket = connection.sock
def call(method, path, **more):
    connection.request(method, path, **more)
    answer = connection.getresponse()
    body = answer.read()
    assert connection.sock is socket, "the connection was closed after " + method + " " + path
    return answer, body
for n in range(20):
    sent = b"%d " % n * 100
    answer, body = call("POST", "/echo", body=sent, headers={"Content-Type": "text/plain"})
    assert (answer.status, body) == (200, sent), (answer.status, body)
answer, body = call("HEAD", "/hello")
assert (answer.status, body, answer.getheader("Content-Length")) == (200, b"", "6"), answer.getheaders()
answer, body = call("PUT", "/echo", body=iter([b"in ", b"three ", b"chunks"]), encode_chunked=True,
                    headers={"Transfer-Encoding": "chunked"})
assert (answer.status, body) == (200, b"in three chunks"), (answer.status, body)
answer, body = call("GET", "/refuse-once/python")
assert answer.status == 200, answer.status
answer, body = call("DELETE", "/thing")
assert answer.status == 200, answer.status
assert "queue;dur=" in answer.getheader("Server-Timing"), answer.getheaders()
print("good")
"#;

fn one_connection(path: &Path) {
    let origin = Origin::start();
    let proxy = Tidegate::run(&origin.url(), &["--law", "fixed", "--rate", "1000/s"]);
    let mut command = Command::new(path);
    command.args(["-c", SCRIPT, &proxy.listen.port().to_string()]);
    assert_eq!(run(&mut command, b"", Duration::from_secs(30)).ok("python3").text(), "good\n");
    assert_eq!(origin.seen().len(), 25, "20 × POST, HEAD, PUT, GET refused once and sent again, DELETE");
}
