use std::fmt;

use ratelimit_core::EngineError;
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
}

impl Error {
    /// The code of this error: the same number in every language.
    #[must_use]
    pub const fn code(&self) -> u32 {
        match self {
            Error::Limit(_) => 1,
            Error::LimitCount(_) => 2,
            Error::MaxKeys(_) => 3,
            Error::System(_) => 4,
            Error::Full(_) => 5,
            Error::Lengths(_) => 6,
            Error::Policy(_) => 7,
        }
    }

    /// The name of this error: the same word in every language.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Error::Limit(_) => "invalid_limit",
            Error::LimitCount(_) => "limit_count",
            Error::MaxKeys(_) => "max_keys",
            Error::System(_) => "system",
            Error::Full(_) => "full",
            Error::Lengths(_) => "lengths",
            Error::Policy(_) => "policy",
        }
    }
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
            | Error::Lengths(text) => f.write_str(text),
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
            // Memory, and what a later engine may add: the system's to solve.
            _ => Error::System(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_own_code_and_name() {
        let errors = [
            Error::Limit(LimitError::ZeroRate),
            Error::LimitCount(String::new()),
            Error::MaxKeys(String::new()),
            Error::System(String::new()),
            Error::Full(String::new()),
            Error::Lengths(String::new()),
            Error::Policy(PolicyError::NoPolicy),
        ];
        let listed: Vec<_> = errors.iter().map(|error| (error.code(), error.name())).collect();
        // Codes and names are promises to every language: they may be added to, never changed.
        let promised = [
            (1, "invalid_limit"),
            (2, "limit_count"),
            (3, "max_keys"),
            (4, "system"),
            (5, "full"),
            (6, "lengths"),
            (7, "policy"),
        ];
        assert_eq!(listed, promised);
    }
}
