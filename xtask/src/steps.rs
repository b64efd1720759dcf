//! The commands behind the chores, one after the other, each with its time.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    // The manifest of this crate lies one folder below it.
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

pub(crate) fn run(what: &str, command: &mut Command) -> Result<(), String> {
    eprintln!("\n== {what}");
    let start = Instant::now();
    let status = command
        .status()
        .map_err(|error| format!("{what} could not be started: {error}"))?;
    if !status.success() {
        return Err(format!("{what} failed ({status}); the command was {command:?}"));
    }
    eprintln!("== {what}: done in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn lints() -> Result<(), String> {
    run("format", cargo().args(["fmt", "--all", "--check"]))?;
    run(
        "lints",
        cargo().args([
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    run(
        "documents",
        Command::new(std::env::current_exe().map_err(|e| e.to_string())?).arg("documents"),
    )
}

fn licences() -> Result<(), String> {
    // Advisories need a database from the network, and are left to those who have one.
    let installed = cargo()
        .args(["deny", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !installed {
        eprintln!("\n== licences: skipped, since cargo-deny is not installed (cargo install cargo-deny)");
        return Ok(());
    }
    // It reads the manifests of all crates in the lock file, also of those that this platform does not build.
    run("crates of all platforms", cargo().args(["fetch", "--locked"]))?;
    run(
        "licences",
        cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]),
    )
}

/// Crates that must do without an operating system are built for one that has none, where that target is installed.
fn bare() -> Result<(), String> {
    const TARGET: &str = "thumbv7m-none-eabi";
    let installed = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .is_ok_and(|output| std::path::Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists());
    if !installed {
        eprintln!(
            "\n== without an operating system: skipped, since {TARGET} is not installed (rustup target add {TARGET})"
        );
        return Ok(());
    }
    run(
        "without an operating system",
        cargo()
            .args(["check", "--locked", "--target", TARGET, "--features", "map-store"])
            .args(["-p", "ratelimit-protocol"]),
    )
}

fn rustdoc() -> Result<(), String> {
    run(
        "documentation",
        cargo()
            .env("RUSTDOCFLAGS", "-D warnings")
            .args(["doc", "--locked", "--no-deps", "--all-features"])
            .args([
                "-p",
                "ratelimit-model",
                "-p",
                "ratelimit-core",
                "-p",
                "ratelimit",
                "-p",
                "ratelimit-protocol",
                "-p",
                "ratelimit-cluster-table",
            ]),
    )
}

/// All that must pass before a change lands.
pub(crate) fn test() -> Result<(), String> {
    lints()?;
    licences()?;
    bare()?;
    rustdoc()?;
    // In debug, where overflows panic; tests that count decisions by the million scale themselves down there.
    run("tests", cargo().args(["test", "--locked", "--all-features"]))?;
    // Without the cluster, whose crates would be linked into every one of these and decide nothing in them.
    run(
        "tests, optimised",
        cargo().args([
            "test",
            "--locked",
            "--release",
            "-p",
            "ratelimit",
            "--no-default-features",
            "--features",
            "tower",
        ]),
    )?;
    run(
        "killed processes, optimised",
        cargo().args(["test", "--locked", "--release", "-p", "ratelimit-fault"]),
    )?;
    run(
        "the README's other command",
        cargo().args([
            "run",
            "--locked",
            "--release",
            "-p",
            "ratelimit-server",
            "--",
            "replay",
            "--sample",
        ]),
    )?;
    faults()?;
    crate::c::test()?;
    crate::node::test()?;
    crate::python::test()?;
    crate::together::test()?;
    crate::cluster::test(true)?;
    simulate("1000")?;
    run(
        "the quick part of the accuracy tables",
        cargo().args(SIMULATOR).args(["report", "--check"]),
    )?;
    loom(false)
}

/// The campaigns of faults, as short as they mean anything.
fn faults() -> Result<(), String> {
    let campaigns: [&[&str]; 5] = [
        &["kill", "--count", "200"],
        &["power", "--count", "10000"],
        &["io"],
        &["bits", "--count", "100000"],
        &["clock", "--count", "10000"],
    ];
    for campaign in campaigns {
        run(
            &format!("fault {}", campaign[0]),
            cargo()
                .args(["run", "--locked", "--release", "-p", "ratelimit-fault", "--"])
                .args(campaign),
        )?;
    }
    Ok(())
}

const SIMULATOR: [&str; 6] = ["run", "--locked", "--release", "-p", "ratelimit-sim", "--"];

/// Seeds of the cluster, each a scenario of its own.
fn simulate(seeds: &str) -> Result<(), String> {
    run(
        &format!("{seeds} simulated clusters"),
        cargo().args(SIMULATOR).args(["--seed", "0", "--seeds", seeds]),
    )
}

/// The quick part of it.
pub(crate) fn quick() -> Result<(), String> {
    lints()?;
    run("tests", cargo().args(["test", "--locked", "--all-features"]))
}

/// The loom models. They are built with a cfg of their own into a folder of their own, so that neither build spoils the
/// other.
pub(crate) fn loom(full: bool) -> Result<(), String> {
    let mut command = cargo();
    command
        .env("RUSTFLAGS", "--cfg ratelimit_loom")
        .env("CARGO_TARGET_DIR", root().join("target").join("loom"))
        .args(["test", "--locked", "--release", "-p", "ratelimit-loom-tests"]);
    if full {
        command.env("RATELIMIT_LOOM", "full");
    }
    run("loom models", &mut command)
}

/// The long campaigns.
pub(crate) fn full() -> Result<(), String> {
    simulate("100000")?;
    for campaign in [&["share-kill", "--count", "10000"][..], &["share-step"]] {
        run(
            "killed processes",
            cargo()
                .args(["run", "--locked", "--release", "-p", "ratelimit-fault", "--"])
                .args(campaign),
        )?;
    }
    run(
        "long campaigns",
        cargo()
            .env("RATELIMIT_FULL", "1")
            .args([
                "test",
                "--locked",
                "--all-features",
                "--release",
                "-p",
                "ratelimit",
                "--",
                "--nocapture",
            ])
            .args(["--test-threads", "1"]),
    )
}
