//! `ratelimit_rules`: limits by other criteria than one key.

use std::ffi::c_char;
use std::time::Duration;

use ratelimit::{Limit, RuleSet, Rules};

use crate::boundary::{self, Failure, Out};
use crate::config::{self, ratelimit_config};
use crate::decision::ratelimit_decision;
use crate::registry::{Entered, Registry};
use crate::result::ratelimit_result::{self, *};
use crate::threads::{self, ProcessFences};

/// Rules: a number that is checked at each use, like a limiter. 0 is never one.
pub type ratelimit_rules = u64;

/// One attribute of a request: what it is called, and its value as bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ratelimit_attribute {
    /// The name, UTF-8, ended by a zero byte.
    pub name: *const c_char,
    /// The value; NULL with a length of 0 is the empty value.
    pub value: *const u8,
    /// The length of the value in bytes.
    pub value_len: usize,
}

/// What rules say of a request.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ratelimit_rule_decision {
    /// The decision of the limit that binds. If no rule applies the request is allowed, and `limit` and `remaining` are
    /// `UINT64_MAX`.
    pub decision: ratelimit_decision,
    /// The name of the rule that binds, ended by a zero byte; empty if no rule applies.
    pub rule: [c_char; 65],
    /// The first rule that only watches and would have denied the request; empty if there is none.
    pub shadow: [c_char; 65],
}

pub(crate) static RULES: Registry<Rules> = Registry::new();

fn enter(rules: ratelimit_rules) -> Result<Entered<'static, Rules>, Failure> {
    RULES
        .enter::<ProcessFences>(threads::place(), rules)
        .ok_or_else(|| closed(rules))
}

/// For calls that take longer than a decision.
fn hold(rules: ratelimit_rules) -> Result<Rules, Failure> {
    enter(rules).map(|entered| (*entered).clone())
}

#[cold]
fn closed(rules: ratelimit_rules) -> Failure {
    Failure::new(
        RATELIMIT_ERR_CLOSED,
        match rules {
            0 => "0 is no rules: open some with ratelimit_rules_open",
            _ => "these rules were closed, or were never opened: do not use them any more",
        },
    )
}

/// Opens rules from TOML, into `*out`. docs/rules.md says what they can say.
///
/// `config` has the other options, like a snapshot file, and no limit: make it with `ratelimit_config_new_for_rules`. NULL keeps
/// counts in memory alone.
/// Errors: `RATELIMIT_ERR_OPTION` (the text, with its line; or a config with a limit), and those of `ratelimit_open`.
/// Ownership: the config stays the caller's. The rules end with `ratelimit_rules_close`.
///
/// # Safety
/// `text` ends with a zero byte; a handle can be written to `out`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_rules_open(
    text: *const c_char,
    config: *const ratelimit_config,
    out: *mut ratelimit_rules,
) -> ratelimit_result {
    boundary::guard("ratelimit_rules_open", || {
        // Safety: guaranteed by caller.
        let (text, out) = unsafe { (boundary::text(text, "text")?, Out::new(out, "out")?) };
        let rules = config::build_rules(config, RuleSet::from_toml(text)?)?;
        threads::prepare();
        RULES.sweep::<ProcessFences>(threads::places());
        let handle = RULES.open(rules).ok_or_else(|| {
            Failure::new(
                RATELIMIT_ERR_HANDLES,
                "a million rules are open: close what is no longer used",
            )
        })?;
        out.write(handle);
        Ok(())
    })
}

/// Closes rules, with a last snapshot if they have a file. As `ratelimit_close`.
///
/// Errors: `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_SNAPSHOT_WRITE`.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_rules_close(rules: ratelimit_rules) -> ratelimit_result {
    boundary::guard("ratelimit_rules_close", || {
        let mut outcome = Ok(());
        if !RULES.close::<ProcessFences>(threads::places(), rules, |rules| outcome = rules.close()) {
            return Err(closed(rules));
        }
        Ok(outcome?)
    })
}

type Attributes<'a> = Vec<(&'a str, &'a [u8])>;

/// # Safety
/// As for `ratelimit_rules_check`.
unsafe fn attributes<'a>(attributes: *const ratelimit_attribute, count: usize) -> Result<Attributes<'a>, Failure> {
    // Safety: guaranteed by caller.
    let attributes = unsafe { boundary::array(attributes, count, "attributes") }?;
    let pair = |each: &ratelimit_attribute| {
        // Safety: guaranteed by caller.
        Ok(unsafe {
            (
                boundary::text(each.name, "the name of an attribute")?,
                boundary::key(each.value, each.value_len)?,
            )
        })
    };
    attributes.iter().map(pair).collect()
}

fn name(given: Option<&str>) -> [c_char; 65] {
    let mut name = [0; 65];
    // One byte stays for the end; names are at most 64.
    for (place, byte) in name.iter_mut().take(64).zip(given.unwrap_or_default().bytes()) {
        *place = byte.cast_signed() as c_char;
    }
    name
}

fn told(decision: &ratelimit::RuleDecision) -> ratelimit_rule_decision {
    ratelimit_rule_decision {
        decision: decision.decision.into(),
        rule: name(decision.rule.as_deref()),
        shadow: name(decision.shadow.as_deref()),
    }
}

/// Decides a request with these attributes, into `*out`: all rules that apply allow it and are charged, or none is.
///
/// Errors: `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_LENGTH`, `RATELIMIT_ERR_TEXT`.
///
/// # Safety
/// `count` attributes can be read, with what they point to; a decision can be written to `out`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_rules_check(
    rules: ratelimit_rules,
    attributes: *const ratelimit_attribute,
    count: usize,
    cost: u64,
    out: *mut ratelimit_rule_decision,
) -> ratelimit_result {
    boundary::guard("ratelimit_rules_check", || {
        // Safety: guaranteed by caller.
        let (attributes, out) = unsafe { (self::attributes(attributes, count)?, Out::new(out, "out")?) };
        out.write(told(&enter(rules)?.check(&attributes, cost)));
        Ok(())
    })
}

/// As `ratelimit_rules_check`, at a given time: see `ratelimit_check_at`.
///
/// # Safety
/// As for `ratelimit_rules_check`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_rules_check_at(
    rules: ratelimit_rules,
    attributes: *const ratelimit_attribute,
    count: usize,
    cost: u64,
    now_ns: u64,
    out: *mut ratelimit_rule_decision,
) -> ratelimit_result {
    boundary::guard("ratelimit_rules_check_at", || {
        // Safety: guaranteed by caller.
        let (attributes, out) = unsafe { (self::attributes(attributes, count)?, Out::new(out, "out")?) };
        let now = Duration::from_nanos(now_ns);
        out.write(told(&enter(rules)?.check_at(&attributes, cost, now)));
        Ok(())
    })
}

/// What `ratelimit_rules_check` would say. Charges and counts nothing.
///
/// # Safety
/// As for `ratelimit_rules_check`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_rules_peek(
    rules: ratelimit_rules,
    attributes: *const ratelimit_attribute,
    count: usize,
    cost: u64,
    out: *mut ratelimit_rule_decision,
) -> ratelimit_result {
    boundary::guard("ratelimit_rules_peek", || {
        // Safety: guaranteed by caller.
        let (attributes, out) = unsafe { (self::attributes(attributes, count)?, Out::new(out, "out")?) };
        out.write(told(&enter(rules)?.peek(&attributes, cost)));
        Ok(())
    })
}

/// Gives `cost` requests back to every rule that applies.
///
/// # Safety
/// `count` attributes can be read, with what they point to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_rules_refund(
    rules: ratelimit_rules,
    attributes: *const ratelimit_attribute,
    count: usize,
    cost: u64,
) -> ratelimit_result {
    boundary::guard("ratelimit_rules_refund", || {
        // Safety: guaranteed by caller.
        let attributes = unsafe { self::attributes(attributes, count) }?;
        enter(rules)?.refund(&attributes, cost);
        Ok(())
    })
}

/// Forgets what was spent under every rule that applies.
///
/// # Safety
/// `count` attributes can be read, with what they point to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_rules_reset(
    rules: ratelimit_rules,
    attributes: *const ratelimit_attribute,
    count: usize,
) -> ratelimit_result {
    boundary::guard("ratelimit_rules_reset", || {
        // Safety: guaranteed by caller.
        let attributes = unsafe { self::attributes(attributes, count) }?;
        enter(rules)?.reset(&attributes);
        Ok(())
    })
}

/// Puts other rules in force, all at once, while decisions run. Rules whose name and `by` stay keep their counts.
///
/// Errors: `RATELIMIT_ERR_OPTION` (what is wrong, with its line; nothing is changed then), `RATELIMIT_ERR_CLOSED`,
/// `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`.
///
/// # Safety
/// `text` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_rules_replace(rules: ratelimit_rules, text: *const c_char) -> ratelimit_result {
    boundary::guard("ratelimit_rules_replace", || {
        // Safety: guaranteed by caller.
        let text = unsafe { boundary::text(text, "text") }?;
        Ok(hold(rules)?.replace_from_toml(text)?)
    })
}

/// Gives a client of a rule limits of its own, by the value that the rule counts by; `count` 0 takes them away.
///
/// Errors: `RATELIMIT_ERR_ARGUMENT` (no such rule, or one that does not count by one attribute), `RATELIMIT_ERR_INVALID_LIMIT`,
/// `RATELIMIT_ERR_LIMIT_COUNT`, `RATELIMIT_ERR_FULL`, `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`.
///
/// # Safety
/// Texts end with a zero byte; `count` texts can be read at `limits`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_rules_set_override(
    rules: ratelimit_rules,
    rule: *const c_char,
    value: *const c_char,
    limits: *const *const c_char,
    count: usize,
) -> ratelimit_result {
    boundary::guard("ratelimit_rules_set_override", || {
        // Safety: guaranteed by caller.
        let (rule, value) = unsafe { (boundary::text(rule, "rule")?, boundary::text(value, "value")?) };
        // Safety: guaranteed by caller.
        let texts = unsafe { boundary::array(limits, count, "limits") }?;
        let mut parsed = Vec::with_capacity(texts.len());
        for text in texts {
            // Safety: guaranteed by caller.
            let limit = unsafe { boundary::text(*text, "limit") }?.parse::<Limit>();
            parsed.push(limit.map_err(|error| Failure::from(ratelimit::Error::Limit(error)))?);
        }
        Ok(hold(rules)?.set_override(rule, value, &parsed)?)
    })
}

/// Table, snapshot and each rule by outcome as text for Prometheus: see `ratelimit_prometheus`. Ask with a `capacity` of 0 how
/// long it is.
///
/// # Safety
/// `buffer` has room for `capacity` bytes; `needed` points to a `size_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_rules_prometheus(
    rules: ratelimit_rules,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> ratelimit_result {
    boundary::guard("ratelimit_rules_prometheus", || {
        let text = hold(rules)?.prometheus();
        // Safety: guaranteed by caller.
        unsafe { boundary::write_text(text.as_bytes(), buffer, capacity, needed) }
    })
}
