//! Requests in the order of their time, however many there are.
//!
//! Servers write a line when the answer is sent but stamp it with when the request came, and logs of several machines are
//! read one after the other: time goes back and forth. A limiter needs it in order. So records are collected up to a budget,
//! sorted, and written to an unlinked temporary file (a *run*); at the end all runs are merged ([`super::merge`]). A log that
//! fits the budget never touches the disk.
//!
//! Equal times keep the order in which they were pushed: sorting is stable, runs are consecutive, and the merge prefers
//! the earlier run.

use std::io;
use std::path::{Path, PathBuf};

use super::merge::{Run, RunWriter, merge};
use crate::failure::Failure;

/// Runs that are merged at once: bounds open files and merge buffers, whatever the size of the log.
const FAN_IN: usize = 48;
/// What a record costs beside its bytes: its entry, and half of one again while sorting.
const ENTRY_COST: usize = size_of::<Entry>() * 3 / 2;
/// The longest length prefix of a record in the arena.
const PREFIX: usize = size_of::<u32>();

/// A record in memory: when, and where in the arena its key stands.
#[derive(Clone, Copy)]
struct Entry {
    time_ns: u64,
    offset: usize,
}

/// Collects records in any order, then hands them out by time.
///
/// Drive it with [`push`](Sorter::push) for each record, then [`drain`](Sorter::drain) once.
/// Memory: the budget, and the longest key. Disk: about the length of the keys and three bytes for each, in files without a
/// name, which the system removes however the process ends.
pub struct Sorter {
    entries: Vec<Entry>,
    /// Keys, each behind its length.
    arena: Vec<u8>,
    budget: usize,
    folder: PathBuf,
    /// Runs in the order of their records, each with how often it was merged. The second number never grows along the list.
    runs: Vec<(Run, u32)>,
    spilled: usize,
}

impl Sorter {
    /// A sorter that holds at most `budget` bytes in memory and spills to files in `folder`.
    #[must_use]
    pub fn new(budget: usize, folder: &Path) -> Self {
        Sorter {
            entries: Vec::new(),
            arena: Vec::new(),
            budget,
            folder: folder.to_owned(),
            runs: Vec::new(),
            spilled: 0,
        }
    }

    /// How many runs went to disk so far.
    #[must_use]
    pub fn spilled(&self) -> usize {
        self.spilled
    }

    /// Takes one record. Keys are below 4 GiB: a line is at most 1 MiB.
    pub fn push(&mut self, time_ns: u64, key: &[u8]) -> Result<(), Failure> {
        let held = (self.entries.len() + 1) * ENTRY_COST + self.arena.len() + PREFIX + key.len();
        if held > self.budget && !self.entries.is_empty() {
            self.spill().map_err(|error| self.explain(&error))?;
        }
        let length = u32::try_from(key.len()).map_err(|_| Failure::Io("a key is longer than 4 GiB".to_owned()))?;
        self.entries.push(Entry {
            time_ns,
            offset: self.arena.len(),
        });
        self.arena.extend_from_slice(&length.to_le_bytes());
        self.arena.extend_from_slice(key);
        Ok(())
    }

    /// Hands every record to `each`, by time, until it returns false or fails. Errors of the disk come out as sentences.
    pub fn drain(mut self, mut each: impl FnMut(u64, &[u8]) -> Result<bool, Failure>) -> Result<(), Failure> {
        if self.runs.is_empty() {
            self.sort();
            for entry in &self.entries {
                if !each(entry.time_ns, key_at(&self.arena, entry.offset))? {
                    break;
                }
            }
            return Ok(());
        }
        // The last records go to disk as well: then their memory serves as merge buffers.
        self.spill().map_err(|error| self.explain(&error))?;
        (self.entries, self.arena) = (Vec::new(), Vec::new());
        let runs = std::mem::take(&mut self.runs).into_iter().map(|(run, _)| run).collect();
        let mut failure = None;
        let merged = merge(runs, self.budget, |time_ns, key| {
            Ok(each(time_ns, key).unwrap_or_else(|error| {
                failure = Some(error);
                false
            }))
        });
        merged.map_err(|error| self.explain(&error))?;
        failure.map_or(Ok(()), Err)
    }

    fn sort(&mut self) {
        // Stable, and quick on the nearly sorted records that logs are.
        self.entries.sort_by_key(|entry| entry.time_ns);
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let mut writer = RunWriter::create(&self.folder)?;
        for entry in &self.entries {
            writer.write(entry.time_ns, key_at(&self.arena, entry.offset))?;
        }
        self.entries.clear();
        self.arena.clear();
        self.spilled += 1;
        self.runs.push((writer.finish()?, 0));
        self.compact()
    }

    /// Merges the newest runs of one generation as soon as they are many. Only neighbours are merged, so that the list
    /// stays in order; each record is rewritten once per generation, which grows with the logarithm of the log.
    fn compact(&mut self) -> io::Result<()> {
        while let Some(&(_, generation)) = self.runs.last() {
            let first = self.runs.partition_point(|&(_, other)| other > generation);
            if self.runs.len() - first < FAN_IN {
                break;
            }
            let mut writer = RunWriter::create(&self.folder)?;
            let young = self.runs.drain(first..).map(|(run, _)| run).collect();
            merge(young, self.budget, |time_ns, key| {
                writer.write(time_ns, key).map(|()| true)
            })?;
            self.runs.push((writer.finish()?, generation + 1));
        }
        Ok(())
    }

    fn explain(&self, error: &io::Error) -> Failure {
        Failure::Io(format!(
            "cannot sort the log through temporary files in {}: {error}. Name a folder with room by --temp-dir, or give \
             --sort-memory more than {} MiB",
            self.folder.display(),
            self.budget >> 20,
        ))
    }
}

/// The key that [`Sorter::push`] put at `offset`.
fn key_at(arena: &[u8], offset: usize) -> &[u8] {
    let (prefix, rest) = arena[offset..].split_at(PREFIX);
    let length = prefix.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    &rest[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records with few distinct times and their place in the input as key, so that any lost or swapped one shows.
    fn records(count: u64) -> Vec<(u64, Vec<u8>)> {
        let mut state = 1_u64;
        (0..count)
            .map(|index| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let padding = "x".repeat((state >> 60) as usize);
                (
                    (state >> 33) % 50 * 1_000_000_000,
                    format!("{index}{padding}").into_bytes(),
                )
            })
            .collect()
    }

    fn sorted(records: &[(u64, Vec<u8>)], budget: usize) -> (Vec<(u64, Vec<u8>)>, usize) {
        let mut sorter = Sorter::new(budget, &std::env::temp_dir());
        for (time_ns, key) in records {
            sorter.push(*time_ns, key).unwrap();
        }
        let spilled = sorter.spilled();
        let mut out = Vec::new();
        sorter
            .drain(|time_ns, key| {
                out.push((time_ns, key.to_vec()));
                Ok(true)
            })
            .unwrap();
        (out, spilled)
    }

    #[test]
    fn spilled_or_not_the_order_is_the_same_and_stable() {
        let records = records(20_000);
        let mut expected = records.clone();
        expected.sort_by_key(|(time_ns, _)| *time_ns); // Stable: equal times by place.
        // All in memory; a few runs; so many runs that they are merged in several generations; one record per run.
        for (budget, least_runs) in [(1 << 30, 0), (1 << 18, 2), (4 << 10, FAN_IN + 1), (0, 19_000)] {
            let (out, spilled) = sorted(&records, budget);
            assert!(spilled >= least_runs, "{spilled} runs with {budget} bytes");
            assert!(out == expected, "wrong order with {budget} bytes");
        }
    }

    #[test]
    fn nothing_and_empty_keys() {
        assert_eq!(sorted(&[], 0).0, []);
        let records = [(5, vec![]), (5, b"b".to_vec()), (1, vec![])];
        assert_eq!(sorted(&records, 0).0, [(1, vec![]), (5, vec![]), (5, b"b".to_vec())]);
    }

    #[test]
    fn draining_can_stop_early() {
        for budget in [1 << 20, 1 << 10] {
            let mut sorter = Sorter::new(budget, &std::env::temp_dir());
            for (time_ns, key) in records(1000) {
                sorter.push(time_ns, &key).unwrap();
            }
            let mut count = 0;
            sorter
                .drain(|_, _| {
                    count += 1;
                    Ok(count < 10)
                })
                .unwrap();
            assert_eq!(count, 10);
        }
    }

    #[test]
    fn a_missing_folder_is_explained() {
        let mut sorter = Sorter::new(0, Path::new("/no/such/folder"));
        sorter.push(1, b"a").unwrap();
        let failure = sorter.push(2, b"b").unwrap_err().to_string();
        assert!(
            failure.contains("/no/such/folder") && failure.contains("--temp-dir"),
            "{failure}"
        );
    }
}
