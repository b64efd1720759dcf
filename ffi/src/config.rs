//! `ratelimit_config`: the options of a limiter, by the one parser of all languages.

use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ratelimit::options::{Dialect, OptionValue, Options};
use ratelimit::{Limiter, RuleSet, Rules};

use crate::boundary::{self, Failure, Out};
use crate::registry::Registry;
use crate::result::ratelimit_result::{self, *};
use crate::threads::{self, ProcessFences};

/// The options of a limiter before it is opened.
///
/// A number that is checked at each use, and not an address: a config that was freed is an error code. Use it from one thread
/// at a time, or from several: each call is whole.
pub struct ratelimit_config {
    _private: [u8; 0],
}

pub(crate) static CONFIGS: Registry<Mutex<Config>> = Registry::new();

const _: () = assert!(
    usize::BITS == 64,
    "a config is a 64-bit number in the place of a pointer: 32-bit targets are not supported"
);

pub(crate) struct Config {
    options: Options,
    /// Limits as text, which are handed over as a whole.
    texts: Vec<String>,
    /// What was refused, by option, unless it was set well later: an option is never silently left out.
    refused: Vec<(&'static str, ratelimit_result, String)>,
}

impl Config {
    fn new() -> Self {
        Config {
            options: Options::new(Dialect::SnakeNanos),
            texts: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn set(&mut self, name: &'static str, value: OptionValue) -> Result<(), Failure> {
        let outcome = self.options.set(name, value).map_err(Failure::from);
        self.note(name, outcome)
    }

    pub(crate) fn set_cluster(&mut self, name: &'static str, value: OptionValue) -> Result<(), Failure> {
        let outcome = self.options.set_cluster(name, value).map_err(Failure::from);
        self.note(name, outcome)
    }

    pub(crate) fn note(&mut self, name: &'static str, outcome: Result<(), Failure>) -> Result<(), Failure> {
        self.refused.retain(|(refused, ..)| *refused != name);
        if let Err(failure) = &outcome {
            self.refused.push((name, failure.result, failure.text.to_string()));
        }
        outcome
    }

    fn add_limit(&mut self, text: &str) -> Result<(), Failure> {
        self.texts.push(text.to_owned());
        let outcome = self.set("limits", OptionValue::Texts(self.texts.clone()));
        if outcome.is_err() {
            self.texts.pop();
        }
        outcome
    }

    fn build(&self) -> Result<Limiter, Failure> {
        if let Some((_, result, text)) = self.refused.first() {
            return Err(Failure::new(*result, text.clone()));
        }
        Ok(self.options.build()?)
    }
}

fn handle(config: *const ratelimit_config) -> u64 {
    config.addr() as u64
}

fn pointer(handle: u64) -> *mut ratelimit_config {
    std::ptr::without_provenance_mut(handle as usize)
}

fn lock(config: &Mutex<Config>) -> MutexGuard<'_, Config> {
    // A panic leaves options as they were.
    config.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
fn gone(config: *const ratelimit_config) -> Failure {
    if config.is_null() {
        return Failure::new(
            RATELIMIT_ERR_NULL,
            "config is NULL: make one with ratelimit_config_new or ratelimit_config_parse",
        );
    }
    Failure::new(
        RATELIMIT_ERR_CLOSED,
        "this config was freed, or was never made: do not use it any more",
    )
}

fn open(config: Config) -> Result<*mut ratelimit_config, Failure> {
    threads::prepare();
    CONFIGS.sweep::<ProcessFences>(threads::places());
    CONFIGS.open(Mutex::new(config)).map(pointer).ok_or_else(|| {
        Failure::new(
            RATELIMIT_ERR_HANDLES,
            "a million configs were made and not freed: free them",
        )
    })
}

/// The limiter that a config describes.
pub(crate) fn build(config: *const ratelimit_config) -> Result<Limiter, Failure> {
    let entered = CONFIGS
        .enter::<ProcessFences>(None, handle(config))
        .ok_or_else(|| gone(config))?;
    lock(&entered).build()
}

/// The rules that a config has the options for.
pub(crate) fn build_rules(config: *const ratelimit_config, rules: RuleSet) -> Result<Rules, Failure> {
    if config.is_null() {
        return Ok(Options::new(Dialect::SnakeNanos).build_rules(rules)?);
    }
    let entered = CONFIGS
        .enter::<ProcessFences>(None, handle(config))
        .ok_or_else(|| gone(config))?;
    let config = lock(&entered);
    if let Some((_, result, text)) = config.refused.first() {
        return Err(Failure::new(*result, text.clone()));
    }
    Ok(config.options.build_rules(rules)?)
}

/// A config without a limit, for `ratelimit_rules_open`; free it with `ratelimit_config_free`. NULL if a million are open.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_config_new_for_rules() -> *mut ratelimit_config {
    boundary::answer("ratelimit_config_new_for_rules", std::ptr::null_mut(), || {
        open(Config::new())
    })
}

pub(crate) fn change(
    entry: &'static str,
    config: *mut ratelimit_config,
    change: impl FnOnce(&mut Config) -> Result<(), Failure>,
) -> ratelimit_result {
    boundary::guard(entry, || {
        let entered = CONFIGS
            .enter::<ProcessFences>(None, handle(config))
            .ok_or_else(|| gone(config))?;
        change(&mut lock(&entered))
    })
}

/// Sets an option to a text that C has given: [`Config::set`] one of the limiter, [`Config::set_cluster`] one of the cluster.
///
/// # Safety
/// As for `boundary::text`.
pub(crate) unsafe fn set_text(
    set: fn(&mut Config, &'static str, OptionValue) -> Result<(), Failure>,
    entry: &'static str,
    config: *mut ratelimit_config,
    name: &'static str,
    text: *const c_char,
) -> ratelimit_result {
    change(entry, config, |config| {
        // Safety: guaranteed by caller.
        match unsafe { boundary::text(text, name) } {
            Ok(text) => set(config, name, OptionValue::Text(text.to_owned())),
            Err(failure) => config.note(name, Err(failure)),
        }
    })
}

/// Starts a config with one limit: `rate_limit` requests (from 1) per `time_window_ns` nanoseconds (from 1), on average.
///
/// A client that was idle may spend its burst at once and the refill after it: up to twice `rate_limit` in one window. See
/// `ratelimit_config_set_strict` and `ratelimit_config_set_burst`.
/// Numbers that make no limit are reported by `ratelimit_open`, so that the answer here needs no check but for NULL, which
/// means that a million configs were not freed.
/// Ownership: the caller frees it with `ratelimit_config_free`; limiters that were opened from it do not need it.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_config_new(rate_limit: u64, time_window_ns: u64) -> *mut ratelimit_config {
    boundary::answer("ratelimit_config_new", std::ptr::null_mut(), || {
        let mut config = Config::new();
        // What is refused is kept in the config, for `ratelimit_open` to say.
        let _ = config.set("rate_limit", OptionValue::Int(i128::from(rate_limit)));
        let _ = config.set("time_window_ns", OptionValue::Int(i128::from(time_window_ns)));
        open(config)
    })
}

/// Starts a config with a limit as text, as "100/minute", "5/10s", "100/minute burst 20" or "100/minute strict", into `*out`.
///
/// Units: s, sec, second, m, min, minute, h, hour, d, day. Further limits: `ratelimit_config_add_limit`.
/// Errors: `RATELIMIT_ERR_INVALID_LIMIT` (the text is not a limit), `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`,
/// `RATELIMIT_ERR_HANDLES`.
/// Ownership: the caller frees it with `ratelimit_config_free`.
///
/// # Safety
/// `text` ends with a zero byte; a pointer can be written to `out`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_parse(
    text: *const c_char,
    out: *mut *mut ratelimit_config,
) -> ratelimit_result {
    boundary::guard("ratelimit_config_parse", || {
        // Safety: guaranteed by caller.
        let (text, out) = unsafe { (boundary::text(text, "text")?, Out::new(out, "out")?) };
        let mut config = Config::new();
        config.add_limit(text)?;
        out.write(open(config)?);
        Ok(())
    })
}

/// Adds a limit as text. A request is allowed only if all limits allow it, and then all are charged; if one denies, none is.
///
/// For configs that were made from text; at most 8 limits.
/// Errors: `RATELIMIT_ERR_INVALID_LIMIT`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`, `RATELIMIT_ERR_CLOSED`; the config stays
/// as it was, and `ratelimit_open` refuses it.
///
/// # Safety
/// `text` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_add_limit(
    config: *mut ratelimit_config,
    text: *const c_char,
) -> ratelimit_result {
    change("ratelimit_config_add_limit", config, |config| {
        // Safety: guaranteed by caller.
        match unsafe { boundary::text(text, "text") } {
            Ok(text) => config.add_limit(text),
            Err(failure) => config.note("limits", Err(failure)),
        }
    })
}

/// The most requests at one instant, from 1. Default: the rate, or a tenth of it (at least 1) if strict. For a limit in numbers.
///
/// Errors, of this and all other setters: `RATELIMIT_ERR_OPTION` (a value that the option does not take),
/// `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`, `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_UNSUPPORTED`. The config stays as it
/// was; unless the option is set well later, `ratelimit_open` gives the same error, so results of setters may be left unread.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_config_set_burst(config: *mut ratelimit_config, burst: u64) -> ratelimit_result {
    change("ratelimit_config_set_burst", config, |config| {
        config.set("burst", OptionValue::Int(i128::from(burst)))
    })
}

/// Whether at most `rate_limit` requests are allowed in any window, not only on average. Default: false. For a limit in numbers.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_config_set_strict(config: *mut ratelimit_config, strict: bool) -> ratelimit_result {
    change("ratelimit_config_set_strict", config, |config| {
        config.set("strict", OptionValue::Bool(strict))
    })
}

/// How many clients with debt to have room for, from 1; bounds the memory, about 33 bytes per client and limit.
///
/// Default: the table starts small and grows on its own to 40 million cells. One whose size is known is up to twice as fast.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_config_set_max_keys(config: *mut ratelimit_config, max_keys: u64) -> ratelimit_result {
    change("ratelimit_config_set_max_keys", config, |config| {
        config.set("max_keys", OptionValue::Int(i128::from(max_keys)))
    })
}

/// The snapshot file that lets counts survive a restart. Default: none, counts live in memory alone.
///
/// # Safety
/// `path` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_path(
    config: *mut ratelimit_config,
    path: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_text(Config::set, "ratelimit_config_set_path", config, "path", path) }
}

/// How often the snapshot is written, in nanoseconds, from 1. Default: every second.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_config_set_snapshot_every(
    config: *mut ratelimit_config,
    snapshot_every_ns: u64,
) -> ratelimit_result {
    change("ratelimit_config_set_snapshot_every", config, |config| {
        config.set("snapshot_every_ns", OptionValue::Int(i128::from(snapshot_every_ns)))
    })
}

/// What to do with a damaged snapshot: "auto" (start with the previous one or empty), "salvage" (save what is intact) or
/// "required" (refuse to open). Default: "auto".
///
/// # Safety
/// `restore` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_restore(
    config: *mut ratelimit_config,
    restore: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_text(Config::set, "ratelimit_config_set_restore", config, "restore", restore) }
}

/// One table for all processes of this user on this host that give the same name. NULL: for this process and those that it
/// forks. Default: each process has its own.
///
/// # Safety
/// `name` is NULL or ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_share(
    config: *mut ratelimit_config,
    name: *const c_char,
) -> ratelimit_result {
    const ENTRY: &str = "ratelimit_config_set_share";
    if name.is_null() {
        return change(ENTRY, config, |config| config.set("share", OptionValue::Bool(true)));
    }
    // Safety: guaranteed by caller.
    unsafe { set_text(Config::set, ENTRY, config, "share", name) }
}

/// Whether the limits of this config replace those that a shared table has, in place of an error. Default: false.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_config_set_replace_limits(
    config: *mut ratelimit_config,
    replace_limits: bool,
) -> ratelimit_result {
    change("ratelimit_config_set_replace_limits", config, |config| {
        config.set("replace_limits", OptionValue::Bool(replace_limits))
    })
}

/// The clock that decides: "precise" (the fastest that can be trusted), "os" (the system's), or "coarse" (faster, and up to 4 ms
/// late). Default: "precise".
///
/// # Safety
/// `clock` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_clock(
    config: *mut ratelimit_config,
    clock: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_text(Config::set, "ratelimit_config_set_clock", config, "clock", clock) }
}

/// What clients get that find the table full: "share" (a cell that several share), "deny", or "allow" (no limit). Default: "share".
///
/// # Safety
/// `overflow` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_overflow(
    config: *mut ratelimit_config,
    overflow: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe {
        set_text(
            Config::set,
            "ratelimit_config_set_overflow",
            config,
            "overflow",
            overflow,
        )
    }
}

/// The secret that keys the hash of keys: 32 hexadecimal digits. Default: a random one.
///
/// # Safety
/// `hash_key` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_hash_key(
    config: *mut ratelimit_config,
    hash_key: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe {
        set_text(
            Config::set,
            "ratelimit_config_set_hash_key",
            config,
            "hash_key",
            hash_key,
        )
    }
}

/// Frees a config. NULL is nothing to free, and no error.
///
/// Errors: `RATELIMIT_ERR_CLOSED` if it was freed before; nothing happens then.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_config_free(config: *mut ratelimit_config) -> ratelimit_result {
    boundary::guard("ratelimit_config_free", || {
        if config.is_null() || CONFIGS.close::<ProcessFences>(threads::places(), handle(config), |_| {}) {
            return Ok(());
        }
        Err(gone(config))
    })
}
