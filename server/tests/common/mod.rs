//! What the tests of the command share: running it, and small logs.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate of its own and uses its own part"
)]

pub mod cluster;
pub mod node;
pub mod oracle;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The command, as built for this test run.
pub fn ratelimit() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ratelimit"))
}

/// Runs `ratelimit replay` with these arguments and no input.
pub fn replay(args: &[&str]) -> Output {
    ratelimit()
        .arg("replay")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs `ratelimit replay` with these arguments and this input.
pub fn replay_stdin(args: &[&str], input: &[u8]) -> Output {
    let mut command = ratelimit();
    command
        .arg("replay")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // The command may end before it has read everything; then there is nothing to prove here.
        let _ = pipe.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// What the command printed as JSON.
pub fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A line of `ip`, `second` seconds after ten o'clock.
pub fn line(ip: &str, second: u32) -> String {
    let clock = format!("{:02}:{:02}:{:02}", 10 + second / 3600, second / 60 % 60, second % 60);
    format!("{ip} - - [17/May/2015:{clock} +0000] \"GET /a?b HTTP/1.1\" 200 1 \"-\" \"Agent/1\"\n")
}

/// A file in a folder of its own that goes with the value.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        Scratch {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        text(&path)
    }
}

pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A real log of 10,000 lines that lies beside the workspace where we develop, and nowhere else.
pub fn real_log() -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/access.log");
    if path.is_file() {
        return Some(text(&path));
    }
    let _ = writeln!(std::io::stderr(), "skipped: there is no real log at {}", path.display());
    None
}
