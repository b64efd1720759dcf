//! From a file to a report.

use std::fs;
use std::io;
use std::path::Path;

use ratelimit::snapshot::{ChunkHealth, Entry, KeyFileState, Kind, Moment, Snapshot, key_file_state};
use serde::Serialize;

use crate::failure::Failure;

/// Everything that is said about a snapshot. Times in seconds; counts of what is in intact chunks.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The file.
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
    /// What is wrong, as a sentence; nothing if every byte is as it was written.
    pub damage: Option<String>,
    /// What the header says; nothing if it cannot be read.
    pub snapshot: Option<About>,
}

/// What can be said once the header is read.
#[derive(Debug, Serialize)]
pub struct About {
    /// The number of the snapshot.
    pub generation: u64,
    /// The version that wrote it.
    pub written_by: String,
    /// When, by the wall clock, since the Unix epoch.
    pub written_at: f64,
    /// How long ago.
    pub age: f64,
    /// Whether the age is exact: told by the boot clock of the same boot.
    pub same_boot: bool,
    /// Whether the secret beside it is its own: `fits`, `does_not_fit`, `damaged`, `missing` or `unreadable`.
    pub key_file: &'static str,
    /// The limits, in their order.
    pub limits: Vec<LimitReport>,
    /// Entries under clients' own limits.
    pub override_cells: u64,
    /// Their debts, as below.
    pub override_debts: [u64; 10],
    /// Blocked clients.
    pub blocks: u64,
    /// How many chunks there are.
    pub chunks: u64,
    /// Those that are not as they were written.
    pub bad_chunks: Vec<BadChunk>,
    /// What the trailer says; nothing if it makes no sense.
    pub trailer: Option<TrailerReport>,
}

/// One limit and its debts.
#[derive(Debug, Serialize)]
pub struct LimitReport {
    /// Its text form.
    pub limit: String,
    /// Requests at one instant.
    pub burst: u64,
    /// How long an empty bucket takes to fill.
    pub full_after: f64,
    /// Clients with debt under it.
    pub cells: u64,
    /// Clients by the share of the burst that was spent when it was written: up to a tenth, up to two tenths and so on.
    pub debts: [u64; 10],
    /// Clients whose debt is not yet over now.
    pub still_in_debt: u64,
}

/// A chunk that is not as it was written.
#[derive(Debug, Serialize)]
pub struct BadChunk {
    /// Which.
    pub index: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// The end of the file.
#[derive(Debug, Serialize)]
pub struct TrailerReport {
    /// As in the header, if all is well.
    pub generation: u64,
    /// How many chunks there should be.
    pub chunks: u64,
    /// How many cells, override cells and blocks.
    pub entries: [u64; 3],
}

/// Reads and checks a file.
///
/// Errors: the system does not give it. A damaged one is no error here.
pub(super) fn examine(path: &Path) -> Result<Report, Failure> {
    let failed = |error: io::Error| Failure::file("read", path, &error);
    let bytes = fs::read(path).map_err(failed)?;
    let mut report = Report {
        file: path.display().to_string(),
        bytes: bytes.len() as u64,
        damage: None,
        snapshot: None,
    };
    match Snapshot::parse(&bytes) {
        Ok(snapshot) => {
            report.damage = snapshot.damage().map(|damage| damage.to_string());
            report.snapshot = Some(about(path, &snapshot));
        }
        Err(damage) => report.damage = Some(damage.to_string()),
    }
    Ok(report)
}

fn about(path: &Path, snapshot: &Snapshot<'_>) -> About {
    let (header, now) = (snapshot.header(), Moment::now());
    let age_ns = now.since(&header.made);
    let mut limits: Vec<LimitReport> = header
        .limits
        .iter()
        .map(|limit| LimitReport {
            limit: limit.text.clone(),
            burst: limit.burst,
            full_after: seconds(limit.tolerance_ns),
            cells: 0,
            debts: [0; 10],
            still_in_debt: 0,
        })
        .collect();
    let (mut override_cells, mut override_debts, mut blocks) = (0, [0; 10], 0);
    for entry in snapshot.entries() {
        match entry {
            Entry::Cell { limit, debt_ns, .. } => {
                let line = header.limits.get(usize::from(limit));
                let (Some(report), Some(line)) = (limits.get_mut(usize::from(limit)), line) else {
                    continue;
                };
                report.cells += 1;
                report.debts[tenth(debt_ns, line.tolerance_ns)] += 1;
                report.still_in_debt += u64::from(debt_ns > age_ns);
            }
            Entry::Override {
                debt_ns, tolerance_ns, ..
            } => {
                override_cells += 1;
                override_debts[tenth(debt_ns, tolerance_ns)] += 1;
            }
            Entry::Block { .. } => blocks += 1,
        }
    }
    About {
        generation: header.generation,
        written_by: header.written_by.clone(),
        written_at: seconds(header.made.wall_ns),
        age: seconds(age_ns),
        same_boot: now.is_same_boot(&header.made),
        key_file: match key_file_state(path, header.key_check) {
            Ok(KeyFileState::Fits) => "fits",
            Ok(KeyFileState::DoesNotFit) => "does_not_fit",
            Ok(KeyFileState::Damaged) => "damaged",
            Ok(KeyFileState::Missing) => "missing",
            Err(_) => "unreadable",
        },
        limits,
        override_cells,
        override_debts,
        blocks,
        chunks: snapshot.chunks().len() as u64,
        bad_chunks: bad_chunks(snapshot),
        trailer: snapshot.trailer().map(|trailer| TrailerReport {
            generation: trailer.generation,
            chunks: trailer.chunks,
            entries: trailer.entries,
        }),
    }
}

fn bad_chunks(snapshot: &Snapshot<'_>) -> Vec<BadChunk> {
    use ratelimit::snapshot::{CHUNK_BYTES, HEADER_BYTES};
    let bad = |(index, health): (usize, &ChunkHealth)| {
        let what = match *health {
            ChunkHealth::Intact { .. } => return None,
            ChunkHealth::Damaged => "its bytes do not match its checksum".to_owned(),
            ChunkHealth::Stale { generation } => {
                format!("it is of generation {generation}: the disk kept an old sector")
            }
            ChunkHealth::Misplaced { index } => format!("it belongs to place {index}"),
        };
        Some(BadChunk {
            index: index as u64,
            offset: (HEADER_BYTES + index * CHUNK_BYTES) as u64,
            what,
        })
    };
    snapshot.chunks().iter().enumerate().filter_map(bad).collect()
}

/// Which tenth of the burst a debt lies in.
fn tenth(debt_ns: u64, tolerance_ns: u64) -> usize {
    let tenths = u128::from(debt_ns.saturating_sub(1)) * 10 / u128::from(tolerance_ns.max(1));
    usize::try_from(tenths).unwrap_or(9).min(9)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// What the kinds of entries are called, in the order of the trailer.
pub(super) fn kinds() -> [&'static str; 3] {
    Kind::ALL.map(Kind::name)
}

#[cfg(test)]
mod tests {
    use super::tenth;

    #[test]
    fn a_full_burst_is_in_the_last_tenth() {
        let tenths = [1, 100, 101, 999, 1_000, 5_000].map(|debt| tenth(debt, 1_000));
        assert_eq!(tenths, [0, 0, 1, 9, 9, 9]);
        assert_eq!(tenth(u64::MAX, 0), 9);
    }
}
