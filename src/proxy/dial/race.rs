//! Several addresses, one connection: who answers first (RFC 8305, happy eyeballs).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How a race has ended.
#[derive(Debug)]
pub(super) struct Race<T> {
    /// The winner, or what the first that failed has met.
    pub(super) result: io::Result<T>,
    /// Who failed, or was overtaken by one that had started later.
    pub(super) failed: Vec<SocketAddr>,
}

/// Connects to the first of `addresses` that answers. Each gets a head start before the next one is tried beside it;
/// when one fails, the next is tried at once. Dropping the future gives all of them up.
pub(super) async fn connect<T, F>(addresses: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> Race<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut running: Vec<SocketAddr> = Vec::new();
    let mut failed = Vec::new();
    let mut first_error = None;
    let mut attempts = JoinSet::new();
    let mut waiting = addresses.into_iter();
    let mut next = waiting.next();
    loop {
        if let Some(address) = next.take() {
            running.push(address);
            let attempt = connect(address);
            attempts.spawn(async move { (address, attempt.await) });
        }
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = sleep(HEAD_START), if waiting.len() > 0 => {
                next = waiting.next();
                continue;
            }
        };
        match ended {
            Some(Ok((address, Ok(stream)))) => {
                // Whoever started earlier has had time enough.
                failed.extend(running.into_iter().take_while(|running| *running != address));
                return Race { result: Ok(stream), failed };
            }
            Some(Ok((address, Err(error)))) => {
                running.retain(|running| *running != address);
                failed.push(address);
                first_error.get_or_insert(error);
                next = waiting.next();
            }
            Some(Err(panic)) => {
                first_error.get_or_insert_with(|| io::Error::other(panic));
                next = waiting.next();
            }
            None => {
                let error =
                    first_error.unwrap_or_else(|| io::Error::other("there is no address to connect to"));
                return Race { result: Err(error), failed };
            }
        }
    }
}

/// RFC 8305 8: the delay between one attempt and the next.
const HEAD_START: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::clock;

    /// An address that behaves as its port says: in so many milliseconds it answers, or refuses if that is odd.
    async fn behave(address: SocketAddr) -> io::Result<u16> {
        let millis = address.port();
        sleep(Duration::from_millis(millis.into())).await;
        if millis % 2 == 1 { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(millis) }
    }

    /// What comes of it, after how many milliseconds, and who failed.
    async fn race(ports: &[u16]) -> (Option<u16>, u128, Vec<u16>) {
        let addresses = ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect();
        let start = clock::now();
        let race = connect(addresses, behave).await;
        let failed = race.failed.iter().map(SocketAddr::port).collect();
        (race.result.ok(), (clock::now() - start).as_millis(), failed)
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_has_a_head_start_and_a_failure_ends_it() {
        for (ports, winner, millis, failed) in [
            (&[40][..], Some(40), 40, &[][..]),
            (&[200, 2], Some(200), 200, &[]),
            (&[5_000, 40], Some(40), 290, &[5_000]),
            (&[5_000, 6_000, 40], Some(40), 540, &[5_000, 6_000]),
            (&[31, 40], Some(40), 71, &[31]),
            (&[31, 33, 35], None, 99, &[31, 33, 35]),
            (&[600, 31, 400], Some(600), 600, &[31]),
            (&[], None, 0, &[]),
        ] {
            assert_eq!(race(ports).await, (winner, millis, failed.to_vec()), "{ports:?}");
        }
    }
}
