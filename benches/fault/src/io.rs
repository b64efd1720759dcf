//! Every call failed in turn: decisions go on, the snapshots before are as they were, nothing is left over, and the next
//! attempt goes well.

use ratelimit_core::snapshot::simulated::{Failure, SimulatedDisk};
use ratelimit_core::snapshot::{Restore, Which};

use crate::support::{self, Outcome, STILL, bytes_of, client, is_whole, promise, some_clients};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Clients in the snapshot: about 4,000 for each call of writing
    #[arg(long, default_value_t = 40_000)]
    clients: u64,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let engine = some_clients(args.clients)?;
    let older = bytes_of(&engine, 1)?;
    let mut counted = SimulatedDisk::holding(Some(&older), None);
    engine
        .write_snapshot(&mut counted, 2, || STILL)
        .map_err(|error| error.to_string())?;
    let calls = counted.calls();
    let mut done = 0;
    for failure in Failure::ALL {
        for call in 0..calls {
            let case = format!("{failure:?} at call {call} of {calls}");
            let mut disk = SimulatedDisk::holding(Some(&older), None);
            disk.fail(call, failure);
            promise!(
                engine.write_snapshot(&mut disk, 2, || STILL).is_err(),
                "not told: {case}"
            );
            promise!(!disk.was_synced_again(), "synced again: {case}");
            promise!(!disk.has_leftovers(), "a file is left over: {case}");
            let newest = disk.content(Which::Newest).unwrap_or_default();
            promise!(is_whole(&newest), "the snapshot is harmed: {case}");
            promise!(
                call + 1 == calls || newest == older,
                "the snapshot before is gone: {case}"
            );
            promise!(
                !engine.check(client(&engine, 99), 100, None).allowed
                    && engine.peek(client(&engine, 0), 1, None).allowed,
                "a decision changed: {case}"
            );
            promise!(
                engine.write_snapshot(&mut disk, 3, || STILL).is_ok(),
                "the next fails too: {case}"
            );
            done += 1;
        }
        // Reading it back.
        for call in 0..2 {
            let mut disk = SimulatedDisk::holding(Some(&older), Some(&older));
            disk.fail(call, failure);
            let (mut after, _) = support::engine("100/minute")?;
            let restored = after
                .restore(&mut disk, Restore::Auto, STILL)
                .map_err(|refused| refused.to_string())?;
            promise!(
                restored.cells == args.clients,
                "{failure:?} at reading {call}: {restored:?}"
            );
            done += 1;
        }
    }
    Ok(format!(
        "io: {done} failures over {calls} calls, every one told, no snapshot harmed"
    ))
}
