//! The project's chores. `cargo xtask` lists them; `cargo xtask test` is what the README and CI run.

mod bench_serve;
mod c;
mod cluster;
mod documents;
mod install;
mod node;
mod python;
mod steps;
mod together;

use std::process::ExitCode;

const HELP: &str = "\
The project's chores.

Usage: cargo xtask CHORE

  test       everything that must pass before a change lands: format, lints, tests, documentation, faults, loom models
  quick      the same without loom models and without the heavy tests
  loom       the loom models, bounded as in `test`
  loom-full  the loom models without bounds, and every weakened ordering: hours
  full       the long campaigns: 10^8 decisions, 10^8 ids, 10 million sequences, 100,000 clusters; see docs/testing.md
  c          the C and C++ interface: header, tests, Valgrind, AddressSanitizer, examples from an installation
  header     writes include/ratelimit.h from the sources; with --check fails if it differs
  install    installs libratelimit: --prefix DIR, and --destdir DIR to put it below another root
  node       the Node.js binding: builds, checks and tests it
  python     builds and tests the Python package in a virtual environment of its own, and checks types and style
  together   one limit held by processes in C, Node.js and Python; after c, node and python
  cluster    one limit over nodes in Rust, Python, Node.js and C, second by second, while one is killed, one joins, one leaves; after c,
             node and python; with --short as `test` runs it; with --soak MINUTES watches two nodes while a third comes and goes
  bench-serve  the node against redis-server and an empty HTTP handler in one run; see docs/performance.md
  documents  checks that the documents name only files that exist and list all events; --write writes docs/events.md
  help       this text
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let chore = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let result = match chore.as_str() {
        "test" => steps::test(),
        "quick" => steps::quick(),
        "loom" => steps::loom(false),
        "loom-full" => steps::loom(true),
        "full" => steps::full(),
        "c" => c::test(),
        "header" => c::header(&arguments),
        "install" => install::command(&arguments),
        "node" => node::test(),
        "python" => python::test(),
        "together" => together::test(),
        "cluster" => cluster::command(&arguments),
        "bench-serve" => bench_serve::command(&arguments),
        "documents" => documents::command(&arguments),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no chore \"{other}\": `cargo xtask help` lists them")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("xtask: {sentence}");
            ExitCode::FAILURE
        }
    }
}
