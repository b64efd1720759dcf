//! Why a command could not do its work: a sentence for the user, and the exit code it means.

use std::fmt;
use std::io;
use std::path::Path;

/// The exit code of a command that did all of its work.
pub const EXIT_OK: u8 = 0;
/// The exit code for a file, pipe or disk that failed.
pub const EXIT_IO: u8 = 1;
/// The exit code for a command line that makes no sense; clap uses the same number.
pub const EXIT_USAGE: u8 = 2;
/// The exit code after Ctrl-C or SIGTERM, as shells number it for SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;

/// An error that ends the command.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something impossible. The user's to mend; nothing was read or written.
    Usage(String),
    /// The system refused a file, a pipe or disk space. Text says what to do.
    Io(String),
    /// Whoever read our output has closed it, like `head` does. Not worth a word: the reader has what it wanted.
    OutputClosed,
}

impl Failure {
    /// A failure to do `what` ("read", "write", ...) with the file at `path`.
    pub fn file(what: &str, path: &Path, error: &io::Error) -> Self {
        Failure::Io(format!("cannot {what} {}: {error}", path.display()))
    }

    /// The exit code the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => EXIT_USAGE,
            Failure::Io(_) => EXIT_IO,
            Failure::OutputClosed => EXIT_OK,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Io(text) => f.write_str(text),
            Failure::OutputClosed => f.write_str("the output was closed"),
        }
    }
}

impl std::error::Error for Failure {}

/// Turns an error of writing our output into a failure; a closed pipe is told apart, since it is no fault.
pub fn output(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::OutputClosed
    } else {
        Failure::Io(format!("cannot write the output: {error}"))
    }
}
