//! Limits of the cluster: what they are, and which version of one wins.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map;
use core::fmt;
use core::str::FromStr;

use ratelimit_model::{Gcra, Limit};

use crate::id::{LimitId, NodeId};

/// The most of a limit that may be held back for nodes that are cut off, in millionths: all of it.
pub const MAX_FLOOR_PPM: u32 = 1_000_000;
/// The most limits a node keeps; more are refused and counted.
pub const MAX_LIMITS: usize = 1024;

/// What a node may spend on a key without a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The whole burst, and `R/N` until the owner's first answer. Best availability; the one-off error is bounded by
    /// `(N-1)` bursts, the long-run rate is exact.
    #[default]
    Eventual,
    /// This many units. Over-admission is at most `units` for each node that saw the key and each restart since its
    /// bucket was last full, whatever the network does.
    Bounded {
        /// Units that one node may have spent without a lease and without the owner's word that they are paid.
        units: u64,
    },
    /// Nothing. Never over the limit, given clocks that do not stop.
    Strict {
        /// Held back for nodes whose owner is gone, in millionths of the limit, divided among
        /// [`max_nodes`](crate::NodeConfig::max_nodes); 0 denies there.
        floor_ppm: u32,
    },
}

impl Mode {
    /// Whether grants, and not reports, are the ledger.
    #[must_use]
    pub const fn is_hard(self) -> bool {
        !matches!(self, Mode::Eventual)
    }
}

/// A text that is no mode; its own text says what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeError;

impl fmt::Display for ModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mode is \"eventual\", \"bounded:20\" (units from 1), \"strict\", or \"strict:10%\" (held back for nodes that are cut off)")
    }
}

impl core::error::Error for ModeError {}

/// `eventual`, `bounded:20`, `strict` or `strict:10%`, in whatever case; at most four decimal places of a per cent.
impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let text = text.trim();
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name.trim_end(), Some(argument.trim())),
            None => (text, None),
        };
        match argument {
            None if name.eq_ignore_ascii_case("eventual") => Ok(Mode::Eventual),
            None if name.eq_ignore_ascii_case("strict") => Ok(Mode::Strict { floor_ppm: 0 }),
            Some(units) if name.eq_ignore_ascii_case("bounded") => match whole(units) {
                Some(units) if units > 0 => Ok(Mode::Bounded { units }),
                _ => Err(ModeError),
            },
            Some(part) if name.eq_ignore_ascii_case("strict") => {
                let floor_ppm = part.strip_suffix('%').and_then(ppm).ok_or(ModeError)?;
                Ok(Mode::Strict { floor_ppm })
            }
            _ => Err(ModeError),
        }
    }
}

/// The text that [`FromStr`] reads.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Mode::Eventual => f.write_str("eventual"),
            Mode::Bounded { units } => write!(f, "bounded:{units}"),
            Mode::Strict { floor_ppm: 0 } => f.write_str("strict"),
            Mode::Strict { floor_ppm } => {
                let (whole, rest) = (floor_ppm / 10_000, floor_ppm % 10_000);
                match rest {
                    0 => write!(f, "strict:{whole}%"),
                    _ => write!(f, "strict:{whole}.{rest:04}%"),
                }
            }
        }
    }
}

/// Digits alone: no sign, and nothing that does not fit.
fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A per cent as millionths, at most [`MAX_FLOOR_PPM`].
fn ppm(text: &str) -> Option<u32> {
    let (percent, places) = text.split_once('.').unwrap_or((text, "0"));
    let scale = 10_u64.checked_pow(4_u32.checked_sub(u32::try_from(places.len()).ok()?)?)?;
    let millionths = whole(percent)?
        .checked_mul(10_000)?
        .checked_add(whole(places)? * scale)?;
    u32::try_from(millionths).ok().filter(|&ppm| ppm <= MAX_FLOOR_PPM)
}

/// A limit with what the cluster must know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// Its number, the same on all nodes.
    pub id: LimitId,
    /// Of two versions the larger is in force; of equal ones that of the larger author.
    pub version: u64,
    /// Who made this version.
    pub author: NodeId,
    /// Rate, window, burst.
    pub limit: Limit,
    /// What a node may do without a lease.
    pub mode: Mode,
}

/// A limit in force, as numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LimitNumbers {
    pub(crate) spec: LimitSpec,
    pub(crate) gcra: Gcra,
}

/// All limits a node knows.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    known: BTreeMap<LimitId, LimitNumbers>,
    /// Counts changes, so that links know what they have not told yet.
    pub(crate) changes: u64,
    changed_at: BTreeMap<LimitId, u64>,
}

/// What became of a version that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adopted {
    /// It is in force now.
    Yes,
    /// The known one is as good or better.
    No,
    /// There is no room, or it makes no sense.
    Refused,
}

impl Limits {
    pub(crate) fn adopt(&mut self, spec: &LimitSpec) -> Adopted {
        let Ok(gcra) = Gcra::new(&spec.limit) else {
            return Adopted::Refused;
        };
        let full = self.known.len() >= MAX_LIMITS;
        match self.known.entry(spec.id) {
            btree_map::Entry::Occupied(mut known) => {
                let old = known.get().spec;
                if (spec.version, spec.author) <= (old.version, old.author) {
                    return Adopted::No;
                }
                *known.get_mut() = LimitNumbers { spec: *spec, gcra };
            }
            btree_map::Entry::Vacant(_) if full => return Adopted::Refused,
            btree_map::Entry::Vacant(place) => {
                place.insert(LimitNumbers { spec: *spec, gcra });
            }
        }
        self.changes += 1;
        self.changed_at.insert(spec.id, self.changes);
        Adopted::Yes
    }

    pub(crate) fn get(&self, id: LimitId) -> Option<&LimitNumbers> {
        self.known.get(&id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &LimitNumbers> {
        self.known.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Limits that changed after change number `told`.
    pub(crate) fn since(&self, told: u64) -> impl Iterator<Item = &LimitSpec> {
        self.changed_at
            .iter()
            .filter(move |(_, at)| **at > told)
            .filter_map(|(id, _)| self.known.get(id).map(|l| &l.spec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn spec(id: u32, version: u64, author: u64, rate: u64) -> LimitSpec {
        LimitSpec {
            id: LimitId(id),
            version,
            author: NodeId(author),
            limit: Limit::new(rate, Duration::from_secs(1)).expect("a limit"),
            mode: Mode::Eventual,
        }
    }

    #[test]
    fn modes_are_read_as_they_are_written() {
        use alloc::string::ToString;
        for (text, mode, written) in [
            ("eventual", Mode::Eventual, "eventual"),
            (" Bounded: 20", Mode::Bounded { units: 20 }, "bounded:20"),
            ("strict", Mode::Strict { floor_ppm: 0 }, "strict"),
            ("strict:10%", Mode::Strict { floor_ppm: 100_000 }, "strict:10%"),
            ("strict:0.05%", Mode::Strict { floor_ppm: 500 }, "strict:0.0500%"),
            (
                "STRICT:100%",
                Mode::Strict {
                    floor_ppm: MAX_FLOOR_PPM,
                },
                "strict:100%",
            ),
        ] {
            assert_eq!(text.parse(), Ok(mode), "{text}");
            assert_eq!(mode.to_string(), written);
            assert_eq!(written.parse(), Ok(mode));
        }
        for text in [
            "",
            "bounded",
            "bounded:",
            "bounded:0",
            "bounded:-1",
            "bounded:1.5",
            "eventual:1",
            "strict:",
            "strict:10",
            "strict:101%",
            "strict:1.00001%",
            "strict:+1%",
            "bounded:18446744073709551616",
            "open",
        ] {
            assert_eq!(text.parse::<Mode>(), Err(ModeError), "{text}");
        }
    }

    #[test]
    fn the_larger_version_wins_and_of_equals_the_larger_author_in_any_order() {
        let offers = [
            spec(1, 1, 9, 10),
            spec(1, 2, 3, 20),
            spec(1, 2, 5, 30),
            spec(1, 2, 4, 40),
        ];
        for start in 0..offers.len() {
            let mut limits = Limits::default();
            for step in 0..offers.len() {
                limits.adopt(&offers[(start + step) % offers.len()]);
            }
            assert_eq!(limits.get(LimitId(1)).map(|l| l.spec), Some(offers[2]), "from {start}");
        }
    }

    #[test]
    fn links_are_told_only_what_changed_and_memory_is_bounded() {
        let mut limits = Limits::default();
        assert_eq!(limits.adopt(&spec(1, 1, 1, 10)), Adopted::Yes);
        assert_eq!(limits.adopt(&spec(2, 1, 1, 10)), Adopted::Yes);
        let told = limits.changes;
        assert_eq!(limits.adopt(&spec(2, 1, 1, 10)), Adopted::No);
        assert_eq!(limits.since(told).count(), 0);
        assert_eq!(limits.adopt(&spec(2, 3, 1, 10)), Adopted::Yes);
        assert_eq!(limits.since(told).map(|s| s.id.0).collect::<alloc::vec::Vec<_>>(), [2]);
        for id in 0..2 * MAX_LIMITS as u32 {
            limits.adopt(&spec(id, 1, 1, 10));
        }
        assert_eq!(limits.len(), MAX_LIMITS);
        assert_eq!(limits.adopt(&spec(9999, 1, 1, 10)), Adopted::Refused);
    }
}
