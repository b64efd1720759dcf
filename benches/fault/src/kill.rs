//! SIGKILL at random instants while a process decides and writes snapshots; then the snapshot is restored and compared with a
//! journal that the process kept in memory which outlives it.
//!
//! Per key the restored debt lies between that of the last finished snapshot and that at the kill; no key appears that was never
//! used. The buckets refill in hours, so that in the seconds of a campaign debts are whole numbers of requests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use ratelimit::{Limit, Limiter, Outcome as Restored};

use crate::support::{Outcome, Random, promise};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kills
    #[arg(long, default_value_t = 200)]
    count: u64,
    /// Where the random numbers begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The longest that a process lives after it has begun, in milliseconds
    #[arg(long, default_value_t = 40)]
    longest_ms: u64,
    /// Where the files lie; a new folder among the temporary ones if not given
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The part of the process that is killed
    #[arg(long, hide = true)]
    child: bool,
}

const KEYS: usize = 4_096;
const BURST: u64 = 1_000;
/// Kills before the folder is emptied: a key takes no more than its burst.
const KILLS_PER_FOLDER: u64 = 100;
const DECIDERS: usize = 2;

/// Three counts for each key, in memory that is mapped from a file: it is there when the process is not.
struct Journal {
    map: MmapRaw,
}

/// Decisions begun.
const BEGUN: usize = 0;
/// Decisions that were allowed and have returned.
const DONE: usize = 1;
/// Two sets of those that had returned before a snapshot began: one of the last that finished, one of the next.
const SAVED: usize = 2;
const ROWS: usize = 4;
/// Behind the rows: which of the two sets is in force, plus 1; 0 before the first snapshot.
const FINISHED: usize = ROWS * KEYS;
/// 1 once the process decides.
const READY: usize = FINISHED + 1;
const WORDS: usize = READY + 1;

impl Journal {
    fn open(path: &Path) -> Result<Self, String> {
        let said = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(said)?;
        file.set_len((WORDS * 8) as u64).map_err(said)?;
        let map = MmapOptions::new().len(WORDS * 8).map_raw(&file).map_err(said)?;
        Ok(Journal { map })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORDS);
        // Safety: the word lies within the mapping, which is aligned to a page and lives as long as `self`; all of its users, in
        // both processes, use it as atomics only.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(index)) }
    }

    fn key(&self, row: usize, key: usize) -> &AtomicU64 {
        self.word(row * KEYS + key)
    }

    fn get(&self, row: usize, key: usize) -> u64 {
        self.key(row, key).load(Ordering::SeqCst)
    }
}

fn limiter(folder: &Path, every: Duration) -> Result<Limiter, String> {
    // 4.8 hours for one request.
    let limit = Limit::new(BURST, Duration::from_secs(200 * 86_400)).map_err(|error| error.to_string())?;
    Limiter::builder()
        .limit(limit)
        .max_keys(4 * KEYS)
        .persist(folder.join("kill.snapshot"), every)
        .build()
        .map_err(|error| error.to_string())
}

pub(crate) fn run(args: &Args) -> Outcome {
    match (&args.dir, args.child) {
        (Some(folder), true) => child(folder, args.seed),
        (None, true) => Err("--child needs --dir".to_owned()),
        (Some(folder), false) => campaign(args, folder),
        (None, false) => {
            let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
            campaign(args, folder.path())
        }
    }
}

#[derive(Default)]
struct Tally {
    kills: u64,
    before_first: u64,
    lost_at_most: u64,
    admitted: u64,
    snapshots: u64,
}

fn campaign(args: &Args, folder: &Path) -> Outcome {
    let mut random = Random(args.seed);
    let mut tally = Tally::default();
    let start = Instant::now();
    for round in 0..args.count.div_ceil(KILLS_PER_FOLDER) {
        let folder = folder.join(format!("round-{round}"));
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let mut base = vec![0; KEYS];
        for _ in 0..KILLS_PER_FOLDER.min(args.count - tally.kills) {
            let seed = random.next();
            let live = Duration::from_micros(random.below(args.longest_ms.max(1) * 1_000));
            kill_one(&folder, seed, live, &mut base, &mut tally)
                .map_err(|broken| format!("kill {} (seed {}): {broken}", tally.kills, args.seed))?;
            tally.kills += 1;
        }
        std::fs::remove_dir_all(&folder).map_err(|error| error.to_string())?;
    }
    Ok(format!(
        "kill: {} kills in {:.0} s, every reopen succeeded; {} came before the first snapshot; {} admissions, at most {} of one key \
         lost by a kill (the burst is {BURST}); {} snapshots",
        tally.kills,
        start.elapsed().as_secs_f64(),
        tally.before_first,
        tally.admitted,
        tally.lost_at_most,
        tally.snapshots
    ))
}

fn kill_one(folder: &Path, seed: u64, live: Duration, base: &mut [u64], tally: &mut Tally) -> Result<(), String> {
    let journal_path = folder.join("journal");
    let journal = Journal::open(&journal_path)?;
    for index in 0..WORDS {
        journal.word(index).store(0, Ordering::SeqCst);
    }
    let had_snapshot = folder.join("kill.snapshot").exists();
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child: Child = Command::new(program)
        .args(["kill", "--child", "--seed", &seed.to_string(), "--dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while journal.word(READY).load(Ordering::SeqCst) == 0 {
        let ended = child.try_wait().map_err(|error| error.to_string())?;
        promise!(
            ended.is_none() && Instant::now() < deadline,
            "the process did not begin: {ended:?}"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(live);
    child.kill().map_err(|error| error.to_string())?;
    let ended = child.wait().map_err(|error| error.to_string())?;
    promise!(ended.code().is_none(), "the process ended by itself: {ended}");

    let limiter = limiter(folder, Duration::from_secs(3_600))?;
    let stats = limiter.stats().snapshot.ok_or("no snapshot is kept")?;
    let finished = journal.word(FINISHED).load(Ordering::SeqCst);
    let may_be_cold = !had_snapshot && finished == 0;
    promise!(
        stats.restored.outcome.is_warm() || may_be_cold && stats.restored.outcome == Restored::ColdNone,
        "{:?}",
        stats.restored
    );
    promise!(
        stats.restored.no_room + stats.restored.unmapped == 0,
        "{:?}",
        stats.restored
    );
    tally.before_first += u64::from(!stats.restored.outcome.is_warm());
    tally.snapshots += stats.restored.generation;
    for (key, base) in base.iter_mut().enumerate() {
        let restored = BURST - limiter.peek(&(key as u64).to_le_bytes()).remaining;
        let saved = match finished {
            0 => 0,
            set => journal.get(SAVED + set as usize - 1, key),
        };
        let (begun, done) = (journal.get(BEGUN, key), journal.get(DONE, key));
        promise!(
            (*base + saved..=(*base + begun).min(BURST)).contains(&restored),
            "key {key} had {base} and then {saved} in the last finished snapshot, {done} to {begun} at the kill, and came back with \
             {restored}"
        );
        // Refilled for nothing: never more than a burst, since no debt is more.
        let lost = (*base + done).saturating_sub(restored);
        promise!(lost <= BURST, "key {key} got {lost} for nothing");
        tally.lost_at_most = tally.lost_at_most.max(lost);
        tally.admitted += done;
        *base = restored;
    }
    for stranger in KEYS..2 * KEYS {
        let remaining = limiter.peek(&(stranger as u64).to_le_bytes()).remaining;
        promise!(
            remaining == BURST,
            "key {stranger} was never used and came back with {}",
            BURST - remaining
        );
    }
    Ok(())
}

/// Decides and writes snapshots until it is killed.
fn child(folder: &Path, seed: u64) -> Outcome {
    let journal = Journal::open(&folder.join("journal"))?;
    let limiter = limiter(folder, Duration::from_millis(1))?;
    std::thread::scope(|scope| {
        for decider in 0..DECIDERS {
            let (journal, limiter) = (&journal, &limiter);
            let mut random = Random(seed.wrapping_add(decider as u64));
            scope.spawn(move || {
                loop {
                    let key = random.below(KEYS as u64) as usize;
                    journal.key(BEGUN, key).fetch_add(1, Ordering::SeqCst);
                    if limiter.is_allowed(&(key as u64).to_le_bytes()) {
                        journal.key(DONE, key).fetch_add(1, Ordering::SeqCst);
                    }
                    journal.word(READY).store(1, Ordering::SeqCst);
                    if random.one_in(64) {
                        // Slow enough for no key to spend its burst before the folder is emptied.
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            });
        }
        let mut set = 0;
        loop {
            for key in 0..KEYS {
                let done = journal.get(DONE, key);
                journal.key(SAVED + set, key).store(done, Ordering::SeqCst);
            }
            if limiter.snapshot().is_ok() {
                journal.word(FINISHED).store(set as u64 + 1, Ordering::SeqCst);
                set = 1 - set;
            }
        }
    })
}
