//! Times and sizes with many live keys, and what a snapshot costs the decisions that run meanwhile. Everything that is compared is
//! measured in one run, taking turns.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratelimit::{ClientKey, Limiter};

use crate::support::{Outcome, Random, promise};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Live keys
    #[arg(long, default_value_t = 10_000_000)]
    keys: usize,
    /// Turns of decisions with and without a snapshot under way
    #[arg(long, default_value_t = 15)]
    turns: usize,
    /// Where the snapshot lies; a new folder among the temporary ones if not given
    #[arg(long)]
    dir: Option<PathBuf>,
}

const NEVER: Duration = Duration::from_secs(1 << 30);
/// Decisions between two readings of the clock.
const SLICE: usize = 4_096;

pub(crate) fn run(args: &Args) -> Outcome {
    let made = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = args.dir.as_deref().unwrap_or(made.path());
    let path = folder.join("measure.snapshot");
    let make = |persist: bool| {
        let builder = Limiter::builder()
            // A request is owed for 43 minutes: longer than this runs.
            .limit("1000/30d".parse().map_err(|error| format!("{error}"))?)
            .max_keys(args.keys)
            .hash_key([7; 16]);
        let builder = if persist {
            builder.persist(&path, NEVER)
        } else {
            builder
        };
        builder.build().map_err(|error| error.to_string())
    };
    let mut said = format!("{} live keys, {}\n", args.keys, folder.display());

    let limiter = make(true)?;
    let keys: Vec<ClientKey> = (0..args.keys as u64)
        .map(|key| limiter.key(&key.to_le_bytes()))
        .collect();
    insert(&limiter, &keys)?;
    let snapshot = || limiter.snapshot().map_err(|error| error.to_string());
    let mut written = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        snapshot()?;
        written.push(start.elapsed());
    }
    let stats = limiter.stats().snapshot.ok_or("no snapshot is kept")?;
    promise!(
        stats.last_cells as usize == args.keys,
        "{} cells in the snapshot",
        stats.last_cells
    );
    let bytes = stats.last_bytes;
    said += &format!(
        "snapshot     {bytes} bytes, {:.2} a key; {}\n",
        bytes as f64 / args.keys as f64,
        spread(&mut written)
    );

    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    let (under_way, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let wanted = AtomicBool::new(false);
    let failed = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                if !wanted.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_micros(200));
                    continue;
                }
                under_way.store(true, Ordering::SeqCst);
                let written = limiter.snapshot();
                under_way.store(false, Ordering::SeqCst);
                wanted.store(false, Ordering::SeqCst);
                written?;
            }
            Ok::<(), ratelimit::Error>(())
        });
        let mut random = Random(5);
        for _ in 0..args.turns {
            let mut spent = Spent::default();
            wanted.store(true, Ordering::SeqCst);
            while !under_way.load(Ordering::SeqCst) && !writer.is_finished() {
                std::hint::spin_loop();
            }
            let begun = Instant::now();
            while under_way.load(Ordering::SeqCst) {
                let slice = decide(&limiter, &keys, &mut random);
                // A slice in which the snapshot ended is of neither kind.
                if under_way.load(Ordering::SeqCst) {
                    spent.add(slice);
                }
            }
            let length = begun.elapsed();
            if spent.count > 0 {
                busy.push(spent);
            }
            // As long without.
            let (begun, mut spent) = (Instant::now(), Spent::default());
            while begun.elapsed() < length {
                spent.add(decide(&limiter, &keys, &mut random));
            }
            quiet.push(spent);
        }
        stop.store(true, Ordering::SeqCst);
        writer.join()
    });
    match failed {
        Ok(written) => written.map_err(|error| error.to_string())?,
        Err(_) => return Err("the writer panicked".to_owned()),
    }
    promise!(!busy.is_empty(), "no decision ran during a snapshot: use more keys");
    for (which, what) in [(0, "by the clock"), (1, "by the thread's time on a core")] {
        let each = |turns: &[Spent]| median(turns.iter().map(|spent| spent.ns_each(which)).collect());
        let (without, with) = (each(&quiet), each(&busy));
        said += &format!(
            "decisions    {without:.1} ns each without and {with:.1} ns with a snapshot under way, {what}: ratio {:.3}\n",
            with / without
        );
    }
    drop(limiter);

    let (mut reads, mut inserts, mut restores) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let start = Instant::now();
        let content = std::fs::read(&path).map_err(|error| error.to_string())?;
        reads.push(start.elapsed());
        promise!(content.len() as u64 >= bytes / 2, "the file is short");
        drop(content);

        let empty = make(false)?;
        let start = Instant::now();
        insert(&empty, &keys)?;
        inserts.push(start.elapsed());
        drop(empty);

        let start = Instant::now();
        let warm = make(true)?;
        restores.push(start.elapsed());
        let restored = warm.stats().snapshot.ok_or("no snapshot is kept")?.restored;
        promise!(restored.cells as usize == args.keys, "{restored:?}");
    }
    let ms = |times: &[Duration]| median(times.iter().map(|time| time.as_secs_f64() * 1e3).collect());
    let (read, inserted, restored) = (ms(&reads), ms(&inserts), ms(&restores));
    said += &format!(
        "restore      {restored:.0} ms; reading the file {read:.0} ms and inserting precomputed keys in batches {inserted:.0} ms: ratio \
         {:.3}",
        restored / (read + inserted)
    );
    Ok(said)
}

fn insert(limiter: &Limiter, keys: &[ClientKey]) -> Result<(), String> {
    let mut allowed = vec![false; SLICE];
    for keys in keys.chunks(SLICE) {
        let allowed = &mut allowed[..keys.len()];
        limiter.allowed_many(keys, allowed).map_err(|error| error.to_string())?;
        promise!(allowed.iter().all(|&allowed| allowed), "a key was denied");
    }
    Ok(())
}

/// One slice of decisions of keys at random.
fn decide(limiter: &Limiter, keys: &[ClientKey], random: &mut Random) -> [Duration; 2] {
    let picked: Vec<&ClientKey> = (0..SLICE)
        .map(|_| &keys[random.below(keys.len() as u64) as usize])
        .collect();
    let (start, on_core) = (Instant::now(), core_time());
    let mut allowed = 0usize;
    for key in picked {
        allowed += usize::from(limiter.is_allowed(key));
    }
    let spent = [start.elapsed(), core_time().saturating_sub(on_core)];
    std::hint::black_box(allowed);
    spent
}

/// What this thread has had of a core: what others take of it on a busy machine is not in it.
fn core_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The time of one turn, by the clock and on a core.
#[derive(Default)]
struct Spent {
    time: [Duration; 2],
    count: usize,
}

impl Spent {
    fn add(&mut self, slice: [Duration; 2]) {
        for (time, slice) in self.time.iter_mut().zip(slice) {
            *time += slice;
        }
        self.count += SLICE;
    }

    fn ns_each(&self, which: usize) -> f64 {
        self.time[which].as_nanos() as f64 / self.count as f64
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    format!(
        "median {:.0} ms, {:.0} to {:.0}",
        times[times.len() / 2].as_secs_f64() * 1e3,
        times[0].as_secs_f64() * 1e3,
        times[times.len() - 1].as_secs_f64() * 1e3
    )
}
