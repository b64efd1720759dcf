//! The limiter's methods.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use ratelimit::options::{Dialect, Options};
use ratelimit::{Error, Peer, Wait};

use crate::clock::ManualClock;
use crate::decision::{Decision, Shown};
use crate::error::{argument, raise};
use crate::guard::guard;
use crate::key::{ClientKey, client};
use crate::{convert, limit};

/// From so many keys on, a batch lets other threads run while it decides. Below, handing the GIL over and taking it back
/// costs more than the others gain.
const RELEASE_FROM: usize = 4_096;

/// The longest sleep that is asked of `time.sleep` at once: platforms differ in what they take.
const LONGEST_SLEEP: Duration = Duration::from_secs(86_400);

/// How often one who waits for the cluster looks.
const READY_LOOK: Duration = Duration::from_millis(20);

/// The native half of `ratelimit.Limiter`, which adds what is written in Python.
#[pyclass(frozen, subclass, module = "ratelimit._native")]
pub(crate) struct Limiter {
    limiter: ratelimit::Limiter,
    shown: Arc<Shown>,
    /// Once set, every call is refused. The table stays until the last call and the last handle are gone, so that a call
    /// which passed the check before is safe.
    closed: AtomicBool,
}

impl Limiter {
    /// The limiter, unless it is closed.
    #[inline]
    pub(crate) fn open(&self, py: Python<'_>) -> PyResult<&ratelimit::Limiter> {
        // Relaxed: nothing is read that the thread which closes wrote before. A call at the same time may come first.
        if self.closed.load(Ordering::Relaxed) {
            return Err(raise(py, Error::Closed));
        }
        Ok(&self.limiter)
    }

    /// Decides one request: what `check` does.
    #[inline]
    pub(crate) fn decide(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        cost: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Decision> {
        let limiter = self.open(py)?;
        let (client, cost) = (client(limiter, key)?, convert::cost(cost)?);
        Ok(self.decision(match convert::now(now)? {
            None => limiter.check_n(&client, cost),
            Some(now) => limiter.check_at(&client, cost, now),
        }))
    }

    fn decision(&self, inner: ratelimit::Decision) -> Decision {
        Decision {
            inner,
            shown: Arc::clone(&self.shown),
        }
    }

    /// The clients of a batch. The keys may be let go afterwards.
    fn clients(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<Vec<ratelimit::ClientKey>> {
        let limiter = self.open(py)?;
        // A tuple cannot change while it is read, and keeps the keys: each can then be looked at without being held.
        let tuple = match keys.cast::<PyList>() {
            Ok(list) => Some(list.to_tuple()),
            Err(_) => keys.cast::<PyTuple>().ok().cloned(),
        };
        if let Some(tuple) = tuple {
            let mut clients = Vec::with_capacity(tuple.len());
            for key in tuple.iter_borrowed() {
                clients.push(client(limiter, &key)?);
            }
            return Ok(clients);
        }
        if keys.is_instance_of::<PyString>() || keys.is_instance_of::<PyBytes>() {
            return Err(argument(
                py,
                format!(
                    "keys is {}: it takes a list of keys, or any other iterable of them",
                    keys.get_type().name()?
                ),
            ));
        }
        let mut clients = Vec::new();
        for key in keys.try_iter()? {
            clients.push(client(limiter, &key?)?);
        }
        Ok(clients)
    }
}

/// Decides a batch, without the GIL if it is a large one.
fn detach_if_large<T: Send>(py: Python<'_>, keys: usize, decide: impl FnOnce() -> T + Send) -> T {
    if keys >= RELEASE_FROM {
        py.detach(decide)
    } else {
        decide()
    }
}

/// Removes the shared table of this name. True if there was one.
///
/// Errors: limiters of some process are attached to it. One is until the object is gone: close() alone does not let go.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub(crate) fn unshare(py: Python<'_>, name: &str) -> PyResult<bool> {
    guard(|| ratelimit::Limiter::unshare(name).map_err(|error| raise(py, error)))
}

#[pymethods]
impl Limiter {
    #[new]
    #[pyo3(signature = (rate_limit = None, time_window = None, **options))]
    fn new(
        py: Python<'_>,
        rate_limit: Option<&Bound<'_, PyAny>>,
        time_window: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        guard(|| {
            let mut given = Options::new(Dialect::SnakeSeconds);
            let mut set = |name: &str, value: &Bound<'_, PyAny>| -> PyResult<()> {
                if name == "clock"
                    && let Ok(clock) = value.cast::<ManualClock>()
                {
                    given.use_clock(clock.get().clock.clone());
                    return Ok(());
                }
                let value = convert::option(value)?;
                given.set(name, value).map_err(|error| raise(py, error))
            };
            for (name, value) in [("rate_limit", rate_limit), ("time_window", time_window)] {
                if let Some(value) = value {
                    set(name, value)?;
                }
            }
            for (name, value) in options.into_iter().flatten() {
                set(&name.cast::<PyString>()?.to_string_lossy(), &value)?;
            }
            let limiter = given.build().map_err(|error| raise(py, error))?;
            Ok(Limiter {
                shown: Shown::new(py, limiter.limits())?,
                limiter,
                closed: AtomicBool::new(false),
            })
        })
    }

    // `is_allowed` and `check` are in `fast.rs`.

    /// Decides one request of each key, in order, with one reading of the clock for up to 4,096 keys.
    ///
    /// costs: one for each key; without it each costs 1. Large batches let other threads run.
    #[pyo3(signature = (keys, costs = None))]
    fn check_many<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
        costs: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        guard(|| {
            let clients = self.clients(py, keys)?;
            let costs = costs
                .map(|costs| {
                    costs
                        .try_iter()?
                        .map(|cost| convert::a_cost(&cost?))
                        .collect::<PyResult<Vec<u64>>>()
                })
                .transpose()?;
            let mut decisions = vec![ratelimit::Decision::default(); clients.len()];
            detach_if_large(py, clients.len(), || match &costs {
                Some(costs) => self.limiter.check_many_n(&clients, costs, &mut decisions),
                None => self.limiter.check_many(&clients, &mut decisions),
            })
            .map_err(|error| raise(py, error))?;
            PyList::new(py, decisions.into_iter().map(|decision| self.decision(decision)))
        })
    }

    /// As check_many, for those who only want to know whether: faster, since nothing else is worked out.
    #[pyo3(signature = (keys))]
    fn allowed_many<'py>(&self, py: Python<'py>, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        guard(|| {
            let clients = self.clients(py, keys)?;
            let mut allowed = vec![false; clients.len()];
            detach_if_large(py, clients.len(), || self.limiter.allowed_many(&clients, &mut allowed))
                .map_err(|error| raise(py, error))?;
            PyList::new(py, allowed)
        })
    }

    /// What check would say. Charges nothing.
    #[pyo3(signature = (key, cost = None, *, now = None), text_signature = "($self, key, cost=1, *, now=None)")]
    fn peek(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        cost: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Decision> {
        guard(|| {
            let limiter = self.open(py)?;
            let (client, cost) = (client(limiter, key)?, convert::cost(cost)?);
            Ok(self.decision(match convert::now(now)? {
                None => limiter.peek_n(&client, cost),
                Some(now) => limiter.peek_at(&client, cost, now),
            }))
        })
    }

    /// Gives requests back, for instance because what they asked for failed. Never more than the full burst.
    #[pyo3(signature = (key, cost = None, *, now = None), text_signature = "($self, key, cost=1, *, now=None)")]
    fn refund(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        cost: Option<&Bound<'_, PyAny>>,
        now: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        guard(|| {
            let limiter = self.open(py)?;
            let (client, cost) = (client(limiter, key)?, convert::cost(cost)?);
            match convert::now(now)? {
                None => limiter.refund(&client, cost),
                Some(now) => limiter.refund_at(&client, cost, now),
            }
            Ok(())
        })
    }

    /// Forgets what the client has spent and lifts its block. A limit of its own stays.
    #[pyo3(signature = (key, *, now = None))]
    fn reset(&self, py: Python<'_>, key: &Bound<'_, PyAny>, now: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        guard(|| {
            let limiter = self.open(py)?;
            let client = client(limiter, key)?;
            match convert::now(now)? {
                None => limiter.reset(&client),
                Some(now) => limiter.reset_at(&client, now),
            }
            Ok(())
        })
    }

    /// Denies every request of the client for so many seconds, by the limiter's own clock. 0 lifts the block. The longest
    /// block is 208 days.
    #[pyo3(signature = (key, seconds))]
    fn block(&self, py: Python<'_>, key: &Bound<'_, PyAny>, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        guard(|| {
            let limiter = self.open(py)?;
            let (client, duration) = (client(limiter, key)?, convert::seconds("seconds", seconds)?);
            limiter.block(&client, duration).map_err(|error| raise(py, error))
        })
    }

    /// Waits until the request is allowed, and charges it. False if it cannot be within timeout seconds (None: however
    /// long it takes), or ever: that is said at once, without waiting.
    ///
    /// This thread sleeps meanwhile, by time.sleep: others run, Ctrl-C ends it, gevent can replace it.
    #[pyo3(signature = (key, cost = None, timeout = None), text_signature = "($self, key, cost=1, timeout=None)")]
    fn acquire(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        cost: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        guard(|| {
            let (client, cost) = (client(self.open(py)?, key)?, convert::cost(cost)?);
            // A time beyond what the system can tell is as good as none.
            let until = convert::timeout(timeout)?.and_then(|timeout| Instant::now().checked_add(timeout));
            loop {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                match Wait::after(&self.open(py)?.check_n(&client, cost), left) {
                    Wait::Allowed => return Ok(true),
                    Wait::GiveUp => return Ok(false),
                    Wait::Sleep(time) => {
                        let time = time.min(LONGEST_SLEEP).as_secs_f64();
                        py.import("time")?.call_method1("sleep", (time,))?;
                    }
                }
            }
        })
    }

    /// One step of one who waits: 0.0 if the request was allowed and charged, math.inf if waiting does not help, otherwise
    /// how many seconds to wait before asking again. With `look` nothing is charged.
    #[pyo3(signature = (key, cost, left, look = false))]
    fn _acquire_step(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        cost: &Bound<'_, PyAny>,
        left: Option<&Bound<'_, PyAny>>,
        look: bool,
    ) -> PyResult<f64> {
        guard(|| {
            let limiter = self.open(py)?;
            let (client, cost, left) = (client(limiter, key)?, convert::a_cost(cost)?, convert::timeout(left)?);
            let decision = if look {
                limiter.peek_n(&client, cost)
            } else {
                limiter.check_n(&client, cost)
            };
            Ok(match Wait::after(&decision, left) {
                Wait::Allowed => 0.0,
                Wait::GiveUp => f64::INFINITY,
                // Zero would say allowed.
                Wait::Sleep(time) => time.as_secs_f64().max(1e-9),
            })
        })
    }

    /// The other nodes of the cluster, as a list of dicts: name, address, state ("linked", "unheard", "alive", "suspect", "dead", "left"), rtt
    /// (seconds, None without a link), lag (seconds), unacked_units, sent_bytes, received_bytes. Empty without a cluster.
    fn peers<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        guard(|| {
            let peers = self.open(py)?.peers();
            let told = |peer: Peer| {
                let dict = PyDict::new(py);
                dict.set_item("name", peer.name)?;
                dict.set_item("address", peer.address)?;
                dict.set_item("state", peer.state.name())?;
                dict.set_item("rtt", peer.rtt.map(convert::as_seconds))?;
                dict.set_item("lag", convert::as_seconds(peer.lag))?;
                dict.set_item("unacked_units", peer.unacked_units)?;
                dict.set_item("sent_bytes", peer.sent_bytes)?;
                dict.set_item("received_bytes", peer.received_bytes)?;
                Ok(dict)
            };
            peers.into_iter().map(told).collect()
        })
    }

    /// Waits until every seed is linked, at most timeout seconds (None: however long it takes). True at once without a cluster;
    /// False at once in a forked child of a node, or if the node could not start.
    ///
    /// This thread sleeps meanwhile, by time.sleep: others run, Ctrl-C ends it, gevent can replace it.
    #[pyo3(signature = (timeout = None), text_signature = "($self, timeout=None)")]
    fn ready(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        guard(|| {
            let until = convert::timeout(timeout)?.and_then(|timeout| Instant::now().checked_add(timeout));
            while !self.open(py)?.ready(Duration::ZERO) {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                if left == Some(Duration::ZERO) || !self.open(py)?.may_become_ready() {
                    return Ok(false);
                }
                let time = left.map_or(READY_LOOK, |left| left.min(READY_LOOK)).as_secs_f64();
                py.import("time")?.call_method1("sleep", (time,))?;
            }
            Ok(true)
        })
    }

    /// The limits in force, in the order in which they were given.
    #[getter]
    fn limits(&self, py: Python<'_>) -> PyResult<Vec<limit::Limit>> {
        guard(|| Ok(self.open(py)?.limits().into_iter().map(limit::Limit).collect()))
    }

    /// Puts another limit in force while decisions run. Each client keeps the share of its burst that it has spent.
    #[pyo3(signature = (limit))]
    fn set_limit(&self, py: Python<'_>, limit: &Bound<'_, PyAny>) -> PyResult<()> {
        guard(|| self.put(py, &[limit::parse(py, limit)?]))
    }

    /// Puts other limits in force, one for each that the limiter has, in the same order.
    #[pyo3(signature = (limits))]
    fn set_limits(&self, py: Python<'_>, limits: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        guard(|| {
            let limits = limits
                .iter()
                .map(|limit| limit::parse(py, limit))
                .collect::<PyResult<Vec<_>>>()?;
            self.put(py, &limits)
        })
    }

    /// Gives a client a limit of its own, in place of all the limiter's limits; None takes it away again.
    #[pyo3(signature = (key, limit))]
    fn set_override(&self, py: Python<'_>, key: &Bound<'_, PyAny>, limit: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        guard(|| {
            let limiter = self.open(py)?;
            let limit = limit.map(|limit| limit::parse(py, limit)).transpose()?;
            limiter
                .set_override(&client(limiter, key)?, limit)
                .map_err(|error| raise(py, error))
        })
    }

    /// Takes all clients' own limits away.
    fn clear_overrides(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| {
            self.open(py)?.clear_overrides();
            Ok(())
        })
    }

    /// Hashes an id once, to be used often: every call takes the result in place of the id.
    #[pyo3(signature = (key, /))]
    fn key(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<ClientKey> {
        guard(|| Ok(ClientKey(client(self.open(py)?, key)?)))
    }

    /// What was done and how full the table is: numbers by name, and the clock's name.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guard(|| {
            let limiter = self.open(py)?;
            let stats = PyDict::new(py);
            for (name, value) in limiter.stats_by_name() {
                stats.set_item(name, value)?;
            }
            stats.set_item("clock", limiter.stats().clock)?;
            Ok(stats)
        })
    }

    /// The same as text for Prometheus, in its exposition format 0.0.4.
    fn prometheus(&self, py: Python<'_>) -> PyResult<String> {
        guard(|| Ok(self.open(py)?.prometheus()))
    }

    /// Writes a snapshot now, and returns when it is durable. Other threads run meanwhile.
    ///
    /// Errors: the disk failed, or the limiter was made without path.
    fn snapshot(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| {
            let limiter = self.open(py)?;
            py.detach(|| limiter.snapshot()).map_err(|error| raise(py, error))
        })
    }

    /// Ends the limiter: every later call but this one is refused. With path a last snapshot is written. Also the end of a
    /// `with` statement, and of the program.
    ///
    /// Errors: the disk failed; the snapshot before is as it was, and the limiter is closed.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        guard(|| {
            // Relaxed: see `open`. Of two that close at once, the first writes.
            if self.closed.swap(true, Ordering::Relaxed) {
                return Ok(());
            }
            py.detach(|| self.limiter.close()).map_err(|error| raise(py, error))
        })
    }

    /// Whether it is closed.
    #[getter]
    fn closed(&self) -> PyResult<bool> {
        guard(|| Ok(self.closed.load(Ordering::Relaxed)))
    }

    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        guard(|| {
            slf.get().open(slf.py())?;
            Ok(slf)
        })
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> PyResult<String> {
        guard(|| {
            let limits: Vec<String> = self.limiter.limits().iter().map(|limit| format!("'{limit}'")).collect();
            let closed = if self.closed.load(Ordering::Relaxed) {
                ", closed"
            } else {
                ""
            };
            Ok(match limits.as_slice() {
                [limit] => format!("Limiter({limit}{closed})"),
                limits => format!("Limiter([{}]{closed})", limits.join(", ")),
            })
        })
    }
}

impl Limiter {
    fn put(&self, py: Python<'_>, limits: &[ratelimit::Limit]) -> PyResult<()> {
        let limiter = self.open(py)?;
        // A node of a cluster waits for its thread.
        let set = py.detach(|| limiter.set_limits(limits));
        set.map_err(|error| raise(py, error))?;
        self.shown.replace(py, limits.to_vec())
    }
}
