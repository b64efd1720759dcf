//! One limit held by processes of all languages at once: each asks for one client on one shared table, and what they are
//! allowed together is exactly the limit.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::steps::{root, run};
use crate::{install, python};

/// The limit of the workers.
const LIMIT: usize = 100;
/// Processes of each language.
const EACH: usize = 4;
/// What one of them asks for: together far more than there is.
const CALLS: &str = "50";

/// Needs what the steps of the languages have built.
pub(crate) fn test() -> Result<(), String> {
    if !cfg!(target_os = "linux") {
        eprintln!("\n== one limit in all languages: skipped, since tables are shared on Linux only");
        return Ok(());
    }
    let built = install::build(&[], None)?;
    let folder = root().join("xtask/together");
    let program = built.join("together-worker");
    run(
        "one limit in all languages: the worker in C",
        Command::new("gcc")
            .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"])
            .arg("-I")
            .arg(root().join("include"))
            .arg(folder.join("worker.c"))
            .arg(built.join("libratelimit.a"))
            .args(["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-o"])
            .arg(&program),
    )?;
    let name = format!("together-{}", std::process::id());
    eprintln!("\n== one limit in all languages");
    let mut workers = Vec::new();
    for _ in 0..EACH {
        workers.push(("C", start(Command::new(&program).args([&name, CALLS]))?));
        let mut node = Command::new("node");
        node.arg(folder.join("worker.js")).arg(root().join("bindings/node"));
        workers.push(("Node.js", start(node.args([&name, CALLS]))?));
        let mut python = Command::new(python::installed());
        python.current_dir(std::env::temp_dir()).arg(folder.join("worker.py"));
        workers.push(("Python", start(python.args([&name, CALLS]))?));
    }
    let counted: Result<Vec<(&str, usize)>, String> = workers
        .into_iter()
        .map(|(language, child)| Ok((language, allowed(language, child)?)))
        .collect();
    remove(&name)?;
    let counted = counted?;
    let total: usize = counted.iter().map(|(_, allowed)| allowed).sum();
    for language in ["C", "Node.js", "Python"] {
        let of: Vec<usize> = counted
            .iter()
            .filter(|(of, _)| *of == language)
            .map(|(_, allowed)| *allowed)
            .collect();
        eprintln!("{language}: {of:?}");
    }
    if total != LIMIT {
        return Err(format!(
            "{} processes were allowed {total} of a limit of {LIMIT}",
            counted.len()
        ));
    }
    eprintln!(
        "== one limit in all languages: {} processes, {total} requests allowed of a limit of {LIMIT}",
        counted.len()
    );
    Ok(())
}

fn start(command: &mut Command) -> Result<Child, String> {
    command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))
}

fn allowed(language: &str, child: Child) -> Result<usize, String> {
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().parse() {
        Ok(allowed) if output.status.success() => Ok(allowed),
        _ => Err(format!(
            "a worker in {language} ended with {} and said \"{text}\"",
            output.status
        )),
    }
}

/// Removes the table, which would else stay until the machine is started again.
fn remove(name: &str) -> Result<(), String> {
    let shared = Path::new("/dev/shm");
    let entries = std::fs::read_dir(shared).map_err(|error| error.to_string())?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().contains(&format!("-{name}-")) {
            std::fs::remove_file(entry.path()).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}
