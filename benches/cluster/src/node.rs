//! One node, in a process of its own: `--node`. It is told what to do by lines on its input, answers by lines on its
//! output, and ends when its input does, so it never outlives whoever started it.
//!
//! | in | out |
//! |---|---|
//! | `{"subject", "node", "addresses", "certs", "prefix", "work"}` | `{"ready": true}` once it works together with the others |
//! | `{"start_ns": since 1970}` | the outcome, after the work |

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::load;
use crate::outcome::Outcome;
use crate::plan::Work;
use crate::subject::{Embedded, Node, Remote, Subject, gubernator, ours, rateguard, redis};

/// What a node is told first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    pub(crate) subject: Subject,
    pub(crate) node: Node,
    pub(crate) prefix: String,
    pub(crate) work: Work,
}

impl Task {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "subject": self.subject.name(),
            "node": self.node.number,
            "addresses": self.node.addresses,
            "certs": self.node.certs,
            "prefix": self.prefix,
            "work": self.work.to_json(),
        })
    }

    fn from_json(value: &Value) -> Option<Task> {
        let work = Work::from_json(value.get("work")?)?;
        let addresses = value.get("addresses")?.as_array()?;
        let node = Node {
            number: usize::try_from(value.get("node")?.as_u64()?).ok()?,
            addresses: addresses
                .iter()
                .map(|address| Some(address.as_str()?.to_owned()))
                .collect::<Option<_>>()?,
            quota: work.quota,
            certs: value.get("certs")?.as_str()?.to_owned(),
        };
        (node.number < node.addresses.len()).then_some(())?;
        Some(Task {
            subject: Subject::named(value.get("subject")?.as_str()?)?,
            node,
            prefix: value.get("prefix")?.as_str()?.to_owned(),
            work,
        })
    }
}

/// The lines of the input. When it ends, so does the process, whatever it is doing.
fn lines() -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if send.send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    receive
}

fn tell(value: &Value) -> Result<(), String> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{value}")
        .and_then(|()| output.flush())
        .map_err(|error| error.to_string())
}

/// Waits for the time at which all nodes start, and says it in this process's clock.
fn start(lines: &Receiver<String>) -> Result<Instant, String> {
    let line = lines.recv().map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
    let at = value
        .get("start_ns")
        .and_then(Value::as_u64)
        .ok_or("no time to start at")?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|error| error.to_string())?;
    Ok(Instant::now() + Duration::from_nanos(at).saturating_sub(now))
}

/// The process of one node.
pub(crate) fn run() -> Result<(), String> {
    let lines = lines();
    let line = lines.recv().map_err(|error| error.to_string())?;
    let value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
    let task = Task::from_json(&value).ok_or_else(|| format!("not a task: {line}"))?;
    let ids: Vec<String> = (0..task.work.keys)
        .map(|key| format!("{}-{key:06}", task.prefix))
        .collect();
    match task.subject {
        Subject::Rateguard => ask_embedded(rateguard::start(&task.node)?.as_ref(), &task, &ids, &lines)?,
        Subject::Eventual => ask_embedded(ours::start(&task.node, false)?.as_ref(), &task, &ids, &lines)?,
        Subject::Strict => ask_embedded(ours::start(&task.node, true)?.as_ref(), &task, &ids, &lines)?,
        _ => ask_servers(&task, ids, &lines)?,
    }
    Ok(())
}

/// Tells the outcome and stays until the input ends: connections are still counted, and other nodes still work.
fn stay(outcome: &Outcome, lines: &Receiver<String>) -> Result<(), String> {
    tell(&outcome.to_json())?;
    let _ = lines.recv();
    Ok(())
}

fn ask_embedded(limiter: &dyn Embedded, task: &Task, ids: &[String], lines: &Receiver<String>) -> Result<(), String> {
    tell(&json!({"ready": true}))?;
    let start = start(lines)?;
    stay(&load::embedded(limiter, ids, &task.work, start), lines)
}

fn ask_servers(task: &Task, ids: Vec<String>, lines: &Receiver<String>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no tokio runtime could be started: {error}"))?;
    let limiter: Arc<dyn Remote> = runtime
        .block_on(async {
            if task.subject.is_gubernator() {
                gubernator::connect(task.subject, &task.node).await
            } else {
                redis::connect(&task.node).await
            }
        })?
        .into();
    tell(&json!({"ready": true}))?;
    let start = start(lines)?;
    let outcome = runtime.block_on(load::remote(Arc::clone(&limiter), ids.into(), &task.work, start));
    // The runtime stands still from here on; the kernel keeps the connections.
    stay(&outcome, lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Phase, Quota};

    #[test]
    fn a_task_reaches_a_node_as_it_was_said() {
        let work = Phase::Cold.work(true, Quota::cold(1000));
        let task = Task {
            subject: Subject::GubernatorGlobal,
            node: Node {
                number: 1,
                addresses: vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
                quota: work.quota,
                certs: "/somewhere".to_owned(),
            },
            prefix: "round-1".to_owned(),
            work,
        };
        assert_eq!(Task::from_json(&task.to_json()), Some(task.clone()));
        let mut no_such_node = task.to_json();
        no_such_node["node"] = json!(2);
        assert_eq!(Task::from_json(&no_such_node), None);
    }
}
