//! Rules as they are written: read from TOML, checked, and bounded.

use std::collections::BTreeMap;
use std::fmt::Display;

use ipnet::IpNet;
use ratelimit_core::MAX_LIMITS;
use ratelimit_model::Limit;
use serde::Deserialize;
use toml::{Spanned, Value};

use crate::Error;
use crate::client_ip::network;

/// The most rules.
pub const MAX_RULES: usize = 256;
/// The most different attributes that all rules together name.
pub const MAX_ATTRIBUTES: usize = 32;
/// The most attributes that one rule counts by.
pub const MAX_BY: usize = 8;
/// The most conditions of one rule, and the most values of one condition.
pub const MAX_VALUES: usize = 256;
/// The most clients of one rule with limits of their own, and the most tiers.
pub const MAX_OVERRIDES: usize = 10_000;
/// The longest name of a rule or an attribute, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The longest value in a rule, in bytes.
pub const MAX_VALUE_BYTES: usize = 4_096;
/// The longest text of rules, in bytes.
pub const MAX_TEXT_BYTES: usize = 8 * 1_024 * 1_024;

/// Rules that make sense together, not in force yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    pub(super) rules: Vec<Spec>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) when: Vec<(String, Test)>,
    pub(super) by: Vec<String>,
    pub(super) limits: Vec<Limit>,
    pub(super) shadow: bool,
    /// The attribute whose value is the tier, and the limits of each.
    pub(super) tiers: Option<(String, BTreeMap<String, Vec<Limit>>)>,
    /// Limits of single clients, by the value of the attribute that the rule counts by.
    pub(super) overrides: BTreeMap<String, Vec<Limit>>,
}

/// What the value of an attribute has to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    OneOf(Vec<String>),
    Prefix(Vec<String>),
    Network(Vec<IpNet>),
    Present(bool),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnlyRules {
    #[serde(default)]
    rule: Vec<Spanned<Written>>,
}

/// Among other things, which somebody else reads.
#[derive(Deserialize)]
struct AmongOthers {
    #[serde(default)]
    rule: Vec<Spanned<Written>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Spanned<String>,
    #[serde(default)]
    when: BTreeMap<Spanned<String>, Spanned<Value>>,
    by: Spanned<Vec<String>>,
    limits: Spanned<Value>,
    #[serde(default)]
    shadow: bool,
    #[serde(default)]
    tiers: BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<Value>>>,
    #[serde(default)]
    overrides: BTreeMap<Spanned<String>, Spanned<Value>>,
}

/// Says in which line something is wrong.
struct Text<'a>(&'a str);

impl Text<'_> {
    fn wrong(&self, at: usize, what: impl Display) -> Error {
        let before = &self.0.as_bytes()[..at.min(self.0.len())];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        Error::Option(format!("line {line}: {what}"))
    }
}

impl RuleSet {
    /// Reads rules from TOML that holds nothing else.
    ///
    /// Errors: each names the line, what is wrong and what to do.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        Self::read(text, |text| toml::from_str(text).map(|file: OnlyRules| file.rule))
    }

    /// Reads the `[[rule]]` tables of a configuration that holds other things too.
    ///
    /// Errors: as for [`from_toml`](RuleSet::from_toml).
    pub fn in_toml(text: &str) -> Result<Self, Error> {
        Self::read(text, |text| toml::from_str(text).map(|file: AmongOthers| file.rule))
    }

    fn read(
        text: &str,
        parse: impl FnOnce(&str) -> Result<Vec<Spanned<Written>>, toml::de::Error>,
    ) -> Result<Self, Error> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Error::Option(format!(
                "the rules are longer than {MAX_TEXT_BYTES} bytes: leave out overrides, and set those by call"
            )));
        }
        let place = Text(text);
        let written = parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            place.wrong(at, error.message())
        })?;
        let mut set = RuleSet::default();
        for rule in written {
            let at = rule.span().start;
            let spec = Spec::of(rule.into_inner(), at, &place)?;
            if set.rules.iter().any(|other| other.name == spec.name) {
                return Err(place.wrong(
                    at,
                    format!("there are two rules \"{}\": give each its own name", spec.name),
                ));
            }
            set.rules.push(spec);
            if set.rules.len() > MAX_RULES {
                return Err(place.wrong(at, format!("there are more than {MAX_RULES} rules")));
            }
            if set.attributes().len() > MAX_ATTRIBUTES {
                let text = format!("all rules together name more than {MAX_ATTRIBUTES} attributes");
                return Err(place.wrong(at, text));
            }
        }
        Ok(set)
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none: then everything is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The names of the rules, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }

    /// Every attribute that a rule looks at, once.
    #[must_use]
    pub fn attributes(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for rule in &self.rules {
            let tier = rule.tiers.iter().map(|(name, _)| name);
            for name in rule.when.iter().map(|(name, _)| name).chain(&rule.by).chain(tier) {
                if !names.contains(&name.as_str()) {
                    names.push(name.as_str());
                }
            }
        }
        names
    }
}

impl Spec {
    fn of(written: Written, at: usize, text: &Text<'_>) -> Result<Self, Error> {
        let name_at = written.name.span().start;
        let name = written.name.into_inner();
        check_name(&name).map_err(|error| text.wrong(name_at, format!("the name of a rule {error}")))?;
        let attribute = |name: &str, at: usize| {
            check_name(name).map_err(|error| text.wrong(at, format!("the name of an attribute {error}")))
        };
        let mut when = Vec::new();
        for (given, test) in written.when {
            attribute(given.get_ref(), given.span().start)?;
            let at = test.span().start;
            for test in Test::of(test.into_inner()).map_err(|error| text.wrong(at, error))? {
                when.push((given.get_ref().clone(), test));
            }
        }
        if when.len() > MAX_VALUES {
            return Err(text.wrong(at, format!("there are more than {MAX_VALUES} conditions")));
        }
        let by_at = written.by.span().start;
        let by = written.by.into_inner();
        by.iter().try_for_each(|name| attribute(name, by_at))?;
        if by.len() > MAX_BY {
            return Err(text.wrong(by_at, format!("a rule counts by at most {MAX_BY} attributes")));
        }
        if let Some((twice, _)) = by.iter().enumerate().find(|(i, name)| by[..*i].contains(name)) {
            return Err(text.wrong(by_at, format!("\"{}\" stands in by twice", by[twice])));
        }
        let limits_of = |given: Spanned<Value>| {
            let at = given.span().start;
            limits(given.into_inner()).map_err(|error| text.wrong(at, error))
        };
        let by_value = |given: BTreeMap<Spanned<String>, Spanned<Value>>| {
            let mut found = BTreeMap::new();
            for (value, limits) in given {
                check_value(value.get_ref()).map_err(|error| text.wrong(value.span().start, error))?;
                found.insert(value.into_inner(), limits_of(limits)?);
            }
            Ok::<_, Error>(found)
        };
        let mut tiers = None;
        for (attribute_name, of) in written.tiers {
            let at = attribute_name.span().start;
            attribute(attribute_name.get_ref(), at)?;
            if tiers.is_some() {
                return Err(text.wrong(at, "a rule has tiers by one attribute: make another rule for others"));
            }
            tiers = Some((attribute_name.into_inner(), by_value(of)?));
        }
        let overrides = by_value(written.overrides)?;
        let most = tiers.as_ref().map_or(0, |(_, tiers)| tiers.len()).max(overrides.len());
        if most > MAX_OVERRIDES {
            return Err(text.wrong(at, format!("a rule has more than {MAX_OVERRIDES} overrides or tiers")));
        }
        if !overrides.is_empty() && by.len() != 1 {
            return Err(text.wrong(
                by_at,
                "a rule with overrides counts by one attribute, whose values they name: make another rule for the others",
            ));
        }
        Ok(Spec {
            limits: limits_of(written.limits)?,
            name,
            when,
            by,
            shadow: written.shadow,
            tiers,
            overrides,
        })
    }
}

impl Test {
    /// A text: equal to it. A list: one of them. A table: all that it says.
    fn of(value: Value) -> Result<Vec<Test>, String> {
        let Value::Table(table) = value else {
            return Ok(vec![Test::OneOf(texts(value, "a condition")?)]);
        };
        let mut tests = Vec::new();
        for (kind, value) in table {
            tests.push(match kind.as_str() {
                "equal" | "one_of" => Test::OneOf(texts(value, &kind)?),
                "prefix" => Test::Prefix(texts(value, &kind)?),
                "cidr" => {
                    let networks = texts(value, &kind)?;
                    let networks = networks.iter().map(|text| network(text.trim()));
                    Test::Network(networks.collect::<Result<_, _>>().map_err(|error| error.to_string())?)
                }
                "present" => match value {
                    Value::Boolean(present) => Test::Present(present),
                    _ => return Err("present takes true or false".to_owned()),
                },
                other => {
                    let other: String = other.chars().take(64).collect();
                    return Err(format!(
                        "there is no condition \"{}\": the conditions are equal, one_of, prefix, cidr and present",
                        other.escape_debug()
                    ));
                }
            });
        }
        if tests.is_empty() {
            return Err("the condition is empty: leave it out, or say present = true".to_owned());
        }
        Ok(tests)
    }
}

/// A text, or a list of them.
fn texts(value: Value, what: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{what} takes a text, or a list of texts");
    let list = match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list
            .into_iter()
            .map(|each| match each {
                Value::String(text) => Ok(text),
                _ => Err(wrong()),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(wrong()),
    };
    if list.is_empty() || list.len() > MAX_VALUES {
        return Err(format!("{what} takes 1 to {MAX_VALUES} texts"));
    }
    list.iter().try_for_each(|text| check_value(text))?;
    Ok(list)
}

fn limits(value: Value) -> Result<Vec<Limit>, String> {
    let texts = texts(value, "limits")?;
    let limits = texts.iter().map(|text| text.parse::<Limit>());
    let limits: Vec<Limit> = limits.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    check_limits(&limits).map_err(|error| error.to_string())?;
    Ok(limits)
}

/// Errors: none, too many, or one that makes no sense.
pub(super) fn check_limits(limits: &[Limit]) -> Result<(), Error> {
    if limits.is_empty() || limits.len() > MAX_LIMITS {
        return Err(Error::LimitCount(format!("a rule has 1 to {MAX_LIMITS} limits")));
    }
    limits.iter().try_for_each(Limit::validate)?;
    Ok(())
}

pub(super) fn check_value(value: &str) -> Result<(), String> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(format!("a value is longer than {MAX_VALUE_BYTES} bytes"));
    }
    Ok(())
}

/// Names are labels of metrics.
fn check_name(name: &str) -> Result<(), String> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_fine) {
        let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
        return Err(format!(
            "is \"{}\": use 1 to {MAX_NAME_BYTES} letters, digits, hyphens, underscores and dots",
            shown.escape_debug()
        ));
    }
    Ok(())
}
