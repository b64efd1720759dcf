//! Looking at a table without being on it: no slot is taken and no cell is written.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::life::Gate;
use super::{Parts, Unusable, about, clock_of, file, parts, unavailable};
use crate::error::EngineError;
use crate::raw::{Asked, Audit, Axis, Lives, Overflow, SLOTS, Survey, Table};
use ratelimit_model::Limit;

/// What can be seen of a named table from outside.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Look {
    /// The file.
    pub path: std::path::PathBuf,
    /// Its size, all of it in memory.
    pub bytes: u64,
    /// For how many clients it has room.
    pub max_keys: u64,
    /// The limits in force.
    pub limits: Vec<Limit>,
    /// Since when it exists.
    pub age: Duration,
    /// Process ids of those who took the slots that are in use, as they see them themselves (containers count on their own).
    pub processes: Vec<u32>,
    /// What its clock reads.
    pub clock: &'static str,
    /// Whether its processes fell back on the operating system's clock.
    pub clock_fell_back: bool,
    /// How full it is, from a sample.
    pub survey: Survey,
    /// What a look at every cell says. Exact only while nobody decides.
    pub audit: Audit,
}

/// Looks at the table of a name. `None` if there is none.
pub(crate) fn look(directory: &Path, name: &str) -> Result<Option<Look>, EngineError> {
    let path = file::path(directory, name, about::LAYOUT)?;
    let Some(file) = file::open_existing(&path)? else {
        return Ok(None);
    };
    let Parts {
        memory,
        facts,
        cells,
        records,
    } = parts(&file).map_err(|why| {
        unavailable(format!(
            "{} is {}",
            path.display(),
            match why {
                Unusable::Damaged => "no whole table",
                Unusable::OtherBoot => "from before this machine was started: it will be replaced when next opened",
                Unusable::OtherClocks => "of processes that see other clocks (another time namespace)",
            }
        ))
    })?;
    let owned = super::life::open_again(&file, super::life::identity(&file).map_err(EngineError::Memory)?)
        .map_err(EngineError::Memory)?;
    let is_alive = |slot: usize| {
        let locked = super::lock::first_locked(std::os::fd::RawFd::from(owned.as_raw_fd()), slot, 1);
        !matches!(locked, Ok(None))
    };
    let clock = clock_of(&memory, &facts)?;
    let slots = memory.hold(|header| &header.slots);
    let processes = (0..SLOTS)
        .filter(|&slot| is_alive(slot))
        .map(|slot| slots[slot].pid.load(std::sync::atomic::Ordering::Relaxed) as u32)
        .collect();
    let table = Table::over(
        memory,
        cells,
        records,
        Overflow::Share,
        Lives::Private,
        facts.limits > 1,
    );
    let asked = Asked {
        now: clock.now(),
        axis: Axis::Own,
        cost: 0,
        clock: &clock,
        under: None,
    };
    let age = SystemTime::now()
        .duration_since(UNIX_EPOCH + Duration::from_secs(facts.created_s))
        .unwrap_or_default();
    Ok(Some(Look {
        bytes: file.metadata().map_or(0, |data| data.len()),
        path,
        max_keys: facts.max_keys,
        limits: table.shown_limits(facts.limits),
        age,
        processes,
        clock: clock.source(),
        clock_fell_back: clock.fell_back(),
        survey: table.survey(&asked),
        audit: table.audit(facts.limits, &asked, |mark| {
            super::life::is_dead_from_outside(mark, &slots, is_alive)
        }),
    }))
}

/// Removes the table of a name. False if there was none.
pub(crate) fn remove(directory: &Path, name: &str) -> Result<bool, EngineError> {
    let path = file::path(directory, name, about::LAYOUT)?;
    let Some(file) = file::open_existing(&path)? else {
        return Ok(false);
    };
    let failed = |error: std::io::Error| unavailable(format!("{} cannot be removed ({error})", path.display()));
    let gate = Gate::enter(&file).map_err(failed)?.ok_or_else(|| {
        unavailable(format!(
            "another process has been opening {} for ten seconds",
            path.display()
        ))
    })?;
    match gate.attached().map_err(failed)? {
        0 => {}
        n => {
            return Err(unavailable(format!(
                "{} is in use by {n} limiters: drop them, or end their processes, first",
                path.display()
            )));
        }
    }
    if !file::is_at(&file, &path) {
        return Ok(false);
    }
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(true)
}
