//! Writes `docs/accuracy.md` and its plots, and checks the part of it that is quick to compute.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use crate::network::SECOND;
use crate::plot::Plot;
use crate::run::{Outcome, run};
use crate::scenario::{CATALOGUE, Entry, Setting, find};
use crate::stop::Stop;
use crate::subject::Design;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Written, or as it should be.
    Fresh,
    /// The document says something else than the program.
    Stale,
    /// Stopped by the user; nothing was written.
    Interrupted,
}

const SIZES: [usize; 6] = [2, 3, 5, 10, 100, 1000];
/// A mesh of more nodes has more links than this machine has patience.
const MESH_UP_TO: usize = 200;
/// Larger clusters run only these scenarios, and shorter.
const LARGE_FROM: usize = 500;
const LARGE: [&str; 4] = ["even", "skewed", "one-node", "cold"];
const LARGE_LOAD: u64 = 10 * SECOND;
const SEED: u64 = 1;
const SMALL_NODES: usize = 5;
const SMALL_LOAD: u64 = 8 * SECOND;
const BEGIN: &str = "<!-- The part below is checked by `ratelimit-sim report --check`. -->\n";
const END: &str = "<!-- The checked part ends here. -->\n";

fn published() -> impl Iterator<Item = &'static Entry> {
    CATALOGUE.iter().filter(|entry| entry.published)
}

fn one(entry: &Entry, nodes: usize, design: Design, load: u64, stop: &Stop) -> Option<Outcome> {
    let mut setting = Setting::published(nodes, SEED);
    setting.full_mesh = design == Design::Mesh;
    setting.load = load;
    run(&entry.build(&setting), design, SEED, None, &|| stop.requested())
}

/// Computes everything and writes `accuracy.md` and the folder `accuracy` in `docs`.
///
/// Cost: minutes. Errors: a file cannot be written.
pub fn write(docs: &Path, most_nodes: usize, stop: &Stop, err: &mut dyn Write) -> io::Result<Ending> {
    let started = Instant::now();
    let Some(small) = small(stop) else {
        return Ok(Ending::Interrupted);
    };
    let mut outcomes: BTreeMap<(&str, usize, Design), Outcome> = BTreeMap::new();
    for nodes in SIZES.into_iter().filter(|nodes| *nodes <= most_nodes) {
        for entry in published() {
            for design in Design::ALL {
                if design == Design::Mesh && nodes > MESH_UP_TO {
                    continue;
                }
                let large = nodes >= LARGE_FROM;
                if large && !LARGE.contains(&entry.name) {
                    continue;
                }
                let load = if large { LARGE_LOAD } else { 30 * SECOND };
                let Some(outcome) = one(entry, nodes, design, load, stop) else {
                    return Ok(Ending::Interrupted);
                };
                let at = started.elapsed().as_secs();
                writeln!(err, "{at:>4} s  {:<16} {nodes:>4} nodes  {}", entry.name, design.name())?;
                outcomes.insert((entry.name, nodes, design), outcome);
            }
        }
    }
    let mut text = String::from(INTRODUCTION);
    text.push_str(BEGIN);
    text.push_str(&small);
    text.push_str(END);
    text.push_str(PLOTS);
    for entry in published() {
        let _ = write!(
            text,
            "\n## {}\n\n{}.\n\n{TABLE_HEAD}",
            entry.name,
            sentence(entry.about)
        );
        for nodes in SIZES {
            for design in Design::ALL {
                if let Some(outcome) = outcomes.get(&(entry.name, nodes, design)) {
                    text.push_str(&row(&nodes.to_string(), outcome));
                }
            }
        }
    }
    let folder = docs.join("accuracy");
    fs::create_dir_all(&folder)?;
    for (name, svg) in plots(&outcomes) {
        fs::write(folder.join(name), svg)?;
    }
    fs::write(docs.join("accuracy.md"), text)?;
    writeln!(err, "written in {} s", started.elapsed().as_secs())?;
    Ok(Ending::Fresh)
}

/// Computes the small part and puts it into the document, which keeps its other figures.
///
/// Errors: the document cannot be read or written, or has no small part.
pub fn refresh(docs: &Path, stop: &Stop, err: &mut dyn Write) -> io::Result<Ending> {
    let path = docs.join("accuracy.md");
    let text = fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display())))?;
    let parts = text
        .split_once(BEGIN)
        .and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let Some((head, tail)) = parts else {
        return Err(io::Error::other(format!(
            "{} has no part to refresh: leave out --quick",
            path.display()
        )));
    };
    let Some(small) = small(stop) else {
        return Ok(Ending::Interrupted);
    };
    fs::write(&path, format!("{head}{BEGIN}{small}{END}{tail}"))?;
    writeln!(err, "{} has a fresh quick part", path.display())?;
    Ok(Ending::Fresh)
}

/// Computes the small part anew and compares it with the document.
///
/// Errors: the document cannot be read.
pub fn check(docs: &Path, stop: &Stop, err: &mut dyn Write) -> io::Result<Ending> {
    let path = docs.join("accuracy.md");
    let text = fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display())))?;
    let written = text
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .map(|(part, _)| part);
    let Some(small) = small(stop) else {
        return Ok(Ending::Interrupted);
    };
    if written == Some(&small) && text.starts_with(INTRODUCTION) {
        writeln!(err, "{} is fresh", path.display())?;
        return Ok(Ending::Fresh);
    }
    writeln!(
        err,
        "{} is stale: run `cargo run --release -p ratelimit-sim -- report` (with --quick for this part only)",
        path.display()
    )?;
    let written: Vec<&str> = written.unwrap_or_default().lines().collect();
    for line in small.lines().filter(|line| !written.contains(line)) {
        writeln!(err, "  now: {line}")?;
    }
    Ok(Ending::Stale)
}

fn small(stop: &Stop) -> Option<String> {
    let mut text = format!(
        "\n## At a glance: {SMALL_NODES} nodes, {} seconds\n\n{}",
        SMALL_LOAD / SECOND,
        TABLE_HEAD.replacen("| nodes ", "| scenario ", 1)
    );
    for entry in published() {
        for design in Design::ALL {
            text.push_str(&row(entry.name, &one(entry, SMALL_NODES, design, SMALL_LOAD, stop)?));
        }
    }
    text.push('\n');
    Some(text)
}

const TABLE_HEAD: &str = "\
| nodes | subject | excess | % | busiest s | used | worst s | per 100 ms | settled s | B/node/s | packets/node/s | cells | ledger | leases |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

fn row(first: &str, outcome: &Outcome) -> String {
    let (min, mean, max) = outcome.per_100_ms;
    let settled = outcome
        .settled_s
        .map_or_else(|| "never".to_owned(), |s| format!("{s:.1}"));
    let name = if outcome.subject == Design::Leases {
        "**leases**"
    } else {
        outcome.subject.name()
    };
    let excess = if outcome.excess_units < 0.0 {
        "0".to_owned()
    } else {
        format!("{:.0}", outcome.excess_units)
    };
    let percent = outcome.excess_percent.max(0.0);
    format!(
        "| {first} | {name} | {excess} | {percent:.1} | {:.3} | {:.3} | {:.3} | {min:.2} / {mean:.2} / {max:.2} | {settled} | {:.0} | \
         {:.1} | {} | {} | {} |\n",
        outcome.busiest_second,
        outcome.used,
        outcome.worst_second,
        outcome.bytes_per_node_s,
        outcome.packets_per_node_s,
        outcome.largest.cells,
        outcome.largest.ledger,
        outcome.largest.leases,
    )
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn plots(outcomes: &BTreeMap<(&str, usize, Design), Outcome>) -> Vec<(&'static str, String)> {
    let over_nodes = |scenario: &str, value: fn(&Outcome) -> f64| -> Vec<(&str, Vec<(f64, f64)>)> {
        let points = |design| {
            SIZES
                .iter()
                .filter_map(|nodes| {
                    outcomes
                        .get(&(scenario, *nodes, design))
                        .map(|o| (*nodes as f64, value(o)))
                })
                .collect()
        };
        Design::ALL
            .into_iter()
            .map(|design| (design.name(), points(design)))
            .collect()
    };
    let base = Plot {
        title: "",
        summary: "",
        x_label: "nodes",
        y_label: "",
        log_x: true,
        log_y: false,
        lines: Vec::new(),
    };
    let mut plots = vec![
        (
            "excess-cold.svg",
            Plot {
                title: "Cold start: units above the burst",
                summary: "Ten times the limit on all nodes at once, 1,000 units per second, burst 1,000",
                y_label: "units, worst of all windows",
                log_y: true,
                lines: over_nodes("cold", |outcome| outcome.excess_units),
                ..base
            }
            .svg(),
        ),
        (
            "used-skewed.svg",
            Plot {
                title: "Uneven load: use of the limit",
                summary: "Three nodes get 1.5, 0.3 and 0.2 of the limit, the others nothing",
                x_label: "nodes",
                y_label: "admitted over ideal",
                lines: over_nodes("skewed", |outcome| outcome.used),
                ..base
            }
            .svg(),
        ),
        (
            "bytes-even.svg",
            Plot {
                title: "Bytes sent per node and second",
                summary: "Twice the limit, evenly over all nodes, one busy key",
                y_label: "bytes with packet headers",
                log_y: true,
                lines: over_nodes("even", |outcome| outcome.bytes_per_node_s),
                ..base
            }
            .svg(),
        ),
    ];
    for (scenario, file, title) in [
        (
            "jump",
            "jump.svg",
            "A hundred times as many requests from one moment to the next, 5 nodes",
        ),
        (
            "hops",
            "hops.svg",
            "Load that moves to another node every two seconds, 5 nodes",
        ),
        (
            "split",
            "split.svg",
            "A 3/2 partition from second 11 to second 21, 5 nodes",
        ),
    ] {
        let about = find(scenario).map_or("", |entry| entry.about);
        let curve = |bins: &[u32]| {
            bins.iter()
                .enumerate()
                .map(|(bin, count)| (bin as f64 / 10.0, f64::from(*count)))
                .collect()
        };
        let lines = Design::ALL.into_iter().filter_map(|design| {
            let outcome = outcomes.get(&(scenario, SMALL_NODES, design))?;
            Some((design.name(), curve(&outcome.admitted_bins)))
        });
        let plot = Plot {
            title,
            summary: about,
            x_label: "seconds",
            y_label: "admitted per 100 ms; the limit is 100",
            log_x: false,
            log_y: false,
            lines: lines.collect(),
        };
        plots.push((file, plot.svg()));
    }
    plots
}

const INTRODUCTION: &str = "\
# Accuracy

How far over a limit, and how far under, does a cluster go? This page is written by the simulator, which runs the
protocol's own code in virtual time: `cargo run --release -p ratelimit-sim -- report`. One seed gives one run, so every figure can
be repeated; [consistency.md](consistency.md) has the bounds that they must keep, and [testing.md](testing.md) the campaigns that try to
break them.

Setting: 1,000 units per second, burst 1,000, mode `Eventual`, reports every 50 ms and urgent ones, one-way delay 0.4 to 0.8 ms. Up to
200 nodes all own keys; of 1,000 nodes 32 do. Requests come for 30 seconds (for 10, and in four scenarios, with 1,000 nodes). Three designs:

- **leases**: the product. One owner per key; nodes report use to it and get shares that follow demand.
- **mesh**: every node tells every other what it admitted, at the same interval, urgently too. Not run with 1,000 nodes: half
  a million links.
- **static**: every node has `R/N` and `B/N` for good. It never talks.

Columns:

- *excess*: the worst over-admission over **all** windows, in units above the burst, and in percent of the burst. An oracle sees every
  admitted request; no window escapes it.
- *busiest s*: the most admitted in any second, wherever it begins, over the limit (a burst that comes back makes it 2 rightly: only loads above the limit show something here). *used*: admitted over what one limiter with one clock would have
  admitted. *worst s*: the largest shortfall of one second. *per 100 ms*: least, mean and most, over the limit's part. These leave
  out the first two seconds (a burst lasts one second at twice the limit), and partitions, crashes and jumps with the seconds in which they heal.
- *settled s*: until every further second is within 5 % of the ideal, counted from the start, or from the end of the fault.
- *B/node/s*, *packets/node/s*: sent by a node on average, with 60 bytes of headers for each packet and without acknowledgements.
- *cells, ledger, leases*: the most entries of any node.

Where the leases fall short:

- **Packet loss of 30 %, a late join, a rolling restart:** some 100 ms have more than the limit, and the busiest second up to a few percent (with 5
  nodes 2.1, 2.5 and 1.1; other seeds of `loss` reach 6). It is a promise of `Eventual` that asks for no round trip: a share grows when its word arrives, and where
  packets are lost the word to shrink may be 27 to 80 ms behind. A node that joins spends from its own burst until its first lease. And the
  cluster runs some thirty units below the full burst, which a change of owner finds and gives out once. `Bounded` and `Strict` shrink
  before they grow, and pay for it with the round trip.
- **The first two seconds of a partition:** a node that is not heard is missed after 1.5 s. Until then its side and the other spend what they had, and
  a lease that ends there is given away again: 70 units once in *split*, 20 percent of a second in the worst of other lengths. Under `open` what the other side admitted is a debt
  on healing, and one second passes less than the limit.
- **A thousand nodes at two requests a second each:** a share is one unit a second. Where all of them ask in the same moment, as in *even*, one
  second may have a tenth more and another a tenth less, since each saves up to four units. In *cold* each node spends one unit before anybody can have heard of it, which is all of the burst,
  and some a second one before the owner's word comes: a fifth above the burst.
- **Bytes per node** are mostly heartbeats, two a second of 65 bytes on each link and at most 64 a second in all, but at least one on each link in five
  seconds. So they stop growing at 32 links; only the owners of a larger cluster, which all others link to, send more. Whom a node hears it
  tells once per change, 8 bytes for each node that may own keys: this is what a start of many nodes costs, and most of the bytes of 100 nodes in half a minute. Keep-alives of the transport come on top.
- **Noise at small bursts:** `static` is exact where the load is even. The moment it is not, it serves a fraction.
";

const PLOTS: &str = "
![Cold start: units above the burst](accuracy/excess-cold.svg)
![Uneven load: use of the limit](accuracy/used-skewed.svg)
![Bytes sent per node and second](accuracy/bytes-even.svg)
![Load jumps](accuracy/jump.svg)
![Load moves](accuracy/hops.svg)
![A partition](accuracy/split.svg)
";
