//! The node as a service against others, in one run: `redis-benchmark` asks the node and redis-server with a GCRA script in turn, `wrk` asks
//! the node and an empty handler of the same framework.
//!
//! Rates of a machine that does other things mean little. What is printed are medians of rounds that alternate, and of the ratio of
//! each round.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::steps::{cargo, root, run};

const HELP: &str = "usage: cargo xtask bench-serve [--rounds N]; needs redis-server, redis-benchmark and wrk (Debian: redis-server wrk)";

/// What one command of the benchmark found.
#[derive(Clone, Copy)]
struct Found {
    per_second: f64,
    p99_ms: f64,
    /// Processor time of the server, of a request.
    server_us: f64,
}

/// A server that ends with us.
struct Server {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(command: &mut Command) -> Result<Server, String> {
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|error| format!("cannot start {command:?}: {error}\n{HELP}"))?;
        let output = child.stdout.take().map(BufReader::new);
        Ok(Server { child, output })
    }

    /// What follows `prefix` in the next line of its output.
    fn told(&mut self, prefix: &str) -> Result<String, String> {
        let mut line = String::new();
        let output = self.output.as_mut().ok_or("its output was not asked for")?;
        output.read_line(&mut line).map_err(|error| error.to_string())?;
        let told = line.trim_end().strip_prefix(prefix).map(str::to_owned);
        told.ok_or_else(|| format!("a server said \"{line}\" where \"{prefix}\" was to come"))
    }

    /// Processor time so far in microseconds, from ticks of a hundredth of a second.
    fn processor_us(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The name in parentheses may hold blanks.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: f64 = fields
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse::<f64>().ok())
            .sum();
        ticks * 10_000.0
    }
}

pub(crate) fn command(arguments: &[String]) -> Result<(), String> {
    let rounds = match arguments {
        [] => 5,
        [option, number] if option == "--rounds" => number.parse().ok().filter(|&n| n > 0).ok_or(HELP)?,
        _ => return Err(HELP.to_owned()),
    };
    run(
        "the node and the empty handler",
        cargo()
            .args(["build", "--locked", "--release", "-p", "ratelimit-server"])
            .args(["--bins", "--examples"]),
    )?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let built = target.join("release");
    let state = std::env::temp_dir().join(format!("ratelimit-bench-{}", std::process::id()));
    println!("\nmedians of {rounds} rounds that alternate; a ratio is the median of the ratio in each round\n");
    let outcome = resp(&built, &state, rounds).and_then(|()| http(&built, &state, rounds));
    // It lies where the system clears up anyway.
    let _ = std::fs::remove_dir_all(&state);
    outcome
}

/// The node, and where it serves HTTP and RESP.
fn node(built: &Path, state: &Path) -> Result<(Server, String, String), String> {
    let mut node = Server::start(
        Command::new(built.join("ratelimit"))
            .args(["serve", "--http", "127.0.0.1:0", "--resp", "127.0.0.1:0", "--state"])
            .arg(state)
            .stdout(Stdio::piped()),
    )?;
    let http = node.told("http  http://")?;
    let resp = node.told("resp  redis://")?;
    Ok((node, http, resp))
}

fn resp(built: &Path, state: &Path, rounds: usize) -> Result<(), String> {
    let script = root().join("benches").join("serve").join("gcra.lua");
    let script = std::fs::read_to_string(&script).map_err(|error| format!("{}: {error}", script.display()))?;
    let (node, _, address) = node(built, state)?;
    let port = port_of(&address);
    let redis_port = free_port()?;
    let redis = Server::start(
        Command::new("redis-server")
            .args(["--port", &redis_port, "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null()),
    )?;
    answering(&redis_port)?;
    let loaded = output(Command::new("redis-cli").args(["-p", &redis_port, "SCRIPT", "LOAD", &script]))?;
    let digest = loaded.trim();
    // A burst of 100, 100 in 60 seconds: the same limit in the words of each.
    let ours: &[&str] = &["CL.THROTTLE", "user:__rand_int__", "99", "100", "60", "1"];
    let theirs: &[&str] = &["EVALSHA", digest, "1", "user:__rand_int__", "100", "100", "60", "1"];
    println!("redis-benchmark -c 50 -r 100000, 100,000 clients at random\n");
    println!("| what | node | redis-server, script | ratio | redis-server, PING |");
    println!("|---|---:|---:|---:|---:|");
    for (pipeline, count) in [("1", 200_000), ("16", 800_000)] {
        let mut found: [Vec<Found>; 3] = Default::default();
        for _ in 0..rounds {
            found[0].push(redis_benchmark(&node, port, pipeline, count, ours)?);
            found[1].push(redis_benchmark(&redis, &redis_port, pipeline, count, theirs)?);
            found[2].push(redis_benchmark(&redis, &redis_port, pipeline, count, &["PING"])?);
        }
        for (what, value) in MEASURES {
            let [ours, theirs, ping] = [0, 1, 2].map(|who: usize| found[who].iter().map(value).collect::<Vec<f64>>());
            println!("| {what}, -P {pipeline} | {} |", row(&ours, &theirs, Some(&ping)));
        }
    }
    Ok(())
}

/// Their names with units, and where they are found.
type Measure = (&'static str, fn(&Found) -> f64);

const MEASURES: [Measure; 3] = [
    ("requests per second", |found| found.per_second),
    ("p99, ms", |found| found.p99_ms),
    ("server's processor time per request, us", |found| found.server_us),
];

fn http(built: &Path, state: &Path, rounds: usize) -> Result<(), String> {
    let (node, address, _) = node(built, state)?;
    let mut empty = Server::start(Command::new(built.join("examples").join("empty_http")).stdout(Stdio::piped()))?;
    let empty_address = empty.told("http  http://")?;
    println!("\nwrk -c 50 -t 1 -d 3, POST /v1/check, 100,000 clients at random\n");
    println!("| what | node | empty handler | ratio |");
    println!("|---|---:|---:|---:|");
    let mut found: [Vec<Found>; 2] = Default::default();
    for _ in 0..rounds {
        found[0].push(wrk(&node, &address)?);
        found[1].push(wrk(&empty, &empty_address)?);
    }
    for (what, value) in MEASURES {
        let [ours, theirs] = [0, 1].map(|who: usize| found[who].iter().map(value).collect::<Vec<f64>>());
        println!("| {what} | {} |", row(&ours, &theirs, None));
    }
    Ok(())
}

fn redis_benchmark(server: &Server, port: &str, pipeline: &str, count: u32, asked: &[&str]) -> Result<Found, String> {
    let before = server.processor_us();
    let told = output(
        Command::new("redis-benchmark")
            .args(["-p", port, "-c", "50", "-r", "100000", "-P", pipeline, "--csv", "-n"])
            .arg(count.to_string())
            .args(asked),
    )?;
    let server_us = (server.processor_us() - before) / f64::from(count);
    // The test's name, requests per second, then latencies in milliseconds: average, least, p50, p95, p99, most.
    let line = told.lines().last().unwrap_or_default();
    let mut numbers = line
        .rsplit("\",\"")
        .map(|number| number.trim_matches('"').parse::<f64>());
    let mut next = |skip: usize| {
        numbers
            .nth(skip)
            .and_then(Result::ok)
            .ok_or(format!("redis-benchmark said: {told}"))
    };
    let p99_ms = next(1)?;
    let per_second = next(4)?;
    Ok(Found {
        per_second,
        p99_ms,
        server_us,
    })
}

fn wrk(server: &Server, address: &str) -> Result<Found, String> {
    let script = root().join("benches").join("serve").join("check.lua");
    let before = server.processor_us();
    let told = output(
        Command::new("wrk")
            .args(["-c", "50", "-t", "1", "-d", "3", "--latency", "-s"])
            .arg(script)
            .arg(format!("http://{address}")),
    )?;
    let processor_us = server.processor_us() - before;
    let wrong = || format!("wrk said: {told}");
    if told.contains("Non-2xx") || told.contains("Socket errors") {
        return Err(wrong());
    }
    let after = |label: &str| {
        let line = told.lines().find_map(|line| line.trim().strip_prefix(label));
        line.map(|rest| rest.trim().to_owned()).ok_or_else(wrong)
    };
    let per_second: f64 = after("Requests/sec:")?.parse().map_err(|_| wrong())?;
    let p99 = after("99%")?;
    let (digits, factor) = match p99.strip_suffix("us") {
        Some(digits) => (digits, 0.001),
        None => match p99.strip_suffix("ms") {
            Some(digits) => (digits, 1.0),
            None => (p99.trim_end_matches('s'), 1000.0),
        },
    };
    let p99_ms = digits.parse::<f64>().map_err(|_| wrong())? * factor;
    let requests = told.lines().find_map(|line| line.trim().split_once(" requests in "));
    let requests: f64 = requests.ok_or_else(wrong)?.0.parse().map_err(|_| wrong())?;
    Ok(Found {
        per_second,
        p99_ms,
        server_us: processor_us / requests,
    })
}

/// Medians of ours and theirs, the median ratio, and the median of what is beside them.
fn row(ours: &[f64], theirs: &[f64], beside: Option<&Vec<f64>>) -> String {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    let mut row = format!(
        "{} | {} | {:.2}",
        number(median(ours)),
        number(median(theirs)),
        median(&ratios)
    );
    if let Some(beside) = beside {
        row.push_str(&format!(" | {}", number(median(beside))));
    }
    row
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        format!("{:.0},000", value / 1000.0)
    } else {
        format!("{value:.2}")
    }
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {command:?}: {error}\n{HELP}"))?;
    if !output.status.success() {
        return Err(format!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn port_of(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or_default()
}

fn free_port() -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok(address.port().to_string())
}

fn answering(port: &str) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(format!("127.0.0.1:{port}")).is_err() {
        if Instant::now() > deadline {
            return Err(format!("nothing answers on port {port}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{median, row};

    #[test]
    fn medians_are_of_ratios_too() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(
            row(&[2.0, 9.0, 4.0], &[1.0, 3.0, 2.0], Some(&vec![5_400.0])),
            "4.00 | 2.00 | 2.00 | 5,000"
        );
    }
}
