//! An upstream that takes nothing of a request.

use super::client::{Client as Bytewise, request};
use super::paused::Pipe;
use super::through::{Through, eventually, fixed};
use http::Uri;
use hyper_util::rt::TokioIo;
use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tidegate::config::Config;
use tidegate::gate::clock;
use tidegate::proxy::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Connects by leaving the other end, which takes few bytes, to the test.
#[derive(Clone, Default)]
struct Left(Arc<Mutex<Vec<DuplexStream>>>);

impl tower_service::Service<Uri> for Left {
    type Response = TokioIo<Pipe>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<Pipe>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = duplex(8 * 1024);
        self.0.lock().unwrap().push(theirs);
        ready(Ok(TokioIo::new(Pipe { stream: ours, is_http2: false })))
    }
}

const STALL: Duration = Duration::from_millis(400);

fn through() -> (Through, Left, Vec<Client>) {
    let mut config = Config::new("http://origin.test".parse().unwrap());
    config.lanes = fixed(10_000.0);
    config.proxy.upstream_write_stall = STALL;
    let left = Left::default();
    let client = Client::with_connector(left.clone(), &config.default_upstream().address, &config.proxy);
    (Through::over(&config, vec![client.clone()]), left, vec![client])
}

#[tokio::test]
async fn an_upstream_that_takes_nothing_is_a_504_and_one_that_is_slow_is_not() {
    let (through, left, clients) = through();
    let body = "x".repeat(100_000);
    for is_slow in [false, true] {
        let start = clock::now();
        let mut client = Bytewise::connect(through.address).await;
        client.send(request("PUT", "/", "", &body)).await;
        eventually("it connects", || !left.0.lock().unwrap().is_empty()).await;
        let mut origin = left.0.lock().unwrap().pop().unwrap();
        if is_slow {
            let mut bytes = vec![0; 8 * 1024];
            let mut taken = 0;
            while taken < body.len() {
                tokio::time::sleep(STALL / 8).await;
                taken += origin.read(&mut bytes).await.unwrap();
            }
            origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
        let response = client.response().await;
        assert!(start.elapsed() >= STALL, "{:?}", start.elapsed());
        if is_slow {
            assert_eq!(response.status, 200);
        } else {
            assert_eq!(response.status, 504);
            assert!(response.field("proxy-status").unwrap().contains("error=connection_write_timeout"));
            assert!(response.text().contains("may have been processed"));
            eventually("it is closed", || Client::connections(&clients).open == 0).await;
            assert!(left.0.lock().unwrap().is_empty(), "and not sent again");
        }
    }
}
