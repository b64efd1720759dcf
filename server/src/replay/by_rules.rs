//! A log decided by rules in place of limits: what each rule would have done.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use ratelimit::{Clock, Limiter, RuleSet, Rules};
use serde::Serialize;

use super::frequent::{Clients, KeyHasher};
use super::keys::By;
use super::report::thousands;
use crate::failure::Failure;

/// Times lie on a circle, and a client that comes again after half of it looks like one from the future.
const LONGEST: Duration = Duration::from_secs(400 * 86_400);
/// Clients that are counted exactly.
const ROOM_FOR_CLIENTS: usize = 3_600_000;

/// Rules, and what they did so far.
pub struct RulesTally {
    rules: Rules,
    by: By,
    clients: Clients,
    hasher: KeyHasher,
    report: RulesReport,
}

/// What came out. The fields are the JSON object.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RulesReport {
    /// Requests decided.
    pub requests: u64,
    /// Clients they came from, by address: the number, or at least so many if there were more than 3.6 million.
    pub clients: u64,
    /// Requests that were allowed.
    pub allowed: u64,
    /// Requests that a rule denied.
    pub denied: u64,
    /// Requests that no rule applied to; they are among those allowed.
    pub unmatched: u64,
    /// Lines that are no requests.
    pub unparsed: u64,
    /// Whether the user stopped the replay.
    pub interrupted: bool,
    /// Each rule, in the order of the file.
    pub rules: Vec<RuleReport>,
}

/// What one rule did.
#[derive(Clone, Debug, Serialize)]
pub struct RuleReport {
    /// Its name.
    pub rule: String,
    /// Whether it only watches.
    pub shadow: bool,
    /// Requests that it applied to and that were allowed.
    pub allowed: u64,
    /// Requests that were denied, and it was the rule that bound.
    pub denied: u64,
    /// Requests that it would have denied if it did more than watch.
    pub would_deny: u64,
}

impl RulesTally {
    /// From a file with `[[rule]]` tables; a configuration of `serve` will do.
    ///
    /// Errors: the file cannot be read, or what is wrong in it, with its line.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
        let rules = RuleSet::in_toml(&text).map_err(|error| Failure::Usage(format!("{}, {error}", path.display())))?;
        if rules.is_empty() {
            let text = format!("{}: there is no [[rule]] in it", path.display());
            return Err(Failure::Usage(text));
        }
        let rules = Limiter::builder()
            .clock(Clock::manual().0)
            .build_rules(rules)
            .map_err(|error| Failure::Io(error.to_string()))?;
        Ok(RulesTally {
            rules,
            by: By::all(),
            clients: Clients::new(ROOM_FOR_CLIENTS),
            hasher: KeyHasher::default(),
            report: RulesReport::default(),
        })
    }

    /// What requests have to be told apart by: every attribute.
    #[must_use]
    pub fn by(&self) -> &By {
        &self.by
    }

    /// How many were decided.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.report.requests
    }

    /// Errors: the log is longer than times can be told apart.
    pub fn check_range(range: Option<(u64, u64)>) -> Result<(), Failure> {
        match range {
            Some((first, last)) if Duration::from_nanos(last - first) > LONGEST => Err(Failure::Usage(
                "a replay by rules takes at most 400 days: give it fewer logs at a time".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Decides one request. Requests must come by time.
    pub fn decide(&mut self, time_ns: u64, key: &[u8]) {
        let attributes = self.by.split(key);
        let ip = attributes.iter().find(|(name, _)| *name == "ip");
        self.clients
            .add(self.hasher.hash(ip.map_or(&b""[..], |(_, value)| value)));
        let told = self.rules.check_at(&attributes, 1, Duration::from_nanos(time_ns));
        self.report.requests += 1;
        *(if told.decision.allowed {
            &mut self.report.allowed
        } else {
            &mut self.report.denied
        }) += 1;
    }

    /// What came out.
    #[must_use]
    pub fn report(&self, unparsed: u64, interrupted: bool) -> RulesReport {
        let rules = self.rules.stats().into_iter().map(|rule| RuleReport {
            rule: rule.name.to_string(),
            shadow: rule.shadow,
            allowed: rule.allowed,
            denied: rule.denied,
            would_deny: rule.would_deny,
        });
        RulesReport {
            clients: self.clients.count(),
            unmatched: self.rules.unmatched(),
            unparsed,
            interrupted,
            rules: rules.collect(),
            ..self.report.clone()
        }
    }
}

impl RulesReport {
    /// Writes one JSON object and a newline.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", serde_json::to_string_pretty(self)?)
    }

    /// Writes a table for people.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut text = format!(
            "Replayed {} requests of {} clients: {} allowed, {} denied, {} under no rule.\n\n",
            thousands(self.requests),
            thousands(self.clients),
            thousands(self.allowed),
            thousands(self.denied),
            thousands(self.unmatched),
        );
        let width = self.rules.iter().map(|rule| rule.rule.len()).max().unwrap_or(0).max(4);
        let mut row = |rule: &str, allowed: &str, denied: &str, would_deny: &str| {
            text += &format!("{rule:<width$}  {allowed:>13}  {denied:>13}  {would_deny:>13}\n");
        };
        row("RULE", "ALLOWED", "DENIED", "WOULD DENY");
        for rule in &self.rules {
            let would_deny = if rule.shadow {
                thousands(rule.would_deny)
            } else {
                "-".to_owned()
            };
            row(
                &rule.rule,
                &thousands(rule.allowed),
                &thousands(rule.denied),
                &would_deny,
            );
        }
        if self.interrupted {
            text += "\nStopped before the end: these are the counts until then.\n";
        }
        out.write_all(text.as_bytes())
    }
}
