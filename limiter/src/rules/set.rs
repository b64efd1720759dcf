//! Rules as they decide: names replaced by numbers, limits by the numbers that are decided with.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ratelimit_core::{Engine, Fingerprint, Part, thread};
use ratelimit_model::{Gcra, Limit};
use smallvec::SmallVec;

use super::spec::{MAX_ATTRIBUTES, MAX_BY, RuleSet, Spec, Test};
use crate::{Error, address};

/// Places for counts: threads beyond share them.
const STRIPES: usize = 16;
/// Keys of one rule's several limits lie so far apart: an odd number with no pattern in its bits.
const BETWEEN_LIMITS: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a request says of itself, by the numbers of the attributes.
pub(super) type Values<'a> = [Option<&'a [u8]>; MAX_ATTRIBUTES];
pub(super) type Parts<'a> = SmallVec<[Part<'a>; 8]>;

/// Limits by the value of an attribute.
type ByValue = HashMap<Vec<u8>, Vec<Gcra>>;

/// The rules in force.
pub(super) struct Set {
    /// What they were made from.
    pub(super) specs: RuleSet,
    attributes: Vec<String>,
    pub(super) rules: Vec<Rule>,
}

pub(super) struct Rule {
    pub(super) name: Arc<str>,
    pub(super) shadow: bool,
    pub(super) counts: Arc<Counts>,
    tag: u64,
    when: Vec<(usize, Test)>,
    by: Vec<usize>,
    limits: Vec<Gcra>,
    tiers: Option<(usize, ByValue)>,
    overrides: ByValue,
}

/// What a rule has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Allowed,
    Denied,
    WouldDeny,
}

/// How often, on lines that few threads share.
#[derive(Debug, Default)]
pub(super) struct Counts {
    stripes: [Stripe; STRIPES],
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe([AtomicU64; 3]);

impl Counts {
    pub(super) fn count(&self, outcome: Outcome) {
        // Relaxed: counters order nothing.
        self.stripes[thread::number() % STRIPES].0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self, outcome: Outcome) -> u64 {
        let counts = self
            .stripes
            .iter()
            .map(|stripe| stripe.0[outcome as usize].load(Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add)
    }
}

impl Set {
    /// Puts rules in the form that decides. A rule of a name that was there before goes on counting what it did.
    ///
    /// Errors: a limit that makes no sense.
    pub(super) fn new(specs: RuleSet, engine: &Engine, before: Option<&Set>) -> Result<Self, Error> {
        let attributes: Vec<String> = specs.attributes().into_iter().map(str::to_owned).collect();
        let rules = specs.rules.iter().map(|spec| {
            let known = before.and_then(|before| before.rules.iter().find(|rule| *rule.name == *spec.name));
            Rule::new(spec, &attributes, engine, known)
        });
        Ok(Set {
            rules: rules.collect::<Result<_, _>>()?,
            attributes,
            specs,
        })
    }

    /// The values of the attributes that rules look at. Of an attribute that is named twice, the first.
    pub(super) fn values<'a, N: AsRef<str>, V: AsRef<[u8]>>(&self, attributes: &'a [(N, V)]) -> Values<'a> {
        let mut values = [None; MAX_ATTRIBUTES];
        for (name, value) in attributes {
            let name = name.as_ref();
            if let Some(number) = self.attributes.iter().position(|known| known == name)
                && let Some(slot) = values.get_mut(number)
                && slot.is_none()
            {
                *slot = Some(value.as_ref());
            }
        }
        values
    }
}

impl Rule {
    fn new(spec: &Spec, attributes: &[String], engine: &Engine, known: Option<&Rule>) -> Result<Self, Error> {
        // Every attribute of every rule is in the list.
        let number = |name: &String| {
            attributes
                .iter()
                .position(|known| known == name)
                .unwrap_or(MAX_ATTRIBUTES - 1)
        };
        let by_value = |limits: &std::collections::BTreeMap<String, Vec<Limit>>| {
            let each = limits
                .iter()
                .map(|(value, limits)| Ok((value.clone().into_bytes(), numbers(limits)?)));
            each.collect::<Result<ByValue, Error>>()
        };
        // Names hold no zero byte.
        let identity = std::iter::once(&spec.name).chain(&spec.by);
        let identity: Vec<&str> = identity.map(String::as_str).collect();
        Ok(Rule {
            name: known.map_or_else(|| spec.name.as_str().into(), |rule| rule.name.clone()),
            shadow: spec.shadow,
            counts: known.map_or_else(Arc::default, |rule| rule.counts.clone()),
            tag: engine.fingerprint(identity.join("\0").as_bytes()).bits(),
            when: spec
                .when
                .iter()
                .map(|(name, test)| (number(name), test.clone()))
                .collect(),
            by: spec.by.iter().map(number).collect(),
            limits: numbers(&spec.limits)?,
            tiers: match &spec.tiers {
                Some((name, tiers)) => Some((number(name), by_value(tiers)?)),
                None => None,
            },
            overrides: by_value(&spec.overrides)?,
        })
    }

    /// Whether the rule is about such a request.
    pub(super) fn applies(&self, values: &Values<'_>) -> bool {
        self.when.iter().all(|(attribute, test)| test.holds(values[*attribute]))
    }

    /// The limits that hold for such a request: its client's own, its tier's, or the rule's.
    fn limits_for(&self, values: &Values<'_>) -> &[Gcra] {
        let of_client = || {
            let value = values[*self.by.first()?]?;
            self.overrides.get(value)
        };
        let of_tier = || {
            let (attribute, tiers) = self.tiers.as_ref()?;
            tiers.get(values[*attribute]?)
        };
        let own = if self.overrides.is_empty() { None } else { of_client() };
        own.or_else(of_tier).unwrap_or(&self.limits)
    }

    /// Adds what the request is to be decided by. Returns how many.
    pub(super) fn add_parts<'a>(&'a self, values: &Values<'_>, engine: &Engine, parts: &mut Parts<'a>) -> usize {
        // Values as their fingerprints, so that none can be written to look like two others.
        let mut id = [0; 8 * (1 + MAX_BY)];
        id[..8].copy_from_slice(&self.tag.to_le_bytes());
        for (i, attribute) in self.by.iter().enumerate() {
            // Requests without the attribute are counted together. No fingerprint is 0.
            let value = values[*attribute].map_or(0, |value| engine.fingerprint(value).bits());
            id[8 * (i + 1)..][..8].copy_from_slice(&value.to_le_bytes());
        }
        let client = engine.fingerprint(&id[..8 * (1 + self.by.len())]).bits();
        let limits = self.limits_for(values);
        for (i, gcra) in limits.iter().enumerate() {
            let key = Fingerprint::new(client.wrapping_add((i as u64).wrapping_mul(BETWEEN_LIMITS)));
            parts.push(Part { key, gcra });
        }
        limits.len()
    }
}

impl Test {
    fn holds(&self, value: Option<&[u8]>) -> bool {
        let Some(value) = value else {
            return matches!(self, Test::Present(false));
        };
        match self {
            Test::Present(present) => *present,
            Test::OneOf(texts) => texts.iter().any(|text| text.as_bytes() == value),
            Test::Prefix(prefixes) => prefixes.iter().any(|prefix| value.starts_with(prefix.as_bytes())),
            Test::Network(networks) => {
                // An address, or the network that `client_ip` cuts an IPv6 address to.
                let text = std::str::from_utf8(value).ok();
                let text = text.map(|text| text.split_once('/').map_or(text, |(address, _)| address));
                let address = text.and_then(address::parse);
                address.is_some_and(|address| networks.iter().any(|network| network.contains(&address)))
            }
        }
    }
}

fn numbers(limits: &[Limit]) -> Result<Vec<Gcra>, Error> {
    Ok(limits.iter().map(Gcra::new).collect::<Result<_, _>>()?)
}
