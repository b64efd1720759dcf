//! `rateguard` on its local path: a cluster of one node without seeds, asked through `Guard::check(&str)`, the public
//! call that does least (the default class, no shadow limit, no trace). The keyed salt is on: its documentation asks for
//! one where clients choose the keys, and the other engines hash with a secret key too. The table is sized to the keys
//! of the case, so that none ends in the shared overflow slot.
//!
//! A node has a background task that visits every slot each 50 ms. In a service it competes for the caches and writes
//! to the slots. Here it stands still unless asked otherwise: the node is started in a runtime that nobody drives. That
//! leaves out a cost its users pay, so it errs in rateguard's favour, and it keeps the task out of the time of the
//! other engines. Admission is not changed by it: a lone node starts keys at half the limit's rate, which none of the
//! cases comes near.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ::rateguard::{Guard, Limit};
use tokio::runtime::{Builder, Runtime};

use super::{Engine, Entrant, RateguardMode, Setup, count_admitted};
use crate::work::Workload;

pub(crate) const NAME: &str = "rateguard";

/// The most keys a node takes, by its own bound.
pub(crate) const MOST_KEYS: usize = 1 << 20;

/// Any 128 bits: the measured hash does the same work whatever its key.
const SALT: [u8; 16] = *b"any sixteen byte";

/// How many slots' worth of keys it must at least be told to expect: one for each key it coordinates.
const FEWEST_KEYS: usize = 64;

// The fields are dropped in this order: the guard first, then the runtime its node lives in.
struct Rateguard {
    guard: Guard,
    runtime: Arc<Runtime>,
}

impl Engine for Rateguard {
    fn touch(&self, id: &String) -> bool {
        self.guard.check(id).is_allowed()
    }

    fn handle(&self) -> Box<dyn Engine> {
        Box::new(Rateguard {
            guard: self.guard.clone(),
            runtime: Arc::clone(&self.runtime),
        })
    }

    fn run(&self, work: &Workload, range: Range<usize>) -> Result<u64, String> {
        let guard = &self.guard;
        Ok(count_admitted(&work.order[range], |place| {
            guard.check(work.ids[place].as_str()).is_allowed()
        }))
    }
}

/// The limit in rateguard's words: a whole number per second or hour.
fn limit(setup: &Setup) -> Result<Limit, String> {
    let period = setup.quota.period;
    let limit = if period == Duration::from_secs(1) {
        Limit::per_second(1)
    } else if period == Duration::from_secs(3600) {
        Limit::per_hour(1)
    } else {
        return Err(format!("rateguard has no limit of one request per {period:?}."));
    };
    Ok(limit.burst(setup.quota.burst))
}

/// A node sized to `keys` keys.
pub(crate) fn engine(setup: &Setup, keys: usize) -> Result<Box<dyn Engine>, String> {
    if keys > MOST_KEYS {
        return Err(format!(
            "rateguard is left out at {keys} keys: it keeps {MOST_KEYS} at most."
        ));
    }
    let runtime = match setup.rateguard {
        RateguardMode::Still => Builder::new_current_thread().enable_all().build(),
        RateguardMode::Live => Builder::new_multi_thread().worker_threads(1).enable_all().build(),
    }
    .map_err(|error| format!("rateguard is left out: no tokio runtime could be started ({error})."))?;
    let builder = Guard::builder()
        .bind("127.0.0.1:0")
        .default_limit(limit(setup)?)
        .key_salt(SALT)
        .tracked_keys(keys.max(FEWEST_KEYS));
    let guard = {
        let _inside = runtime.enter();
        builder
            .spawn()
            .map_err(|error| format!("rateguard is left out: its node did not start ({error})."))?
    };
    Ok(Box::new(Rateguard {
        guard,
        runtime: Arc::new(runtime),
    }))
}

pub(crate) fn entrant(setup: &Setup) -> Result<Entrant, String> {
    Ok(Entrant {
        name: NAME,
        engine: engine(setup, setup.sized_for())?,
        fill: true,
    })
}
