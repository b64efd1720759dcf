//! Growing does no work in proportion to the table: the insert that opens a tier takes about as many instructions as any
//! other. Counted by valgrind, which runs this program once more; where there is none, the test says so and proves nothing.
//!
//! Up to 200,000 clients; five million with `RATELIMIT_FULL=1`.
// A test that cannot go on says so by a panic.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod support;

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::Duration;

use ratelimit::{Clock, Limiter};

/// What no insert may take. An ordinary one takes one or two thousand, more with each tier.
const MOST_INSTRUCTIONS: u64 = 20_000;
/// For the child process: the clients to insert.
const CHILD: &str = "RATELIMIT_GROWTH_CLIENTS";

fn limiter() -> Limiter {
    let (clock, _hand) = Clock::manual();
    // Always the same secret: the tiers open at the same clients in every run.
    let builder = Limiter::builder().limit("2/hour".parse().unwrap());
    builder.clock(clock).hash_key([9; 16]).build().unwrap()
}

/// The inserts that open a tier.
fn openings(clients: u64) -> Vec<u64> {
    let limiter = limiter();
    let mut tiers = 1;
    let mut openings = Vec::new();
    for client in 0..clients {
        assert!(limiter.is_allowed(&client.to_le_bytes()));
        // Looking at the table costs more than an insert: only near the load at which a tier may open.
        if client % 64 == 63 {
            let open = limiter.stats().table.tiers;
            if open > tiers {
                openings.push(client);
                tiers = open;
            }
        }
    }
    openings
}

/// Counted by valgrind when it is called. Its name is the one that valgrind is told.
#[inline(never)]
fn counted_insert_of_one_client(limiter: &Limiter, client: u64) -> bool {
    black_box(limiter.is_allowed(&black_box(client).to_le_bytes()))
}

/// What the child does: inserts all clients, and those near an opening one by one through the counted function.
#[test]
fn child() {
    let Ok(list) = std::env::var(CHILD) else { return };
    let numbers: Vec<u64> = list.split(',').map(|number| number.parse().unwrap()).collect();
    let (clients, openings) = numbers.split_first().unwrap();
    let limiter = limiter();
    for client in 0..*clients {
        // An opening is known to the 64 inserts before it was seen. A few ordinary ones come along to compare with.
        let counted = openings.iter().any(|at| client <= *at && client + 64 > *at) || client % (clients / 100) == 0;
        let allowed = if counted {
            counted_insert_of_one_client(&limiter, client)
        } else {
            limiter.is_allowed(&client.to_le_bytes())
        };
        assert!(allowed);
    }
}

/// No insert takes more than a constant number of instructions, whatever the size of the table: those that open a tier are
/// counted one by one, with their neighbours and a hundred others.
#[test]
fn no_insert_does_work_in_proportion_to_the_table() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    if !Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        println!("skipped: there is no valgrind to count instructions with");
        return;
    }
    if cfg!(debug_assertions) {
        println!("skipped: instructions are counted in release builds");
        return;
    }
    let clients = if support::full() { 5_000_000 } else { 200_000 };
    let openings = openings(clients);
    assert!(openings.len() >= 3, "{openings:?}");
    let folder = std::env::temp_dir().join(format!("ratelimit-growth-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let name = concat!(module_path!(), "::counted_insert_of_one_client");
    let list: Vec<String> = [clients].iter().chain(&openings).map(u64::to_string).collect();
    let status = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", folder.join("out").display()))
        .arg(format!("--toggle-collect={name}"))
        // One file for each call.
        .arg(format!("--dump-after={name}"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--test-threads=1"])
        .env(CHILD, list.join(","))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    let mut counts = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let total = text
            .lines()
            .find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
        counts.extend(
            total
                .and_then(|total| total.trim().parse::<u64>().ok())
                .filter(|count| *count > 0),
        );
    }
    std::fs::remove_dir_all(&folder).unwrap();
    counts.sort_unstable();
    assert!(
        counts.len() > 64 * openings.len(),
        "{} counts for {} openings",
        counts.len(),
        openings.len()
    );
    let (median, worst) = (counts[counts.len() / 2], counts[counts.len() - 1]);
    println!(
        "tiers opened within 64 inserts before {openings:?}; of {} inserts that were counted the median takes {median} \
         instructions, the worst {worst}",
        counts.len()
    );
    assert!(worst < MOST_INSTRUCTIONS, "an insert took {worst} instructions");
}

/// The same seen from memory: an insert that opens a tier makes no more than a few pages resident, although the tier has
/// megabytes.
#[test]
#[cfg(target_os = "linux")]
fn opening_a_tier_touches_a_few_pages() {
    let faults = || {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The tenth field, counted after the name in brackets: pages that were not read from a disk.
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().nth(7).unwrap().parse::<u64>().unwrap()
    };
    let clients = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
    let openings = openings(clients);
    let limiter = limiter();
    let _ = (faults(), limiter.is_allowed("warm"));
    for client in 0..clients {
        let near = openings.iter().any(|at| client <= *at && client + 64 > *at);
        let before = if near { faults() } else { 0 };
        assert!(limiter.is_allowed(&client.to_le_bytes()));
        if near {
            let touched = faults() - before;
            assert!(touched <= 12, "client {client}: {touched} pages");
        }
    }
    assert!(limiter.check_at("a", 1, Duration::ZERO).allowed);
}
