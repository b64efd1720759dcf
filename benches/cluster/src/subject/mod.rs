//! What is measured, behind one trait for limiters in the process and one for those that are asked by messages.

pub(crate) mod gubernator;
pub(crate) mod ours;
pub(crate) mod rateguard;
pub(crate) mod redis;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::plan::{NODES, Phase, Quota};
use crate::process::{Place, Process};

/// How long nodes may take until they work together.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(30);

/// A limiter in the process that asks.
pub(crate) trait Embedded {
    fn ask(&self, id: &str) -> bool;
}

/// An answer on its way.
pub(crate) type Asked<'a> = Pin<Box<dyn Future<Output = Result<bool, String>> + Send + 'a>>;

/// A limiter that is asked by messages.
pub(crate) trait Remote: Send + Sync {
    fn ask<'a>(&'a self, id: &'a str) -> Asked<'a>;
}

/// What is measured. The names are those of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Redis,
    Gubernator,
    GubernatorGlobal,
    GubernatorWindow,
    GubernatorGlobalWindow,
    Rateguard,
    Eventual,
    Strict,
}

/// The servers of a subject, running, and what each node is told to speak to: three times the same store, or one server
/// each, or for embedded limiters the address of the node itself.
pub(crate) struct Servers {
    pub(crate) processes: Vec<Process>,
    pub(crate) addresses: Vec<String>,
}

impl Subject {
    pub(crate) const ALL: [Subject; 8] = [
        Subject::Redis,
        Subject::Gubernator,
        Subject::GubernatorGlobal,
        Subject::GubernatorWindow,
        Subject::GubernatorGlobalWindow,
        Subject::Rateguard,
        Subject::Eventual,
        Subject::Strict,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Subject::Redis => "redis",
            Subject::Gubernator => "gubernator",
            Subject::GubernatorGlobal => "gubernator-global",
            Subject::GubernatorWindow => "gubernator-window",
            Subject::GubernatorGlobalWindow => "gubernator-global-window",
            Subject::Rateguard => "rateguard",
            Subject::Eventual => "eventual",
            Subject::Strict => "strict",
        }
    }

    /// As the tables call it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Subject::Redis => "Redis, GCRA script",
            Subject::Gubernator => "Gubernator, default",
            Subject::GubernatorGlobal => "Gubernator, GLOBAL",
            Subject::GubernatorWindow => "Gubernator, windows",
            Subject::GubernatorGlobalWindow => "Gubernator, GLOBAL, windows",
            Subject::Rateguard => "rateguard",
            Subject::Eventual => "ratelimit, eventual",
            Subject::Strict => "ratelimit, strict",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Subject> {
        Subject::ALL.into_iter().find(|subject| subject.name() == name)
    }

    /// Whether it decides in the process that asks.
    pub(crate) fn is_embedded(self) -> bool {
        matches!(self, Subject::Rateguard | Subject::Eventual | Subject::Strict)
    }

    pub(crate) fn is_gubernator(self) -> bool {
        self.name().starts_with("gubernator")
    }

    /// Whether it is measured under this load. What differs in the algorithm alone differs in what it admits.
    pub(crate) fn takes(self, load: Phase) -> bool {
        load == Phase::Cold || !matches!(self, Subject::GubernatorWindow | Subject::GubernatorGlobalWindow)
    }

    /// Starts what has to run before the nodes do.
    pub(crate) fn servers(self, place: &Place) -> Result<Servers, String> {
        match self {
            Subject::Redis => redis::servers(place),
            Subject::Gubernator
            | Subject::GubernatorGlobal
            | Subject::GubernatorWindow
            | Subject::GubernatorGlobalWindow => gubernator::servers(place),
            Subject::Rateguard | Subject::Eventual | Subject::Strict => Ok(Servers {
                processes: Vec::new(),
                addresses: (0..NODES)
                    .map(|_| crate::process::free_address())
                    .collect::<Result<_, _>>()?,
            }),
        }
    }
}

/// One of the nodes, from its own sight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) number: usize,
    /// The addresses of all nodes.
    pub(crate) addresses: Vec<String>,
    pub(crate) quota: Quota,
    /// Where `ratelimit certs` would have put the certificates.
    pub(crate) certs: String,
}

impl Node {
    pub(crate) fn address(&self) -> &str {
        &self.addresses[self.number]
    }

    pub(crate) fn others(&self) -> Vec<String> {
        self.addresses
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != self.number)
            .map(|(_, address)| address.clone())
            .collect()
    }
}
