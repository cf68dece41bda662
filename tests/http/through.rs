//! A proxy in this process, and everything that it tells.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::config::{Config, ProxySettings};
use tidegate::control::{Event, LanesSettings, LawName, Rate};
use tidegate::control::{Lanes, RetryReason};
use tidegate::gate::{Gate, Timer, clock};
use tidegate::observe::{Attempt, Exchange, Observer};
use tidegate::proxy::{Client, CredentialKey, Identity, Parts, Proxy, accept, clients};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A running proxy.
pub(crate) struct Through {
    pub(crate) address: SocketAddr,
    pub(crate) gate: Gate,
    pub(crate) told: Arc<Told>,
    pub(crate) proxy: Proxy,
    drain: watch::Sender<bool>,
    serving: JoinSet<()>,
    _driver: JoinSet<()>,
}

/// What an observer was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    events: Mutex<Vec<Event>>,
    attempts: Mutex<Vec<Attempt>>,
    exchanges: Mutex<Vec<Exchange>>,
}

impl Observer for Told {
    fn event(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
    }

    fn attempt(&self, attempt: &Attempt) {
        self.attempts.lock().unwrap().push(attempt.clone());
    }

    fn exchange(&self, exchange: &Exchange) {
        self.exchanges.lock().unwrap().push(exchange.clone());
    }
}

impl Told {
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().unwrap().clone()
    }

    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().unwrap().clone()
    }

    /// What the API said of limits and made no sense.
    pub(crate) fn ignored_signals(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let signal = |event: &Event| match event {
            Event::SignalIgnored { signal, .. } => Some(signal.clone()),
            _ => None,
        };
        events.iter().filter_map(signal).collect()
    }

    pub(crate) fn stale_retries(&self) -> usize {
        let events = self.events.lock().unwrap();
        let stale = |event: &&Event| matches!(event, Event::Retried { reason: RetryReason::Stale, .. });
        events.iter().filter(stale).count()
    }
}

/// The core at so many requests a second, whatever the API says.
pub(crate) fn fixed(rate: f64) -> LanesSettings {
    let mut lanes = LanesSettings::default();
    lanes.law.name = LawName::Fixed;
    lanes.law.fixed_rate = Rate::new(rate);
    lanes
}

/// Everything of a proxy but its sockets: for memory too.
pub(crate) fn proxy(config: &Config, clients: Vec<Client>) -> (Proxy, Gate, Arc<Told>) {
    let told = Arc::new(Told::default());
    let observer: Arc<dyn Observer> = Arc::<Told>::clone(&told);
    let gate = Gate::new(Lanes::new(config.lanes.clone(), clock::now()), Arc::clone(&observer));
    let credentials = CredentialKey::new([1; 32]);
    let identity = config.tls.as_ref().map(|tls| Identity::load(tls).unwrap());
    let parts = Parts { config, gate: gate.clone(), clients, credentials, identity };
    (Proxy::new(parts, observer), gate, told)
}

impl Through {
    /// To `origin`, with the defaults and a pace that nothing here reaches.
    pub(crate) fn to(origin: SocketAddr) -> Self {
        Self::with(origin, |_| (), fixed(10_000.0))
    }

    pub(crate) fn with(
        origin: SocketAddr,
        set: impl FnOnce(&mut ProxySettings),
        lanes: LanesSettings,
    ) -> Self {
        let mut config = Config::new(format!("http://{origin}").parse().unwrap());
        config.lanes = lanes;
        set(&mut config.proxy);
        Self::of(&config)
    }

    /// As `config` says, over TCP.
    pub(crate) fn of(config: &Config) -> Self {
        Self::over(config, clients(config, 1).unwrap().remove(0))
    }

    pub(crate) fn over(config: &Config, clients: Vec<Client>) -> Self {
        let (proxy, gate, told) = proxy(config, clients);
        let driven = gate.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { driven.drive(Timer::runtime()).await });
        let listener = accept::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, draining) = watch::channel(false);
        let mut serving = JoinSet::new();
        let (hand, arrivals) = accept::arrivals();
        let dealt = accept::deal(listener, vec![hand], proxy.clone(), draining.clone());
        let served = accept::take(arrivals, proxy.clone(), draining);
        serving.spawn(async {
            tokio::join!(dealt, served);
        });
        Self { address, gate, told, proxy, drain, serving, _driver: tasks }
    }

    /// No new connections, and no new requests that the gate cannot let out within `grace`.
    pub(crate) fn drain(&self, grace: Duration) {
        self.gate.drain(clock::now() + grace);
        self.drain.send(true).unwrap();
    }

    /// Waits until every connection is gone.
    pub(crate) async fn gone(&mut self) {
        self.serving.join_next().await.unwrap().unwrap();
    }
}

/// Waits until `happened`, or fails when that takes too long.
pub(crate) async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let start = clock::now();
    while !happened() {
        assert!(clock::now() - start < Duration::from_secs(20), "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
