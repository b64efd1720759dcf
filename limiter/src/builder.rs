use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ratelimit_core::snapshot::{Restore, Restored};
use ratelimit_core::{Clock, Config, Engine, HashKey, Overflow, SHARE_DIRECTORY, Sharing, With};
use ratelimit_model::Limit;

use crate::keeper::Persist;
use crate::{Error, Limiter};

/// How long one waits for another process that is filling a shared table from its snapshot.
const LONGEST_START: Duration = Duration::from_secs(30);

/// Makes a [`Limiter`]. Only a limit is needed.
///
/// ```
/// use ratelimit::{Clock, Limiter};
///
/// let limiter = Limiter::builder()
///     .limit("10/s".parse()?)
///     .limit("1000/day".parse()?)
///     .max_keys(1_000_000)
///     .clock(Clock::coarse())
///     .build()?;
/// # Ok::<(), ratelimit::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder makes nothing until build() is called"]
pub struct Builder {
    limits: Vec<Limit>,
    max_keys: Option<u64>,
    hash_key: Option<HashKey>,
    clock: Option<Clock>,
    overflow: Overflow,
    persist: Option<Persist>,
    restore: Restore,
    share: Share,
    #[cfg(feature = "cluster")]
    cluster: Option<crate::ClusterConfig>,
}

/// What was asked for of sharing.
#[derive(Clone, Debug, Default)]
struct Share {
    name: Option<String>,
    with_children: bool,
    directory: Option<PathBuf>,
    replace_limits: bool,
}

impl Builder {
    /// Adds a limit. With several (at most 8) a request is allowed only if all allow it, and then all are charged; if one
    /// denies, none is charged.
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Makes room for so many clients with debt at the same time, and bounds the memory by it.
    ///
    /// Sizes: about 33 bytes per client and limit, reserved as addresses now and used as they are touched. A client takes
    /// room only while it has debt: after `reset_after` its place is free. Without this call the table starts at 64 KiB and
    /// grows on its own, up to 40 million cells (615 MiB); a table whose size is known is up to twice as fast.
    pub fn max_keys(mut self, max_keys: usize) -> Self {
        self.max_keys = Some(max_keys as u64);
        self
    }

    /// The clock that decides; [`Clock::precise`] if none is given.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The secret that keys the hash of ids; random if none is given. Attackers who know it can choose ids that share a
    /// budget.
    pub fn hash_key(mut self, secret: [u8; 16]) -> Self {
        self.hash_key = Some(HashKey::new(secret));
        self
    }

    /// What happens to clients that find the table full; [`Overflow::Share`] if nothing is said.
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Keeps what clients owe in a file, so that a limit outlives the process: written `every` so often in the background, and once
    /// more when the limiter is closed or its last handle dropped; read by [`build`](Builder::build).
    ///
    /// After a crash a client has at most one burst more than it should, and never waits longer than its own window. Nothing that
    /// happens to the file or the disk changes a decision: failures are events (of the crate `tracing`), figures of
    /// [`Stats::snapshot`](crate::Stats) and metrics. What is kept is 16 bytes for each client with debt, without its id, for this
    /// user alone. Beside `path` lie `path.1` (the snapshot before), `path.key` (the secret, unless
    /// [`hash_key`](Builder::hash_key) gives one) and `path.lock`. A directory that does not exist is made.
    ///
    /// Overrides are configuration and are not kept: set them again after `build`. The thread starts with the first
    /// decision; a forked child keeps deciding, and does not write. Of the processes on a [shared](Builder::share) table one is
    /// elected to write, among those that were given the same `path`; when it is gone another is.
    ///
    /// ```
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("api.snapshot");
    /// use ratelimit::Limiter;
    /// use std::time::Duration;
    ///
    /// let limiter = Limiter::builder()
    ///     .limit("100/minute".parse()?)
    ///     .persist(path, Duration::from_secs(1))
    ///     .build()?;
    /// assert!(limiter.is_allowed("client-7"));
    /// limiter.snapshot()?; // now, beside those written every second
    /// # Ok::<(), ratelimit::Error>(())
    /// ```
    pub fn persist(mut self, path: impl Into<PathBuf>, every: Duration) -> Self {
        self.persist = Some(Persist {
            path: path.into(),
            every,
        });
        self
    }

    /// What to do about a snapshot that is damaged; [`Restore::Auto`] if nothing is said. Without
    /// [`persist`](Builder::persist) there is none, and nothing to do.
    pub fn restore(mut self, restore: Restore) -> Self {
        self.restore = restore;
        self
    }

    /// Uses one table with all processes of this user on this host that give the same name: together they admit what one process
    /// would. A decision costs the same. On Linux.
    ///
    /// The name has 1 to 100 letters, digits, dots, hyphens and underscores. The first process makes the table, with
    /// its limits, size, hash key and clock; the others use that one, and are refused with an error if they were given other limits, or
    /// explicitly another size, hash key or clock (see [`replace_limits`](Builder::replace_limits)). If nobody uses the
    /// table any more, the next process puts its own limits in force and clients keep the share of their burst that is spent;
    /// another size or number of limits makes a new table then.
    ///
    /// **What is left.** The table outlives its processes, so that a restart of all workers resets nobody; it goes when the
    /// machine is started anew, or by [`Limiter::unshare`](crate::Limiter::unshare). It is a file of mode 0600 on the tmpfs
    /// [`/dev/shm`](Builder::share_directory), all of it taken at once: about 33 bytes for each of
    /// [`max_keys`](Builder::max_keys) and limit, 8 MiB for the 250,000 keys that there are room for if nothing is said. Do not
    /// shorten it while it is in use: every access beyond its end ends the process (SIGBUS).
    ///
    /// **What a crash does.** A process may be killed at any instant: the others go on, and at most the requests
    /// that it was deciding count without having been answered. At most 256 limiters can be attached at a time.
    ///
    /// **Versions.** Builds whose tables are laid out differently use different files, so while a new version replaces an
    /// old one a client may spend its burst on both.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use ratelimit::Limiter;
    ///
    /// # let name = &format!("doc-{}", std::process::id());
    /// let worker = || Limiter::builder().limit("2/hour".parse()?).share(name).build();
    /// let (one, other) = (worker()?, worker()?);
    /// assert!(one.is_allowed("client-7") && other.is_allowed("client-7"));
    /// assert!(!one.is_allowed("client-7") && !other.is_allowed("client-7"));
    /// # drop((one, other));
    /// # Limiter::unshare(name)?;
    /// # }
    /// # Ok::<(), ratelimit::Error>(())
    /// ```
    pub fn share(mut self, name: impl Into<String>) -> Self {
        self.share.name = Some(name.into());
        self
    }

    /// Uses one table with the processes that are forked from this one after the limiter is made, as servers do that load an
    /// application first and fork their workers then. Without it a fork copies the table, and each worker admits the whole
    /// limit. On Linux.
    ///
    /// There is no name and no file, and the table goes with its last process. Size and what a crash does: as with
    /// [`share`](Builder::share), but memory is used as it is touched.
    pub fn share_with_children(mut self) -> Self {
        self.share.with_children = true;
        self
    }

    /// Where the file of a [shared](Builder::share) table lies: a directory on a tmpfs; `/dev/shm` if nothing is said. For
    /// containers that share a tmpfs mounted elsewhere.
    pub fn share_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.share.directory = Some(directory.into());
        self
    }

    /// Puts this limiter's limits in force for all processes on the [shared](Builder::share) table if it has others, instead of
    /// failing. There must be as many. Clients keep the share of their burst that is spent.
    pub fn replace_limits(mut self, replace: bool) -> Self {
        self.share.replace_limits = replace;
        self
    }

    /// Makes the limiter one node of several that keep one limit; see [`ClusterConfig`](crate::ClusterConfig).
    ///
    /// Every node decides by itself, in the time of a limiter without a cluster, and tells the owner of a key what was spent; owners
    /// answer with the part that each node may spend. Nodes find each other by [seeds](crate::ClusterConfig::seeds) and trust each
    /// other by certificates; all have the same limits, in the same order.
    ///
    /// The certificates are read and the UDP port is taken by [`build`](Builder::build). The thread that speaks to the others starts
    /// with the first decision or with [`ready`](crate::Limiter::ready); [`close`](crate::Limiter::close) and dropping the last
    /// handle hand over what this node owns and say goodbye, which takes up to five seconds.
    ///
    /// **What is different in a cluster.** A decision's `remaining` is what this node may spend now. Requests whose time is given are
    /// decided by this node alone, and denied under a bounded or strict limit. A block holds on this node, and so does a reset, which
    /// forgets what was spent only under an eventual limit. A client cannot have a limit of its own. [`set_limit`](crate::Limiter::set_limit) changes the
    /// limit on all nodes. A table is not shared with other processes at the same time, and a forked child is no node.
    #[cfg(feature = "cluster")]
    pub fn cluster(mut self, config: crate::ClusterConfig) -> Self {
        self.cluster = Some(config);
        self
    }

    /// Whether it is to be a node of a cluster.
    pub(crate) fn has_cluster(&self) -> bool {
        #[cfg(feature = "cluster")]
        return self.cluster.is_some();
        #[cfg(not(feature = "cluster"))]
        false
    }

    fn sharing(&self) -> Result<Option<Sharing>, Error> {
        let refuse = |text: &str| Err(Error::ShareMismatch(text.to_owned()));
        let with = match (&self.share.name, self.share.with_children) {
            (Some(_), true) => {
                return refuse(
                    "a table is shared by name or with children, not both: a named one is shared with children too",
                );
            }
            (Some(name), false) => With::Name {
                name: name.clone(),
                directory: self.share.directory.clone().unwrap_or_else(|| SHARE_DIRECTORY.into()),
            },
            (None, _) if self.share.directory.is_some() => {
                return refuse("a share_directory needs a name for the table in it: call share");
            }
            (None, _) if self.share.replace_limits => {
                return refuse("there is no shared table whose limits could be replaced: call share");
            }
            (None, true) => With::Children,
            (None, false) => return Ok(None),
        };
        Ok(Some(Sharing {
            with,
            replace_limits: self.share.replace_limits,
            hash_key_matters: self.hash_key.is_some(),
            clock_matters: self.clock.is_some(),
        }))
    }

    /// Makes the limiter. Starts no thread, and opens no file unless snapshots are [kept](Builder::persist) or the table is
    /// [shared](Builder::share).
    ///
    /// Errors: no limit or too many, a limit that makes no sense, a `max_keys` beyond what can be addressed, or no memory; a
    /// snapshot path that cannot be used or that another limiter uses, or no whole snapshot where one is required; for a shared
    /// table a name that cannot be, other limits than it has, too many processes, or no room for its file.
    pub fn build(self) -> Result<Limiter, Error> {
        #[cfg(feature = "cluster")]
        if self.cluster.is_some() {
            return self.build_node();
        }
        let Some(sharing) = self.sharing()? else {
            return self.build_private();
        };
        let Some(persist) = self.persist.clone() else {
            let hash_key = self.hash_key.clone().map_or_else(random_key, Ok)?;
            return Ok(Limiter::of(
                Arc::new(Engine::shared(self.config(hash_key), sharing)?),
                None,
            ));
        };
        self.build_shared_and_kept(&sharing, persist)
    }

    pub(crate) fn has_no_limits(&self) -> bool {
        self.limits.is_empty()
    }

    pub(crate) fn overflow_given(&self) -> Overflow {
        self.overflow
    }

    fn config(&self, hash_key: HashKey) -> Config {
        Config {
            limits: self.limits.clone(),
            max_keys: self.max_keys,
            hash_key,
            clock: self.clock.clone().unwrap_or_else(Clock::precise),
            overflow: self.overflow,
        }
    }

    fn build_private(self) -> Result<Limiter, Error> {
        let Some(persist) = self.persist.clone() else {
            let hash_key = self.hash_key.clone().map_or_else(random_key, Ok)?;
            return Ok(Limiter::of(Arc::new(Engine::new(self.config(hash_key))?), None));
        };
        // Before the key: whoever holds the place may make it.
        let mut disk = persist.open()?;
        let hash_key = self.hash_key.clone().map_or_else(|| persist.hash_key(), Ok)?;
        let mut engine = Engine::new(self.config(hash_key))?;
        let restored = persist.restore(&mut disk, &mut engine, self.restore)?;
        let (engine, keeper) = persist.keep(engine, Some(disk), restored, self.hash_key.is_none());
        Ok(Limiter::of(engine, Some(keeper)))
    }

    /// One node of a cluster. Its socket is bound last, so that whatever else is wrong leaves the port free.
    #[cfg(feature = "cluster")]
    fn build_node(mut self) -> Result<Limiter, Error> {
        let cluster = self.cluster.take().unwrap_or_default();
        if self.sharing()?.is_some() {
            return Err(Error::Unsupported(
                "a table is shared with other processes or kept by a cluster, not both: give each process a node of its own, with a name \
                 and a port"
                    .to_owned(),
            ));
        }
        let path = self.persist.as_ref().map(|persist| persist.path.as_path());
        let resolved = cluster.resolve(&self.limits, path)?;
        let hash_key = HashKey::new(resolved.secret);
        if self
            .hash_key
            .as_ref()
            .is_some_and(|given| given.check_value() != hash_key.check_value())
        {
            return Err(Error::Option(
                "hash_key is not the cluster's secret, which keys the hash on all nodes: leave hash_key out".to_owned(),
            ));
        }
        let modes = crate::cluster::modes(&resolved.driver.node.limits);
        let mut engine = Engine::clustered(self.config(hash_key), &crate::cluster::unconfirmed(&modes))?;
        let kept = match self.persist.clone() {
            None => None,
            Some(persist) => {
                let mut disk = persist.open()?;
                let restored = persist.restore(&mut disk, &mut engine, self.restore)?;
                Some((persist, disk, restored))
            }
        };
        let prepared = ratelimit_quic::Driver::prepare(resolved.driver).map_err(crate::cluster::start_error)?;
        let (engine, keeper) = match kept {
            None => (Arc::new(engine), None),
            Some((persist, disk, restored)) => {
                // The secret is the cluster's: it lies with the certificates, and not beside the snapshot.
                let (engine, keeper) = persist.keep(engine, Some(disk), restored, false);
                (engine, Some(keeper))
            }
        };
        let mut limiter = Limiter::of(engine, keeper);
        limiter.cluster = Some(Arc::new(crate::cluster::Member::new(
            limiter.engine.clone(),
            prepared,
            modes,
        )));
        Ok(limiter)
    }

    /// Whoever makes the table fills it from the snapshot, and has the place of the snapshot meanwhile. Afterwards the place is
    /// free for the process that is elected.
    fn build_shared_and_kept(self, sharing: &Sharing, persist: Persist) -> Result<Limiter, Error> {
        let deadline = Instant::now() + LONGEST_START;
        let (engine, restored) = loop {
            // Another process that holds the place is making the table, or keeps the snapshots of one that is there.
            let mut disk = match persist.open() {
                Ok(disk) => Some(disk),
                Err(Error::SnapshotBusy(_)) => None,
                Err(error) => return Err(error),
            };
            let hash_key = match (&self.hash_key, &disk) {
                (Some(hash_key), _) => hash_key.clone(),
                (None, Some(_)) => persist.hash_key()?,
                (None, None) => random_key()?,
            };
            let mut restored = Restored::attached();
            let opened = Engine::shared_and_filled(self.config(hash_key), sharing.clone(), |engine| {
                let Some(disk) = &mut disk else {
                    return Err(Error::SnapshotBusy(format!(
                        "another limiter keeps its snapshot at {}, and not that of this table: give each its own path",
                        persist.path.display()
                    )));
                };
                restored = persist.restore(disk, engine, self.restore)?;
                Ok(())
            });
            match opened {
                Ok(engine) => break (engine, restored),
                Err(Error::SnapshotBusy(_)) if disk.is_none() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(error),
            }
        };
        let (engine, keeper) = persist.keep(engine, None, restored, self.hash_key.is_none());
        Ok(Limiter::of(engine, Some(keeper)))
    }
}

fn random_key() -> Result<HashKey, Error> {
    HashKey::random().map_err(|error| Error::System(format!("the system gave no randomness for the secret: {error}")))
}
