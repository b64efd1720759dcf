//! `ratelimit certs` as a process.
#![allow(clippy::unwrap_used, reason = "the common module unwraps")]

mod common;

use common::{Scratch, ratelimit, stderr, stdout, text};

fn certs(args: &[&str]) -> std::process::Output {
    ratelimit().arg("certs").args(args).output().expect("the command")
}

#[test]
fn it_makes_what_is_missing_and_says_what_there_is() {
    let scratch = Scratch::new();
    let folder = text(&scratch.path("certs"));
    let first = certs(&[&folder, "a", "node-b", "--days", "90"]);
    assert!(first.status.success(), "{first:?}");
    let said = stdout(&first);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("ca      new      valid until 20"), "{said}");
    assert_eq!(lines[1], "secret  new");
    assert!(lines[2].starts_with("a       new      valid until 20"), "{said}");
    assert!(lines[3].starts_with("node-b  new      valid until 20"), "{said}");
    assert!(said.contains("Keep ca.key where it is"), "{said}");
    let authority = std::fs::read(scratch.path("certs/ca.pem")).expect("a file");
    let key = std::fs::read(scratch.path("certs/a.key")).expect("a file");

    let second = certs(&[&folder, "--renew", "a"]);
    assert!(stdout(&second).contains("\na       renewed  valid until"), "{second:?}");
    assert!(stdout(&second).starts_with("ca      kept "), "{second:?}");
    assert_eq!(std::fs::read(scratch.path("certs/ca.pem")).expect("a file"), authority);
    assert_ne!(std::fs::read(scratch.path("certs/a.key")).expect("a file"), key);
}

#[test]
fn what_is_wrong_has_a_sentence_and_an_exit_code() {
    let scratch = Scratch::new();
    let folder = text(&scratch.path("certs"));
    for (args, code, says) in [
        (vec![folder.as_str()], 2, "NODE"),
        (vec![&folder, "a b"], 2, "\"a b\" is no node name"),
        (vec![&folder, "ca"], 2, "the authority's"),
        (vec![&folder, "a", "--days", "0"], 2, "--days"),
        (vec!["/dev/null/certs", "a"], 1, "cannot make /dev/null/certs"),
    ] {
        let output = certs(&args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(stderr(&output).contains(says), "{args:?}: {output:?}");
    }
    assert!(!scratch.path("certs").exists(), "nothing was made");
}
