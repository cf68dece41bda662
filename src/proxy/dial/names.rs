//! The addresses of one upstream: looked up once in a while, in the order in which they are tried.
//!
//! # Why
//! The system's resolver tells no TTL, so an answer is believed for as long as the operator says. When the resolver
//! fails or hangs, an older answer is better than none (RFC 8767): APIs seldom move, resolvers often stumble.

use crate::config::{ProxySettings, Upstream};
use crate::gate::clock;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::lookup_host;
use tokio::time::timeout;

type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
type Lookup = dyn Fn() -> Looking + Send + Sync;

/// A name does not resolve.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DnsError(#[source] pub(super) io::Error);

/// The addresses of one upstream, for all shards.
pub(in crate::proxy) struct Names {
    lookup: Box<Lookup>,
    fresh: Duration,
    stale: Duration,
    /// One asks, the others wait for its answer.
    known: tokio::sync::Mutex<Known>,
    /// Addresses that are tried last until then.
    failed: Mutex<Vec<(SocketAddr, Instant)>>,
    /// Look-ups so far that were answered, and that were not.
    answered: AtomicU64,
    unanswered: AtomicU64,
}

#[derive(Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// When they were told.
    told: Option<Instant>,
    /// Nobody is asked before that.
    ask_again: Option<Instant>,
}

impl Names {
    /// Nothing is known of `upstream` yet; what is, will be believed for as long as `settings` say.
    pub(in crate::proxy) fn new(upstream: &Upstream, settings: &ProxySettings) -> Self {
        let host = upstream.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = upstream.port;
        let lookup: Box<Lookup> = match host.parse::<IpAddr>() {
            Ok(ip) => Box::new(move || Box::pin(std::future::ready(Ok(vec![SocketAddr::from((ip, port))])))),
            Err(_) => Box::new(move || {
                let host = host.clone();
                Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) })
            }),
        };
        Self::with(lookup, settings)
    }

    fn with(lookup: Box<Lookup>, settings: &ProxySettings) -> Self {
        Self {
            lookup,
            fresh: settings.dns_cache,
            stale: settings.dns_stale,
            known: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
            answered: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
        }
    }

    /// How many look-ups were answered so far, and how many failed.
    pub(in crate::proxy) fn lookups(&self) -> (u64, u64) {
        (self.answered.load(Ordering::Relaxed), self.unanswered.load(Ordering::Relaxed))
    }

    /// The addresses in the order in which to try them: families in turn, those that failed lately last.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, DnsError> {
        let mut addresses = in_turn(&self.known_addresses().await?);
        let now = clock::now();
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let has_failed =
            |address: &SocketAddr| failed.iter().any(|(bad, until)| bad == address && *until > now);
        addresses.sort_by_key(has_failed);
        Ok(addresses)
    }

    /// These were no good just now.
    pub(super) fn note_failed(&self, addresses: Vec<SocketAddr>) {
        if addresses.is_empty() {
            return;
        }
        let now = clock::now();
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|(address, until)| *until > now && !addresses.contains(address));
        failed.extend(addresses.into_iter().map(|address| (address, now + FAILED_FOR)));
    }

    async fn known_addresses(&self) -> Result<Vec<SocketAddr>, DnsError> {
        let mut known = self.known.lock().await;
        let now = clock::now();
        let is_within = |age: Duration| known.told.is_some_and(|told| now < told + age);
        let has_old = is_within(self.stale.max(self.fresh));
        if is_within(self.fresh) || (has_old && known.ask_again.is_some_and(|again| now < again)) {
            return Ok(known.addresses.clone());
        }
        let lookup = (self.lookup)();
        let answer = if has_old {
            timeout(STALE_PATIENCE, lookup).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        } else {
            lookup.await
        };
        let error = match answer {
            Ok(addresses) if !addresses.is_empty() => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                *known = Known { addresses, told: Some(clock::now()), ask_again: None };
                return Ok(known.addresses.clone());
            }
            Ok(_) => io::Error::other("the name has no address"),
            Err(error) => error,
        };
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        if !has_old {
            return Err(DnsError(error));
        }
        tracing::warn!(%error, "a name does not resolve any more: its last addresses are used");
        known.ask_again = Some(clock::now() + ASK_PAUSE);
        Ok(known.addresses.clone())
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

/// Families take turns, the first address's first: that is the order of the system's preference (RFC 8305 4).
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_first =
        |address: &SocketAddr| addresses.first().map(SocketAddr::is_ipv4) == Some(address.is_ipv4());
    let (first, second): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(is_first);
    let mut second = second.into_iter();
    let mut all: Vec<_> =
        first.into_iter().flat_map(|address| [Some(address), second.next()]).flatten().collect();
    all.extend(second);
    all
}

/// How long an answer is waited for when there is an older one (RFC 8767 5 has 1.8 s).
const STALE_PATIENCE: Duration = Duration::from_secs(1);

/// After a failure, for how long an older answer is used without asking.
const ASK_PAUSE: Duration = Duration::from_secs(5);

/// For how long an address that failed is tried last.
const FAILED_FOR: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    fn address(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 443)
    }

    /// Names whose n-th look-up is answered by `script`; and how many there were.
    fn names(script: impl Fn(usize) -> Looking + Send + Sync + 'static) -> (Names, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let lookup = move || script(count.fetch_add(1, Ordering::Relaxed));
        let settings = ProxySettings {
            dns_cache: Duration::from_secs(30),
            dns_stale: Duration::from_mins(10),
            ..ProxySettings::default()
        };
        (Names::with(Box::new(lookup), &settings), asked)
    }

    fn told(addresses: &[&str]) -> Looking {
        Box::pin(ready(Ok(addresses.iter().map(|text| address(text)).collect())))
    }

    async fn seconds(count: u64) {
        tokio::time::sleep(Duration::from_secs(count)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_believed_for_a_while_and_a_new_one_is_followed() {
        let (names, asked) = names(|n| told(&[["10.0.0.1", "10.0.0.2"][n.min(1)]]));
        for (wait, expected, lookups) in [(0, "10.0.0.1", 1), (29, "10.0.0.1", 1), (2, "10.0.0.2", 2)] {
            seconds(wait).await;
            assert_eq!(names.addresses().await.unwrap(), [address(expected)]);
            assert_eq!(asked.load(Ordering::Relaxed), lookups);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_fails_or_hangs_leaves_the_last_answer_for_a_while() {
        let (names, asked) = names(|n| match n {
            0 => told(&["10.0.0.1"]),
            2 => Box::pin(pending()),
            3 => told(&[]),
            _ => Box::pin(ready(Err(io::Error::other("no")))),
        });
        for (wait, lookups) in [(0, 1), (31, 2), (1, 2), (5, 3), (1, 3), (6, 4)] {
            seconds(wait).await;
            let start = clock::now();
            assert_eq!(names.addresses().await.unwrap(), [address("10.0.0.1")]);
            assert!(clock::now() - start <= STALE_PATIENCE);
            assert_eq!(asked.load(Ordering::Relaxed), lookups);
        }
        assert_eq!(names.lookups(), (1, 3));
        seconds(600).await;
        assert!(names.addresses().await.is_err(), "too old");
        assert_eq!(names.lookups(), (1, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_are_one_question() {
        let (names, asked) = names(|_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(vec![address("10.0.0.1")])
            })
        });
        let names = Arc::new(names);
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let names = Arc::clone(&names);
            all.spawn(async move { names.addresses().await.unwrap().len() });
        }
        assert_eq!(all.join_all().await, [1; 20]);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn families_take_turns_and_what_failed_is_tried_last_for_a_while() {
        let all = ["fd00::1", "fd00::2", "fd00::3", "10.0.0.1", "10.0.0.2"];
        let (names, _) = names(move |_| told(&all));
        let order = |texts: [&str; 5]| texts.map(address).to_vec();
        let usual = order(["fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2", "fd00::3"]);
        assert_eq!(names.addresses().await.unwrap(), usual);
        names.note_failed(vec![address("fd00::1")]);
        let without = order(["10.0.0.1", "fd00::2", "10.0.0.2", "fd00::3", "fd00::1"]);
        assert_eq!(names.addresses().await.unwrap(), without);
        seconds(30).await;
        assert_eq!(names.addresses().await.unwrap(), usual);
    }

    #[tokio::test]
    async fn an_address_needs_no_looking_up() {
        for (url, expected) in [("http://127.0.0.1:9000", "127.0.0.1:9000"), ("https://[::1]", "[::1]:443")] {
            let names = Names::new(&url.parse().unwrap(), &ProxySettings::default());
            assert_eq!(names.addresses().await.unwrap(), [expected.parse().unwrap()]);
        }
    }
}
