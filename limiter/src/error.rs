use std::any::Any;
use std::fmt;

use ratelimit_core::EngineError;
use ratelimit_core::snapshot::OpenError;
use ratelimit_model::LimitError;

use crate::headers::PolicyError;

/// What can be wrong. A denial is not among it.
///
/// Every error is raised before anything is changed, and its text says what to do. The [code](Error::code) is the same in
/// every language and never given to another error.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A limit makes no sense, or its text is not a limit.
    Limit(LimitError),
    /// A limiter was to be made without a limit, or with too many; or another number of limits was to be put in force.
    LimitCount(String),
    /// `max_keys` is more than a table can address.
    MaxKeys(String),
    /// The system gave no memory, or no randomness for the secret.
    System(String),
    /// No room for another override or block.
    Full(String),
    /// Slices that belong together differ in length.
    Lengths(String),
    /// Policies for header fields do not fit: a name, their number, or a limit of theirs.
    Policy(PolicyError),
    /// An option that does not exist, a value that it does not take, or options that contradict each other.
    Option(String),
    /// Something that this version, or this build of it, cannot do.
    Unsupported(String),
    /// An argument of a call that is of the wrong kind, or out of its range: a key, a cost or a time.
    Argument(String),
    /// The limiter was closed.
    Closed,
    /// A bug of this library, contained: the call did nothing more, and the process goes on.
    Internal(String),
    /// No snapshot can be kept there, or that often.
    Persist(String),
    /// Another limiter keeps its snapshot there.
    SnapshotBusy(String),
    /// A snapshot could not be written; the one before is as it was.
    SnapshotWrite(String),
    /// A whole snapshot was required, and there was none.
    RestoreRequired(String),
    /// A snapshot was asked of a limiter that keeps none.
    NotPersistent(String),
    /// A forked child was asked for what only its parent may do.
    ForkedChild(String),
    /// A name that a shared table cannot have.
    ShareName(String),
    /// The shared table has other limits, another size, hash key or clock than this limiter was given.
    ShareMismatch(String),
    /// As many limiters as can be are attached to the shared table.
    ShareFull(String),
    /// The shared table cannot be made, opened or removed: no room, no rights, no tmpfs, or in use.
    ShareUnavailable(String),
    /// What was said about the cluster cannot be: a name, an address, an owner, a file of certificates or of the secret.
    ClusterConfig(String),
    /// The node could not be started: its port is taken, or there is no thread.
    ClusterStart(String),
}

/// An error's code, its name, and what it means, for all languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// The number: never given to another error.
    pub code: u32,
    /// The word.
    pub name: &'static str,
    /// What is wrong, in general; the error's own text says it in particular.
    pub meaning: &'static str,
}

/// The one table of errors: each variant's code, name and meaning.
macro_rules! codes {
    ($($pattern:pat => $code:literal $name:literal $meaning:literal)*) => {
        /// Every error that there is, in the order of the codes. Each language compares its own list with this one.
        pub const ERROR_CODES: &[ErrorCode] = &[
            $(ErrorCode { code: $code, name: $name, meaning: $meaning },)*
        ];

        impl Error {
            /// The code of this error: the same number in every language.
            #[must_use]
            pub const fn code(&self) -> u32 {
                match self {
                    $($pattern => $code,)*
                }
            }

            /// The name of this error: the same word in every language.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $($pattern => $name,)*
                }
            }
        }
    };
}

codes! {
    Error::Limit(_) => 1 "invalid_limit" "a limit makes no sense, or its text is not a limit"
    Error::LimitCount(_) => 2 "limit_count" "no limit, too many, or another number than are in force"
    Error::MaxKeys(_) => 3 "max_keys" "max_keys is more than a table can address"
    Error::System(_) => 4 "system" "the system gave no memory, or no randomness"
    Error::Full(_) => 5 "full" "no room for another override or block"
    Error::Lengths(_) => 6 "lengths" "lists that belong together differ in length"
    Error::Policy(_) => 7 "policy" "policies for header fields do not fit"
    Error::Option(_) => 8 "option" "an option that does not exist, has a wrong value, or contradicts another"
    Error::Unsupported(_) => 9 "unsupported" "something that this version or build cannot do"
    Error::Argument(_) => 10 "argument" "an argument of the wrong kind, or out of its range"
    Error::Closed => 11 "closed" "the limiter was closed"
    Error::Internal(_) => 12 "internal" "a bug of this library, contained"
    Error::Persist(_) => 20 "persist" "no snapshot can be kept there, or that often"
    Error::SnapshotBusy(_) => 21 "snapshot_busy" "another limiter keeps its snapshot there"
    Error::SnapshotWrite(_) => 22 "snapshot_write" "a snapshot could not be written; the one before is as it was"
    Error::RestoreRequired(_) => 23 "restore_required" "a whole snapshot was required, and there was none"
    Error::NotPersistent(_) => 24 "not_persistent" "a snapshot was asked of a limiter that keeps none"
    Error::ForkedChild(_) => 25 "forked_child" "a forked child was asked for what only its parent may do"
    Error::ShareName(_) => 30 "share_name" "a name that a shared table cannot have"
    Error::ShareMismatch(_) => 31 "share_mismatch" "the shared table has other limits, size, hash key or clock"
    Error::ShareFull(_) => 32 "share_full" "too many limiters are attached to the shared table"
    Error::ShareUnavailable(_) => 33 "share_unavailable" "the shared table cannot be made, opened or removed"
    Error::ClusterConfig(_) => 40 "cluster_config" "a cluster's name, address, owner, certificate or secret cannot be"
    Error::ClusterStart(_) => 41 "cluster_start" "a cluster's node cannot be started"
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Limit(error) => error.fmt(f),
            Error::Policy(error) => error.fmt(f),
            Error::LimitCount(text)
            | Error::MaxKeys(text)
            | Error::System(text)
            | Error::Full(text)
            | Error::Lengths(text)
            | Error::Option(text)
            | Error::Unsupported(text)
            | Error::Argument(text)
            | Error::Persist(text)
            | Error::SnapshotBusy(text)
            | Error::SnapshotWrite(text)
            | Error::RestoreRequired(text)
            | Error::NotPersistent(text)
            | Error::ForkedChild(text)
            | Error::ShareName(text)
            | Error::ShareMismatch(text)
            | Error::ShareFull(text)
            | Error::ShareUnavailable(text)
            | Error::ClusterConfig(text)
            | Error::ClusterStart(text) => f.write_str(text),
            Error::Closed => f.write_str("this limiter was closed: make a new one"),
            Error::Internal(text) => {
                write!(f, "a bug of ratelimit, please report it with this text: {text}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Limit(error) => Some(error),
            Error::Policy(error) => Some(error),
            _ => None,
        }
    }
}

impl Error {
    /// What a caught panic is to the caller. `payload` is what `catch_unwind` gave.
    #[must_use]
    pub fn of_panic(payload: &(dyn Any + Send)) -> Self {
        let text = (payload.downcast_ref::<&str>().copied())
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a panic without a text");
        Error::Internal(text.to_owned())
    }
}

impl From<LimitError> for Error {
    fn from(error: LimitError) -> Self {
        Error::Limit(error)
    }
}

impl From<PolicyError> for Error {
    fn from(error: PolicyError) -> Self {
        Error::Policy(error)
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        let text = error.to_string();
        match error {
            EngineError::Limit(error) => Error::Limit(error),
            EngineError::LimitCount { .. } => Error::LimitCount(text),
            EngineError::MaxKeys { .. } => Error::MaxKeys(text),
            EngineError::TooManyRecords | EngineError::TooManyOverrideLimits => Error::Full(text),
            EngineError::Lengths { .. } => Error::Lengths(text),
            EngineError::ShareName { .. } => Error::ShareName(text),
            EngineError::ShareMismatch(_) => Error::ShareMismatch(text),
            EngineError::ShareFull => Error::ShareFull(text),
            EngineError::ShareUnavailable(_) => Error::ShareUnavailable(text),
            EngineError::Clustered(_) => Error::Unsupported(text),
            // Memory, and what a later engine may add: the system's to solve.
            _ => Error::System(text),
        }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        let text = error.to_string();
        match error {
            OpenError::Busy { .. } => Error::SnapshotBusy(text),
            _ => Error::Persist(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_keeps_its_text() {
        for payload in [
            Box::new("a word") as Box<dyn Any + Send>,
            Box::new(String::from("a word")),
        ] {
            let error = Error::of_panic(&*payload);
            assert_eq!(error.name(), "internal");
            assert!(error.to_string().ends_with(": a word"), "{error}");
        }
        assert_eq!(Error::of_panic(&7).code(), 12);
    }

    #[test]
    fn codes_and_names_are_promises() {
        // To every language: they may be added to, never changed.
        let promised = [
            (1, "invalid_limit"),
            (2, "limit_count"),
            (3, "max_keys"),
            (4, "system"),
            (5, "full"),
            (6, "lengths"),
            (7, "policy"),
            (8, "option"),
            (9, "unsupported"),
            (10, "argument"),
            (11, "closed"),
            (12, "internal"),
            (20, "persist"),
            (21, "snapshot_busy"),
            (22, "snapshot_write"),
            (23, "restore_required"),
            (24, "not_persistent"),
            (25, "forked_child"),
            (30, "share_name"),
            (31, "share_mismatch"),
            (32, "share_full"),
            (33, "share_unavailable"),
            (40, "cluster_config"),
            (41, "cluster_start"),
        ];
        let listed: Vec<_> = ERROR_CODES.iter().map(|error| (error.code, error.name)).collect();
        assert_eq!(listed, promised);
        let mut codes: Vec<_> = listed.iter().map(|(code, _)| code).collect();
        codes.dedup();
        assert_eq!(codes.len(), promised.len(), "a code is given twice");
    }
}
