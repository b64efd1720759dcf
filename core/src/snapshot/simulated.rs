//! A disk in memory that can lose power, fill up and fail at any call, for tests and campaigns.
//!
//! It keeps what programs see and what would survive apart. When power goes, of everything that was not synced any sector may
//! be old, new, half of each, zero, or left from a file that was removed; a file may have any length between the two; and of
//! the names that were not synced any may have come through, in any order. Renames are atomic. A sync that failed marks the
//! pages as clean all the same, as the common file systems do: only what was written since is written by the next.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::storage::{Storage, Temp, Which};

const SECTOR: usize = 512;

/// What a call that is told to fail does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The disk is full.
    NoSpace,
    /// The disk fails.
    Io,
    /// A signal came.
    Interrupted,
    /// Half of the bytes are written, and then the disk is full.
    ShortWrite,
}

impl Failure {
    /// All failures.
    pub const ALL: [Failure; 4] = [Failure::NoSpace, Failure::Io, Failure::Interrupted, Failure::ShortWrite];

    fn error(self) -> io::Error {
        match self {
            Failure::NoSpace | Failure::ShortWrite => io::ErrorKind::StorageFull.into(),
            Failure::Io => io::Error::other("input/output error"),
            Failure::Interrupted => io::ErrorKind::Interrupted.into(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Newest,
    Previous,
    Temp,
}

/// A change of names that is one step.
#[derive(Clone, Copy, Debug)]
enum NameChange {
    Set(Name, usize),
    Rename(Name, Name, usize),
    Remove(Name),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Bytes from here on were written since the last sync, also one that failed.
    clean: usize,
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    live: BTreeMap<Name, usize>,
    durable: BTreeMap<Name, usize>,
    /// Changes of names since the last sync of the directory.
    pending: Vec<NameChange>,
    calls: u64,
    fail_at: Option<(u64, Failure)>,
    cut_at: Option<u64>,
    is_off: bool,
    failed_syncs: Vec<usize>,
    synced_again: bool,
    leftover: Vec<u8>,
}

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk with these two generations on it, durable.
    #[must_use]
    pub fn holding(newest: Option<&[u8]>, previous: Option<&[u8]>) -> Self {
        let disk = Self::new();
        let mut state = disk.state();
        for (name, bytes) in [(Name::Newest, newest), (Name::Previous, previous)] {
            if let Some(bytes) = bytes {
                let inode = state.inodes.len();
                state.inodes.push(Inode {
                    live: bytes.to_vec(),
                    durable: bytes.to_vec(),
                    clean: bytes.len(),
                });
                state.live.insert(name, inode);
                state.durable.insert(name, inode);
            }
        }
        drop(state);
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many calls were made.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Makes the call after `after` others fail, once. A call of any kind counts.
    pub fn fail(&self, after: u64, failure: Failure) {
        let mut state = self.state();
        state.fail_at = Some((state.calls + after, failure));
    }

    /// Takes the power away in the middle of the call after `after` others.
    pub fn cut(&self, after: u64) {
        let mut state = self.state();
        state.cut_at = Some(state.calls + after);
    }

    /// Whether a file was synced again after that had failed: what no writer may do.
    #[must_use]
    pub fn was_synced_again(&self) -> bool {
        self.state().synced_again
    }

    /// Whether a temporary file is left.
    #[must_use]
    pub fn has_leftovers(&self) -> bool {
        self.state().live.contains_key(&Name::Temp)
    }

    /// The content of a generation, without counting as a call.
    #[must_use]
    pub fn content(&self, which: Which) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = *state.live.get(&name_of(which))?;
        Some(state.inodes[inode].live.clone())
    }

    /// The disk as it comes back after the power was lost, one of many possible ones.
    #[must_use]
    pub fn power_on(&self, seed: u64) -> SimulatedDisk {
        let mut random = Random(seed);
        let state = self.state();
        let mut names = state.durable.clone();
        // Either a beginning of the changes came through, or any of them.
        let beginning = random.one_in(2).then(|| random.below(state.pending.len() as u64 + 1));
        for (index, change) in state.pending.iter().enumerate() {
            let came = beginning.map_or_else(|| random.one_in(2), |beginning| (index as u64) < beginning);
            if came {
                apply(&mut names, *change);
            }
        }
        let mut back = State::default();
        for (name, inode) in names {
            let content = survived(&state.inodes[inode], &state.leftover, &mut random);
            let at = back.inodes.len();
            back.inodes.push(Inode {
                clean: content.len(),
                durable: content.clone(),
                live: content,
            });
            back.live.insert(name, at);
            back.durable.insert(name, at);
        }
        SimulatedDisk(Arc::new(Mutex::new(back)))
    }
}

fn name_of(which: Which) -> Name {
    match which {
        Which::Newest => Name::Newest,
        Which::Previous => Name::Previous,
    }
}

fn apply(names: &mut BTreeMap<Name, usize>, change: NameChange) {
    match change {
        NameChange::Set(name, inode) => {
            names.insert(name, inode);
        }
        NameChange::Rename(from, to, inode) => {
            names.remove(&from);
            names.insert(to, inode);
        }
        NameChange::Remove(name) => {
            names.remove(&name);
        }
    }
}

/// What of a file survives.
fn survived(inode: &Inode, leftover: &[u8], random: &mut Random) -> Vec<u8> {
    if inode.live == inode.durable {
        return inode.durable.clone();
    }
    let (short, long) = (
        inode.durable.len().min(inode.live.len()),
        inode.durable.len().max(inode.live.len()),
    );
    let length = match random.below(3) {
        0 => inode.durable.len(),
        1 => inode.live.len(),
        _ => short + random.below((long - short) as u64 + 1) as usize,
    };
    let mut content = vec![0; length];
    for (index, sector) in content.chunks_mut(SECTOR).enumerate() {
        let at = index * SECTOR;
        let source: &[u8] = match random.below(5) {
            0 => &inode.durable,
            1 | 2 => &inode.live,
            3 => leftover,
            _ => &[],
        };
        let half = random.one_in(4).then_some(SECTOR / 2);
        copy_at(sector, source, at, half.unwrap_or(SECTOR));
        if inode.live.get(at..) == inode.durable.get(at..) {
            copy_at(sector, &inode.durable, at, SECTOR);
        }
    }
    content
}

fn copy_at(sector: &mut [u8], source: &[u8], at: usize, most: usize) {
    let source = source.get(at..).unwrap_or_default();
    let count = sector.len().min(source.len()).min(most);
    sector[..count].copy_from_slice(&source[..count]);
}

/// What a call is to do.
enum Turn {
    Act,
    Fail(Failure),
    /// Do half of it: the power goes.
    Cut,
}

impl State {
    fn turn(&mut self) -> io::Result<Turn> {
        let call = self.calls;
        self.calls += 1;
        if self.is_off {
            return Err(io::Error::other("no power"));
        }
        if self.cut_at == Some(call) {
            self.is_off = true;
            return Ok(Turn::Cut);
        }
        match self.fail_at {
            Some((at, failure)) if at == call => Ok(Turn::Fail(failure)),
            _ => Ok(Turn::Act),
        }
    }

    /// For calls that are done or not.
    fn act(&mut self) -> io::Result<()> {
        match self.turn()? {
            Turn::Act => Ok(()),
            Turn::Fail(failure) => Err(failure.error()),
            Turn::Cut => Err(io::Error::other("no power")),
        }
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.live, change);
        self.pending.push(change);
    }
}

impl Storage for SimulatedDisk {
    fn create(&mut self, _bytes: u64) -> io::Result<Box<dyn Temp + '_>> {
        let mut state = self.state();
        state.act()?;
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change(NameChange::Set(Name::Temp, inode));
        drop(state);
        Ok(Box::new(SimulatedTemp { disk: self, inode }))
    }

    fn keep_previous(&mut self) -> io::Result<()> {
        let mut state = self.state();
        state.act()?;
        if let Some(&inode) = state.live.get(&Name::Newest) {
            if let Some(&lost) = state.live.get(&Name::Previous) {
                state.leftover = state.inodes[lost].live.clone();
            }
            state.change(NameChange::Set(Name::Previous, inode));
        }
        Ok(())
    }

    fn publish(&mut self) -> io::Result<()> {
        let mut state = self.state();
        state.act()?;
        let inode = *state.live.get(&Name::Temp).ok_or(io::ErrorKind::NotFound)?;
        state.change(NameChange::Rename(Name::Temp, Name::Newest, inode));
        Ok(())
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut state = self.state();
        state.act()?;
        state.durable = state.live.clone();
        state.pending.clear();
        Ok(())
    }

    fn discard(&mut self) {
        let mut state = self.state();
        if state.act().is_ok() && state.live.contains_key(&Name::Temp) {
            state.change(NameChange::Remove(Name::Temp));
        }
    }

    fn read(&mut self, which: Which) -> io::Result<Option<Vec<u8>>> {
        let mut state = self.state();
        state.act()?;
        let inode = state.live.get(&name_of(which)).copied();
        Ok(inode.map(|inode| state.inodes[inode].live.clone()))
    }
}

struct SimulatedTemp<'a> {
    disk: &'a SimulatedDisk,
    inode: usize,
}

impl Temp for SimulatedTemp<'_> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let (count, outcome) = match state.turn()? {
            Turn::Act => (bytes.len(), Ok(())),
            Turn::Fail(Failure::ShortWrite) => (bytes.len() / 2, Err(Failure::ShortWrite.error())),
            Turn::Fail(failure) => (0, Err(failure.error())),
            Turn::Cut => (bytes.len() / 2, Err(io::Error::other("no power"))),
        };
        state.inodes[self.inode].live.extend_from_slice(&bytes[..count]);
        outcome
    }

    fn sync(self: Box<Self>) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.failed_syncs.contains(&self.inode) {
            state.synced_again = true;
        }
        let outcome = state.act();
        if outcome.is_err() {
            state.failed_syncs.push(self.inode);
        }
        let inode = &mut state.inodes[self.inode];
        if outcome.is_ok() {
            // What an earlier sync failed on is taken for clean and left out.
            let from = inode.clean.min(inode.live.len());
            inode.durable.resize(from, 0);
            let written = inode.live[from..].to_vec();
            inode.durable.extend(written);
        }
        inode.clean = inode.live.len();
        outcome
    }
}

/// SplitMix64: repeatable.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
