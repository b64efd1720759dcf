//! One measurement: the servers of a subject, three nodes in three processes, the same start for all, and what it cost.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::network;
use crate::node::Task;
use crate::outcome::Outcome;
use crate::plan::{NODES, Phase, Work};
use crate::process::{Place, Process};
use crate::subject::{Node, READY_WITHIN, Subject};

/// From the order to start until the start.
const AHEAD: Duration = Duration::from_millis(300);

/// How long after the end a node may take to tell what it saw.
const TELL_WITHIN: Duration = Duration::from_secs(20);

/// Bytes that went over the network during the load, with the heads of their packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes {
    pub(crate) all: u64,
    /// Of these: what did not pass between a client and the server it asks.
    pub(crate) between_nodes: u64,
}

/// What one subject did under one load.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) outcome: Outcome,
    /// Answered calls of each node.
    pub(crate) answered: Vec<u64>,
    pub(crate) work: Work,
    /// Time on a core: of the servers, and of the processes that ask. Embedded limiters have only the latter.
    pub(crate) servers: Duration,
    pub(crate) askers: Duration,
    pub(crate) bytes: Option<Bytes>,
}

impl Measured {
    pub(crate) fn cpu(&self) -> Duration {
        self.servers + self.askers
    }
}

/// A node's process with its ends of the conversation.
struct Running {
    process: Process,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Running {
    fn start(task: &Task, place: &Place) -> Result<Running, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg("--node");
        let name = format!("{}-{}", task.subject.name(), task.node.number);
        let mut process = Process::start(&name, command, place)?;
        let input = process.input().ok_or("a node has an input")?;
        let output = process.output().ok_or("a node has an output")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut running = Running { process, input, lines };
        running.tell(&task.to_json())?;
        Ok(running)
    }

    fn tell(&mut self, value: &Value) -> Result<(), String> {
        let sent = writeln!(self.input, "{value}").and_then(|()| self.input.flush());
        match sent {
            Ok(()) => Ok(()),
            Err(error) => self.process.check().and(Err(error.to_string())),
        }
    }

    fn hear(&mut self, within: Duration, place: &Place) -> Result<Value, String> {
        let mut line = None;
        place.stop.until("a node answers", within, || {
            match self.lines.try_recv() {
                Ok(text) => line = Some(text),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    // Its last words may take a moment more than the end of its output.
                    std::thread::sleep(Duration::from_millis(50));
                    self.process.check()?;
                    return Err("a node closed its output".to_owned());
                }
            }
            Ok(line.is_some())
        })?;
        serde_json::from_str(&line.unwrap_or_default()).map_err(|error| error.to_string())
    }
}

/// Does `phase` with `subject`. `counted`: whether loopback carries nothing but this run.
pub(crate) fn measure(
    subject: Subject,
    phase: Phase,
    work: &Work,
    prefix: &str,
    counted: bool,
    place: &Place,
) -> Result<Measured, String> {
    let about = |error: String| format!("{}, {}: {error}", subject.title(), phase.name());
    try_measure(subject, work, prefix, counted, place).map_err(about)
}

fn try_measure(subject: Subject, work: &Work, prefix: &str, counted: bool, place: &Place) -> Result<Measured, String> {
    // Dropped last, so that no node sees its server go while it still asks.
    let servers = subject.servers(place)?;
    let mut nodes = (0..NODES)
        .map(|number| {
            let task = Task {
                subject,
                node: Node {
                    number,
                    addresses: servers.addresses.clone(),
                    quota: work.quota,
                    certs: place.certificates().display().to_string(),
                },
                prefix: prefix.to_owned(),
                work: work.clone(),
            };
            Running::start(&task, place)
        })
        .collect::<Result<Vec<_>, _>>()?;
    for node in &mut nodes {
        node.hear(READY_WITHIN + Duration::from_secs(5), place)?;
    }

    let ids: Vec<u32> = nodes.iter().map(|node| node.process.id()).collect();
    let cpu = |nodes: &[Running]| -> (Duration, Duration) {
        (
            servers.processes.iter().map(Process::cpu).sum(),
            nodes.iter().map(|node| node.process.cpu()).sum(),
        )
    };
    let carried = || -> Result<Option<(u64, u64)>, String> {
        if !counted {
            return Ok(None);
        }
        let asked = if subject.is_embedded() {
            0
        } else {
            network::carried_for(&ids)?
        };
        Ok(Some((network::carried()?, asked)))
    };

    let start = Instant::now() + AHEAD;
    let start_at = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|error| error.to_string())?
        + AHEAD;
    let order = json!({ "start_ns": u64::try_from(start_at.as_nanos()).unwrap_or(u64::MAX) });
    for node in &mut nodes {
        node.tell(&order)?;
    }
    let bytes_before = carried()?;
    place.stop.sleep_until(start)?;
    let cpu_before = cpu(&nodes);
    place.stop.sleep_until(start + work.lasts)?;
    let cpu_after = cpu(&nodes);
    let bytes_after = carried()?;

    let mut sum = Outcome::new(work.lasts);
    let mut answered = Vec::new();
    for node in &mut nodes {
        let told = node.hear(TELL_WITHIN, place)?;
        let outcome = Outcome::from_json(&told, work.lasts).ok_or("a node told something else than an outcome")?;
        answered.push(outcome.answered);
        sum.add(&outcome);
    }
    let bytes = bytes_before.zip(bytes_after).map(|(before, after)| {
        let (all, asked) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
        Bytes {
            all,
            between_nodes: all.saturating_sub(asked),
        }
    });
    drop(nodes);
    Ok(Measured {
        outcome: sum,
        answered,
        work: work.clone(),
        servers: cpu_after.0.saturating_sub(cpu_before.0),
        askers: cpu_after.1.saturating_sub(cpu_before.1),
        bytes,
    })
}
