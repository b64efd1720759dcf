//! The engines under test behind one small trait, and what they are set up for.

pub(crate) mod governor;
pub(crate) mod ours;
pub(crate) mod rateguard;

use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

use crate::work::Workload;

/// Names of our calls, as the tables and the targets use them.
pub(crate) mod name {
    pub(crate) const ID: &str = "ratelimit is_allowed(&str)";
    pub(crate) const CHECK: &str = "ratelimit check(&str)";
    pub(crate) const ID_COARSE: &str = "ratelimit is_allowed(&str), coarse clock";
    pub(crate) const ID_GROWN: &str = "ratelimit is_allowed(&str), grown";
    pub(crate) const KEY: &str = "ratelimit is_allowed(ClientKey)";
    pub(crate) const KEY_COARSE: &str = "ratelimit is_allowed(ClientKey), coarse clock";
    pub(crate) const BATCH_ID: &str = "ratelimit allowed_many(16 &str)";
    pub(crate) const BATCH_ID_GROWN: &str = "ratelimit allowed_many(16 &str), grown";
    pub(crate) const BATCH_CHECK: &str = "ratelimit check_many(16 &str)";
    pub(crate) const BATCH_KEY: &str = "ratelimit allowed_many(16 ClientKey)";
}

/// One way to call one engine. A case calls it through this trait once per round; the loop over the calls is inside
/// [`run`](Engine::run), compiled for the engine, so that no dynamic call is timed.
pub(crate) trait Engine: Send + Sync {
    /// Asks once for `id`: to fill the engine before it is measured.
    #[allow(clippy::ptr_arg, reason = "governor keyed by `String` takes a `&String`")]
    fn touch(&self, id: &String) -> bool;

    /// Another handle on the same state, for another thread, as a service would clone it.
    fn handle(&self) -> Box<dyn Engine>;

    /// Does what a caller who keeps something per id has done beforehand, such as hashing it. Not timed.
    fn prepare(&mut self, _work: &Workload) {}

    /// Makes the calls `range` of `work` and returns how many were admitted.
    fn run(&self, work: &Workload, range: Range<usize>) -> Result<u64, String>;
}

/// An engine with the name of the call it is measured with.
pub(crate) struct Entrant {
    pub(crate) name: &'static str,
    pub(crate) engine: Box<dyn Engine>,
    /// Whether this entrant's state must be filled; a later one may share the state of one before.
    pub(crate) fill: bool,
}

/// One token every `period` and room for `burst` of them: the only limit in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub(crate) period: Duration,
    pub(crate) burst: u32,
}

/// What an engine is built for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// How many distinct keys will be asked for; an engine that can be sized is sized to them.
    pub(crate) keys: usize,
    pub(crate) quota: Quota,
    /// Whether calls that differ only in their form may share one state. Saves filling the same 8 M keys many times;
    /// not for few keys, where their calls would add up to more than the burst.
    pub(crate) share_state: bool,
    pub(crate) rateguard: RateguardMode,
}

/// Whether rateguard's background task runs while rateguard is measured: see [`rateguard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateguardMode {
    Still,
    Live,
}

/// Fewer keys than this are no reason to size an engine smaller: it is rateguard's default.
const SMALLEST_SIZE: usize = 4096;

impl Setup {
    pub(crate) fn sized_for(&self) -> usize {
        self.keys.max(SMALLEST_SIZE)
    }
}

/// The measured loop: counts the admitted calls, and hides each answer from the optimiser before it is counted. Inlined
/// together with `call`, of which every caller has its own.
#[inline(always)]
pub(crate) fn count_admitted(order: &[u32], mut call: impl FnMut(usize) -> bool) -> u64 {
    let mut admitted = 0;
    for &place in order {
        admitted += u64::from(black_box(call(place as usize)));
    }
    admitted
}

/// Every engine that can serve `setup`, and a sentence for each that cannot.
pub(crate) fn line_up(setup: &Setup) -> Result<(Vec<Entrant>, Vec<String>), String> {
    let mut entrants = vec![governor::entrant(setup)?];
    let mut absent = Vec::new();
    match rateguard::entrant(setup) {
        Ok(entrant) => entrants.push(entrant),
        Err(sentence) => absent.push(sentence),
    }
    entrants.extend(ours::entrants(setup)?);
    Ok((entrants, absent))
}
