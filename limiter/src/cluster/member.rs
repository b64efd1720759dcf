//! The node that runs beside a limiter's table: when it starts, what it is asked, how it ends.
//!
//! Its configuration is looked at and its port taken when the limiter is made, so that mistakes are errors of `build`. Its thread
//! starts with the first decision, or when somebody asks for peers: a server that forks its workers first has no thread to lose.
//!
//! A forked child is no node: it has neither the thread nor a name of its own. It decides by what a node may do that hears nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ratelimit_cluster_table::{TableStore, limit_ids};
use ratelimit_core::{Engine, process};
use ratelimit_model::Limit;
use ratelimit_protocol::membership::Standing;
use ratelimit_protocol::{LimitSpec, Mode};
use ratelimit_quic::{Driver, Prepared, SetLimitError};

use super::events::{Teller, tell};
use super::peer::{Peer, PeerState};
use super::table::NodeTable;
use crate::Error;

/// What a goodbye takes at the most: three seconds for the protocol and one for the last bytes.
const GOODBYE: Duration = Duration::from_secs(5);

/// Of one limiter and all its clones. Dropped with the last of them, it says goodbye.
pub(crate) struct Member {
    plan: Arc<Plan>,
}

struct Plan {
    /// The node's name.
    node: String,
    engine: Arc<Engine>,
    /// The process that made it.
    home: u64,
    /// How the limits are kept, in their order.
    modes: Vec<Mode>,
    stage: Mutex<Stage>,
}

enum Stage {
    Waiting(Box<Prepared>),
    Running(Arc<Driver>),
    /// Somebody says goodbye; who closes meanwhile waits for it too.
    Leaving(Arc<Driver>),
    Failed(String),
    Closed,
}

impl Member {
    /// A node for this engine that starts when it is needed.
    pub(crate) fn new(engine: Arc<Engine>, prepared: Prepared, modes: Vec<Mode>) -> Self {
        let plan = Arc::new(Plan {
            node: prepared.name().to_owned(),
            engine: engine.clone(),
            home: process::generation(),
            modes,
            stage: Mutex::new(Stage::Waiting(Box::new(prepared))),
        });
        let waiting: Weak<Plan> = Arc::downgrade(&plan);
        engine.at_first_use(move || {
            if let Some(plan) = waiting.upgrade() {
                plan.start();
            }
        });
        Member { plan }
    }

    /// The other nodes, by name.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let Some(driver) = self.plan.driver() else {
            return Vec::new();
        };
        driver.peers().iter().map(Peer::from).collect()
    }

    /// Whether every seed is linked within `timeout`.
    pub(crate) fn ready(&self, timeout: Duration) -> bool {
        self.plan.driver().is_some_and(|driver| driver.ready(timeout))
    }

    /// Whether it may become ready: not in a forked child, nor if the node has ended or could not start.
    pub(crate) fn may_become_ready(&self) -> bool {
        self.plan.driver().is_some()
    }

    /// Adds the node's figures, for Prometheus; nothing before it starts and after it ended.
    pub(crate) fn prometheus(&self, text: &mut String) {
        if self.plan.home != process::generation() {
            return;
        }
        let driver = match &*self.plan.stage() {
            Stage::Running(driver) => driver.clone(),
            _ => return,
        };
        let limits = limit_ids(self.plan.modes.len());
        super::metrics::text(&driver.stats(), &driver.peers(), &limits, text);
    }

    /// Puts limits in force on all nodes, one for each that there is.
    pub(crate) fn set_limits(&self, limits: &[Limit]) -> Result<(), Error> {
        self.plan.set_limits(limits)
    }

    /// Hands over what this node owns and says goodbye. Decisions go on. A second time it does nothing.
    pub(crate) fn close(&self) {
        self.plan.close();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.close();
    }
}

impl Plan {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        // Each change of the stage is one store: what a thread that panicked leaves is a stage.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread unless it runs or has ended.
    fn start(&self) {
        if self.home != process::generation() {
            tell!(FORKED, node = self.node.as_str());
            return;
        }
        let mut stage = self.stage();
        if !matches!(*stage, Stage::Waiting(_)) {
            return;
        }
        // Whoever comes meanwhile waits for the lock, so nobody sees this.
        let Stage::Waiting(prepared) = std::mem::replace(&mut *stage, Stage::Closed) else {
            return;
        };
        let started = self.started(*prepared);
        *stage = match &started {
            Ok(driver) => Stage::Running(driver.clone()),
            Err(text) => Stage::Failed(text.clone()),
        };
        // Whoever is told may ask this limiter something.
        drop(stage);
        let node = self.node.as_str();
        match started {
            Ok(driver) => tell!(NODE_STARTED, node, address = driver.advertised()),
            Err(error) => tell!(NODE_FAILED, node, error),
        }
    }

    fn started(&self, prepared: Prepared) -> Result<Arc<Driver>, String> {
        let table = TableStore::new(&self.engine).ok_or("another node runs on this table")?;
        let clock = self.engine.clock().clone();
        let teller = Teller::new(&self.node);
        let driver = prepared
            .start(
                NodeTable::new(table),
                move || clock.now(),
                move |event| teller.tell(&event),
            )
            .map_err(|error| error.to_string())?;
        let kicker = driver.kicker();
        self.engine.at_urgent(move || kicker.kick());
        Ok(Arc::new(driver))
    }

    /// The running node; started if it waits. `None` in a forked child, or if it has ended or could not start.
    fn driver(&self) -> Option<Arc<Driver>> {
        if self.home != process::generation() {
            // Its lock may have been held when the process was forked.
            return None;
        }
        self.start();
        match &*self.stage() {
            Stage::Running(driver) => Some(driver.clone()),
            _ => None,
        }
    }

    fn set_limits(&self, limits: &[Limit]) -> Result<(), Error> {
        if self.home != process::generation() {
            return Err(Error::ForkedChild(
                "this is a forked child of a node, and limits are set by the node: set them there".to_owned(),
            ));
        }
        if limits.len() != self.modes.len() {
            return Err(Error::LimitCount(format!(
                "{} limits for a limiter that has {}: give as many as it has, in the same order",
                limits.len(),
                self.modes.len()
            )));
        }
        limits.iter().try_for_each(Limit::validate)?;
        let Some(driver) = self.driver() else {
            return match &*self.stage() {
                Stage::Failed(text) => Err(Error::ClusterStart(text.clone())),
                _ => Err(Error::Closed),
            };
        };
        for ((id, limit), mode) in limit_ids(limits.len()).into_iter().zip(limits).zip(&self.modes) {
            driver.set_limit(id, *limit, *mode).map_err(|error| match error {
                SetLimitError::Config(error) => Error::ClusterConfig(error.to_string()),
                SetLimitError::Ended => Error::Closed,
                other => Error::System(other.to_string()),
            })?;
        }
        Ok(())
    }

    fn close(&self) {
        if self.home != process::generation() {
            return;
        }
        let driver = {
            let mut stage = self.stage();
            match std::mem::replace(&mut *stage, Stage::Closed) {
                Stage::Running(driver) | Stage::Leaving(driver) => {
                    *stage = Stage::Leaving(driver.clone());
                    driver
                }
                _ => return,
            }
        };
        // Others who ask at this moment have the handle for as long as their question takes.
        if !driver.leave(GOODBYE) {
            tell!(GOODBYE_LATE, node = self.node.as_str());
        }
        *self.stage() = Stage::Closed;
    }
}

impl From<&ratelimit_quic::PeerState> for Peer {
    fn from(peer: &ratelimit_quic::PeerState) -> Self {
        Peer {
            name: peer.name.clone(),
            address: peer.address.map(|address| address.to_string()).unwrap_or_default(),
            state: match peer.standing {
                _ if peer.linked => PeerState::Linked,
                Standing::Unheard => PeerState::Unheard,
                Standing::Alive => PeerState::Alive,
                Standing::Suspect => PeerState::Suspect,
                Standing::Dead => PeerState::Dead,
                Standing::Left => PeerState::Left,
            },
            rtt: peer.rtt,
            lag: peer.lag,
            unacked_units: peer.unacked_units,
            sent_bytes: peer.sent_bytes,
            received_bytes: peer.received_bytes,
        }
    }
}

/// How the limits of a configuration are kept, in their order.
pub(crate) fn modes(specs: &[LimitSpec]) -> Vec<Mode> {
    specs.iter().map(|spec| spec.mode).collect()
}

/// Units that a node may spend on a key before an owner knows of them, for each limit.
pub(crate) fn unconfirmed(modes: &[Mode]) -> Vec<u64> {
    modes
        .iter()
        .map(|mode| ratelimit_cluster_table::unconfirmed(*mode))
        .collect()
}

/// Why a node cannot start, as an error of every language.
pub(crate) fn start_error(error: ratelimit_quic::Error) -> Error {
    use ratelimit_quic::Error::{IncarnationFile, Listen, System};
    let text = error.to_string();
    match error {
        Listen { .. } | IncarnationFile { .. } | System(_) => Error::ClusterStart(text),
        _ => Error::ClusterConfig(text),
    }
}
