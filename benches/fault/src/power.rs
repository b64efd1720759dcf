//! Power lost at every call of writing a snapshot: what comes back is the new one or the one before, whole, and never nothing.

use ratelimit_core::snapshot::simulated::SimulatedDisk;
use ratelimit_core::snapshot::{Restore, Which};

use crate::support::{self, Outcome, Random, STILL, bytes_of, promise, some_clients};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Losses of power
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// Where the random numbers begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let mut random = Random(args.seed);
    let mut outcomes = [0u64; 2];
    let mut done = 0;
    while done < args.count {
        let clients = 1 + random.below(10_000);
        let engine = some_clients(clients)?;
        let older = bytes_of(&engine, 1)?;
        let mut counted = SimulatedDisk::holding(Some(&older), None);
        engine
            .write_snapshot(&mut counted, 2, || STILL)
            .map_err(|error| error.to_string())?;
        let newer = counted.content(Which::Newest);
        let calls = counted.calls();
        for _ in 0..500.min(args.count - done) {
            let (call, seed) = (random.below(calls + 1), random.next());
            let mut disk = SimulatedDisk::holding(Some(&older), None);
            disk.cut(call);
            let acknowledged = engine.write_snapshot(&mut disk, 2, || STILL).is_ok();
            let mut back = disk.power_on(seed);
            let (mut after, _) = support::engine("100/minute")?;
            let restored = after
                .restore(&mut back, Restore::Auto, STILL)
                .map_err(|refused| refused.to_string())?;
            let case = format!("{clients} clients, call {call}, seed {seed}: {restored:?}");
            promise!(
                restored.outcome.is_warm() && restored.cells == clients,
                "debts are lost: {case}"
            );
            promise!(
                !acknowledged || restored.generation == 2,
                "an acknowledged snapshot is lost: {case}"
            );
            let taken = [Which::Newest, Which::Previous].into_iter().find_map(|which| {
                let content = back.content(which)?;
                support::is_whole(&content).then_some(content)
            });
            promise!(
                taken.as_ref() == Some(&older) || taken == newer,
                "neither the old nor the new: {case}"
            );
            outcomes[usize::from(taken == newer)] += 1;
            done += 1;
        }
    }
    let [old, new] = outcomes;
    Ok(format!(
        "power: {done} losses, {old} came back as before and {new} with the new snapshot, none with nothing"
    ))
}
