//! The options of a limiter by name: one parser for every language, and for configuration files.
//!
//! A binding hands over names and values as its user wrote them. Names, defaults, what each option takes and every sentence
//! about a wrong one live here.

use std::path::PathBuf;
use std::time::Duration;

use ratelimit_core::snapshot::Restore;
use ratelimit_core::{Clock, ManualClock, Overflow};
use ratelimit_model::Limit;

use crate::{Builder, Error, Limiter, RuleSet, Rules};

/// How often a snapshot is written if nothing is said.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// How a language spells names and which unit its durations have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `time_window`, in seconds: Python, TOML.
    SnakeSeconds,
    /// `timeWindowMs`, in milliseconds: Node.js.
    CamelMillis,
    /// `time_window_ns`, in nanoseconds: C.
    SnakeNanos,
}

/// The value of an option as a language hands it over.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptionValue {
    /// Nothing: as if the option had not been given.
    Nothing,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// Something else, by the name that its language has for it: always an error, with that name in its text.
    Other(String),
}

impl OptionValue {
    fn kind(&self) -> String {
        match self {
            OptionValue::Nothing => "nothing".to_owned(),
            OptionValue::Bool(value) => value.to_string(),
            OptionValue::Int(value) => value.to_string(),
            OptionValue::Float(value) => value.to_string(),
            OptionValue::Text(text) => format!("\"{}\"", shortened(text)),
            OptionValue::Texts(_) => "a list".to_owned(),
            OptionValue::Other(name) => shortened(name),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// What an option is about. Its documentation in every language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHelp {
    /// Its name with underscores and without a unit.
    pub name: &'static str,
    /// Whether it is a duration, whose name ends in a unit where the dialect has one.
    pub is_duration: bool,
    /// What it takes.
    pub takes: &'static str,
    /// What it does, and what holds if it is not given.
    pub help: &'static str,
}

macro_rules! options {
    ($($variant:ident $name:literal $duration:literal $takes:literal $help:literal)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Name {
            $($variant,)*
        }
        const NAMES: &[(Name, OptionHelp)] = &[
            $((Name::$variant, OptionHelp { name: $name, is_duration: $duration, takes: $takes, help: $help }),)*
        ];
    };
}

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
    Cluster "cluster" false "a table of cluster options"
        "Makes the limiter one node of several that keep one limit."
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

impl Dialect {
    /// How this dialect spells an option.
    #[must_use]
    pub fn spell(self, help: &OptionHelp) -> String {
        let mut name = match self {
            Dialect::SnakeSeconds | Dialect::SnakeNanos => help.name.to_owned(),
            Dialect::CamelMillis => camel(help.name),
        };
        if help.is_duration {
            name.push_str(match self {
                Dialect::SnakeSeconds => "",
                Dialect::CamelMillis => "Ms",
                Dialect::SnakeNanos => "_ns",
            });
        }
        name
    }

    fn unit(self) -> (&'static str, f64) {
        match self {
            Dialect::SnakeSeconds => ("seconds", 1.0),
            Dialect::CamelMillis => ("milliseconds", 1e-3),
            Dialect::SnakeNanos => ("nanoseconds", 1e-9),
        }
    }

    fn find(self, name: &str) -> Result<(Name, String), Error> {
        if let Some((found, help)) = NAMES.iter().find(|(_, help)| self.spell(help) == name) {
            return Ok((*found, self.spell(help)));
        }
        let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
        let wanted = plain(name);
        let near = NAMES.iter().map(|(_, help)| self.spell(help)).find(|spelt| {
            let spelt = plain(spelt);
            spelt == wanted || (wanted.len() > 3 && (spelt.starts_with(&wanted) || wanted.starts_with(&spelt)))
        });
        let all = || {
            let names: Vec<String> = NAMES.iter().map(|(_, help)| self.spell(help)).collect();
            names.join(", ")
        };
        Err(Error::Option(match near {
            Some(near) => format!("there is no option \"{}\": did you mean \"{near}\"?", shortened(name)),
            None => format!("there is no option \"{}\": the options are {}", shortened(name), all()),
        }))
    }
}

fn camel(snake: &str) -> String {
    let mut name = String::with_capacity(snake.len());
    let mut upper = false;
    for c in snake.chars() {
        if c == '_' {
            upper = true;
        } else if upper {
            name.push(c.to_ascii_uppercase());
            upper = false;
        } else {
            name.push(c);
        }
    }
    name
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
        }
    }

    /// Sets one option, by the name that it has in this dialect. [`OptionValue::Nothing`] leaves it as it is.
    ///
    /// Errors: no such option, or a value that it does not take; nothing is changed then.
    pub fn set(&mut self, name: &str, value: OptionValue) -> Result<(), Error> {
        let (found, name) = self.dialect.find(name)?;
        if value == OptionValue::Nothing {
            return Ok(());
        }
        let of = Given {
            name: &name,
            found,
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
            Name::Cluster => {
                return Err(Error::Unsupported(format!(
                    "this version of ratelimit has no \"{name}\": leave it out"
                )));
            }
        }
        Ok(())
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

/// An option that was given, for the sentences about it.
struct Given<'a> {
    name: &'a str,
    found: Name,
    dialect: Dialect,
}

impl Given<'_> {
    fn wrong(&self, value: &OptionValue) -> Error {
        let help = help(self.found);
        let unit = if help.is_duration {
            format!(", in {}", self.dialect.unit().0)
        } else {
            String::new()
        };
        Error::Option(format!(
            "{} is {}: it takes {}{unit}",
            self.name,
            value.kind(),
            help.takes
        ))
    }

    fn limits(&self, value: OptionValue) -> Result<Vec<Limit>, Error> {
        let texts = match value {
            OptionValue::Text(text) => vec![text],
            OptionValue::Texts(texts) if !texts.is_empty() => texts,
            other => return Err(self.wrong(&other)),
        };
        Ok(texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?)
    }

    /// A whole number from 1. Languages whose numbers are all floating point hand over whole ones too.
    fn count(&self, value: &OptionValue) -> Result<u64, Error> {
        let count = match *value {
            OptionValue::Int(count) => u64::try_from(count).ok(),
            OptionValue::Float(count) if count.fract() == 0.0 && (1.0..=9_007_199_254_740_992.0).contains(&count) => {
                Some(count as u64)
            }
            _ => None,
        };
        count.filter(|&count| count > 0).ok_or_else(|| self.wrong(value))
    }

    fn duration(&self, value: &OptionValue) -> Result<Duration, Error> {
        let (_, seconds_per_unit) = self.dialect.unit();
        let duration = match *value {
            // Nanoseconds are whole, and would lose their last digits as a fraction of a second.
            OptionValue::Int(ns) if self.dialect == Dialect::SnakeNanos => {
                u64::try_from(ns).ok().map(Duration::from_nanos)
            }
            OptionValue::Int(count) => Duration::try_from_secs_f64(count as f64 * seconds_per_unit).ok(),
            OptionValue::Float(count) => Duration::try_from_secs_f64(count * seconds_per_unit).ok(),
            _ => None,
        };
        duration
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| self.wrong(value))
    }

    fn truth(&self, value: &OptionValue) -> Result<bool, Error> {
        match value {
            OptionValue::Bool(truth) => Ok(*truth),
            _ => Err(self.wrong(value)),
        }
    }

    fn text(&self, value: OptionValue) -> Result<String, Error> {
        match value {
            OptionValue::Text(text) if !text.is_empty() => Ok(text),
            other => Err(self.wrong(&other)),
        }
    }

    fn one_of<T: Copy>(&self, value: OptionValue, choices: &[(&str, T)]) -> Result<T, Error> {
        let chosen = match &value {
            OptionValue::Text(text) => choices.iter().find(|(name, _)| name == text),
            _ => None,
        };
        chosen.map(|(_, choice)| *choice).ok_or_else(|| self.wrong(&value))
    }

    fn secret(&self, value: OptionValue) -> Result<[u8; 16], Error> {
        // The text is a secret: an error must not show it.
        let wrong = || self.wrong(&OptionValue::Other("no such text".to_owned()));
        let OptionValue::Text(text) = value else {
            return Err(wrong());
        };
        let text = text.trim();
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut secret = [0; 16];
        for (byte, digits) in secret.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(secret)
    }
}
