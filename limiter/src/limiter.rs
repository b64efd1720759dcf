use std::fmt;
#[cfg(target_os = "linux")]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg(target_os = "linux")]
use ratelimit_core::Look;
use ratelimit_core::{Audit, Engine, Stats};
use ratelimit_model::{Decision, Limit};

use crate::keeper::Keeper;
use crate::{Builder, ClientKey, Error, Key};

/// Decides whether a client's request may go on.
///
/// A handle: clones share one table, and any number of threads may use it. Keys are bytes of any length; see [`Key`].
///
/// **Time.** Calls without a time use the limiter's own clock. Those whose name ends in `_at` take the time as a
/// [`Duration`] since an origin of the caller's choice: zero is a legal time, and so is the time since the Unix epoch. Use
/// one kind of time for one key. To mix them is safe but of little use: what a client has left to wait is carried from one
/// kind to the other. Given times may come out of order by up to the client's own window (and a second); a time further
/// back is taken as a clock that was set back, and the client then starts with a spent burst at that time, so that nobody
/// is locked out for longer than his own window.
#[derive(Clone)]
pub struct Limiter {
    pub(crate) engine: Arc<Engine>,
    /// Before the keeper, whose last snapshot has what is settled when a node says goodbye: fields are dropped in this order.
    #[cfg(feature = "cluster")]
    pub(crate) cluster: Option<Arc<crate::cluster::Member>>,
    pub(crate) keeper: Option<Arc<Keeper>>,
}

impl Limiter {
    pub(crate) fn of(engine: Arc<Engine>, keeper: Option<Keeper>) -> Self {
        Limiter {
            engine,
            keeper: keeper.map(Arc::new),
            #[cfg(feature = "cluster")]
            cluster: None,
        }
    }

    /// Starts to make a limiter.
    pub fn builder() -> Builder {
        Builder::default()
    }

    // --- Deciding ------------------------------------------------------------------------------------------------

    /// Whether one request of this client is allowed now. If so it is charged.
    ///
    /// Cost: a hash of the id, a reading of the clock, one or two lines of memory, and for an admission one
    /// compare-and-swap. No lock, no allocation, no system call.
    ///
    /// ```
    /// # let limiter = ratelimit::Limiter::builder().limit("2/minute".parse()?).build()?;
    /// assert!(limiter.is_allowed("client-7"));
    /// assert!(limiter.is_allowed(b"client-7"));
    /// assert!(!limiter.is_allowed(&String::from("client-7")));
    /// # Ok::<(), ratelimit::Error>(())
    /// ```
    #[inline]
    #[must_use = "a request that is not allowed should be turned away"]
    pub fn is_allowed<K: Key + ?Sized>(&self, key: &K) -> bool {
        self.engine.is_allowed(key.fingerprint(&self.engine))
    }

    /// Decides one request now and charges it if it is allowed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let limiter = ratelimit::Limiter::builder().limit("2/minute".parse()?).build()?;
    /// let decision = limiter.check("client-7");
    /// assert!(decision.allowed);
    /// assert_eq!((decision.limit, decision.remaining, decision.retry_after), (2, 1, Duration::ZERO));
    /// # Ok::<(), ratelimit::Error>(())
    /// ```
    #[inline]
    pub fn check<K: Key + ?Sized>(&self, key: &K) -> Decision {
        self.check_n(key, 1)
    }

    /// Decides a request that costs as much as `cost` ordinary ones: all of it is allowed and charged, or nothing.
    ///
    /// A cost of 0 is always allowed and charges nothing. A cost above the burst is never allowed, and `retry_after` is
    /// then [`Decision::NEVER`].
    #[inline]
    pub fn check_n<K: Key + ?Sized>(&self, key: &K, cost: u64) -> Decision {
        self.engine.check(key.fingerprint(&self.engine), cost, None)
    }

    /// Decides a request at a given time. See [Time](Limiter) above.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let limiter = ratelimit::Limiter::builder().limit("1/s".parse()?).build()?;
    /// assert!(limiter.check_at("client-7", 1, Duration::ZERO).allowed);
    /// let denied = limiter.check_at("client-7", 1, Duration::from_millis(400));
    /// assert_eq!(denied.retry_after, Duration::from_millis(600));
    /// assert!(limiter.check_at("client-7", 1, Duration::from_secs(1)).allowed);
    /// # Ok::<(), ratelimit::Error>(())
    /// ```
    #[inline]
    pub fn check_at<K: Key + ?Sized>(&self, key: &K, cost: u64, now: Duration) -> Decision {
        self.engine.check(key.fingerprint(&self.engine), cost, Some(now))
    }

    /// Decides one request of each key, in order, with one reading of the clock for up to 4,096 keys.
    ///
    /// Keys are hashed and their lines brought near 16 at a time, so that with many clients a decision costs a third of a
    /// single call.
    ///
    /// Errors: `keys` and `decisions` differ in length; nothing is decided then.
    ///
    /// ```
    /// # use ratelimit::Decision;
    /// # let limiter = ratelimit::Limiter::builder().limit("2/minute".parse()?).build()?;
    /// let keys = ["a", "b", "a", "a"];
    /// let mut decisions = [Decision::default(); 4];
    /// limiter.check_many(&keys, &mut decisions)?;
    /// assert_eq!(decisions.map(|decision| decision.allowed), [true, true, true, false]);
    /// # Ok::<(), ratelimit::Error>(())
    /// ```
    pub fn check_many<K: Key>(&self, keys: &[K], decisions: &mut [Decision]) -> Result<(), Error> {
        Ok(self
            .engine
            .check_many(keys, None, None, decisions, |key| key.fingerprint(&self.engine))?)
    }

    /// As [`check_many`](Limiter::check_many), with a cost for each key.
    ///
    /// Errors: the slices differ in length; nothing is decided then.
    pub fn check_many_n<K: Key>(&self, keys: &[K], costs: &[u64], decisions: &mut [Decision]) -> Result<(), Error> {
        Ok(self
            .engine
            .check_many(keys, Some(costs), None, decisions, |key| key.fingerprint(&self.engine))?)
    }

    /// As [`check_many`](Limiter::check_many), at a given time.
    ///
    /// Errors: `keys` and `decisions` differ in length; nothing is decided then.
    pub fn check_many_at<K: Key>(&self, keys: &[K], decisions: &mut [Decision], now: Duration) -> Result<(), Error> {
        Ok(self
            .engine
            .check_many(keys, None, Some(now), decisions, |key| key.fingerprint(&self.engine))?)
    }

    /// As [`check_many`](Limiter::check_many), for those who only want to know whether: faster, since nothing else is
    /// worked out.
    ///
    /// Errors: `keys` and `allowed` differ in length; nothing is decided then.
    pub fn allowed_many<K: Key>(&self, keys: &[K], allowed: &mut [bool]) -> Result<(), Error> {
        Ok(self
            .engine
            .allowed_many(keys, allowed, |key| key.fingerprint(&self.engine))?)
    }

    // --- Looking, giving back, forgetting ------------------------------------------------------------------------

    /// What [`check`](Limiter::check) would say now. Charges nothing and writes nothing.
    #[must_use]
    pub fn peek<K: Key + ?Sized>(&self, key: &K) -> Decision {
        self.peek_n(key, 1)
    }

    /// What [`check_n`](Limiter::check_n) would say now.
    #[must_use]
    pub fn peek_n<K: Key + ?Sized>(&self, key: &K, cost: u64) -> Decision {
        self.engine.peek(key.fingerprint(&self.engine), cost, None)
    }

    /// What [`check_at`](Limiter::check_at) would say.
    #[must_use]
    pub fn peek_at<K: Key + ?Sized>(&self, key: &K, cost: u64, now: Duration) -> Decision {
        self.engine.peek(key.fingerprint(&self.engine), cost, Some(now))
    }

    /// Gives `cost` requests back, for instance because what they asked for failed. A client never has more than its full
    /// burst.
    pub fn refund<K: Key + ?Sized>(&self, key: &K, cost: u64) {
        self.engine.refund(key.fingerprint(&self.engine), cost, None);
    }

    /// As [`refund`](Limiter::refund), at a given time.
    pub fn refund_at<K: Key + ?Sized>(&self, key: &K, cost: u64, now: Duration) {
        self.engine.refund(key.fingerprint(&self.engine), cost, Some(now));
    }

    /// Forgets what the client has spent and lifts its block. A limit of its own stays.
    pub fn reset<K: Key + ?Sized>(&self, key: &K) {
        self.engine.reset(key.fingerprint(&self.engine), None);
    }

    /// As [`reset`](Limiter::reset), for a client that is decided at given times.
    pub fn reset_at<K: Key + ?Sized>(&self, key: &K, now: Duration) {
        self.engine.reset(key.fingerprint(&self.engine), Some(now));
    }

    /// Denies every request of the client for a while, by the limiter's own clock. Zero lifts the block. The longest block
    /// is 208 days.
    ///
    /// Errors: there is no room for another block.
    pub fn block<K: Key + ?Sized>(&self, key: &K, duration: Duration) -> Result<(), Error> {
        Ok(self.engine.block(key.fingerprint(&self.engine), duration)?)
    }

    // --- Limits --------------------------------------------------------------------------------------------------

    /// The limits in force, in the order in which they were given.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        self.engine.limits()
    }

    /// Puts another limit in force, while decisions run. Each client keeps the share of its burst that it has spent.
    ///
    /// Errors: a limit that makes no sense, or this limiter has several limits (see [`set_limits`](Limiter::set_limits)).
    pub fn set_limit(&self, limit: Limit) -> Result<(), Error> {
        self.set_limits(&[limit])
    }

    /// Puts other limits in force, one for each that the limiter has, in the same order.
    ///
    /// Errors: another number of limits, or one that makes no sense; nothing is changed then.
    ///
    /// On a node of a cluster they are put in force on all nodes, one after the other; those that cannot be reached now learn of them
    /// later. There an error may leave the first of several changed.
    pub fn set_limits(&self, limits: &[Limit]) -> Result<(), Error> {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.cluster {
            return cluster.set_limits(limits);
        }
        Ok(self.engine.set_limits(limits)?)
    }

    /// Gives a client a limit of its own, in place of all the limiter's limits; `None` takes it away again. The client
    /// keeps the share of its burst that it has spent.
    ///
    /// Errors: a limit that makes no sense, or no room for another override; the client stays under the limit it had.
    pub fn set_override<K: Key + ?Sized>(&self, key: &K, limit: Option<Limit>) -> Result<(), Error> {
        Ok(self.engine.set_override(key.fingerprint(&self.engine), limit)?)
    }

    /// Takes all clients' own limits away. Cost: work in proportion to their number.
    pub fn clear_overrides(&self) {
        self.engine.clear_overrides();
    }

    // --- The rest ------------------------------------------------------------------------------------------------

    /// Hashes an id once, to be used often.
    #[inline]
    #[must_use]
    pub fn key<K: Key + ?Sized>(&self, key: &K) -> ClientKey {
        ClientKey(key.fingerprint(&self.engine))
    }

    /// What was done and how full the table is. Cost: bounded, whatever the size of the table.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.engine.stats();
        stats.snapshot = self.keeper.as_ref().map(|keeper| keeper.stats());
        stats
    }

    /// Writes a snapshot now, and returns when it is durable. Decisions go on meanwhile.
    ///
    /// Errors: the disk failed (the snapshot before is as it was, and the next is tried as ever), the limiter
    /// [keeps](Builder::persist) no snapshot or was closed, or this is a forked child of the process that made it.
    pub fn snapshot(&self) -> Result<(), Error> {
        match &self.keeper {
            Some(keeper) => keeper.write(),
            None => Err(Error::NotPersistent(
                "this limiter keeps no snapshot: make it with persist(path, period)".to_owned(),
            )),
        }
    }

    /// Says goodbye to the [cluster](Builder::cluster), if there is one; writes a last snapshot, if snapshots are
    /// [kept](Builder::persist) and anything changed, and gives its place to others. For all clones of this handle; dropping the
    /// last does the same. Decisions go on from memory.
    ///
    /// Errors: the disk failed; the snapshot before is as it was.
    pub fn close(&self) -> Result<(), Error> {
        // First: what others give back or take over now is in the snapshot.
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.cluster {
            cluster.close();
        }
        self.keeper.as_ref().map_or(Ok(()), |keeper| keeper.close())
    }

    /// The same numbers by name, for languages that show them as a map: `allowed`, `denied`, `live_keys` and so on, named
    /// as in [`prometheus`](Limiter::prometheus) without the prefix and the `_total`.
    #[must_use]
    pub fn stats_by_name(&self) -> Vec<(&'static str, u64)> {
        crate::prometheus::named(&self.stats()).collect()
    }

    /// Lists the clients that ask most and those that are denied most, from now on, or no longer. Off at first.
    ///
    /// Cost: none for a decision that is not sampled, which are all but about one in a thousand, and one in 256 denials. Memory: 512
    /// clients a list.
    pub fn list_clients(&self, lists: bool) {
        self.engine.list_clients(lists);
    }

    /// Up to `n` clients of each list, those with the most requests first. Empty until they are
    /// [listed](Limiter::list_clients).
    ///
    /// Clients go by their fingerprint, which says nothing of the id: compare it with that of an id that you suspect, by
    /// [`fingerprint_of`](Limiter::fingerprint_of). Counts are estimates.
    #[must_use]
    pub fn top(&self, n: usize) -> Top {
        let [denied, used] = self.engine.top(n).map(|list| {
            let heavy = list.into_iter().map(|heavy| HeavyClient {
                fingerprint: shown(heavy.client),
                requests: heavy.count,
                overcount: heavy.overcount,
            });
            heavy.collect()
        });
        Top { denied, used }
    }

    /// What a client is called in [`top`](Limiter::top).
    #[must_use]
    pub fn fingerprint_of<K: Key + ?Sized>(&self, key: &K) -> String {
        shown(key.fingerprint(&self.engine))
    }

    /// The same as text for Prometheus, in its exposition format 0.0.4.
    #[must_use]
    pub fn prometheus(&self) -> String {
        #[cfg_attr(not(feature = "cluster"), allow(unused_mut))]
        let mut text = crate::prometheus::text(&self.stats());
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.cluster {
            cluster.prometheus(&mut text);
        }
        text
    }

    /// Looks at every cell and says whether the table is in order. Exact only while nobody decides.
    ///
    /// Cost: work in proportion to the table.
    #[must_use]
    pub fn audit(&self) -> Audit {
        self.engine.audit()
    }

    // --- The cluster ---------------------------------------------------------------------------------------------

    /// The other nodes of the [cluster](Builder::cluster) as this one sees them, by name; none without a cluster.
    ///
    /// Starts the node if it does not run yet. Cost: a copy of what the node's thread wrote down within the last second.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn peers(&self) -> Vec<crate::Peer> {
        self.cluster.as_ref().map_or_else(Vec::new, |cluster| cluster.peers())
    }

    /// Waits until every seed of the [cluster](Builder::cluster) is linked, at most for `timeout`; false if that is over first, or in a
    /// forked child that is no node. Without a cluster it is true at once.
    ///
    /// Decisions need not wait for it: a node without links decides by what its [mode](crate::Mode) allows.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn ready(&self, timeout: Duration) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.ready(timeout))
    }

    /// Whether waiting for [`ready`](Limiter::ready) makes sense: not in a forked child of a node, not after
    /// [`close`](Limiter::close), and not if the node could not start. True without a cluster.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn may_become_ready(&self) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.may_become_ready())
    }

    // --- Shared tables -------------------------------------------------------------------------------------------

    /// Removes the [shared](Builder::share) table of a name from `/dev/shm`. False if there was none.
    ///
    /// Errors: limiters are attached to it, or the file is another user's.
    #[cfg(target_os = "linux")]
    pub fn unshare(name: &str) -> Result<bool, Error> {
        Self::unshare_in(ratelimit_core::SHARE_DIRECTORY, name)
    }

    /// As [`unshare`](Limiter::unshare), for a table in another [directory](Builder::share_directory).
    #[cfg(target_os = "linux")]
    pub fn unshare_in(directory: impl AsRef<Path>, name: &str) -> Result<bool, Error> {
        Ok(Engine::remove_shared(directory.as_ref(), name)?)
    }

    /// Looks at the [shared](Builder::share) table of a name from outside: takes part in nothing and writes no cell. `None` if there
    /// is none.
    ///
    /// Errors: the file is no table, from another boot, or another user's. Cost: work in proportion to the table.
    #[cfg(target_os = "linux")]
    pub fn look_at_shared(directory: impl AsRef<Path>, name: &str) -> Result<Option<Look>, Error> {
        Ok(Engine::look_at_shared(directory.as_ref(), name)?)
    }

    /// Makes the table's memory read-only: the proof that a denial writes nothing.
    #[cfg(unix)]
    #[doc(hidden)]
    pub fn write_protect(&self) -> std::io::Result<()> {
        self.engine.write_protect()
    }
}

fn shown(client: ratelimit_core::Fingerprint) -> String {
    format!("{:08x}", client.bits() >> 32)
}

/// Who is seen most, from a sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Top {
    /// Clients that were denied most.
    pub denied: Vec<HeavyClient>,
    /// Clients that asked most, whatever the answer.
    pub used: Vec<HeavyClient>,
}

/// A client that is seen often.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeavyClient {
    /// Eight hexadecimal digits of its keyed hash.
    pub fingerprint: String,
    /// How many requests, estimated.
    pub requests: u64,
    /// By how much that may be too high, because other clients had its place before.
    pub overcount: u64,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("limits", &self.limits())
            .finish_non_exhaustive()
    }
}
