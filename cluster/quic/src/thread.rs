//! One life after another: a panic ends a life, not the driver.
//!
//! Everything of a life, the runtime and the node included, is made anew for the next; what outlives it is in [`Lasting`].
//! Peers meet the next life as that of a node that was restarted.

use std::io;
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ratelimit_protocol::Store;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::config::Config;
use crate::driver::{Command, Shared, Table};
use crate::engine;
use crate::event::Event;
use crate::fork::Kept;
use crate::incarnation::{self, Life};
use crate::journal::Journal;
use crate::stats::Counters;
use crate::tls::Credentials;
use crate::wake::Sleeper;

/// Pauses before another life.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often a pause looks whether the driver is to end.
const LOOK: Duration = Duration::from_millis(10);
/// How long the end of a life waits for names that are being resolved.
const RESOLVING: Duration = Duration::from_millis(100);

/// What outlives a life.
pub(crate) struct Lasting<T, C, E> {
    pub(crate) config: Config,
    pub(crate) table: T,
    pub(crate) clock: C,
    pub(crate) journal: Journal<E>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: UnboundedReceiver<Command>,
    pub(crate) sleeper: Sleeper,
    /// In this order: see [`Kept`].
    pub(crate) _kept: Kept,
    pub(crate) socket: UdpSocket,
    pub(crate) credentials: Credentials,
    pub(crate) counters: Counters,
    pub(crate) next_link: u64,
}

/// How a life ended without a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The node said goodbye.
    Left,
    /// The driver was dropped.
    Stopped,
}

/// The thread, from its first life to its last. `started` is told once, when the first life has begun or cannot.
pub(crate) fn run<T, C, E>(mut lasting: Lasting<T, C, E>, mut life: Life, started: SyncSender<io::Result<()>>)
where
    T: Table,
    C: Fn() -> u64,
    E: Fn(Event),
{
    let mut started = Some(started);
    let mut pause = PAUSE_MIN;
    let ending = loop {
        let lived = catch_unwind(AssertUnwindSafe(|| live(&mut lasting, life, &mut started)));
        let problem = match lived {
            Ok(Ok(ending)) => break ending,
            Ok(Err(error)) => {
                if let Some(started) = started.take() {
                    let _ended = started.send(Err(error));
                    return;
                }
                error.to_string()
            }
            Err(payload) => {
                let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
                // Dropping what a panic carries may panic again.
                std::mem::forget(payload);
                text.unwrap_or_else(|| "a panic without a text".to_owned())
            }
        };
        lasting.counters.panics += 1;
        lasting.journal.tell(Event::Restarted { panic: problem });
        let mut left = pause;
        while !left.is_zero() && !lasting.shared.is_stopping() {
            std::thread::sleep(LOOK.min(left));
            left = left.saturating_sub(LOOK);
        }
        if lasting.shared.is_stopping() {
            break Ending::Stopped;
        }
        pause = (pause * 2).min(PAUSE_MAX);
        life = match incarnation::take(lasting.config.incarnation_file.as_deref()) {
            Ok(next) => Life { first: false, ..next },
            // A later life all the same: the file is only needed after the process.
            Err(_) => Life {
                incarnation: ratelimit_protocol::Incarnation(life.incarnation.0.saturating_add(1 << 16)),
                first: false,
            },
        };
        let limits = Arc::clone(&lasting.shared.view().limits);
        if !limits.is_empty() {
            // With what was learnt and set since the start.
            lasting.config.node.limits = limits.to_vec();
        }
    };
    let gracefully = ending == Ending::Left;
    lasting.journal.tell(Event::Stopped { gracefully });
    let shared = Arc::clone(&lasting.shared);
    // The socket is closed and the table dropped before anybody is told of the end; neither may take the thread with it.
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(lasting)));
    if let Err(payload) = dropped {
        std::mem::forget(payload);
    }
    shared.change(|view| view.ended = Some(gracefully));
}

fn live<T, C, E>(
    lasting: &mut Lasting<T, C, E>,
    life: Life,
    started: &mut Option<SyncSender<io::Result<()>>>,
) -> io::Result<Ending>
where
    T: Table + Store,
    C: Fn() -> u64,
    E: Fn(Event),
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(2)
        .thread_keep_alive(Duration::from_secs(1))
        .thread_name("ratelimit-dns")
        .build()?;
    let outcome = runtime.block_on(engine::live(lasting, life, started));
    runtime.shutdown_timeout(RESOLVING);
    outcome
}
