//! Runs a model, counts its executions, and says how it ended.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use ratelimit_core::face::{Counted, ModelLease, ModelTable, Mutant, Rule, Site, Stop, with_mutant};
use ratelimit_model::Limit;

/// The emission interval of most models, in nanoseconds.
pub const T: u64 = 10;

/// Clients. Their fingerprints lead to the same lines, in the same order.
pub const X: u64 = 3;
pub const Y: u64 = 5;
pub const Z: u64 = 7;

/// `burst` requests at once, then one every `interval` nanoseconds.
pub fn limit(burst: u64, interval: u64) -> Limit {
    Limit::new(1, Duration::from_nanos(interval))
        .expect("a model's limit")
        .burst(burst)
}

/// A table with one limit of `burst` requests and interval [`T`].
pub fn table(tiers: &[u64], cells: usize, burst: u64) -> Arc<ModelTable> {
    Arc::new(ModelTable::new(tiers, false, cells, &[limit(burst, T)]))
}

/// A clustered table with that limit. At most `unconfirmed` units are spent that no owner has confirmed.
pub fn clustered(tiers: &[u64], cells: usize, burst: u64, unconfirmed: u64) -> Arc<ModelTable> {
    Arc::new(ModelTable::clustered(tiers, cells, &[limit(burst, T)], unconfirmed))
}

/// A thread of a model.
pub fn spawn<R: 'static>(
    table: &Arc<ModelTable>,
    body: impl FnOnce(&ModelTable) -> R + 'static,
) -> loom::thread::JoinHandle<R> {
    let table = Arc::clone(table);
    loom::thread::spawn(move || body(&table))
}

pub fn join<R>(thread: loom::thread::JoinHandle<R>) -> R {
    thread.join().expect("a thread of a model")
}

/// States a property of a model. What fails here is told apart from loom's own complaints.
macro_rules! holds {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            panic!("violated: {}", format!($($message)*));
        }
    };
}
pub(crate) use holds;

/// How a model ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// loom ran out of interleavings.
    Complete,
    /// It holds in as many executions as were allowed.
    NotExhausted,
    /// A property does not hold.
    Violated(String),
    /// Some other panic, for instance an execution that does not end.
    Broken(String),
}

/// How far a model is explored.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Preemptions in one execution; `None` for all.
    pub preemptions: Option<usize>,
    /// Executions, in thousands.
    pub thousands: usize,
}

/// One property of the table under a few threads.
#[derive(Clone, Copy)]
pub struct Model {
    pub name: &'static str,
    pub run: fn(),
    /// As far as every test run goes.
    pub quick: Bound,
    /// As far as `RATELIMIT_LOOM=full` goes.
    pub full: Bound,
}

pub struct Outcome {
    pub executions: usize,
    pub time: Duration,
    pub end: End,
}

pub fn is_full() -> bool {
    std::env::var_os("RATELIMIT_LOOM").is_some_and(|value| value == "full")
}

thread_local! {
    static EXECUTIONS: Cell<usize> = const { Cell::new(0) };
}

pub fn explore(run: fn(), bound: Bound) -> Outcome {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound.preemptions;
    builder.max_branches = 5_000;
    builder.checkpoint_interval = 1_000;
    builder.max_permutations = Some(bound.thousands * 1_000);
    if !is_full() {
        // So that all models together take minutes on the slowest machine; the row then says how far it got.
        builder.max_duration = Some(Duration::from_secs(15));
    }
    EXECUTIONS.set(0);
    let start = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            // loom runs every thread of a model on the thread of the test.
            EXECUTIONS.set(EXECUTIONS.get() + 1);
            run();
        });
    }));
    let executions = EXECUTIONS.get();
    let end = match ended {
        Ok(()) if executions + 1 < bound.thousands * 1_000 && (is_full() || start.elapsed().as_secs() < 15) => {
            End::Complete
        }
        Ok(()) => End::NotExhausted,
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default();
            match message.strip_prefix("violated: ") {
                Some(property) => End::Violated(property.to_owned()),
                None => End::Broken(message),
            }
        }
    };
    Outcome {
        executions,
        time: start.elapsed(),
        end,
    }
}

/// Explores a model as far as this run goes, prints its row of the table, and panics if the model fails.
pub fn check(model: &Model) {
    let mut bound = if is_full() { model.full } else { model.quick };
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    if let Some(preemptions) = number("LOOM_MAX_PREEMPTIONS") {
        bound.preemptions = Some(preemptions);
    }
    if let Some(executions) = number("LOOM_MAX_PERMUTATIONS") {
        bound.thousands = executions.div_ceil(1_000);
    }
    let outcome = explore(model.run, bound);
    let preemptions = bound.preemptions.map_or("all".to_owned(), |bound| bound.to_string());
    println!(
        "| {} | {preemptions} | {} | {:.1} | {:?} |",
        model.name,
        outcome.executions,
        outcome.time.as_secs_f64(),
        outcome.end
    );
    assert!(
        matches!(outcome.end, End::Complete | End::NotExhausted),
        "{}: {:?} in execution {}",
        model.name,
        outcome.end,
        outcome.executions
    );
}

/// Declares the models of a file: each a function that builds a table, runs its threads and states its property, with the
/// bounds of a quick and of a full run, as preemptions (`all` or a number) and thousands of executions.
macro_rules! models {
    ($($(#[doc = $doc:literal])* $name:ident: quick($quick:tt, $quick_k:literal), full($full:tt, $full_k:literal) => $body:block)*) => {
        $(
            $(#[doc = $doc])*
            mod $name {
                #[allow(unused_imports)]
                use super::*;
                pub fn run() $body
                #[test]
                fn holds() {
                    $crate::harness::check(&super::model(stringify!($name)));
                }
            }
        )*
        /// The models of this file.
        pub const MODELS: &[$crate::harness::Model] = &[$(
            $crate::harness::Model {
                name: concat!(module_path!(), "::", stringify!($name)),
                run: $name::run,
                quick: $crate::harness::Bound { preemptions: $crate::harness::preemptions!($quick), thousands: $quick_k },
                full: $crate::harness::Bound { preemptions: $crate::harness::preemptions!($full), thousands: $full_k },
            },
        )*];
        fn model(name: &str) -> $crate::harness::Model {
            *MODELS
                .iter()
                .find(|model| model.name.ends_with(&format!("::{name}")))
                .expect("a model of this file")
        }
    };
}
pub(crate) use models;

macro_rules! preemptions {
    (all) => {
        None
    };
    ($bound:literal) => {
        Some($bound)
    };
}
pub(crate) use preemptions;

/// What must hold of a client once every thread is done: one LIVE cell at most, none TENTATIVE.
pub fn settled(table: &ModelTable, client: u64) {
    let live = table.live(client);
    holds!(live.len() <= 1, "client {client} has several LIVE cells: {live:?}");
    holds!(table.tentative() == 0, "a cell is left TENTATIVE");
}
