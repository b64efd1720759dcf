//! The handle that the rest of the process holds.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ratelimit_core::process;
use ratelimit_model::Limit;
use ratelimit_protocol::{ConfigError, Incarnation, LimitId, LimitSpec, Mode, Node, Store};
use tokio::sync::mpsc::UnboundedSender;

use crate::config::{Config, Identity, check_address};
use crate::error::{CertificateError, Error};
use crate::event::Event;
use crate::fork;
use crate::incarnation;
use crate::journal::Journal;
use crate::stats::{Counters, DriverStats, PeerState};
use crate::thread::{self, Lasting};
use crate::tls::{self, Credentials, Source};
use crate::wake::{self, Kicker};

/// How long a call waits for the thread, which may be busy with a slow table.
const ANSWER: Duration = Duration::from_secs(2);
/// How long dropping a driver waits for its thread to end.
const END: Duration = Duration::from_secs(5);

/// A node's table, as its driver sees it. It lives on the driver's thread; what other threads decide meanwhile is the
/// table's own matter.
pub trait Table: Store {
    /// Whether a cell waits to be reported at once. Asked each millisecond while that is so, and before each sleep: one load.
    ///
    /// It must be true from before [`Kicker::kick`] until the cell was drained or found no room.
    fn is_urgent(&self) -> bool;

    /// Called in each turn, at least once in an interval: the place for chores of the table.
    fn tidy(&mut self, now_ns: u64) {
        let _ = now_ns;
    }
}

/// What others are told about the thread, without waiting for it.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) peers: Arc<Vec<PeerState>>,
    pub(crate) limits: Arc<Vec<LimitSpec>>,
    pub(crate) stats: Arc<DriverStats>,
    pub(crate) ready: bool,
    stopping: bool,
    /// Set once, at the end: whether it was a graceful one.
    pub(crate) ended: Option<bool>,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    view: Mutex<View>,
    changed: Condvar,
}

impl Shared {
    /// Held for a moment, to put in or copy out a few pointers: neither side ever waits for the other's work.
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view());
        self.changed.notify_all();
    }

    /// The driver is being dropped: a thread that pauses between two lives looks here.
    pub(crate) fn is_stopping(&self) -> bool {
        self.view().stopping
    }

    fn wait_until(&self, timeout: Duration, mut done: impl FnMut(&View) -> bool) -> bool {
        let until = Instant::now().checked_add(timeout);
        let mut view = self.view();
        loop {
            if done(&view) {
                return true;
            }
            let left = match until {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                return false;
            }
            let woken = self.changed.wait_timeout(view, left);
            view = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What the thread is asked to do.
pub(crate) enum Command {
    SetLimit(LimitId, Limit, Mode, mpsc::SyncSender<Result<Duration, ConfigError>>),
    Reload,
    SetIdentity(Box<Identity>, mpsc::SyncSender<Result<(), CertificateError>>),
    Leave,
    Stop,
}

/// One node of a cluster, running. See the crate's page.
///
/// Dropping it ends the thread without a goodbye, as a crash would: use [`leave`](Driver::leave).
///
/// **After a fork** the child has no such thread. There a driver does nothing: calls answer as if nothing were known, and
/// dropping it leaves the parent's sockets alone. The child starts a driver of its own, with a name of its own.
pub struct Driver {
    shared: Arc<Shared>,
    commands: Option<UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
    kicker: Kicker,
    local_addr: SocketAddr,
    advertised: String,
    generation: u64,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("local_addr", &self.local_addr)
            .field("advertised", &self.advertised)
            .finish_non_exhaustive()
    }
}

/// A node that could start: see [`Driver::prepare`]. In a forked child it does nothing, and the port is not taken there.
pub struct Prepared {
    parts: Option<Parts>,
    local_addr: SocketAddr,
    generation: u64,
}

struct Parts {
    config: Config,
    credentials: Credentials,
    kept: fork::Kept,
    socket: UdpSocket,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.generation != process::generation() {
            // The descriptor was closed by the fork, and its number may be another's by now.
            std::mem::forget(self.parts.take());
        }
    }
}

impl Prepared {
    /// The node's name.
    #[must_use]
    pub fn name(&self) -> &str {
        // `start` takes the parts, and this with it.
        self.parts.as_ref().map_or("", |parts| parts.config.node.name.as_str())
    }

    /// The UDP address bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes a new life and starts the thread, as [`Driver::start`] does.
    ///
    /// Errors: the incarnation file cannot be written, there is no thread, or this is a forked child of the process that prepared it.
    pub fn start<T, C, E>(mut self, table: T, clock: C, on_event: E) -> Result<Driver, Error>
    where
        T: Table + Send + 'static,
        C: Fn() -> u64 + Send + 'static,
        E: Fn(Event) + Send + 'static,
    {
        let here = self.generation == process::generation();
        let Some(parts) = here.then(|| self.parts.take()).flatten() else {
            let child =
                "this is a forked child, and the port is its parent's: make a limiter here, under a name of its own";
            return Err(Error::System(io::Error::other(child)));
        };
        let local_addr = self.local_addr;
        // What is named last is dropped first: the mark before the socket, also on the way out with an error.
        let Parts {
            config,
            credentials,
            socket,
            kept,
        } = parts;
        let life = incarnation::take(config.incarnation_file.as_deref())
            .map_err(|(path, error)| Error::IncarnationFile { path, error })?;
        let (kicker, sleeper) = wake::pair().map_err(Error::System)?;
        let (commands, receiver) = tokio::sync::mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let advertised = config.node.address.clone();
        let lasting = Lasting {
            journal: Journal::new(on_event),
            table,
            clock,
            shared: Arc::clone(&shared),
            commands: receiver,
            sleeper,
            _kept: kept,
            socket,
            credentials,
            counters: Counters::default(),
            next_link: 0,
            config,
        };
        let (started, outcome) = mpsc::sync_channel(1);
        let builder = std::thread::Builder::new().name("ratelimit-sync".to_owned());
        // A signal of the host must not interrupt this thread, nor run the host's handler on it.
        let run = move || thread::run(lasting, life, started);
        let thread = process::without_signals(|| builder.spawn(run)).map_err(Error::System)?;
        let ended = || io::Error::other("the thread ended at once");
        outcome.recv().unwrap_or_else(|_| Err(ended())).map_err(Error::System)?;
        Ok(Driver {
            shared,
            commands: Some(commands),
            thread: Some(thread),
            kicker,
            local_addr,
            advertised,
            generation: process::generation(),
        })
    }
}

/// Why a limit was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetLimitError {
    /// The limit makes no sense.
    Config(ConfigError),
    /// The thread did not answer in two seconds; the limit may be set later.
    Busy,
    /// The driver has ended, or this process is a forked child.
    Ended,
}

impl fmt::Display for SetLimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetLimitError::Config(error) => error.fmt(f),
            SetLimitError::Busy => f.write_str(
                "the cluster's thread did not answer in two seconds: the limit may still be set; ask for it before trying again",
            ),
            SetLimitError::Ended => f.write_str("the cluster's thread has ended: make a new limiter"),
        }
    }
}

impl std::error::Error for SetLimitError {}

impl Driver {
    /// Binds the port, takes a new life, and starts the thread. Peers are linked to in the background. The two steps of
    /// [`prepare`](Driver::prepare) and [`Prepared::start`] in one.
    ///
    /// `clock`: the table's clock, in nanoseconds; monotonic. `on_event`: see [`Event`]; a panic in it is caught.
    ///
    /// Errors: all that can be wrong with a configuration or a certificate; a port that is taken; a file that cannot be
    /// written. Cost: reads the certificates, writes and syncs the incarnation file, starts a thread.
    pub fn start<T, C, E>(config: Config, table: T, clock: C, on_event: E) -> Result<Driver, Error>
    where
        T: Table + Send + 'static,
        C: Fn() -> u64 + Send + 'static,
        E: Fn(Event) + Send + 'static,
    {
        Driver::prepare(config)?.start(table, clock, on_event)
    }

    /// Finds out all that can be wrong and binds the port, without a thread and without a new life: for one whose node starts later
    /// and who wants to know now. Nobody is answered meanwhile.
    ///
    /// Errors: all that can be wrong with a configuration or a certificate; a port that is taken.
    pub fn prepare(config: Config) -> Result<Prepared, Error> {
        let mut config = config;
        config.check()?;
        let source = Source::read(&config.identity)?;
        let credentials = tls::load(&config.identity, source, &config.node.name)?;
        let listen = |error| Error::Listen {
            address: config.listen,
            error,
        };
        let (kept, socket) = fork::open(|| UdpSocket::bind(config.listen)).map_err(listen)?;
        // What is named last is dropped first: the mark before the socket, also on the way out with an error.
        let (socket, kept) = (socket, kept);
        let local_addr = socket.local_addr().map_err(listen)?;
        config.node.address = advertised(&config, local_addr)?;
        // Errors of the configuration come before a life is taken, which is written down.
        Node::new(config.node.clone(), Incarnation(0), 0, 0)?;
        Ok(Prepared {
            parts: Some(Parts {
                config,
                credentials,
                kept,
                socket,
            }),
            local_addr,
            generation: process::generation(),
        })
    }

    /// The UDP address listened on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The address that peers are told.
    #[must_use]
    pub fn advertised(&self) -> &str {
        &self.advertised
    }

    /// For the path that decides: see [`Kicker::kick`].
    #[must_use]
    pub fn kicker(&self) -> Kicker {
        self.kicker.clone()
    }

    /// The peers that this node knows, by name. Never waits; up to half a second old.
    #[must_use]
    pub fn peers(&self) -> Arc<Vec<PeerState>> {
        if self.is_inherited() {
            return Arc::default();
        }
        Arc::clone(&self.shared.view().peers)
    }

    /// The limits in force here. Never waits; up to half a second old.
    #[must_use]
    pub fn limits(&self) -> Arc<Vec<LimitSpec>> {
        if self.is_inherited() {
            return Arc::default();
        }
        Arc::clone(&self.shared.view().limits)
    }

    /// Counters and sizes. Never waits; up to half a second old, older while the table is slow.
    #[must_use]
    pub fn stats(&self) -> Arc<DriverStats> {
        if self.is_inherited() {
            return Arc::default();
        }
        Arc::clone(&self.shared.view().stats)
    }

    /// Waits until every seed is linked: it resolves, and behind its addresses are nodes that said hello, or this one. An
    /// address that was called twice in vain is not waited for, as long as another of the same seed is linked. At once true
    /// without seeds. False after `timeout`, or if the driver ends.
    #[must_use]
    pub fn ready(&self, timeout: Duration) -> bool {
        if self.is_inherited() {
            return false;
        }
        self.shared
            .wait_until(timeout, |view| view.ready || view.ended.is_some())
            && self.shared.view().ended.is_none()
    }

    /// Sets a limit here and on all nodes. Returns how long it takes until it is in force on all that are reachable.
    ///
    /// Errors: a limit that makes no sense; a thread that is stuck or gone. Waits for the thread, usually far below a
    /// millisecond, at most two seconds.
    pub fn set_limit(&self, id: LimitId, limit: Limit, mode: Mode) -> Result<Duration, SetLimitError> {
        let (answer, answered) = mpsc::sync_channel(1);
        if !self.send(Command::SetLimit(id, limit, mode, answer)) {
            return Err(SetLimitError::Ended);
        }
        match answered.recv_timeout(ANSWER) {
            Ok(outcome) => outcome.map_err(SetLimitError::Config),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(SetLimitError::Busy),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(SetLimitError::Ended),
        }
    }

    /// Reads certificate files now rather than at the next look. [`Event::CertificatesReloaded`] or
    /// [`Event::CertificatesFailed`] says what came of it.
    pub fn reload_certificates(&self) {
        self.send(Command::Reload);
    }

    /// Puts other certificates into use for new links.
    ///
    /// Errors: they are of no use; the ones before stay. Waits for the thread as [`set_limit`](Driver::set_limit) does.
    pub fn set_identity(&self, identity: Identity) -> Result<(), CertificateError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let sent = self.send(Command::SetIdentity(Box::new(identity), answer));
        let ended = || CertificateError("the cluster's thread has ended or does not answer".to_owned());
        if !sent {
            return Err(ended());
        }
        answered.recv_timeout(ANSWER).unwrap_or_else(|_| Err(ended()))
    }

    /// Leaves the cluster: reports what is left, hands the keys over that it owns, says goodbye, ends the thread.
    ///
    /// True if all of that was done within `timeout`; otherwise the thread is ended all the same, as by dropping it. It takes
    /// a few round trips, and at most three seconds for the protocol and one for the last bytes.
    ///
    /// The handle stays, for those who ask it at the same time; it answers as if nothing were known.
    pub fn leave(&self, timeout: Duration) -> bool {
        if self.is_inherited() {
            return false;
        }
        // Somebody else may have asked before, and the thread may have ended: the answer is the same for both.
        self.send(Command::Leave);
        let graceful =
            self.shared.wait_until(timeout, |view| view.ended.is_some()) && self.shared.view().ended == Some(true);
        if !graceful {
            self.stop();
        }
        graceful
    }

    /// Asks the thread to end without a goodbye.
    fn stop(&self) {
        self.send(Command::Stop);
        self.shared.change(|view| view.stopping = true);
    }

    /// Whether this is a driver of the process that this one was forked from.
    fn is_inherited(&self) -> bool {
        self.generation != process::generation()
    }

    fn send(&self, command: Command) -> bool {
        !self.is_inherited()
            && self
                .commands
                .as_ref()
                .is_some_and(|commands| commands.send(command).is_ok())
    }

    fn end(&mut self) {
        if self.is_inherited() {
            // The thread is the parent's, and waking it or waiting for it would touch the parent's descriptors.
            std::mem::forget((self.thread.take(), self.commands.take()));
            return;
        }
        self.stop();
        self.commands = None;
        if self.shared.wait_until(END, |view| view.ended.is_some())
            && let Some(thread) = self.thread.take()
        {
            // A thread that says it has ended does nothing more that could take time.
            let _panicked = thread.join();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.end();
    }
}

/// What peers are told: what was configured, or what can be found out.
fn advertised(config: &Config, local: SocketAddr) -> Result<String, Error> {
    let Some(given) = config.advertise.as_deref() else {
        if !local.ip().is_unspecified() {
            return Ok(local.to_string());
        }
        let seeds = config.seeds.iter().filter_map(|seed| seed.parse().ok());
        // Nothing is sent there: the system says which of its addresses it would send from.
        let anywhere = SocketAddr::from(([192, 0, 2, 1], 9));
        let found = seeds.chain([anywhere]).find_map(|there: SocketAddr| {
            let asker = UdpSocket::bind(SocketAddr::new(local.ip(), 0)).ok()?;
            asker.connect(there).ok()?;
            let here = asker.local_addr().ok()?.ip().to_canonical();
            (!here.is_unspecified()).then_some(here)
        });
        return found
            .map(|here| SocketAddr::new(here, local.port()).to_string())
            .ok_or(Error::Advertise {
                address: None,
                reason: "all addresses of this machine are listened on, and none of them is known to others",
            });
    };
    let with_port = match given.parse() {
        Ok(ip) => SocketAddr::new(ip, local.port()).to_string(),
        Err(_) if given.contains(':') => given.to_owned(),
        Err(_) => format!("{given}:{}", local.port()),
    };
    match check_address(&with_port) {
        Ok(()) => Ok(with_port),
        Err(reason) => Err(Error::Advertise {
            address: Some(given.to_owned()),
            reason,
        }),
    }
}
