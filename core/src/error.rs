use std::fmt;

use ratelimit_model::LimitError;

use crate::Engine;
use crate::raw::{OVERRIDE_LIMITS, SLOTS};

/// Why an engine cannot be made or changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum EngineError {
    /// A limit makes no sense.
    Limit(LimitError),
    /// No limit, or more than [`MAX_LIMITS`](crate::MAX_LIMITS).
    LimitCount {
        /// How many there were.
        given: usize,
        /// How many there may be, at least and at most.
        expected: (usize, usize),
    },
    /// `max_keys` is more than can be addressed.
    MaxKeys {
        /// What was asked for.
        max_keys: u64,
    },
    /// The system gave no memory.
    Memory(std::io::Error),
    /// More clients have overrides or blocks than there is room for.
    TooManyRecords,
    /// More different limits in overrides than there is room for.
    TooManyOverrideLimits,
    /// Slices that belong together differ in length.
    Lengths {
        /// How many keys there are.
        keys: usize,
        /// How many of the other.
        others: usize,
    },
    /// A name that a shared table cannot have.
    ShareName {
        /// The name, shortened if it is long.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The shared table is not the one that was asked for.
    ShareMismatch(String),
    /// As many limiters as can be are attached to the shared table.
    ShareFull,
    /// The shared table cannot be made, opened or removed.
    ShareUnavailable(String),
    /// A node of a cluster does not do this by itself.
    Clustered(&'static str),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Limit(error) => error.fmt(f),
            EngineError::LimitCount { given: 0, .. } => f.write_str("there is no limit: give at least one"),
            EngineError::LimitCount {
                given,
                expected: (least, most),
            } if least == most => {
                write!(
                    f,
                    "{given} limits were given where {most} are in force: give one for each, in the same order"
                )
            }
            EngineError::LimitCount {
                given,
                expected: (_, most),
            } => {
                write!(
                    f,
                    "{given} limits were given, and at most {most} can be asked at once: drop some"
                )
            }
            EngineError::MaxKeys { max_keys } => write!(
                f,
                "max_keys of {max_keys} is more than a table can address: use at most {}",
                Engine::MOST_KEYS
            ),
            EngineError::Memory(error) => {
                write!(
                    f,
                    "the system gave no memory for the table ({error}): use a smaller max_keys"
                )
            }
            EngineError::TooManyRecords => f.write_str(
                "there is no room for one more client with an override or a block: clear some that are not needed",
            ),
            EngineError::TooManyOverrideLimits => write!(
                f,
                "overrides use {OVERRIDE_LIMITS} different limits already: give clients limits that others have too"
            ),
            EngineError::ShareName { name, reason } => write!(
                f,
                "\"{}\" is no name for a shared table: {reason}; use 1 to 100 letters, digits, dots, hyphens and underscores",
                name.escape_debug()
            ),
            EngineError::ShareMismatch(text) | EngineError::ShareUnavailable(text) => f.write_str(text),
            EngineError::Clustered(text) => f.write_str(text),
            EngineError::ShareFull => write!(
                f,
                "{SLOTS} limiters are attached to the shared table already: use one limiter for each process, or another name"
            ),
            EngineError::Lengths { keys, others } => {
                write!(
                    f,
                    "{keys} keys came with {others} places or costs: give one for each key"
                )
            }
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            EngineError::Limit(error) => Some(error),
            EngineError::Memory(error) => Some(error),
            _ => None,
        }
    }
}

impl From<LimitError> for EngineError {
    fn from(error: LimitError) -> Self {
        EngineError::Limit(error)
    }
}
