//! A network of this run's own, in which every byte on loopback is one of the subject's, and the counting of them.
//!
//! The program starts itself again through `unshare`, in new network and process namespaces. So its ports collide with
//! nobody's, the counters of `lo` in `/proc/net/dev` count this run alone, and the kernel ends everything in there with
//! the process that holds it, also when that is killed. Bytes are counted as packets with their IP and TCP or UDP heads,
//! once each. What clients and servers said to each other is told from what servers said among themselves by the
//! counters that TCP keeps for the clients' sockets (`ss`).

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::Stop;

/// Says that the program runs in namespaces already.
pub(crate) const INSIDE: &str = "--inside";

/// What a TCP segment weighs besides its payload: the heads of IP and TCP, and the time stamps Linux sends.
const HEADS: u64 = 20 + 20 + 12;

/// How long what runs inside may take to end on its own.
const END_WITHIN: Duration = Duration::from_secs(10);

/// The flags of `unshare` that this system permits, if any.
fn permitted() -> Option<Vec<&'static str>> {
    let base = ["--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"];
    let as_root: Vec<_> = base.to_vec();
    let as_user: Vec<_> = ["--user", "--map-root-user"].into_iter().chain(base).collect();
    [as_root, as_user].into_iter().find(|flags| {
        Command::new("unshare")
            .args(flags)
            .args(["ip", "link", "set", "lo", "up"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// Runs this program with `args` inside and returns its exit code; `None` if that is not permitted here.
pub(crate) fn enter(args: &[String], stop: &Stop) -> Result<Option<u8>, String> {
    let Some(flags) = permitted() else {
        return Ok(None);
    };
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut child = Command::new("unshare")
        .args(flags)
        .arg(program)
        .arg(INSIDE)
        .args(args)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("unshare does not start: {error}"))?;
    let mut end = None;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        if stop.requested() {
            // The program inside stops when its input ends, see `stop_with_input`.
            drop(child.stdin.take());
            let end = *end.get_or_insert_with(|| Instant::now() + END_WITHIN);
            if Instant::now() > end {
                let _ = child.kill();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stops the program when whoever started it has gone. Only inside: there the input is a pipe that nobody writes to.
pub(crate) fn stop_with_input(stop: &Stop) {
    let stop = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stop.request();
    });
}

/// Switches loopback on, which is off in a new network.
pub(crate) fn switch_on() -> Result<(), String> {
    match Command::new("ip").args(["link", "set", "lo", "up"]).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ip link set lo up: {status}")),
        Err(error) => Err(format!("ip does not start (Debian: apt-get install iproute2): {error}")),
    }
}

/// Bytes that loopback carried until now.
pub(crate) fn carried() -> Result<u64, String> {
    let text = std::fs::read_to_string("/proc/net/dev").map_err(|error| format!("/proc/net/dev: {error}"))?;
    loopback_in(&text).ok_or_else(|| "/proc/net/dev has no counters of lo".to_owned())
}

fn loopback_in(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Bytes, with heads, that the open TCP connections of these processes carried in both directions.
pub(crate) fn carried_for(processes: &[u32]) -> Result<u64, String> {
    let output = Command::new("ss")
        .arg("-tinpHO")
        .output()
        .map_err(|error| format!("ss does not start (Debian: apt-get install iproute2): {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|line| processes.iter().any(|id| line.contains(&format!("pid={id},"))))
        .map(connection_in)
        .sum())
}

fn connection_in(line: &str) -> u64 {
    let count = |name: &str| -> u64 {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix(':')?.parse().ok())
            .unwrap_or(0)
    };
    count("bytes_sent") + count("bytes_received") + (count("segs_out") + count("segs_in")) * HEADS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_loopback_is_found() {
        let text = "Inter-|   Receive\n face |bytes packets\n  eth0: 5 1\n    lo:    1276       5    0    0";
        assert_eq!(loopback_in(text), Some(1276));
        assert_eq!(loopback_in("  eth0: 5 1"), None);
    }

    #[test]
    fn a_connection_counts_payload_and_heads() {
        let line = "ESTAB 0 0 127.0.0.1:1 127.0.0.1:2 users:((\"x\",pid=3,fd=4)) bbr bytes_sent:1000 bytes_acked:1001 \
                    segs_out:3 segs_in:2 data_segs_out:1";
        assert_eq!(connection_in(line), 1000 + 5 * HEADS);
        assert_eq!(connection_in("ESTAB 0 0"), 0);
    }
}
