//! The command `ratelimit`, as a library so that its parts can be tested.
//!
//! - [`cli`] is the command line: subcommands, help, exit codes.
//! - [`replay`] decides a real access log at its own timestamps. Its module doc shows the path of a line.
//! - [`inspect`] describes a snapshot, healthy or not.
//! - [`serve`] serves limits over HTTP and RESP.
//! - [`certs`] makes the certificates of a cluster.
//! - [`failure`] is the one error type: a sentence for the user and an exit code.
//! - [`stop`] turns Ctrl-C and SIGTERM into a flag.
#![forbid(unsafe_code)]

pub mod certs;
pub mod cli;
pub mod failure;
pub mod inspect;
pub mod replay;
pub mod serve;
pub mod stop;
