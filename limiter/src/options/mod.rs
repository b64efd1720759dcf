//! The options of a limiter by name: one parser for every language, and for configuration files.
//!
//! A binding hands over names and values as its user wrote them. Names, defaults, what each option takes and every sentence
//! about a wrong one live here.

#[cfg(feature = "cluster")]
mod cluster;
mod names;
mod value;

use std::path::PathBuf;
use std::time::Duration;

use ratelimit_core::snapshot::Restore;
use ratelimit_core::{Clock, ManualClock, Overflow};
use ratelimit_model::Limit;

#[cfg(feature = "cluster")]
pub use self::cluster::cluster_option_help;
use self::names::options;
pub use self::names::{Dialect, OptionHelp};
use self::value::Given;
pub use self::value::OptionValue;
#[cfg(feature = "cluster")]
pub(crate) use self::value::hexadecimal;
use crate::{Builder, Error, Limiter, RuleSet, Rules};

/// How often a snapshot is written if nothing is said.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

options! {
    RateLimit "rate_limit" false "a whole number from 1, or a limit as text like \"100/minute\", or a list of such texts"
        "The most requests per time_window; or complete limits as text, of which each must allow a request."
    TimeWindow "time_window" true "a duration above 0"
        "The window that rate_limit counts in."
    Burst "burst" false "a whole number from 1"
        "The most requests at one instant. Default: rate_limit, or a tenth of it (at least 1) if strict."
    Strict "strict" false "true or false"
        "At most rate_limit requests in any window, not only on average. Default: false."
    Limits "limits" false "a limit as text like \"100/minute\", or a list of such texts"
        "Complete limits as text, in place of rate_limit, time_window, burst and strict."
    MaxKeys "max_keys" false "a whole number from 1"
        "How many clients with debt to have room for; bounds the memory. Default: grows on its own to 40 million cells; 250,000 clients if shared."
    Path "path" false "the name of a file"
        "The snapshot file that lets counts survive a restart. Default: none, counts live in memory alone."
    SnapshotEvery "snapshot_every" true "a duration above 0"
        "How often the snapshot is written, if there is a path. Default: 1 second."
    Restore "restore" false "\"auto\", \"salvage\" or \"required\""
        "What to do with a damaged snapshot: start with the previous one or empty, save what is intact, or refuse to start. Default: auto."
    Share "share" false "a name, or true"
        "One table for all processes of this user on this host that give the same name; true: for this process and those it forks. Default: none."
    ReplaceLimits "replace_limits" false "true or false"
        "Whether the limits given here replace those that a shared table has, in place of an error. Default: false."
    Cluster "cluster" false "a table of cluster options, or true for those of the environment (RATELIMIT_CLUSTER_NODE and so on)"
        "Makes the limiter one node of several that keep one limit. Default: none."
    Clock "clock" false "\"precise\", \"os\" or \"coarse\""
        "The clock that decides: the fastest that can be trusted, the system's, or one that is faster and up to 4 ms late. Default: precise."
    Overflow "overflow" false "\"share\", \"deny\" or \"allow\""
        "What clients get that find the table full: a shared cell, a denial, or no limit. Default: share."
    HashKey "hash_key" false "32 hexadecimal digits"
        "The secret that keys the hash of ids. Default: a random one, kept beside the snapshot or inside the shared table."
}

/// Every option, in the order in which documents list them.
#[must_use]
pub fn option_help() -> Vec<OptionHelp> {
    NAMES.iter().map(|(_, help)| *help).collect()
}

#[derive(Clone, Debug, PartialEq)]
enum Share {
    Name(String),
    WithChildren,
}

/// The options of one limiter, as far as they were given. See [`option_help`] for what there is.
///
/// ```
/// use ratelimit::options::{Dialect, OptionValue, Options};
///
/// let mut options = Options::new(Dialect::SnakeSeconds);
/// options.set("rate_limit", OptionValue::Int(100))?;
/// options.set("time_window", OptionValue::Float(60.0))?;
/// let limiter = options.build()?;
/// assert!(limiter.is_allowed("client-7"));
///
/// let error = options.set("max_kyes", OptionValue::Int(5)).unwrap_err();
/// assert!(error.to_string().starts_with("there is no option \"max_kyes\""));
/// # Ok::<(), ratelimit::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    dialect: Dialect,
    limits: Vec<Limit>,
    rate_limit: Option<u64>,
    time_window: Option<Duration>,
    burst: Option<u64>,
    strict: bool,
    max_keys: Option<usize>,
    path: Option<PathBuf>,
    snapshot_every: Option<Duration>,
    restore: Restore,
    share: Option<Share>,
    replace_limits: bool,
    clock: Option<Clock>,
    overflow: Overflow,
    hash_key: Option<[u8; 16]>,
    #[cfg(feature = "cluster")]
    cluster: Option<crate::ClusterConfig>,
}

impl Options {
    /// No option is given yet.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Options {
            dialect,
            limits: Vec::new(),
            rate_limit: None,
            time_window: None,
            burst: None,
            strict: false,
            max_keys: None,
            path: None,
            snapshot_every: None,
            restore: Restore::default(),
            share: None,
            replace_limits: false,
            clock: None,
            overflow: Overflow::default(),
            hash_key: None,
            #[cfg(feature = "cluster")]
            cluster: None,
        }
    }

    /// Sets one option, by the name that it has in this dialect. [`OptionValue::Nothing`] leaves it as it is.
    ///
    /// Errors: no such option, or a value that it does not take; nothing is changed then.
    pub fn set(&mut self, name: &str, value: OptionValue) -> Result<(), Error> {
        let (found, help) = self.dialect.find(NAMES, "option", name)?;
        if value == OptionValue::Nothing {
            return Ok(());
        }
        let of = Given {
            name,
            help,
            dialect: self.dialect,
        };
        match found {
            Name::RateLimit => match value {
                OptionValue::Text(_) | OptionValue::Texts(_) => self.limits = of.limits(value)?,
                number => self.rate_limit = Some(of.count(&number)?),
            },
            Name::Limits => self.limits = of.limits(value)?,
            Name::TimeWindow => self.time_window = Some(of.duration(&value)?),
            Name::Burst => self.burst = Some(of.count(&value)?),
            Name::Strict => self.strict = of.truth(&value)?,
            Name::MaxKeys => {
                let keys = of.count(&value)?;
                self.max_keys = Some(usize::try_from(keys).map_err(|_| of.wrong(&value))?);
            }
            Name::Path => self.path = Some(PathBuf::from(of.text(value)?)),
            Name::SnapshotEvery => self.snapshot_every = Some(of.duration(&value)?),
            Name::Share => {
                self.share = match value {
                    OptionValue::Bool(true) => Some(Share::WithChildren),
                    OptionValue::Bool(false) => None,
                    name => Some(Share::Name(of.text(name)?)),
                }
            }
            Name::Clock => {
                let clock = of.one_of(
                    value,
                    &[
                        ("precise", Clock::precise as fn() -> Clock),
                        ("os", Clock::os),
                        ("coarse", Clock::coarse),
                    ],
                )?;
                self.clock = Some(clock());
            }
            Name::Overflow => {
                self.overflow = of.one_of(
                    value,
                    &[
                        ("share", Overflow::Share),
                        ("deny", Overflow::Deny),
                        ("allow", Overflow::Allow),
                    ],
                )?;
            }
            Name::HashKey => self.hash_key = Some(of.secret(value)?),
            Name::Restore => {
                self.restore = of.one_of(
                    value,
                    &[
                        ("auto", Restore::Auto),
                        ("salvage", Restore::Salvage),
                        ("required", Restore::Required),
                    ],
                )?;
            }
            Name::ReplaceLimits => self.replace_limits = of.truth(&value)?,
            Name::Cluster => self.set_whole_cluster(&of, value)?,
        }
        Ok(())
    }

    /// Without the cluster there is nothing to set.
    #[cfg(not(feature = "cluster"))]
    fn set_whole_cluster(&mut self, of: &Given<'_>, _value: OptionValue) -> Result<(), Error> {
        Err(Error::Unsupported(format!(
            "this build of ratelimit has no \"{}\": build the crate with its feature \"cluster\", or leave it out",
            of.name
        )))
    }

    /// A clock that is set by hand, for tests, in place of the option `clock`.
    pub fn manual_clock(&mut self) -> ManualClock {
        let (clock, hand) = Clock::manual();
        self.clock = Some(clock);
        hand
    }

    /// A clock that exists already, in place of the option `clock`: the way for a language whose users hold the hand of a
    /// clock before they make limiters that obey it.
    pub fn use_clock(&mut self, clock: Clock) {
        self.clock = Some(clock);
    }

    /// Makes the limiter. The options may be used again.
    ///
    /// Errors: no limit, options that contradict each other, and all that [`Builder::build`] refuses.
    pub fn build(&self) -> Result<Limiter, Error> {
        self.builder()?.build()
    }

    /// Makes rules with these options, which hold no limit: see [`Builder::build_rules`].
    ///
    /// Errors: limits, options that contradict each other, and all that [`Builder::build`] refuses.
    pub fn build_rules(&self, rules: RuleSet) -> Result<Rules, Error> {
        let in_numbers = self.rate_limit.is_some() || self.time_window.is_some() || self.burst.is_some() || self.strict;
        if in_numbers || !self.limits.is_empty() {
            return Err(Error::Option(
                "rules have limits of their own: leave the options out that say limits".to_owned(),
            ));
        }
        self.builder_without_limits()?.build_rules(rules)
    }

    fn builder(&self) -> Result<Builder, Error> {
        let mut builder = self.builder_without_limits()?;
        for limit in self.all_limits()? {
            builder = builder.limit(limit);
        }
        Ok(builder)
    }

    fn builder_without_limits(&self) -> Result<Builder, Error> {
        let mut builder = Limiter::builder().overflow(self.overflow);
        if let Some(max_keys) = self.max_keys {
            builder = builder.max_keys(max_keys);
        }
        if let Some(clock) = &self.clock {
            builder = builder.clock(clock.clone());
        }
        if let Some(hash_key) = self.hash_key {
            builder = builder.hash_key(hash_key);
        }
        match &self.share {
            Some(Share::Name(name)) => builder = builder.share(name.clone()),
            Some(Share::WithChildren) => builder = builder.share_with_children(),
            None => {}
        }
        builder = builder.replace_limits(self.replace_limits);
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.cluster {
            builder = builder.cluster(cluster.clone());
        }
        match &self.path {
            Some(path) => {
                let every = self.snapshot_every.unwrap_or(SNAPSHOT_EVERY);
                builder = builder.persist(path, every).restore(self.restore);
            }
            // A period without a snapshot asks for nothing: whoever leaves out the path leaves the rest of a template as it is.
            // A snapshot that must or may be restored and has no place is a mistake.
            None if self.restore != Restore::default() => {
                let spell = |wanted: Name| self.dialect.spell(&help(wanted));
                return Err(Error::Option(format!(
                    "{} is about a snapshot, and there is none: give {} too",
                    spell(Name::Restore),
                    spell(Name::Path)
                )));
            }
            None => {}
        }
        Ok(builder)
    }

    /// The limits that the options say, in words or in numbers.
    ///
    /// Errors: none, both kinds, or numbers that make no limit.
    pub fn all_limits(&self) -> Result<Vec<Limit>, Error> {
        let spell = |wanted: Name| self.dialect.spell(&help(wanted));
        let (rate, window) = (spell(Name::RateLimit), spell(Name::TimeWindow));
        let in_numbers = self.rate_limit.is_some() || self.time_window.is_some() || self.burst.is_some() || self.strict;
        if !self.limits.is_empty() {
            if in_numbers {
                return Err(Error::Option(format!(
                    "a limit is given as text and in numbers: say all of it in the text, like \"100/minute burst 20 strict\", \
                     without {rate}, {window}, {} and {}",
                    spell(Name::Burst),
                    spell(Name::Strict),
                )));
            }
            return Ok(self.limits.clone());
        }
        let (Some(rate_limit), Some(time_window)) = (self.rate_limit, self.time_window) else {
            return Err(Error::Option(match (self.rate_limit, self.time_window) {
                (None, None) => format!("there is no limit: give {rate} and {window}, or a text like \"100/minute\""),
                (None, _) => format!("{window} is given without {rate}: give both, or a text like \"100/minute\""),
                _ => format!("{rate} is given without {window}: give both, or a text like \"100/minute\""),
            }));
        };
        let mut limit = Limit::new(rate_limit, time_window)?;
        if let Some(burst) = self.burst {
            limit = limit.burst(burst);
        }
        if self.strict {
            limit = limit.strict();
        }
        limit.validate()?;
        Ok(vec![limit])
    }
}

fn help(wanted: Name) -> OptionHelp {
    NAMES
        .iter()
        .find_map(|(name, help)| (*name == wanted).then_some(*help))
        // Every name has its help: both come from one list.
        .unwrap_or(NAMES[0].1)
}
