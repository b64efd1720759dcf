//! Many seeds, each a small scenario of its own, until one breaks a promise.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::run::{Outcome, run};
use crate::scenario::{CATALOGUE, Entry, Setting};
use crate::subject::{Design, Mode};

/// What all runs of a campaign have in common.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The only scenario, or `None` for all in turn.
    pub scenario: Option<&'static str>,
    /// The design under test.
    pub design: Design,
    /// The number of nodes, or drawn.
    pub nodes: Option<usize>,
    /// The mode, or drawn.
    pub mode: Option<Mode>,
    /// The rule broken on purpose, if any.
    pub mutant: Option<String>,
}

impl Plan {
    /// The scenario that a seed gets.
    #[must_use]
    pub fn entry(&self, seed: u64) -> &'static Entry {
        match self.scenario.and_then(crate::scenario::find) {
            Some(entry) => entry,
            None => &CATALOGUE[(seed % CATALOGUE.len() as u64) as usize],
        }
    }

    /// Runs one seed. A panic is an outcome too, and never ends the campaign. `None` if `stop` said so.
    ///
    /// Errors: the text of the panic.
    pub fn run(&self, seed: u64, stop: &dyn Fn() -> bool) -> Result<Option<Outcome>, String> {
        let mut setting = Setting::drawn(seed, self.nodes, self.mode);
        setting.full_mesh = self.design == Design::Mesh;
        let scenario = self.entry(seed).build(&setting);
        let mutant = self.mutant.as_deref();
        catch_unwind(AssertUnwindSafe(|| run(&scenario, self.design, seed, mutant, stop))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            text.unwrap_or("a panic without a text").to_owned()
        })
    }

    /// The command that repeats the run of a seed.
    #[must_use]
    pub fn repeat(&self, seed: u64) -> String {
        let mut command = format!(
            "cargo run --release -p ratelimit-sim -- --drawn --scenario {} --seed {seed}",
            self.entry(seed).name
        );
        match self.design {
            Design::Leases => {}
            Design::Table => command += " --store table",
            other => command += &format!(" --subject {}", other.name()),
        }
        if let Some(nodes) = self.nodes {
            command += &format!(" --nodes {nodes}");
        }
        if let Some(mode) = self.mode {
            command += &format!(" --mode {mode}");
        }
        if let Some(mutant) = &self.mutant {
            command += &format!(" --mutant {mutant}");
        }
        command
    }

    /// The first of `count` seeds from `first` that breaks a promise, with what it broke; `None` if none does. Of a plan with a
    /// mutant only seeds count that are sound without it.
    #[must_use]
    pub fn first_broken(&self, first: u64, count: u64) -> Option<(u64, String)> {
        let broken = |plan: &Plan, seed| match plan.run(seed, &|| false) {
            Ok(outcome) => outcome.and_then(|outcome| outcome.broken.into_iter().next()),
            Err(panic) => Some(format!("I6: {panic}")),
        };
        let sound = Plan {
            mutant: None,
            ..self.clone()
        };
        (first..first + count).find_map(|seed| {
            let found = broken(self, seed)?;
            (self.mutant.is_none() || broken(&sound, seed).is_none()).then_some((seed, found))
        })
    }
}
