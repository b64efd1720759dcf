//! The campaigns as they run before a change lands: short, and in whatever build the tests have.

#![cfg(target_os = "linux")]

use std::process::Command;

fn fault(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_fault"))
        .args(arguments)
        .output()
        .expect("the program");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    println!("{}", text(&output.stdout));
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

#[test]
fn processes_killed_at_random_instants() {
    let count = if cfg!(debug_assertions) { "50" } else { "200" };
    let figure = fault(&["share-kill", "--count", count]).expect("no fault");
    assert!(
        figure.contains(&format!("share-kill: {count} of 4 processes")),
        "{figure}"
    );
}

#[test]
fn processes_killed_before_an_instruction() {
    let strides = if cfg!(debug_assertions) {
        ["--stride=397", "--admin-stride=4999"]
    } else {
        ["--stride=11", "--admin-stride=97"]
    };
    match fault(&["share-step", strides[0], strides[1]]) {
        Ok(figure) => assert!(figure.contains("block: "), "{figure}"),
        Err(why) if why.contains("not allowed here") => println!("skipped: {why}"),
        Err(fault) => panic!("{fault}"),
    }
}
