//! What all connections share: the limiters, the token, the counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ratelimit::headers::Headers;
use ratelimit::options::{Dialect, OptionValue, Options};
use ratelimit::{Error, Limit, Limiter, RuleSet, Rules};

use super::config::{Config, DEFAULT_NAME, LimiterConfig, Token};
use super::latency::Latency;
use super::throttle::Throttle;
use super::tls;
use crate::events::{hashed, tell};
use crate::failure::Failure;

/// Where the snapshots of `CL.THROTTLE` lie, within the state directory.
const THROTTLE_DIRECTORY: &str = "throttle";
/// The snapshot of rules, by a name that no limit can have.
const RULES_SNAPSHOT: &str = "@rules.snapshot";

/// A limiter with a name.
#[derive(Debug)]
pub(crate) struct Named {
    /// It decides.
    pub(crate) limiter: Limiter,
    /// As its limits are now.
    headers: RwLock<Arc<Headers>>,
    /// The limits that these describe.
    described: Mutex<Vec<Limit>>,
    /// The clients with limits of their own, by name: the limiter knows them as hashes, and has room for a bounded number of them.
    /// Held while limits are changed, so that `headers` are those of the limits in force.
    overrides: Mutex<BTreeMap<String, Limit>>,
}

impl Named {
    fn new(config: &LimiterConfig, top: bool) -> Result<Self, Error> {
        let headers = RwLock::new(Arc::new(Headers::unnamed(&config.limits)?));
        let limiter = config.options.build()?;
        limiter.list_clients(top);
        for (client, limit) in &config.overrides {
            limiter.set_override(client, Some(*limit))?;
        }
        Ok(Named {
            limiter,
            headers,
            described: Mutex::new(config.limits.clone()),
            overrides: Mutex::new(config.overrides.clone()),
        })
    }

    /// Header fields for its decisions.
    pub(crate) fn headers(&self) -> Arc<Headers> {
        self.headers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the header fields anew if another node of a cluster has changed the limits. Cost: a look at the limits in force.
    pub(crate) fn follow(&self) {
        let _changing = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = self.limiter.limits();
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        if *described != limits
            && let Ok(headers) = Headers::unnamed(&limits)
        {
            *self.headers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(headers);
            *described = limits;
        }
    }

    /// Puts other limits in force. Clients keep the share of their burst that they have spent.
    ///
    /// Errors: another number of limits, or one that makes no sense; nothing is changed then.
    pub(crate) fn set_limits(&self, limits: &[Limit]) -> Result<(), Error> {
        let headers = Arc::new(Headers::unnamed(limits)?);
        let _changing = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        self.limiter.set_limits(limits)?;
        *self.headers.write().unwrap_or_else(PoisonError::into_inner) = headers;
        *self.described.lock().unwrap_or_else(PoisonError::into_inner) = limits.to_vec();
        Ok(())
    }

    /// Gives a client a limit of its own, or takes it away.
    ///
    /// Errors: the limit makes no sense, or there is no room for it; the client stays under the limit it had.
    pub(crate) fn set_override(&self, client: &str, limit: Option<Limit>) -> Result<(), Error> {
        self.override_before(client, limit).map(|_| ())
    }

    /// As [`set_override`](Self::set_override). Returns the limit of its own that the client had before.
    fn override_before(&self, client: &str, limit: Option<Limit>) -> Result<Option<Limit>, Error> {
        let mut overrides = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        self.limiter.set_override(client, limit)?;
        Ok(match limit {
            Some(limit) => overrides.insert(client.to_owned(), limit),
            None => overrides.remove(client),
        })
    }
}

/// A count that only ever grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more. Relaxed, here and below: counts guard nothing.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connections of one kind.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) accepted: Count,
    /// Those that found too many others.
    pub(crate) refused: Count,
    pub(crate) closed: Count,
    /// Those that this side closed because they broke the rules.
    pub(crate) dropped: Count,
}

impl Connections {
    /// How many are open.
    pub(crate) fn open(&self) -> u64 {
        self.accepted.get().saturating_sub(self.closed.get())
    }
}

/// What the node counts beside decisions.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) http: Connections,
    pub(crate) resp: Connections,
    /// Requests over HTTP.
    pub(crate) requests: Count,
    /// Requests over RESP.
    pub(crate) commands: Count,
    /// How long decisions take.
    pub(crate) latency: Latency,
    /// Configurations put in force after the first.
    pub(crate) reloads: Count,
    /// Configurations refused.
    pub(crate) reload_errors: Count,
}

type Limiters = BTreeMap<String, Arc<Named>>;

/// The node.
#[derive(Debug)]
pub(crate) struct Node {
    limiters: RwLock<Arc<Limiters>>,
    token: RwLock<Option<Token>>,
    /// What HTTP is encrypted with, if it is.
    tls: RwLock<Option<Arc<rustls::ServerConfig>>>,
    /// The configuration in force. Held by whoever puts another one in force.
    config: Mutex<Config>,
    pub(crate) throttle: Throttle,
    /// Made once there are any.
    rules: OnceLock<Rules>,
    pub(crate) figures: Figures,
    pub(crate) started: Instant,
}

impl Node {
    /// Makes all limiters, and restores their snapshots.
    ///
    /// Errors: the state directory or a snapshot cannot be used, or options go together badly.
    pub(crate) fn new(config: Config) -> Result<Self, Failure> {
        let throttle = Throttle::new(
            config.state.join(THROTTLE_DIRECTORY),
            config.throttle_limits,
            config.throttle_keys,
        )
        .map_err(|error| Failure::file("use the state directory", &config.state, &error))?;
        let tls = config.http_tls.as_ref().map(tls::load).transpose()?;
        let mut limiters = Limiters::new();
        for (name, limiter) in &config.limiters {
            limiters.insert(
                name.clone(),
                Arc::new(Named::new(limiter, config.top).map_err(|error| failed(name, &error))?),
            );
        }
        for named in limiters.values() {
            // A node of a cluster owns clients also while nobody asks it: it must not wait for its first request.
            let _linked_later = named.limiter.ready(Duration::ZERO);
        }
        let rules = OnceLock::new();
        if !config.rules.is_empty() {
            let made = rules_of(&config, config.rules.clone()).map_err(|error| failed(RULES_NAME, &error))?;
            let _nobody_was_first = rules.set(made);
        }
        Ok(Node {
            rules,
            limiters: RwLock::new(Arc::new(limiters)),
            token: RwLock::new(config.token.clone()),
            tls: RwLock::new(tls),
            config: Mutex::new(config),
            throttle,
            figures: Figures::default(),
            started: Instant::now(),
        })
    }

    /// The rules, if any were ever configured.
    pub(crate) fn rules(&self) -> Option<&Rules> {
        self.rules.get()
    }

    /// All limiters by name.
    pub(crate) fn limiters(&self) -> Arc<Limiters> {
        self.limiters.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The limiter of a name. Without a name it is the only one, or that called `default`.
    ///
    /// Errors: there is no such limiter; the text says which there are.
    pub(crate) fn limiter(&self, name: Option<&str>) -> Result<Arc<Named>, String> {
        let limiters = self.limiters();
        let found = match name {
            Some(name) => limiters.get(name),
            None if limiters.len() == 1 => limiters.values().next(),
            None => limiters.get(DEFAULT_NAME),
        };
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = limiters.keys().map(String::as_str).collect();
            let names = names.join(", ");
            match name {
                Some(name) => {
                    let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
                    format!("there is no limit \"{name}\": the limits are {names}")
                }
                None => format!("say which limit: \"limit\" is one of {names}"),
            }
        })
    }

    /// Whether there is a token.
    pub(crate) fn needs_token(&self) -> bool {
        self.token.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether these bytes are the token.
    pub(crate) fn is_token(&self, bytes: &[u8]) -> bool {
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner);
        token.as_ref().is_some_and(|token| token.is(bytes))
    }

    /// What a new connection of HTTP is encrypted with.
    pub(crate) fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another configuration in force while decisions go on. Returns what of it takes a restart.
    ///
    /// A limiter that is in both keeps its clients: those that have spent a share of their burst have spent that share of the new one.
    ///
    /// Errors: a limiter has another number of limits than before, a new one cannot be made, or there is no room for an override; what was
    /// changed until then is changed back.
    pub(crate) fn reload(&self, config: Config) -> Result<Vec<String>, Failure> {
        let mut current = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let mut notes = Vec::new();
        let listeners = |config: &Config| (config.http, config.resp, config.max_connections);
        if listeners(&config) != listeners(&current) {
            notes.push("addresses and max_connections take a restart".to_owned());
        }
        if config.state != current.state {
            return Err(Failure::Usage(
                "the state directory cannot be changed while the node runs: start it anew".to_owned(),
            ));
        }
        if (config.throttle_limits, config.throttle_keys) != (current.throttle_limits, current.throttle_keys) {
            notes.push("the section [throttle] takes a restart".to_owned());
        }
        if config.http_tls.is_some() != current.http_tls.is_some() {
            return Err(Failure::Usage(
                "TLS cannot be switched on or off while the node runs: start it anew".to_owned(),
            ));
        }
        let tls = config.http_tls.as_ref().map(tls::load).transpose()?;
        let old = self.limiters();
        let mut new = Limiters::new();
        for (name, limiter) in &config.limiters {
            let Some(known) = old.get(name) else {
                new.insert(
                    name.clone(),
                    Arc::new(Named::new(limiter, config.top).map_err(|error| failed(name, &error))?),
                );
                continue;
            };
            if known.limiter.limits().len() != limiter.limits.len() {
                return Err(Failure::Usage(format!(
                    "limit \"{name}\" has {} limits and would have {}: their number takes a restart",
                    known.limiter.limits().len(),
                    limiter.limits.len()
                )));
            }
            if current
                .limiters
                .get(name)
                .is_some_and(|before| before.fixed != limiter.fixed)
            {
                notes.push(format!(
                    "limit \"{name}\": other options than its limits and overrides take a restart"
                ));
            }
            new.insert(name.clone(), known.clone());
        }
        // Overrides first, since these alone can still find no room. The numbers of limits are compared above, and limits were
        // checked when they were read.
        let mut undo = Undo::default();
        let mut changed = Vec::new();
        for (name, limiter) in &config.limiters {
            let Some(known) = old.get(name) else { continue };
            let before = current.limiters.get(name).map(|before| &before.overrides);
            let gone = before.into_iter().flat_map(BTreeMap::keys);
            let gone = gone.filter(|client| !limiter.overrides.contains_key(*client));
            let changes = gone
                .map(|client| (client, None))
                .chain(limiter.overrides.iter().map(|(client, limit)| (client, Some(*limit))));
            for (client, limit) in changes {
                undo.set_override(name, known, client, limit)
                    .map_err(|error| failed(name, &error))?;
            }
        }
        for (name, limiter) in &config.limiters {
            let Some(known) = old.get(name) else { continue };
            let before = known.limiter.limits();
            if before != limiter.limits {
                undo.set_limits(known, before, &limiter.limits)
                    .map_err(|error| failed(name, &error))?;
                changed.push((name, texts(&limiter.limits)));
            }
        }
        match self.rules.get() {
            Some(rules) if config.rules != current.rules => {
                rules.replace(config.rules.clone()).map_err(refused_rules)?
            }
            None if !config.rules.is_empty() => {
                // Whoever reloads holds the configuration: nobody else sets them.
                let _nobody_was_first = self
                    .rules
                    .set(rules_of(&config, config.rules.clone()).map_err(refused_rules)?);
            }
            _ => {}
        }
        for named in new.values() {
            named.limiter.list_clients(config.top);
            // As at the start; those that run already do nothing.
            let _linked_later = named.limiter.ready(Duration::ZERO);
        }
        undo.keep();
        for (name, limits) in changed {
            tell!(LIMIT_CHANGED, limit = %name, ?limits);
        }
        *self.limiters.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = config.token.clone();
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
        for (name, limiter) in old.iter().filter(|(name, _)| !config.limiters.contains_key(*name)) {
            tell!(LIMIT_REMOVED, limit = %name);
            // An error is told as an event.
            let _ = limiter.limiter.close();
        }
        // What takes a restart stays as it is, and is told again at the next reload.
        let (http, resp, max_connections) = listeners(&current);
        let (throttle_limits, throttle_keys) = (current.throttle_limits, current.throttle_keys);
        let mut config = Config {
            http,
            resp,
            max_connections,
            throttle_limits,
            throttle_keys,
            ..config
        };
        for (name, limiter) in &mut config.limiters {
            if let Some(before) = current.limiters.get(name) {
                limiter.fixed.clone_from(&before.fixed);
            }
        }
        *current = config;
        Ok(notes)
    }

    /// Writes the last snapshots. Returns how many failed, which events tell about.
    pub(crate) fn close(&self) -> usize {
        let limiters = self.limiters();
        let failed = limiters.values().filter(|named| named.limiter.close().is_err()).count();
        let of_rules = self.rules.get().is_some_and(|rules| rules.close().is_err());
        failed + usize::from(of_rules) + self.throttle.close()
    }
}

/// What rules are called among limits: no limit can be.
pub(crate) const RULES_NAME: &str = "@rules";

fn rules_of(config: &Config, rules: RuleSet) -> Result<Rules, Error> {
    let mut options = Options::new(Dialect::SnakeSeconds);
    let path = config.state.join(RULES_SNAPSHOT).to_string_lossy().into_owned();
    options.set("path", OptionValue::Text(path))?;
    options.build_rules(rules)
}

fn refused_rules(error: Error) -> Failure {
    failed(RULES_NAME, &error)
}

/// What a reload has changed so far. Unless it is told to keep it, changes it back.
#[derive(Debug, Default)]
struct Undo {
    overrides: Vec<(String, Arc<Named>, String, Option<Limit>)>,
    limits: Vec<(Arc<Named>, Vec<Limit>)>,
}

impl Undo {
    fn set_override(
        &mut self,
        name: &str,
        named: &Arc<Named>,
        client: &str,
        limit: Option<Limit>,
    ) -> Result<(), Error> {
        let before = named.override_before(client, limit)?;
        self.overrides
            .push((name.to_owned(), named.clone(), client.to_owned(), before));
        Ok(())
    }

    fn set_limits(&mut self, named: &Arc<Named>, before: Vec<Limit>, limits: &[Limit]) -> Result<(), Error> {
        named.set_limits(limits)?;
        self.limits.push((named.clone(), before));
        Ok(())
    }

    fn keep(mut self) {
        self.overrides.clear();
        self.limits.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // The last change first: each then finds the room that there was before it.
        for (named, limits) in self.limits.drain(..).rev() {
            let _ = named.set_limits(&limits);
        }
        for (name, named, client, before) in self.overrides.drain(..).rev() {
            if let Err(error) = named.set_override(&client, before) {
                // Administrators can take the room meanwhile.
                tell!(OVERRIDE_LOST, limit = %name, client = hashed(&client), %error);
            }
        }
    }
}

/// Limits as texts.
pub(crate) fn texts(limits: &[Limit]) -> Vec<String> {
    limits.iter().map(Limit::to_string).collect()
}

fn failed(name: &str, error: &Error) -> Failure {
    let text = format!("limit \"{name}\": {error}");
    match error.name() {
        "system" | "persist" | "snapshot_busy" | "snapshot_write" | "restore_required" | "share_unavailable"
        | "cluster_start" => Failure::Io(text),
        _ => Failure::Usage(text),
    }
}
