//! One limit held by nodes in four languages: each is a process with a limiter of its own, and they speak to each other over QUIC
//! with certificates. One is killed and comes back from its snapshot, one joins, the limit is changed, one says goodbye.
//!
//! What they admit is printed second by second, in total and beside the limit.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::steps::{cargo, root, run};
use crate::{install, python};

/// Requests a second that all nodes may admit together, at first and after the change.
const LIMITS: [f64; 2] = [500.0, 1000.0];
/// What each node is asked for: together far more than there is.
const OFFERED: &str = "700";
const NODES: [(&str, Language); 4] = [
    ("a", Language::Rust),
    ("b", Language::Python),
    ("c", Language::Node),
    ("d", Language::C),
];
/// A busy machine stops processes for a while, and shares are settled again; on average over the run there is less room for error.
const BUSIEST_SECOND: f64 = 1.5;

#[derive(Clone, Copy, Debug)]
enum Language {
    Rust,
    Python,
    Node,
    C,
}

/// What happens, and when, in seconds.
struct Plan {
    kill: u64,
    back: u64,
    join: u64,
    change: u64,
    leave: u64,
    end: u64,
}

const LONG: Plan = Plan {
    kill: 4,
    back: 20,
    join: 25,
    change: 30,
    leave: 35,
    end: 40,
};
const SHORT: Plan = Plan {
    kill: 2,
    back: 4,
    join: 7,
    change: 9,
    leave: 11,
    end: 14,
};

pub(crate) fn command(arguments: &[String]) -> Result<(), String> {
    match arguments {
        [] => test(false),
        [short] if short == "--short" => test(true),
        [soaks, minutes] if soaks == "--soak" => match minutes.parse() {
            Ok(minutes) if minutes > 0 => soak(minutes),
            _ => Err(format!("--soak takes minutes from 1, and not \"{minutes}\"")),
        },
        _ => Err("cluster takes nothing, --short, or --soak MINUTES".to_owned()),
    }
}

/// Needs what the steps of the languages have built. `short`: as CI runs it.
pub(crate) fn test(short: bool) -> Result<(), String> {
    let folder = root().join("xtask/cluster");
    let built = install::build(&[], None)?;
    let c = built.join("cluster-worker");
    run(
        "one limit over several nodes: the worker in C",
        Command::new("gcc")
            .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"])
            .arg("-I")
            .arg(root().join("include"))
            .arg(folder.join("worker.c"))
            .arg(built.join("libratelimit.a"))
            .args(["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-o"])
            .arg(&c),
    )?;
    run(
        "one limit over several nodes: the worker in Rust",
        cargo().args([
            "build",
            "--locked",
            "--release",
            "-p",
            "ratelimit",
            "--example",
            "cluster",
        ]),
    )?;
    let place = Place::new()?;
    run(
        "one limit over several nodes: certificates",
        cargo()
            .args(["run", "--locked", "--release", "-p", "ratelimit-server", "--", "certs"])
            .arg(&place.0)
            .args(NODES.map(|(name, _)| name)),
    )?;
    let programs = Programs {
        rust: built.join("examples/cluster"),
        c,
        folder,
    };
    let plan = if short { SHORT } else { LONG };
    Run::new(&place, &programs)?.through(&plan)
}

/// A directory of this run alone, gone with it.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self, String> {
        let place = std::env::temp_dir().join(format!("ratelimit-cluster-{}", std::process::id()));
        std::fs::create_dir(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        Ok(Place(place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Programs {
    rust: PathBuf,
    c: PathBuf,
    folder: PathBuf,
}

impl Programs {
    fn command(&self, language: Language) -> Command {
        match language {
            Language::Rust => Command::new(&self.rust),
            Language::C => Command::new(&self.c),
            Language::Node => {
                let mut node = Command::new("node");
                node.arg(self.folder.join("worker.js"))
                    .arg(root().join("bindings/node"));
                node
            }
            Language::Python => {
                let mut python = Command::new(python::installed());
                python
                    .current_dir(std::env::temp_dir())
                    .arg(self.folder.join("worker.py"));
                python
            }
        }
    }
}

/// A process, killed when it is dropped.
struct Node {
    child: Child,
    orders: Option<ChildStdin>,
    /// What this process has admitted.
    admitted: Arc<AtomicU64>,
    /// Says something once its output ends.
    ended: mpsc::Receiver<()>,
}

impl Node {
    fn start(command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let admitted = Arc::new(AtomicU64::new(0));
        let (end, ended) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            let admitted = admitted.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if let Some(count) = line.split(' ').next().and_then(|count| count.parse().ok()) {
                        admitted.store(count, Ordering::Relaxed);
                    }
                }
                let _ = end.send(());
            });
        }
        Ok(Node {
            orders: child.stdin.take(),
            child,
            admitted,
            ended,
        })
    }

    fn order(&mut self, line: &str) -> Result<(), String> {
        let orders = self.orders.as_mut().ok_or("this node was told to end")?;
        writeln!(orders, "{line}").map_err(|error| format!("a node takes no orders: {error}"))
    }

    /// Tells it to say goodbye, and waits until it has.
    fn goodbye(&mut self) -> Result<(), String> {
        self.orders = None;
        self.ended
            .recv_timeout(Duration::from_secs(20))
            .map_err(|_| "a node that was told to say goodbye did not end within 20 s")?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        status
            .success()
            .then_some(())
            .ok_or(format!("a node ended with {status}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Addresses whose ports were free a moment ago, all at the same time, so that no two are one.
fn free_addresses(count: usize) -> Result<Vec<String>, String> {
    let sockets: Result<Vec<UdpSocket>, _> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0")).collect();
    let sockets = sockets.map_err(|error| error.to_string())?;
    let address = |socket: &UdpSocket| socket.local_addr().map(|address| address.to_string());
    let addresses: Result<Vec<String>, _> = sockets.iter().map(address).collect();
    addresses.map_err(|error| error.to_string())
}

struct Run<'a> {
    place: &'a Path,
    programs: &'a Programs,
    addresses: Vec<String>,
    nodes: [Option<Node>; NODES.len()],
    /// What processes have admitted that are gone.
    before: [u64; NODES.len()],
}

impl<'a> Run<'a> {
    fn new(place: &'a Place, programs: &'a Programs) -> Result<Self, String> {
        Ok(Run {
            place: &place.0,
            programs,
            addresses: free_addresses(NODES.len())?,
            nodes: [const { None }; NODES.len()],
            before: [0; NODES.len()],
        })
    }

    fn start(&mut self, index: usize) -> Result<(), String> {
        let (name, language) = NODES[index];
        let mut command = self.programs.command(language);
        command
            .args([name, &self.addresses[index], &self.addresses[..3].join(",")])
            .arg(self.place)
            .arg(self.place.join(format!("{name}.snapshot")))
            .args([&limit(LIMITS[0]), OFFERED]);
        self.nodes[index] = Some(Node::start(&mut command)?);
        Ok(())
    }

    fn admitted(&self) -> [u64; NODES.len()] {
        std::array::from_fn(|index| {
            let now = self.nodes[index]
                .as_ref()
                .map_or(0, |node| node.admitted.load(Ordering::Relaxed));
            self.before[index] + now
        })
    }

    /// Ends a process, gracefully or not; what it has admitted stays counted.
    fn end(&mut self, index: usize, gracefully: bool) -> Result<(), String> {
        let Some(mut node) = self.nodes[index].take() else {
            return Ok(());
        };
        if gracefully {
            node.goodbye()?;
        } else {
            node.child.kill().map_err(|error| error.to_string())?;
            let _ = node.ended.recv_timeout(Duration::from_secs(5));
        }
        self.before[index] += node.admitted.load(Ordering::Relaxed);
        Ok(())
    }

    fn through(&mut self, plan: &Plan) -> Result<(), String> {
        eprintln!(
            "\n== one limit over several nodes, each asked for {OFFERED}/s of one client\n\n second {}   total    limit    of it",
            NODES
                .map(|(name, language)| format!("{:>10}", format!("{name} {language:?}")))
                .join("")
        );
        for index in 0..3 {
            self.start(index)?;
        }
        let start = Instant::now();
        let mut last = [0; NODES.len()];
        let (mut in_all, mut allowed_in_all, mut busiest) = (0.0, 0.0, 0.0_f64);
        let mut rate = LIMITS[0];
        for second in 1..=plan.end {
            let due = start + Duration::from_secs(second);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let now = self.admitted();
            let of_second: Vec<u64> = now.iter().zip(last).map(|(now, last)| now - last).collect();
            last = now;
            let total = of_second.iter().sum::<u64>() as f64;
            let columns: String = of_second.iter().map(|count| format!("{count:>10}")).collect();
            let mut what = "";
            if second == plan.kill {
                self.end(1, false)?;
                what = "b is killed";
            } else if second == plan.back {
                self.start(1)?;
                what = "b is started from its snapshot";
            } else if second == plan.join {
                self.start(3)?;
                what = "d joins";
            } else if second == plan.change {
                self.nodes[0]
                    .as_mut()
                    .ok_or("a is gone")?
                    .order(&format!("limit {}", limit(LIMITS[1])))?;
                what = "a doubles the limit on all nodes";
            } else if second == plan.leave {
                self.end(2, true)?;
                what = "c says goodbye";
            }
            // Nodes start within the first seconds, which have no full bucket of the limit's to be compared with.
            let share = total / rate;
            eprintln!("{second:>7} {columns} {total:>7.0} {rate:>8.0} {share:>8.3}  {what}");
            in_all += total;
            allowed_in_all += rate;
            if second > 2 {
                busiest = busiest.max(share);
            }
            if second == plan.change {
                rate = LIMITS[1];
            }
        }
        for index in 0..NODES.len() {
            self.end(index, true)?;
        }
        let mean = in_all / allowed_in_all;
        eprintln!(
            "\n== one limit over several nodes: {mean:.3} of the limit in all, {busiest:.3} in the busiest second"
        );
        if mean > 1.10 || busiest > BUSIEST_SECOND {
            return Err("the nodes admitted more than their limit".to_owned());
        }
        if mean < 0.80 {
            return Err("the nodes admitted far less than their limit".to_owned());
        }
        Ok(())
    }
}

fn limit(rate: f64) -> String {
    // The burst of a tenth of a second.
    format!("{rate}/s burst {}", rate / 10.0)
}

/// Nodes a and b live for so many minutes and are watched; c says goodbye or is killed each minute and comes back.
fn soak(minutes: u64) -> Result<(), String> {
    const CLIENTS: &str = "20000";
    /// After the caches of the first minutes are warm nothing may grow by more.
    const WARM: u64 = 5;
    let built = install::build(&[], None)?;
    run(
        "soak: the worker",
        cargo().args([
            "build",
            "--locked",
            "--release",
            "-p",
            "ratelimit",
            "--example",
            "cluster",
        ]),
    )?;
    let place = Place::new()?;
    run(
        "soak: certificates",
        cargo()
            .args(["run", "--locked", "--release", "-p", "ratelimit-server", "--", "certs"])
            .arg(&place.0)
            .args(["a", "b", "c"]),
    )?;
    let addresses = free_addresses(3)?;
    let start = |index: usize| {
        let name = ["a", "b", "c"][index];
        let mut command = Command::new(built.join("examples/cluster"));
        command
            .args([name, &addresses[index], &addresses.join(",")])
            .arg(&place.0)
            .arg(place.0.join(format!("{name}.snapshot")))
            .args(["1/s burst 5", "10000", CLIENTS]);
        Node::start(&mut command)
    };
    let (a, b) = (start(0)?, start(1)?);
    let mut c = start(2)?;
    eprintln!("\n minute   a: KiB   fds  threads   b: KiB   fds  threads    admitted by a and b");
    let mut warm: Option<[Use; 2]> = None;
    for minute in 1..=minutes {
        std::thread::sleep(Duration::from_secs(60));
        let now = [Use::of(&a)?, Use::of(&b)?];
        let admitted = a.admitted.load(Ordering::Relaxed) + b.admitted.load(Ordering::Relaxed);
        eprintln!("{minute:>7} {} {} {admitted:>14}", now[0], now[1]);
        if minute % 2 == 0 {
            c.goodbye()?;
        }
        // Killed, if it lives; before the next one, which wants its port.
        drop(c);
        c = start(2)?;
        match &warm {
            None if minute >= WARM => warm = Some(now),
            Some(warm) => {
                for (now, then) in now.iter().zip(warm) {
                    if now.kib > then.kib + then.kib / 4
                        || now.descriptors > then.descriptors + 8
                        || now.threads > then.threads
                    {
                        return Err(format!(
                            "a node grows: {then} after {WARM} minutes, {now} after {minute}"
                        ));
                    }
                }
            }
            None => {}
        }
    }
    eprintln!("== soak: {minutes} minutes, nothing grows");
    Ok(())
}

/// What a process holds.
struct Use {
    kib: u64,
    descriptors: usize,
    threads: usize,
}

impl Use {
    fn of(node: &Node) -> Result<Self, String> {
        let process = PathBuf::from(format!("/proc/{}", node.child.id()));
        let wrong = |error: std::io::Error| format!("{}: {error}", process.display());
        let count = |folder: &str| std::fs::read_dir(process.join(folder)).map(Iterator::count);
        let status = std::fs::read_to_string(process.join("status")).map_err(wrong)?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Ok(Use {
            kib: resident
                .and_then(|line| line.split_whitespace().next()?.parse().ok())
                .ok_or("a node has ended")?,
            descriptors: count("fd").map_err(wrong)?,
            threads: count("task").map_err(wrong)?,
        })
    }
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>8} {:>5} {:>8}", self.kib, self.descriptors, self.threads)
    }
}
