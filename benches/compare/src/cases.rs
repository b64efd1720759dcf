//! The speed cases: which keys, which path, how many threads; and how the engines take turns.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::engines::{self, Engine, Entrant, Quota, RateguardMode, Setup};
use crate::report::{Report, Series, Threads};
use crate::work::{Layout, Workload, write_id};

/// How a run is to be measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) quick: bool,
    pub(crate) layout: Layout,
    pub(crate) rateguard: RateguardMode,
}

/// Which answer a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Allowed,
    Denied,
}

impl Path {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Path::Allowed => "allowed",
            Path::Denied => "denied",
        }
    }
}

/// A number of keys, asked for at random.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) says: &'static str,
    pub(crate) keys: usize,
    /// Whether the state fits the processor's caches; else each call waits for memory.
    cached: bool,
    /// A round's calls are made in so many slices, the engines taking turns in each. In the cache short slices work, and
    /// what else the machine does for some seconds then weighs on all engines alike; out of it a slice must be long
    /// enough to forget the engine before.
    slices: usize,
    /// Timed calls of one engine in one slice.
    calls: usize,
    /// Untimed calls before them, which bring caches and branch predictors to where a service would have them: without
    /// them an engine would find the caches full of the engine before it.
    warm: usize,
    /// Available memory in bytes below which the case is left out.
    wants_memory: u64,
    threads: bool,
}

pub(crate) const CASES: [Case; 4] = [
    Case {
        name: "hot-1",
        says: "one key",
        keys: 1,
        cached: true,
        slices: 20,
        calls: 100_000,
        warm: 10_000,
        wants_memory: 0,
        threads: true,
    },
    Case {
        name: "hot-1k",
        says: "1,024 keys at random",
        keys: 1024,
        cached: true,
        slices: 20,
        calls: 100_000,
        warm: 10_000,
        wants_memory: 0,
        threads: true,
    },
    Case {
        name: "1m",
        says: "1,000,000 keys at random",
        keys: 1_000_000,
        cached: false,
        slices: 1,
        calls: 1_000_000,
        warm: 500_000,
        wants_memory: 2 << 30,
        threads: true,
    },
    Case {
        name: "8m",
        says: "8,000,000 keys at random",
        keys: 8_000_000,
        cached: false,
        slices: 1,
        calls: 1_000_000,
        warm: 500_000,
        wants_memory: 10 << 30,
        threads: false,
    },
];

/// Batches must come out even.
const MULTIPLE: usize = 64;

const THREADS: &str = "threads";

/// The names of all speed cases.
pub(crate) fn names() -> Vec<String> {
    let mut names = Vec::new();
    for case in &CASES {
        names.push(format!("{}/{}", case.name, Path::Allowed.name()));
        names.push(format!("{}/{}", case.name, Path::Denied.name()));
        if case.threads {
            names.push(format!("{}/{THREADS}", case.name));
        }
    }
    names
}

impl Case {
    /// Timed and untimed calls of a slice.
    fn calls(&self, plan: &Plan) -> (usize, usize) {
        let share = if plan.quick { 10 } else { 1 };
        let even = |calls: usize| (calls / share).next_multiple_of(MULTIPLE);
        (even(self.calls), even(self.warm))
    }

    /// The ids of few keys are in the cache wherever they lie, and a stream of copies would only add traffic.
    fn layout(&self, plan: &Plan) -> Layout {
        if self.cached { Layout::Scattered } else { plan.layout }
    }

    fn setup(&self, plan: &Plan, path: Path, keys: usize) -> Setup {
        Setup {
            keys,
            quota: self.quota(path),
            share_state: !self.cached,
            rateguard: plan.rateguard,
        }
    }

    /// The limit, the same for all engines.
    ///
    /// Admission: every call is admitted because the burst exceeds all calls on a key, not because tokens come back
    /// quickly. A key whose tokens are all back is the same as no key, and an engine may then give its place away; here
    /// every key is in use for the whole run. Few keys see many calls each, many keys must outlast many rounds, hence
    /// two limits; the product of period and burst must stay below 208 days, the longest bucket of ours.
    ///
    /// Denial: one request an hour, and it has been made.
    fn quota(&self, path: Path) -> Quota {
        let (period, burst) = match (path, self.cached) {
            (Path::Allowed, true) => (1, 4_000_000),
            (Path::Allowed, false) => (3600, 4000),
            (Path::Denied, _) => (3600, 1),
        };
        Quota {
            period: Duration::from_secs(period),
            burst,
        }
    }
}

/// Measures every case `wanted` names.
pub(crate) fn measure(plan: &Plan, wanted: &dyn Fn(&str) -> bool, report: &mut Report) -> Result<(), String> {
    for case in &CASES {
        let paths = [Path::Allowed, Path::Denied].map(|path| (path, format!("{}/{}", case.name, path.name())));
        let threads = format!("{}/{THREADS}", case.name);
        let any = paths.iter().any(|(_, name)| wanted(name)) || (case.threads && wanted(&threads));
        if !any {
            continue;
        }
        if let Some(sentence) = why_not(case, plan) {
            eprintln!("{sentence}");
            report.absent.push(sentence);
            continue;
        }
        let paths: Vec<Path> = paths
            .into_iter()
            .filter(|(_, name)| wanted(name))
            .map(|(path, _)| path)
            .collect();
        if !paths.is_empty() {
            eprintln!("measuring {} on one thread", case.name);
            one_thread(case, &paths, plan, report)?;
        }
        if case.threads && wanted(&threads) {
            eprintln!("measuring {} on two threads", case.name);
            two_threads(case, plan, report)?;
        }
    }
    Ok(())
}

fn why_not(case: &Case, plan: &Plan) -> Option<String> {
    if plan.quick && case.wants_memory > 4 << 30 {
        return Some(format!("The case {} is left out of a quick run.", case.name));
    }
    let available = crate::memory::available()?;
    (available < case.wants_memory).then(|| {
        format!(
            "The case {} is left out: it wants {} GiB of memory, {:.1} are available.",
            case.name,
            case.wants_memory >> 30,
            available as f64 / f64::from(1 << 30)
        )
    })
}

/// The engines of a case, each filled with its keys. In-cache cases build them anew for every round, so that no figure
/// hangs on one lucky hash seed or placement in memory.
fn filled(setup: &Setup, path: Path, report: &mut Report) -> Result<Vec<Entrant>, String> {
    let (entrants, absent) = engines::line_up(setup)?;
    for sentence in absent {
        if !report.absent.contains(&sentence) {
            report.absent.push(sentence);
        }
    }
    let mut id = String::new();
    for entrant in entrants.iter().filter(|entrant| entrant.fill) {
        let mut admitted = 0;
        for number in 0..setup.keys as u64 {
            write_id(&mut id, number, crate::work::ID_BYTES);
            admitted += usize::from(entrant.engine.touch(&id));
        }
        // The first call of a key is admitted, and on the denied path it is the last; an engine may make two keys
        // share a budget when a part of its table is full, so a few may be missing there.
        let fewest = match path {
            Path::Allowed => setup.keys,
            Path::Denied => setup.keys - setup.keys / 1000,
        };
        if admitted < fewest {
            return Err(format!(
                "{} admitted {admitted} of the first calls of {} keys: its figures would mean nothing.",
                entrant.name, setup.keys
            ));
        }
    }
    Ok(entrants)
}

/// Refuses a round in which an engine gave another answer than it must: a loop that was optimised away, an engine that
/// lost a key and a limit that was set wrongly all show here.
fn check(case: &str, name: &str, path: Path, calls: usize, admitted: u64) -> Result<(), String> {
    let right = match path {
        Path::Allowed => calls as u64,
        Path::Denied => 0,
    };
    if admitted == right {
        return Ok(());
    }
    Err(format!(
        "{name} admitted {admitted} of {calls} calls in the case {case}/{}, it must admit {right}.",
        path.name()
    ))
}

/// Makes `warm` untimed and `calls` timed calls from call `start` on. Returns their time and how many of all were
/// admitted.
fn time(
    engine: &dyn Engine,
    work: &Workload,
    start: usize,
    warm: usize,
    calls: usize,
) -> Result<(Duration, u64), String> {
    let timed = start + warm;
    let warmed = engine.run(work, start..timed)?;
    let since = Instant::now();
    let admitted = engine.run(work, timed..timed + calls)?;
    Ok((since.elapsed(), warmed + admitted))
}

/// One round after another, all engines on all of `paths` in each. Admissions and denials take turns too, since they are
/// compared with each other.
fn one_thread(case: &'static Case, paths: &[Path], plan: &Plan, report: &mut Report) -> Result<(), String> {
    let (calls, warm) = case.calls(plan);
    let mut work = Workload::new(case.layout(plan), 0..case.keys as u64, case.slices * (warm + calls));
    let line_up = |report: &mut Report| -> Result<Vec<(Path, Entrant)>, String> {
        let mut all = Vec::new();
        for &path in paths {
            let entrants = filled(&case.setup(plan, path, case.keys), path, report)?;
            all.extend(entrants.into_iter().map(|entrant| (path, entrant)));
        }
        Ok(all)
    };
    let mut field = line_up(report)?;
    let mut samples = vec![Vec::with_capacity(plan.rounds); field.len()];
    for round in 0..plan.rounds {
        if round > 0 && case.cached {
            field = line_up(report)?;
        }
        work.draw(round as u64 + 1);
        for (_, entrant) in &mut field {
            entrant.engine.prepare(&work);
        }
        let mut took = vec![Duration::ZERO; field.len()];
        for slice in 0..case.slices {
            let start = slice * (warm + calls);
            for turn in 0..field.len() {
                let index = (round + slice + turn) % field.len();
                let (path, entrant) = &field[index];
                let (time, admitted) = time(&*entrant.engine, &work, start, warm, calls)?;
                check(case.name, entrant.name, *path, warm + calls, admitted)?;
                took[index] += time;
            }
        }
        for (samples, took) in samples.iter_mut().zip(took) {
            samples.push(took.as_nanos() as f64 / (case.slices * calls) as f64);
        }
    }
    for ((path, entrant), samples) in field.iter().zip(samples) {
        report.series.push(Series {
            case: case.name,
            path: *path,
            entrant: entrant.name,
            samples,
        });
    }
    Ok(())
}

/// Runs each handle on a thread of its own, all from the same moment, and returns calls per second of all together.
fn throughput(case: &str, name: &str, parts: &[(Box<dyn Engine>, &Workload)], warm: usize) -> Result<f64, String> {
    let barrier = Barrier::new(parts.len());
    let timed: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let barrier = &barrier;
        let threads: Vec<_> = parts
            .iter()
            .map(|(engine, work)| {
                scope.spawn(move || {
                    let warmed = engine.run(work, 0..warm);
                    // Before the first error is returned: the other thread waits here too.
                    barrier.wait();
                    let start = Instant::now();
                    let admitted = engine.run(work, warm..work.order.len())? + warmed?;
                    let end = Instant::now();
                    check(case, name, Path::Allowed, work.order.len(), admitted)?;
                    Ok((start, end))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(format!("A thread of {name} panicked.")))
            })
            .collect::<Result<_, String>>()
    })?;
    let start = timed.iter().map(|(start, _)| *start).min();
    let end = timed.iter().map(|(_, end)| *end).max();
    let (Some(start), Some(end)) = (start, end) else {
        return Err(format!("{name} ran on no thread."));
    };
    let calls: usize = parts.iter().map(|(_, work)| work.order.len() - warm).sum();
    Ok(calls as f64 / (end - start).as_secs_f64())
}

/// One thread on its keys, then two threads each on keys of its own, in turn within every round.
fn two_threads(case: &'static Case, plan: &Plan, report: &mut Report) -> Result<(), String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        let sentence = "Two threads are left out: there is one core.".to_owned();
        if !report.absent.contains(&sentence) {
            report.absent.push(sentence);
        }
        return Ok(());
    }
    let (calls, warm) = case.calls(plan);
    // Each key of the in-cache cases is asked for by one thread alone and then again by two: half the calls, or one hot
    // key would use up its burst.
    let (calls, warm) = (
        (calls / 2).next_multiple_of(MULTIPLE),
        (warm / 2).next_multiple_of(MULTIPLE),
    );
    // Many keys are shared out; of few each thread has as many as the case says, or it would measure another case.
    let each = if case.cached { case.keys } else { case.keys / 2 };
    let setup = case.setup(plan, Path::Allowed, 2 * each);
    let each = each as u64;
    let mut works = [0..each, each..2 * each].map(|keys| Workload::new(case.layout(plan), keys, warm + calls));
    let mut field = filled(&setup, Path::Allowed, report)?;
    let mut ones = vec![Vec::new(); field.len()];
    let mut twos = ones.clone();
    for round in 0..plan.rounds {
        if round > 0 && case.cached {
            field = filled(&setup, Path::Allowed, report)?;
        }
        for (work, seed) in works.iter_mut().zip([1, 2]) {
            work.draw(2 * round as u64 + seed);
        }
        let count = field.len();
        for turn in 0..count {
            let index = (round + turn) % count;
            let entrant = &field[index];
            let mut parts: Vec<_> = works.iter().map(|work| (entrant.engine.handle(), work)).collect();
            for (engine, work) in &mut parts {
                engine.prepare(work);
            }
            ones[index].push(throughput(case.name, entrant.name, &parts[..1], warm)?);
            twos[index].push(throughput(case.name, entrant.name, &parts, warm)?);
        }
    }
    for ((entrant, one), two) in field.iter().zip(ones).zip(twos) {
        report.threads.push(Threads {
            case: case.name,
            entrant: entrant.name,
            one,
            two,
        });
    }
    Ok(())
}
