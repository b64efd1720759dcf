//! The command `ratelimit`, as a library so that its parts can be tested.
//!
//! - [`cli`] is the command line: subcommands, help, exit codes.
//! - [`replay`] decides a real access log at its own timestamps. Its module doc shows the path of a line.
//! - [`inspect`] describes a snapshot, healthy or not.
//! - [`manual`] prints the manual pages and what shells complete.
//! - [`serve`] serves limits over HTTP and RESP.
//! - [`certs`] makes the certificates of a cluster.
//! - [`events`] is the table of what a node tells.
//! - [`failure`] is the one error type: a sentence for the user and an exit code.
//! - [`stop`] turns Ctrl-C and SIGTERM into a flag.
#![forbid(unsafe_code)]

pub mod certs;
pub mod cli;
pub mod events;
pub mod failure;
pub mod inspect;
pub mod manual;
pub mod replay;
pub mod serve;
pub mod stop;
