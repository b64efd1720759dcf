//! What a live key costs in resident memory. Each figure comes from a fresh child of this program: what an earlier
//! engine has given back to the allocator would otherwise be used again and look free.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cases::Plan;
use crate::engines::{Engine, Quota, RateguardMode, Setup, governor, rateguard};
use crate::report::{Memory, Report};
use crate::work::write_id;

/// The name of the memory measurements on the command line.
pub(crate) const CASE: &str = "memory";

/// The hidden first argument that makes this program such a child.
pub(crate) const CHILD: &str = "__resident";

/// A child that takes longer is ended: filling 5 M keys takes seconds.
const CHILD_TIME: Duration = Duration::from_secs(180);

const FIRST_STEP: usize = 10_000;

/// How an engine is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filling {
    /// Told the number of keys if it can be, measured once at the end.
    Sized { keys: usize },
    /// Not told, measured each time a tenth more keys are in; the worst counts.
    Growing { up_to: usize },
}

/// Which engine a child builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Ours,
    Governor,
    /// Its fixed table alone.
    RateguardTable,
    /// Table and background task, which keeps state of its own per key: what its users have.
    Rateguard,
}

impl Subject {
    const ALL: [Subject; 4] = [
        Subject::Ours,
        Subject::Governor,
        Subject::RateguardTable,
        Subject::Rateguard,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Subject::Ours => "ratelimit",
            Subject::Governor => governor::NAME,
            Subject::RateguardTable => "rateguard, its table alone",
            Subject::Rateguard => "rateguard, background task running",
        }
    }
}

/// Bytes the kernel would give out without swapping; `None` where `/proc` does not say.
pub(crate) fn available() -> Option<u64> {
    field_in_kib("/proc/meminfo", "MemAvailable:")
}

/// Bytes this process has resident. The roll-up is exact; `statm` lags by some pages per thread but exists everywhere.
fn resident() -> Result<u64, String> {
    if let Some(bytes) = field_in_kib("/proc/self/smaps_rollup", "Rss:") {
        return Ok(bytes);
    }
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    // `statm` counts pages and does not say of what size; 4 KiB is right on every machine without the roll-up we know.
    pages
        .map(|pages| pages * 4096)
        .ok_or_else(|| "This system does not tell how much memory a process has resident (no /proc/self).".to_owned())
}

fn field_in_kib(path: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// One request an hour: every key stays in use for as long as the child lives.
const QUOTA: Quota = Quota {
    period: Duration::from_secs(3600),
    burst: 1,
};

fn build(subject: Subject, filling: Filling, keys: usize) -> Result<Box<dyn Engine>, String> {
    let setup = Setup {
        keys,
        quota: QUOTA,
        share_state: false,
        rateguard: if subject == Subject::Rateguard {
            RateguardMode::Live
        } else {
            RateguardMode::Still
        },
    };
    match subject {
        Subject::Governor => governor::engine(&setup),
        Subject::RateguardTable | Subject::Rateguard => rateguard::engine(&setup, keys),
        Subject::Ours => crate::engines::ours::engine(&setup, matches!(filling, Filling::Growing { .. })),
    }
}

/// Time for rateguard's background task to take note of the new keys: it looks every 50 ms, and with many keys one look
/// takes longer than that.
fn settle(subject: Subject) {
    if subject == Subject::Rateguard {
        std::thread::sleep(Duration::from_secs(4));
    }
}

/// What a child does: fills an engine and prints lines of `keys bytes`.
pub(crate) fn child(args: &[String]) -> Result<(), String> {
    let [subject, filling, keys, id_bytes] = args else {
        return Err(
            "A memory measurement takes an engine, a way to fill it, a number of keys and an id length.".into(),
        );
    };
    let number = |text: &String| text.parse::<usize>().map_err(|_| format!("{text:?} is not a number."));
    let (keys, id_bytes) = (number(keys)?, number(id_bytes)?);
    let subject = Subject::ALL
        .into_iter()
        .find(|known| known.name() == subject)
        .ok_or_else(|| format!("There is no engine {subject:?}."))?;
    let filling = match filling.as_str() {
        "sized" => Filling::Sized { keys },
        "growing" => Filling::Growing { up_to: keys },
        other => return Err(format!("There is no way {other:?} to fill an engine.")),
    };

    // Once through all the code with a few keys, so that its pages are not counted as the engine's.
    let mut id = String::with_capacity(id_bytes);
    {
        let trial = build(subject, filling, 16)?;
        for number in 0..16 {
            write_id(&mut id, number, id_bytes);
            trial.touch(&id);
        }
        settle(subject);
    }
    resident()?;

    let before = resident()?;
    let engine = build(subject, filling, keys)?;
    let mut next_step = match filling {
        Filling::Sized { keys } => keys,
        Filling::Growing { .. } => FIRST_STEP,
    };
    for number in 0..keys {
        write_id(&mut id, number as u64, id_bytes);
        engine.touch(&id);
        let filled = number + 1;
        if filled == next_step || filled == keys {
            settle(subject);
            println!("{filled} {}", resident()?.saturating_sub(before));
            next_step = filled + filled / 10;
        }
    }
    Ok(())
}

/// Runs a child and returns its `(keys, bytes)`.
fn ask_child(subject: Subject, filling: Filling, id_bytes: usize) -> Result<Vec<(usize, u64)>, String> {
    let (word, keys) = match filling {
        Filling::Sized { keys } => ("sized", keys),
        Filling::Growing { up_to } => ("growing", up_to),
    };
    let failed = |what: String| format!("Memory of {} could not be measured: {what}.", subject.name());
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut child = Command::new(program)
        .args([CHILD, subject.name(), word, &keys.to_string(), &id_bytes.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let deadline = Instant::now() + CHILD_TIME;
    // Its output is a few kilobytes and fits the pipe, so it can be read after the end.
    let status = loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            None => {
                // It may have ended just now; either way it is waited for.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("it took more than {} s", CHILD_TIME.as_secs())));
            }
        }
    };
    let (mut output, mut complaint) = (String::new(), String::new());
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_string(&mut output)
            .map_err(|error| failed(error.to_string()))?;
    }
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut complaint)
            .map_err(|error| failed(error.to_string()))?;
    }
    if !status.success() {
        return Err(failed(complaint.trim().trim_end_matches('.').to_owned()));
    }
    output
        .lines()
        .map(|line| {
            let (keys, bytes) = line.split_once(' ')?;
            Some((keys.parse().ok()?, bytes.parse().ok()?))
        })
        .collect::<Option<Vec<_>>>()
        .filter(|steps| !steps.is_empty())
        .ok_or_else(|| failed("the child did not print what it should".to_owned()))
}

/// Measures every engine in every filling. A figure that cannot be had is a sentence in the report, not an error.
pub(crate) fn measure(plan: &Plan, report: &mut Report) {
    let (keys, up_to) = if plan.quick {
        (100_000, 200_000)
    } else {
        (1_000_000, 5_000_000)
    };
    let fillings = [
        (Filling::Sized { keys }, 22),
        (Filling::Sized { keys }, 200),
        (Filling::Growing { up_to }, 22),
    ];
    report.absent.push(format!(
        "{} is left out of the growing memory case: its table has the size it was started with, {} keys at most.",
        rateguard::NAME,
        rateguard::MOST_KEYS
    ));
    for subject in Subject::ALL {
        for (filling, id_bytes) in fillings {
            // Its table has the size it was started with, as the report says.
            let fixed = matches!(subject, Subject::RateguardTable | Subject::Rateguard);
            if fixed && matches!(filling, Filling::Growing { .. }) {
                continue;
            }
            eprintln!(
                "measuring the memory of {}, {filling:?}, ids of {id_bytes} bytes",
                subject.name()
            );
            match ask_child(subject, filling, id_bytes) {
                Ok(steps) => report.memory.push(Memory {
                    subject,
                    filling,
                    id_bytes,
                    steps,
                }),
                Err(sentence) => report.absent.push(sentence),
            }
        }
    }
}
