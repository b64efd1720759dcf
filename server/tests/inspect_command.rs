//! `ratelimit inspect` as a process.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use ratelimit::Limiter;

fn inspect(path: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ratelimit"))
        .arg("inspect")
        .arg(path)
        .args(more)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_snapshot_is_described_and_a_damaged_one_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.snapshot");
    let limiter = Limiter::builder()
        .limit("100/hour".parse().unwrap())
        .limit("1000/day".parse().unwrap())
        .persist(&path, Duration::from_secs(3_600))
        .build()
        .unwrap();
    for number in 0..6_000u32 {
        assert!(limiter.check_n(&number.to_le_bytes(), 25).allowed);
    }
    limiter.set_override("own", Some("10/hour".parse().unwrap())).unwrap();
    assert!(limiter.check_n("own", 10).allowed);
    limiter.block("blocked", Duration::from_secs(600)).unwrap();
    limiter.close().unwrap();

    let said = inspect(&path, &[]);
    assert!(said.status.success(), "{}", text(&said.stderr));
    let said = text(&said.stdout);
    for line in [
        "health       every byte is as it was written",
        "by the boot clock of this boot",
        "secret       the secret beside it is its own",
        "generation 1, 5 chunks: 12000 cells, 1 override cells, 1 blocks",
        "limit 100/hour (burst 100, full after 3600 s): 6000 in debt, 6000 of them still",
        "   20 % to  30 % spent          6000",
        "clients with limits of their own: 1 in debt",
    ] {
        assert!(said.contains(line), "no line \"{line}\" in\n{said}");
    }
    let json: serde_json::Value = serde_json::from_slice(&inspect(&path, &["--json"]).stdout).unwrap();
    assert_eq!(json["damage"], serde_json::Value::Null);
    assert_eq!(json["snapshot"]["limits"][1]["limit"], "1000/day");
    assert_eq!(json["snapshot"]["limits"][1]["debts"][0], 6_000);
    assert_eq!(json["snapshot"]["key_file"], "fits");

    let mut bytes = fs::read(&path).unwrap();
    bytes[4_096 + 65_536 + 77] ^= 1;
    fs::write(&path, &bytes).unwrap();
    fs::remove_file(directory.path().join("api.snapshot.key")).unwrap();
    let said = inspect(&path, &[]);
    assert_eq!(said.status.code(), Some(1));
    assert!(
        text(&said.stderr).contains("is damaged: 1 of its chunks are damaged"),
        "{}",
        text(&said.stderr)
    );
    let said = text(&said.stdout);
    assert!(
        said.contains("chunk 1 at byte 69632: its bytes do not match its checksum"),
        "{said}"
    );
    assert!(said.contains("there is no secret beside it"), "{said}");

    fs::write(&path, &bytes[..3_000]).unwrap();
    let said = inspect(&path, &["--json"]);
    assert_eq!(said.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(
        (&json["damage"], &json["snapshot"]),
        (&"it is cut off or has grown".into(), &serde_json::Value::Null)
    );
    fs::write(&path, b"hello").unwrap();
    assert!(text(&inspect(&path, &[]).stderr).contains("it is no snapshot"));
    fs::remove_file(&path).unwrap();
    assert!(text(&inspect(&path, &[]).stderr).contains("cannot read"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_shared_table_is_described_while_it_is_used() {
    let name = format!("inspected-{}", std::process::id());
    let limiter = Limiter::builder()
        .limit("100/hour".parse().unwrap())
        .max_keys(1_000)
        .share(&name)
        .build()
        .unwrap();
    for number in 0..50u32 {
        assert!(limiter.check_n(&number.to_le_bytes(), 25).allowed);
    }
    let by_name = |more: &[&str]| {
        let command = env!("CARGO_BIN_EXE_ratelimit");
        Command::new(command)
            .args(["inspect", "--share", &name])
            .args(more)
            .output()
            .unwrap()
    };
    let said = by_name(&[]);
    assert!(said.status.success(), "{}", text(&said.stderr));
    let said = text(&said.stdout);
    let this = format!("processes    1: {}", std::process::id());
    for line in [
        "limits       100/hour",
        "room for     1000 clients",
        &this,
        "50 with debt",
        "the table is in order",
    ] {
        assert!(said.contains(line), "no \"{line}\" in:\n{said}");
    }
    let json: serde_json::Value = serde_json::from_slice(&by_name(&["--json"]).stdout).unwrap();
    assert_eq!(
        (json["cells"]["live"].as_u64(), json["fault_count"].as_u64()),
        (Some(50), Some(0))
    );

    // By its file, too: what a user sees in /dev/shm.
    let file = json["file"].as_str().unwrap();
    let same: serde_json::Value = serde_json::from_slice(&inspect(Path::new(file), &["--json"]).stdout).unwrap();
    assert_eq!(same["cells"], json["cells"]);
    drop(limiter);
    assert!(text(&by_name(&[]).stdout).contains("processes    none"));
    assert!(Limiter::unshare(&name).unwrap());
    let none = by_name(&[]);
    assert_eq!(none.status.code(), Some(2));
    assert!(
        text(&none.stderr).contains("there is no shared table"),
        "{}",
        text(&none.stderr)
    );
}
