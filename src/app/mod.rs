//! The program as a value: what the configuration names is put together here, and everything long-lived is owned
//! here.

mod descriptors;
mod listen;
mod memory;
mod reach;
mod shards;
mod signals;
mod simulate;
mod state;

pub use listen::ListenError;
pub use shards::ShardError;
pub use signals::{Signal, Signals};
pub use simulate::{SimulateError, simulate};
pub use state::StateError;

use self::memory::StateFile;
use crate::admin::{self, Admin};
use crate::config::{Config, UpstreamSettings};
use crate::control::Lanes;
use crate::gate::{Gate, Timer, clock};
use crate::observe::Observer;
use crate::proxy::{self, Client, CredentialKey, Identity, IdentityError, Parts, Proxy, TrustError, accept};
use crate::telemetry::{Levels, MetricsError, Telemetry};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::timeout;

/// A running Tidegate. Dropping it ends everything at once; [`App::drain`] is the polite way.
#[derive(Debug)]
pub struct App {
    listen: SocketAddr,
    admin: SocketAddr,
    gate: Gate,
    /// Where what lanes learn is kept; none where there is no place.
    memory: Option<Arc<StateFile>>,
    grace: Duration,
    draining: Arc<AtomicBool>,
    /// Told once: take no more clients, and let go of those who want nothing.
    close: watch::Sender<bool>,
    /// The listener, and the shards that serve clients; over when the last of them is gone after a close.
    clients: JoinSet<&'static str>,
    /// What runs for as long as the program does: the gate's driver, the admin pages.
    servants: JoinSet<&'static str>,
}

/// Why the program did not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The key that names credentials cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The system gives no more threads.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// An upstream's own certificates cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The certificate that clients would see, or its key, cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A mistake in this program.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

impl App {
    /// Takes the addresses, puts everything together and lets clients in. Call inside the runtime.
    ///
    /// # Errors
    /// A [`StartError`] that says what to do.
    pub fn start(mut config: Config) -> Result<Self, StartError> {
        let (clients_at, listen) = listen::listen("--listen", config.listen)?;
        let (pages_at, admin) = listen::listen("--admin", config.admin)?;
        config.proxy.connections_max = descriptors::connections_max(config.proxy.connections_max);
        let key = CredentialKey::new(credential_key(config.state_dir.as_deref())?);

        let identity = config.tls.as_ref().map(Identity::load).transpose()?;

        let telemetry = Arc::new(Telemetry::new()?);
        telemetry.settings(&config.numbers());
        let observer: Arc<dyn Observer> = Arc::clone(&telemetry) as _;
        let memory = state_file(&config);
        let gate = Gate::new(lanes(&config, memory.as_deref()), Arc::clone(&observer));
        // A shard without a connection to the upstream could serve nobody.
        let shards = shards::count(config.shards).min(config.proxy.upstream_connections_max);
        let sets = proxy::clients(&config, shards)?;
        // What stands for all of them is used to try whether the upstreams can be reached, and for nothing else.
        let clients = sets.first().cloned().unwrap_or_default();
        let reached: Vec<_> =
            config.upstreams.iter().map(|upstream| upstream.address.clone()).zip(clients.clone()).collect();
        let parts = Parts { config: &config, gate: gate.clone(), clients, credentials: key, identity };
        let proxy = Proxy::new(parts, observer);

        let draining = Arc::new(AtomicBool::new(false));
        let (close, closed) = watch::channel(false);
        let mut clients = JoinSet::new();
        let hands = sets
            .iter()
            .cloned()
            .enumerate()
            .map(|(number, set)| shards::start(number, proxy.with_clients(set), &closed, &mut clients))
            .collect::<Result<_, _>>()?;
        let listener = accept::deal(clients_at, hands, proxy.clone(), closed);
        clients.spawn(async {
            listener.await;
            "the listener"
        });
        let mut servants = JoinSet::new();
        servants.spawn(drive(gate.clone()));
        if let Some(memory) = memory.clone() {
            servants.spawn(keep(memory, gate.clone()));
        }
        let levels = levels(&config, proxy, sets, Arc::clone(&draining));
        let token = config.admin_token.clone();
        let pages =
            admin::router(Admin { gate: gate.clone(), telemetry, levels, token }, admin.ip().is_loopback());
        servants.spawn(async {
            admin::serve(pages_at, pages).await;
            "the admin listener"
        });
        servants.spawn(async move {
            reach::check(reached).await;
            // A check that is done is no servant that is gone.
            std::future::pending().await
        });
        Ok(Self { listen, admin, gate, grace: config.grace, memory, draining, close, clients, servants })
    }

    /// Where clients connect.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where metrics and health are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The gate, to look at its lanes.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Runs until a signal, then drains; a second signal ends it at once.
    pub async fn run(mut self, mut signals: Signals) -> Ended {
        tokio::select! {
            signal = signals.next() => tracing::info!(?signal, grace = ?self.grace, "draining; once more to end now"),
            gone = self.servants.join_next() => return broken(gone),
            gone = self.clients.join_next() => return broken(gone),
        }
        let grace = self.grace;
        tokio::select! {
            () = self.drain(grace) => Ended::Drained,
            again = signals.next() => {
                tracing::warn!(signal = ?again, "ended at once: clients were cut");
                Ended::AtOnce(again)
            }
        }
    }

    /// Stops: no new clients, what can be sent in time is sent at the paced rate, the rest is answered at once.
    /// Over when every client has gone, or `grace` and a little more has passed. Admin pages stay until then.
    pub async fn drain(&mut self, grace: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        // An error means that nobody listens to it: all clients are gone already.
        self.close.send(true).ok();
        let answer_time = ANSWER_TIME.min(grace / 4);
        self.gate.drain(clock::now() + grace.saturating_sub(answer_time));
        let all_gone = async { while self.clients.join_next().await.is_some() {} };
        if timeout(grace + LATE, all_gone).await.is_err() {
            tracing::warn!("clients were cut: their answers took longer than the grace");
        }
        if let Some(memory) = self.memory.clone() {
            save(memory, &self.gate).await;
        }
        self.servants.shutdown().await;
        tracing::info!("drained");
    }
}

/// Hands out passes, to a fraction of a millisecond where the system can.
async fn drive(gate: Gate) -> &'static str {
    let timer = Timer::precise().unwrap_or_else(|error| {
        tracing::warn!(%error, "no precise timer: requests leave up to 2 ms late");
        Timer::runtime()
    });
    gate.drive(timer).await;
    "the gate"
}

/// The file that keeps what lanes learn, if there is a place for it and it is wanted.
fn state_file(config: &Config) -> Option<Arc<StateFile>> {
    let directory = config.state_dir.as_deref().filter(|_| !config.memory.is_zero())?;
    let own = config.upstreams.iter().map(UpstreamSettings::key).collect();
    Some(Arc::new(StateFile::new(directory, config.memory, config.lanes.queue.lanes_max, own)))
}

/// The lanes, which start from what an earlier run learnt.
fn lanes(config: &Config, memory: Option<&StateFile>) -> Lanes {
    let now = clock::now();
    let mut lanes = Lanes::new(config.lanes.clone(), now);
    let memories = memory.map(StateFile::recall).unwrap_or_default();
    let limits = memories.iter().filter(|memory| lanes.remember(now, memory)).count();
    if limits > 0 {
        tracing::info!(limits, "lanes start from what was learnt before");
    }
    lanes
}

/// Keeps what lanes learn, every minute.
async fn keep(memory: Arc<StateFile>, gate: Gate) -> &'static str {
    loop {
        tokio::time::sleep(SAVE_PERIOD).await;
        save(Arc::clone(&memory), &gate).await;
    }
}

/// Keeps what lanes have learnt; a disk that does not answer is not waited for.
async fn save(memory: Arc<StateFile>, gate: &Gate) {
    let memories = gate.memories();
    let saving = spawn_blocking(move || memory.save(&memories));
    if timeout(LATE, saving).await.is_err() {
        tracing::warn!("the disk does not answer: what was learnt may be lost at a restart");
    }
}

/// The key in the state directory; one for this run where there is none that can be kept.
fn credential_key(directory: Option<&Path>) -> Result<state::Key, StateError> {
    let Some(directory) = directory else {
        tracing::debug!("no state directory: lanes get new names after a restart");
        return state::new_key();
    };
    state::kept_key(directory)?.or_else(|unwritable| {
        tracing::warn!(
            "{unwritable}: lanes get new names after a restart; choose another place with --state-dir DIR"
        );
        state::new_key()
    })
}

/// How full everything is now; `sets` are the shards' clients.
fn levels(
    config: &Config,
    proxy: Proxy,
    sets: Vec<Vec<Client>>,
    draining: Arc<AtomicBool>,
) -> Arc<dyn Fn() -> Levels + Send + Sync> {
    // Two upstreams at one address are one to whoever looks.
    let mut upstreams: BTreeMap<Arc<str>, Vec<Client>> = BTreeMap::new();
    for set in sets {
        for (upstream, client) in config.upstreams.iter().zip(set) {
            upstreams.entry(upstream.key()).or_default().push(client);
        }
    }
    let bounds = Levels {
        lanes_max: config.lanes.queue.lanes_max,
        queue_tickets_max: config.lanes.queue.lane_tickets_max,
        replay_buffer_bytes_max: config.proxy.replay_bytes_total_max,
        client_connections_max: config.proxy.connections_max,
        upstream_connections_max: config.proxy.upstream_connections_max,
        upstream_connections_idle_max: config.proxy.pool_idle_max,
        upstream_connection_waiters_max: config.proxy.upstream_waiting_max,
        admission_callers_max: config.admission.map_or(0, |admission| admission.clients_max),
        ..Levels::default()
    };
    Arc::new(move || Levels {
        replay_buffer_bytes: proxy.replay_bytes_in_use(),
        client_connections: proxy.connections(),
        admission_callers: proxy.callers(),
        upstream_connections: upstreams
            .iter()
            .map(|(upstream, clients)| (Arc::clone(upstream), Client::connections(clients)))
            .collect(),
        draining: draining.load(Ordering::Relaxed),
        ..bounds.clone()
    })
}

/// A servant never leaves by itself.
fn broken(gone: Option<Result<&'static str, JoinError>>) -> Ended {
    let why = match gone {
        Some(Ok(part)) => part.to_owned(),
        Some(Err(panic)) => panic.to_string(),
        None => "all of them".to_owned(),
    };
    tracing::error!(why, "a part that everything rests on is gone");
    Ended::Broken
}

/// What the last request may take from its pass to its last byte, within the grace.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// How much of what was learnt a power cut may cost.
const SAVE_PERIOD: Duration = Duration::from_mins(1);
/// Beyond the grace, for answers that are on their way: it passes only if one is.
const LATE: Duration = Duration::from_secs(5);

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Asked to, and every request was answered or had its grace.
    Drained,
    /// By a second signal.
    AtOnce(Signal),
    /// A part that everything rests on is gone.
    Broken,
}

impl Ended {
    /// What the process says to whoever started it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Drained => 0,
            Self::AtOnce(signal) => signal.exit_code(),
            Self::Broken => 1,
        }
    }
}
