//! One table for several processes.
//!
//! | file | subject |
//! |---|---|
//! | `file` | the file that all of them map |
//! | `about` | what a table says about itself, so that others know whether it is theirs |
//! | `life` | process slots: who is on the table, and the proof that one is gone |
//! | `lock` | the locks behind that proof |
//! | `look` | looking at a table without being on it |
//!
//! Attaching and replacing a file happen one at a time, behind a lock on the file (`life::Gate`) that a dying process gives back.
//! Deciding knows nothing of all this: it is the same code on the same words.

mod about;
mod file;
mod life;
mod lock;
mod look;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use memmap2::{MmapOptions, MmapRaw};
use ratelimit_model::Limit;

pub(crate) use life::Life;
pub use look::Look;
pub(crate) use look::{look, remove};

use crate::clock::Clock;
use crate::engine::Config;
use crate::error::EngineError;
use crate::hash::HashKey;
use crate::raw::{Asked, Axis, Geometry, Layout, Lives, Memory, Overflow, Table};
use crate::sharing::{SHARED_MAX_KEYS, Sharing, With};
use about::{Facts, Unusable};
use file::unavailable;
use life::Gate;

/// How often a file may be replaced under our hands before we give up.
const ATTEMPTS: usize = 100;

/// A table that this process is on.
pub(crate) struct Opened {
    pub(crate) table: Table,
    pub(crate) hash_key: HashKey,
    pub(crate) clock: Clock,
}

/// What is done to a table that was just made and that nobody else can see yet.
type Fill<'a, E> = &'a mut dyn FnMut(Opened) -> Result<Opened, E>;

/// Opens the table that is asked for, or makes it. The limits make sense.
pub(crate) fn open<E: From<EngineError>>(config: &Config, sharing: &Sharing, fill: Fill<'_, E>) -> Result<Opened, E> {
    match &sharing.with {
        With::Children => {
            let (_, layout) = geometry(max_keys(config), config.limits.len())?;
            fill(make(file::create_for_children(layout.bytes)?, config)?)
        }
        With::Name { name, directory } => open_named(config, sharing, name, directory, fill),
    }
}

fn max_keys(config: &Config) -> u64 {
    config.max_keys.unwrap_or(SHARED_MAX_KEYS)
}

/// Lines of the cells and of the records, and what they take.
fn geometry(max_keys: u64, limits: usize) -> Result<([Geometry; 2], Layout), EngineError> {
    let cells = max_keys
        .checked_mul(limits as u64)
        .filter(|&cells| cells <= crate::Engine::MOST_KEYS)
        .and_then(Geometry::presized)
        .ok_or(EngineError::MaxKeys { max_keys })?;
    let records = Geometry::records_beside(&cells);
    let layout = Layout::of(&cells, &records).ok_or(EngineError::MaxKeys { max_keys })?;
    Ok(([cells, records], layout))
}

fn map(file: &File, bytes: usize) -> Result<Arc<MmapRaw>, EngineError> {
    MmapOptions::new()
        .len(bytes)
        .map_raw(file)
        .map(Arc::new)
        .map_err(EngineError::Memory)
}

/// Takes a slot on the table in `memory`.
fn on(
    file: File,
    memory: Memory,
    cells: Geometry,
    records: Geometry,
    overflow: Overflow,
    limits: usize,
) -> Result<Table, EngineError> {
    let life = Life::begin(file, memory.hold(|header| &header.slots))
        .map_err(|error| {
            unavailable(format!(
                "this process cannot prove to others that it lives ({error}): is /proc mounted?"
            ))
        })?
        .ok_or(EngineError::ShareFull)?;
    Ok(Table::over(
        memory,
        cells,
        records,
        overflow,
        Lives::Shared(life),
        limits > 1,
    ))
}

/// Makes a table in a file that nobody else sees yet.
fn make(file: File, config: &Config) -> Result<Opened, EngineError> {
    let limits = config.limits.len();
    let ([cells, records], layout) = geometry(max_keys(config), limits)?;
    let base = config.clock.base().ok_or_else(|| {
        EngineError::ShareMismatch(
            "a clock that is set by hand cannot be shared: other processes could not follow it; leave the clock out"
                .into(),
        )
    })?;
    let memory = Memory::over(map(&file, layout.bytes)?, &cells, &records)
        .ok_or_else(|| unavailable("the mapping is too short for the table".into()))?;
    let facts = Facts {
        max_keys: max_keys(config),
        limits,
        hash_key: config.hash_key.clone(),
        base,
        created_s: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |age| age.as_secs()),
    };
    facts.write(&memory.header().about);
    let clock = clock_of(&memory, &facts)?;
    let table = on(file, memory, cells, records, config.overflow, config.limits.len())?;
    table.open(&config.limits);
    Ok(Opened {
        table,
        hash_key: facts.hash_key,
        clock,
    })
}

fn clock_of(memory: &Memory, facts: &Facts) -> Result<Clock, EngineError> {
    let distrusted = memory.hold(|header| &header.hot.distrusted);
    let compared = memory.hold(|header| &header.about.compared);
    Clock::on(facts.base, distrusted, compared)
        .ok_or_else(|| unavailable("the shared table keeps time by a clock that is not known here".into()))
}

fn open_named<E: From<EngineError>>(
    config: &Config,
    sharing: &Sharing,
    name: &str,
    directory: &Path,
    fill: Fill<'_, E>,
) -> Result<Opened, E> {
    let path = file::path(directory, name, about::LAYOUT)?;
    let failed = |error: std::io::Error| unavailable(format!("{} cannot be locked ({error})", path.display()));
    for _ in 0..ATTEMPTS {
        let Some(file) = file::open_existing(&path)? else {
            let (_, layout) = geometry(max_keys(config), config.limits.len())?;
            let file = file::create_unnamed(directory, layout.bytes)?;
            let named = file.try_clone().map_err(failed)?;
            let opened = fill(make(file, config)?)?;
            // Its slot is taken by now, so nobody ever takes this table for one that is left alone.
            match file::link(&named, &path) {
                Ok(true) => return Ok(opened),
                // Another process was faster: its table is as good.
                Ok(false) => continue,
                Err(error) => return Err(unavailable(format!("{} cannot be made ({error})", path.display())).into()),
            }
        };
        let Some(gate) = Gate::enter(&file).map_err(failed)? else {
            return Err(unavailable(format!(
                "another process has been opening {} for ten seconds: end it, or use another name",
                path.display()
            ))
            .into());
        };
        if !file::is_at(&file, &path) {
            // Replaced before we had the right to attach.
            continue;
        }
        let attached = gate.attached().map_err(failed)?;
        match attach(file, config, sharing, attached > 0)? {
            Some(opened) => return Ok(opened),
            // Of no use to us, and nobody else uses it.
            None => std::fs::remove_file(&path)
                .map_err(|error| unavailable(format!("{} cannot be replaced ({error})", path.display())))?,
        }
    }
    Err(unavailable(format!(
        "{} is made and removed by other processes over and over: try again",
        path.display()
    ))
    .into())
}

/// What lies in a file, once it is known to be a whole table of this layout.
struct Parts {
    memory: Memory,
    facts: Facts,
    cells: Geometry,
    records: Geometry,
}

fn parts(file: &File) -> Result<Parts, Unusable> {
    let bytes = file.metadata().map_or(0, |data| data.len()) as usize;
    // Enough for the header: the smallest table there is.
    let (smallest, layout) = geometry(1, 1).map_err(|_| Unusable::Damaged)?;
    if bytes < layout.bytes {
        return Err(Unusable::Damaged);
    }
    let map = map(file, bytes).map_err(|_| Unusable::Damaged)?;
    let [cells, records] = smallest;
    let header = Memory::over(Arc::clone(&map), &cells, &records).ok_or(Unusable::Damaged)?;
    about::check(&header.header().about)?;
    let facts = Facts::read(&header.header().about);
    if facts.limits == 0 || facts.limits > crate::raw::MAX_LIMITS {
        return Err(Unusable::Damaged);
    }
    let ([cells, records], layout) = geometry(facts.max_keys, facts.limits).map_err(|_| Unusable::Damaged)?;
    if layout.bytes != bytes {
        return Err(Unusable::Damaged);
    }
    let memory = Memory::over(map, &cells, &records).ok_or(Unusable::Damaged)?;
    Ok(Parts {
        memory,
        facts,
        cells,
        records,
    })
}

/// Attaches to a file, for one who has its gate. `None`: of no use, and nobody is attached.
fn attach(file: File, config: &Config, sharing: &Sharing, others: bool) -> Result<Option<Opened>, EngineError> {
    let parts = match parts(&file) {
        Ok(parts) => parts,
        Err(_) if !others => return Ok(None),
        Err(Unusable::Damaged) => {
            return Err(unavailable(
                "the shared table is damaged, and other processes use it: end them, or use another name".into(),
            ));
        }
        Err(Unusable::OtherBoot | Unusable::OtherClocks) => {
            return Err(EngineError::ShareMismatch(
                "the processes on the shared table see other clocks than this one (another time namespace): use another name"
                    .into(),
            ));
        }
    };
    let facts = parts.facts;
    let differs = [
        (facts.limits != config.limits.len()).then(|| {
            format!(
                "it has {} and this limiter was given {}",
                count(facts.limits),
                count(config.limits.len())
            )
        }),
        config.max_keys.filter(|&keys| keys != facts.max_keys).map(|keys| {
            format!(
                "it has room for {} keys and this limiter was given max_keys of {keys}",
                facts.max_keys
            )
        }),
    ];
    if let Some(how) = differs.into_iter().flatten().reduce(|a, b| format!("{a}; {b}")) {
        if !others {
            return Ok(None);
        }
        return Err(EngineError::ShareMismatch(format!(
            "the shared table is another one: {how}; give the same, or use another name"
        )));
    }
    if sharing.hash_key_matters && facts.hash_key.to_words() != config.hash_key.to_words() {
        return Err(EngineError::ShareMismatch(
            "the shared table has another hash key: leave hash_key out to use the table's, or remove the table".into(),
        ));
    }
    let wanted = config.clock.base();
    if sharing.clock_matters && wanted.is_none_or(|base| base.source != facts.base.source) {
        return Err(EngineError::ShareMismatch(
            "the shared table keeps time by another clock: leave the clock out to use the table's, or remove the table"
                .into(),
        ));
    }
    let clock = clock_of(&parts.memory, &facts)?;
    let table = on(
        file,
        parts.memory,
        parts.cells,
        parts.records,
        config.overflow,
        config.limits.len(),
    )?;
    agree_on_limits(&table, &clock, &config.limits, sharing.replace_limits || !others)?;
    Ok(Some(Opened {
        table,
        hash_key: facts.hash_key,
        clock,
    }))
}

/// Puts our limits in force if they differ and `replace` allows it.
fn agree_on_limits(table: &Table, clock: &Clock, ours: &[Limit], replace: bool) -> Result<(), EngineError> {
    let asked = Asked {
        now: clock.now(),
        axis: Axis::Own,
        cost: 1,
        clock,
        under: None,
    };
    let admin = table.administer(&asked);
    let theirs = admin.limits(ours.len());
    if theirs == ours {
        return Ok(());
    }
    if !replace {
        return Err(EngineError::ShareMismatch(format!(
            "the shared table has {} and this limiter was given {}: give the same, call replace_limits to put these in force \
             for all its processes, or use another name",
            list(&theirs),
            list(ours)
        )));
    }
    admin.set_limits(ours);
    Ok(())
}

fn list(limits: &[Limit]) -> String {
    let texts: Vec<String> = limits.iter().map(|limit| format!("\"{limit}\"")).collect();
    texts.join(" and ")
}

fn count(limits: usize) -> String {
    if limits == 1 {
        "1 limit".into()
    } else {
        format!("{limits} limits")
    }
}
