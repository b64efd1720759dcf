//! From a file to a table: what is believed, in which order.

use std::fmt;
use std::io;
use std::time::Duration;

use super::format::{Damage, Snapshot};
use super::storage::{Storage, Which};

/// What to do about a snapshot when a limiter is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restore {
    /// The newest generation that is whole, else the previous one, else start empty.
    #[default]
    Auto,
    /// As before, but rather than start empty take the intact chunks of a damaged file. Each of them rests on 32 bits of checksum.
    Salvage,
    /// The newest whole generation or the previous, else refuse to start. A place without any file is a first start and
    /// no reason to refuse.
    Required,
}

/// What became of the snapshot when the limiter was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The newest generation was whole and is restored.
    Exact,
    /// The newest was missing or damaged; the one before it was whole and is restored.
    Previous,
    /// No generation was whole; the intact chunks of one are restored.
    Salvaged,
    /// There was no file: a first start.
    ColdNone,
    /// What there was is damaged, and nothing is restored.
    ColdDamaged,
    /// What there was is keyed by another secret: its fingerprints stand for nobody.
    ColdKey,
    /// What there was is written by a later version.
    ColdVersion,
    /// The table is shared and was there already: nothing had to be restored.
    Attached,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Outcome; 8] = [
        Outcome::Exact,
        Outcome::Previous,
        Outcome::Salvaged,
        Outcome::ColdNone,
        Outcome::ColdDamaged,
        Outcome::ColdKey,
        Outcome::ColdVersion,
        Outcome::Attached,
    ];

    /// The name of this outcome: the same word in metrics, logs and every language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Exact => "exact",
            Outcome::Previous => "previous",
            Outcome::Salvaged => "salvaged",
            Outcome::ColdNone => "cold_none",
            Outcome::ColdDamaged => "cold_damaged",
            Outcome::ColdKey => "cold_key",
            Outcome::ColdVersion => "cold_version",
            Outcome::Attached => "attached",
        }
    }

    /// What it means, as a sentence.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Outcome::Exact => "the newest snapshot was whole and is restored",
            Outcome::Previous => {
                "the newest snapshot was missing or damaged; the previous one was whole and is restored"
            }
            Outcome::Salvaged => "no snapshot was whole; the intact chunks of a damaged one are restored",
            Outcome::ColdNone => "there was no snapshot; every client starts with a full burst",
            Outcome::ColdDamaged => "the snapshot was damaged; every client starts with a full burst",
            Outcome::ColdKey => "the snapshot was made with another secret; every client starts with a full burst",
            Outcome::ColdVersion => "the snapshot is of a later version; every client starts with a full burst",
            Outcome::Attached => "the shared table was there already; nothing had to be restored",
        }
    }

    /// Whether debts were restored.
    #[must_use]
    pub const fn is_warm(self) -> bool {
        matches!(self, Outcome::Exact | Outcome::Previous | Outcome::Salvaged)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Which file, if any.
    pub outcome: Outcome,
    /// Its generation, or the highest that was seen; the next snapshot gets the one after.
    pub generation: u64,
    /// How old it was.
    pub age: Duration,
    /// Whether that is exact: told by the boot clock of the same boot, and not by a wall clock.
    pub is_exact_age: bool,
    /// Debts that were put into the table.
    pub cells: u64,
    /// Blocks that were.
    pub blocks: u64,
    /// Debts that have run out since.
    pub expired: u64,
    /// Debts of limits that are no longer there, or whose keys cannot be told between one limit and several.
    pub unmapped: u64,
    /// Debts and blocks that found the table full.
    pub no_room: u64,
    /// Chunks that were left out.
    pub damaged_chunks: u64,
    /// What was wrong with the newest file, if it was not taken whole.
    pub damage: Option<Damage>,
}

impl Restored {
    /// Nothing was read, since the table is shared and was there already.
    #[must_use]
    pub fn attached() -> Self {
        Self::cold(Outcome::Attached, 0, None)
    }

    pub(crate) fn cold(outcome: Outcome, generation: u64, damage: Option<Damage>) -> Self {
        Restored {
            outcome,
            generation,
            age: Duration::ZERO,
            is_exact_age: true,
            cells: 0,
            blocks: 0,
            expired: 0,
            unmapped: 0,
            no_room: 0,
            damaged_chunks: 0,
            damage,
        }
    }
}

/// There was no whole snapshot, and one was [required](Restore::Required).
#[derive(Debug)]
pub struct RestoreRefused {
    /// What would have happened.
    pub outcome: Outcome,
    /// What was wrong with the newest file.
    pub damage: Option<Damage>,
}

impl fmt::Display for RestoreRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole snapshot is required and there is none")?;
        match (self.outcome, self.damage) {
            (Outcome::ColdKey, _) => f.write_str(" that was made with this secret")?,
            (_, Some(damage)) => write!(f, " ({damage})")?,
            _ => {}
        }
        f.write_str(": bring one back, remove the damaged files, or restore with less than Required")
    }
}

impl std::error::Error for RestoreRefused {}

/// A file that may be restored, or why none is.
pub(crate) enum Found {
    File { outcome: Outcome, bytes: Vec<u8> },
    Nothing(Outcome),
}

/// Looks for the best file. Also tells the highest generation seen and what was wrong with the newest.
pub(crate) fn find(storage: &mut dyn Storage, policy: Restore, key_check: u64) -> (Found, u64, Option<Damage>) {
    let mut candidates = Vec::new();
    let mut generation = 0;
    let mut newest_damage = None;
    // The first reason is the one that is told: it is the newest file's.
    let mut cold = Outcome::ColdNone;
    for which in [Which::Newest, Which::Previous] {
        let bytes = match read_again(storage, which) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            // A disk that does not give the file back has damaged it.
            Err(_) => {
                cold = first(cold, Outcome::ColdDamaged);
                newest_damage = newest_damage.or(Some(Damage::Length));
                continue;
            }
        };
        let (damage, reason) = match Snapshot::parse(&bytes) {
            Ok(snapshot) => {
                generation = generation.max(snapshot.header().generation);
                if snapshot.header().key_check != key_check {
                    (snapshot.damage(), Some(Outcome::ColdKey))
                } else {
                    let damage = snapshot.damage();
                    (damage, damage.map(|_| Outcome::ColdDamaged))
                }
            }
            Err(damage @ Damage::LaterFormat { .. }) => (Some(damage), Some(Outcome::ColdVersion)),
            Err(damage) => (Some(damage), Some(Outcome::ColdDamaged)),
        };
        let Some(reason) = reason else {
            let outcome = match which {
                Which::Newest => Outcome::Exact,
                Which::Previous => Outcome::Previous,
            };
            // The newest may be of a higher generation although it is damaged.
            return (Found::File { outcome, bytes }, generation, newest_damage);
        };
        if which == Which::Newest {
            newest_damage = damage;
        }
        cold = first(cold, reason);
        if reason == Outcome::ColdDamaged {
            candidates.push(bytes);
        }
    }
    if policy == Restore::Salvage {
        for bytes in candidates {
            if Snapshot::parse(&bytes).is_ok() {
                let outcome = Outcome::Salvaged;
                return (Found::File { outcome, bytes }, generation, newest_damage);
            }
        }
    }
    (Found::Nothing(cold), generation, newest_damage)
}

/// The highest generation that can be read from the files, whole or not; 0 if there is none. For one who goes on where another
/// writer stopped.
pub fn last_generation(storage: &mut dyn Storage) -> u64 {
    [Which::Newest, Which::Previous]
        .into_iter()
        .filter_map(|which| {
            let bytes = read_again(storage, which).ok()??;
            Snapshot::parse(&bytes)
                .ok()
                .map(|snapshot| snapshot.header().generation)
        })
        .max()
        .unwrap_or(0)
}

fn first(known: Outcome, next: Outcome) -> Outcome {
    if known == Outcome::ColdNone { next } else { known }
}

/// An interrupted read is no damage.
fn read_again(storage: &mut dyn Storage, which: Which) -> io::Result<Option<Vec<u8>>> {
    for _ in 0..16 {
        match storage.read(which) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
    storage.read(which)
}
