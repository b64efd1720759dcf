//! A table that processes share right now, seen from outside.

use std::io::{self, Write};
use std::path::Path;

#[cfg(target_os = "linux")]
use ratelimit::{Limiter, Look};
use serde::Serialize;

use crate::failure::Failure;

const BAR: u64 = 40;

/// What can be said of a shared table. Times in seconds.
#[derive(Debug, Serialize)]
pub struct LiveReport {
    /// The file that its processes map.
    pub file: String,
    /// Its bytes, all of them in memory.
    pub bytes: u64,
    /// How long it exists.
    pub age: f64,
    /// The limits in force.
    pub limits: Vec<String>,
    /// For how many clients it has room.
    pub max_keys: u64,
    /// Process ids of those that have it open, as they see them themselves.
    pub processes: Vec<u32>,
    /// What its clock reads.
    pub clock: &'static str,
    /// Whether the processor's counter was found wrong.
    pub clock_fell_back: bool,
    /// Cells, by what they are.
    pub cells: Cells,
    /// How much debt there is: cells by how long they take until it is over.
    pub debts: Vec<Debts>,
    /// What must not be, as sentences: none in a healthy table at rest. While processes decide, one may be a change seen half way.
    pub faults: Vec<String>,
    /// How many there are.
    pub fault_count: u64,
}

/// Cells, by what they are.
#[derive(Debug, Serialize)]
pub struct Cells {
    /// All of them.
    pub total: u64,
    /// With debt.
    pub live: u64,
    /// Whose debt is over: as good as free.
    pub expired: u64,
    /// Of inserts under way.
    pub tentative: u64,
    /// Claimed by processes that live.
    pub claimed: u64,
    /// Claimed by processes that died: freed when a client needs them.
    pub claimed_by_the_dead: u64,
}

/// Cells with about the same debt.
#[derive(Debug, Serialize)]
pub struct Debts {
    /// Below this.
    pub below: f64,
    /// So many.
    pub cells: u64,
}

/// The directory and the name of a shared table, if a path is that of its file: `DIR/ratelimit-UID-NAME-LAYOUT`.
pub(super) fn name_of(path: &Path) -> Option<(&Path, &str)> {
    let file = path.file_name()?.to_str()?;
    let (user, rest) = file.strip_prefix("ratelimit-")?.split_once('-')?;
    let (name, layout) = rest.rsplit_once('-')?;
    let is_table = !user.is_empty()
        && user.bytes().all(|c| c.is_ascii_digit())
        && !name.is_empty()
        && layout.len() == 16
        && layout.bytes().all(|c| c.is_ascii_hexdigit());
    is_table.then_some((path.parent()?, name))
}

/// Looks at a table.
///
/// Errors: there is none of that name, or it is not this user's.
#[cfg(target_os = "linux")]
pub(super) fn look(directory: &Path, name: &str) -> Result<LiveReport, Failure> {
    match Limiter::look_at_shared(directory, name) {
        Ok(Some(look)) => Ok(report(&look)),
        Ok(None) => Err(Failure::Usage(format!(
            "there is no shared table \"{name}\" of this user and this version in {}: ls {}/ratelimit-* lists those there are",
            directory.display(),
            directory.display()
        ))),
        Err(error) => Err(Failure::Io(error.to_string())),
    }
}

/// As on Linux, where there are none.
#[cfg(not(target_os = "linux"))]
pub(super) fn look(_: &Path, _: &str) -> Result<LiveReport, Failure> {
    Err(Failure::Usage("tables are shared on Linux only".to_owned()))
}

#[cfg(target_os = "linux")]
fn report(look: &Look) -> LiveReport {
    let audit = &look.audit;
    // An entry `n` counts debts of `n` binary digits in microseconds.
    let debts = audit
        .backlog_log2_us
        .iter()
        .enumerate()
        .filter(|(_, cells)| **cells > 0);
    LiveReport {
        file: look.path.display().to_string(),
        bytes: look.bytes,
        age: look.age.as_secs_f64(),
        limits: look.limits.iter().map(ToString::to_string).collect(),
        max_keys: look.max_keys,
        processes: look.processes.clone(),
        clock: look.clock,
        clock_fell_back: look.clock_fell_back,
        cells: Cells {
            total: audit.cells,
            live: audit.live,
            expired: audit.expired,
            tentative: audit.tentative,
            claimed: audit.claimed,
            claimed_by_the_dead: audit.claimed_by_the_dead,
        },
        debts: debts
            .map(|(digits, &cells)| Debts {
                below: 2f64.powi(i32::try_from(digits).unwrap_or(i32::MAX)) / 1e6,
                cells,
            })
            .collect(),
        faults: audit.shown.clone(),
        fault_count: audit.faults,
    }
}

pub(super) fn write(report: &LiveReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "file         {}", report.file)?;
    writeln!(out, "bytes        {}, all in memory", report.bytes)?;
    writeln!(out, "age          {:.0} s", report.age)?;
    writeln!(out, "limits       {}", report.limits.join(" and "))?;
    writeln!(out, "room for     {} clients", report.max_keys)?;
    let processes: Vec<String> = report.processes.iter().map(ToString::to_string).collect();
    match processes.len() {
        0 => writeln!(out, "processes    none: the table waits for the next")?,
        count => writeln!(out, "processes    {count}: {}", processes.join(", "))?,
    }
    let fell_back = if report.clock_fell_back {
        ", since the processor's counter was found wrong"
    } else {
        ""
    };
    writeln!(out, "clock        {}{fell_back}", report.clock)?;
    let cells = &report.cells;
    writeln!(
        out,
        "cells        {}: {} with debt, {} whose debt is over, {} under way, {} left by the dead",
        cells.total,
        cells.live,
        cells.expired,
        cells.tentative + cells.claimed,
        cells.claimed_by_the_dead
    )?;
    match report.fault_count {
        0 => writeln!(out, "health       the table is in order")?,
        count => writeln!(
            out,
            "health       {count} FAULTS; while processes decide one may be a change seen half way"
        )?,
    }
    for fault in &report.faults {
        writeln!(out, "  {fault}")?;
    }
    if !report.debts.is_empty() {
        writeln!(out, "\ndebt that is over in")?;
    }
    let most = report.debts.iter().map(|debts| debts.cells).max().unwrap_or(1);
    for debts in &report.debts {
        let length = (u128::from(debts.cells) * u128::from(BAR)).div_ceil(u128::from(most)) as usize;
        writeln!(
            out,
            "  less than {:>14.6} s  {:>12}  {}",
            debts.below,
            debts.cells,
            "#".repeat(length)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::name_of;
    use std::path::Path;

    #[test]
    fn the_file_of_a_table_is_known_by_its_name() {
        let of = |path: &'static str| name_of(Path::new(path)).map(|(_, name)| name);
        assert_eq!(of("/dev/shm/ratelimit-0-api-0123456789abcdef"), Some("api"));
        assert_eq!(of("/dev/shm/ratelimit-1000-a-b.c_d-0123456789abcdef"), Some("a-b.c_d"));
        for other in [
            "api.snapshot",
            "/dev/shm/ratelimit-x-api-0123456789abcdef",
            "ratelimit-0-api-0123",
            "ratelimit-0--0123456789abcdef",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
