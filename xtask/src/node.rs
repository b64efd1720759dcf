//! The Node.js binding: built, its style and types checked, and tested by `npm test` in `bindings/node`.

use std::process::Command;

use crate::steps::{root, run};

/// The oldest major version of Node.js that the package supports.
const OLDEST: u32 = 18;

pub(crate) fn test() -> Result<(), String> {
    provide()?;
    let npm = |arguments: &[&str]| {
        let mut command = Command::new("npm");
        command
            .current_dir(root().join("bindings").join("node"))
            .args(arguments);
        command
    };
    run(
        "Node.js: packages for the tests",
        &mut npm(&["ci", "--no-audit", "--no-fund"]),
    )?;
    run("Node.js", &mut npm(&["test"]))
}

/// Node.js and npm: as found, or from Debian where that can be done.
fn provide() -> Result<(), String> {
    if found() {
        return Ok(());
    }
    let wanted = format!("Node.js {OLDEST} or later and npm are needed to test bindings/node");
    if !is_root() || Command::new("apt-get").arg("--version").output().is_err() {
        return Err(format!(
            "{wanted}: install them (on Debian: apt-get install nodejs npm)"
        ));
    }
    run(
        "Node.js: package lists",
        Command::new("apt-get").args(["update", "-qq"]),
    )?;
    run(
        "Node.js: installing nodejs and npm",
        Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args([
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "nodejs",
            "npm",
        ]),
    )?;
    if found() {
        Ok(())
    } else {
        Err(format!(
            "{wanted}, and this system's packages are older: see https://nodejs.org"
        ))
    }
}

fn found() -> bool {
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    version("npm").is_some()
        && version("node")
            .and_then(|text| major(&text))
            .is_some_and(|major| major >= OLDEST)
}

/// Of a text like `v20.1.0`.
fn major(version: &str) -> Option<u32> {
    version.trim().trim_start_matches('v').split('.').next()?.parse().ok()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn versions_are_read() {
        assert_eq!(major("v20.20.2\n"), Some(20));
        assert_eq!(major("v8.0.0"), Some(8));
        assert_eq!(major("a lot"), None);
    }
}
