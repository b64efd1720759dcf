//! `ratelimit replay` as a process: options, inputs, outputs and exit codes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use common::{Scratch, json, line, ratelimit, real_log, replay, replay_stdin, stderr, stdout};
use flate2::Compression;
use flate2::write::GzEncoder;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Ten requests of one client in ten seconds and one of another, shuffled.
fn small_log() -> String {
    let mut log = String::new();
    for second in [3, 1, 0, 2, 9, 8, 4, 7, 6, 5] {
        log.push_str(&line("192.0.2.1", second));
    }
    log + &line("192.0.2.2", 5)
}

#[test]
fn a_real_log_gives_the_known_numbers() {
    let Some(log) = real_log() else { return };
    let report = json(&replay(&[&log, "--limit", "10/minute", "--json"]));
    for (field, expected) in [
        ("requests", 10_000),
        ("clients", 1_753),
        ("allowed", 8_987),
        ("denied", 1_013),
        ("unparsed", 0),
    ] {
        assert_eq!(report[field], expected, "{field}");
    }
    assert_eq!(report["limits"][0]["top"].as_array().unwrap().len(), 10);
}

#[test]
fn text_and_json_tell_the_same() {
    let scratch = Scratch::new();
    let log = scratch.file("a.log", small_log().as_bytes());
    // Six at once, then one every ten seconds: the client has 10 requests in the seconds 0 to 9.
    let output = replay(&[&log, "--limit", "6/minute", "--limit", "100/minute"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        stdout(&output),
        "Replayed 11 requests by 2 clients (by ip), 2015-05-17 10:00:00 to 2015-05-17 10:00:09 UTC.\n\
         \n\
         LIMIT       ALLOWED  DENIED  DENIED %  CLIENTS DENIED\n\
         6/minute          7       4     36.36               1\n\
         100/minute       11       0      0.00               0\n\
         \n\
         Denied most by 6/minute:\n\
         CLIENT     DENIED  REQUESTS  DENIED %\n\
         192.0.2.1       4        10     40.00\n"
    );
    assert_eq!(stderr(&output), "");

    let output = replay(&[&log, "--limit", "6/minute", "--limit", "100/minute", "--json"]);
    let report = json(&output);
    assert_eq!((&report["requests"], &report["clients"]), (&11.into(), &2.into()));
    assert_eq!((&report["allowed"], &report["denied"]), (&7.into(), &4.into()));
    assert_eq!(report["limits"][1]["allowed"], 11);
    assert_eq!(report["limits"][0]["top"][0]["client"], "192.0.2.1");
    assert_eq!(report["limits"][0]["top"][0]["requests"], 10);
    assert_eq!(
        (&report["first"], &report["last"]),
        (&"2015-05-17T10:00:00Z".into(), &"2015-05-17T10:00:09Z".into())
    );
}

#[test]
fn every_way_in_gives_the_same_answer() {
    let scratch = Scratch::new();
    let log = small_log();
    let (front, back) = log.split_at(log.len() / 2); // In the middle of a line.
    let limits = ["--limit", "6/minute", "--json"];
    let numbers = |args: &[&str], input: &[u8]| {
        let mut report = json(&replay_stdin(&[args, &limits].concat(), input));
        report.as_object_mut().unwrap().remove("sources");
        report
    };
    let expected = numbers(&[&scratch.file("plain", log.as_bytes())], b"");
    assert_eq!(numbers(&["-"], log.as_bytes()), expected, "standard input");
    assert_eq!(
        numbers(&[&scratch.file("named.log", &gzip(log.as_bytes()))], b""),
        expected,
        "gzip"
    );
    assert_eq!(
        numbers(&["-"], &gzip(log.as_bytes())),
        expected,
        "gzip on standard input"
    );
    let members = [gzip(front.as_bytes()), gzip(back.as_bytes())].concat();
    assert_eq!(
        numbers(&[&scratch.file("members.gz", &members)], b""),
        expected,
        "gzip of two members"
    );
    let lines: Vec<_> = log.split_inclusive('\n').collect();
    let (one, two) = (
        scratch.file("one", lines[..4].concat().as_bytes()),
        scratch.file("two.gz", &gzip(lines[4..].concat().as_bytes())),
    );
    assert_eq!(numbers(&[&one, &two], b""), expected, "two files");
    assert_eq!(numbers(&[&two, &one], b""), expected, "two files, the later one first");
    let windows = log.replace('\n', "\r\n");
    assert_eq!(
        numbers(&["-"], windows.trim_end().as_bytes()),
        expected,
        "line ends of Windows, none at the end"
    );
}

#[test]
fn sorting_on_disk_changes_nothing() {
    let args = [
        "--sample",
        "--sample-requests",
        "120000",
        "--limit",
        "30/minute",
        "--limit",
        "5/10s strict",
        "--json",
    ];
    let memory = replay(&args);
    let disk = replay(&[&args[..], &["--sort-memory", "1"]].concat());
    assert!(memory.status.success() && memory.stdout == disk.stdout);
}

#[test]
fn trouble_with_the_disk_is_explained() {
    let output = replay(&["--sample", "--sort-memory", "1", "--temp-dir", "/no/such/folder"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("/no/such/folder") && stderr(&output).contains("--sort-memory"),
        "{output:?}"
    );
}

#[test]
fn malformed_lines_are_counted_and_shown() {
    let mut log = b"garbage \x1bc\xff here\n\n".to_vec();
    log.extend_from_slice(line("192.0.2.1", 1).as_bytes());
    log.extend_from_slice(&vec![b'x'; 2 << 20]);
    log.push(b'\n');
    log.extend_from_slice(line("192.0.2.1", 2).as_bytes());
    log.extend_from_slice(b"192.0.2.1 - - [17/May/2015:10:00:03 +0000] \"GET /cut");
    let output = replay_stdin(&["-", "--limit", "1/s", "--json"], &log);
    let report = json(&output);
    assert_eq!((&report["requests"], &report["unparsed"]), (&2.into(), &3.into()));
    let lines: Vec<_> = report["malformed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["line"].as_u64())
        .collect();
    assert_eq!(lines, [Some(1), Some(4), Some(6)]);
    let notes = stderr(&output);
    assert!(notes.contains("3 lines are malformed"), "{notes}");
    assert!(
        notes.contains(r"standard input:1: there is no time in brackets: garbage \u{1b}c\xff here"),
        "{notes}"
    );
    assert!(
        notes.contains("standard input:4: the line is longer than 1 MiB: xxx"),
        "{notes}"
    );
    assert!(
        notes.contains("standard input:6: the request's closing quote is missing"),
        "{notes}"
    );
    assert!(!notes.contains('\x1b'), "{notes}");
}

#[test]
fn only_malformed_lines_are_no_error_but_a_hint() {
    let output = replay_stdin(&["-", "--limit", "1/s"], b"{\"not\": \"a log\"}\n");
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("common or combined format?"), "{output:?}");
    let output = replay_stdin(&["-", "--limit", "1/s", "--json"], b"");
    assert_eq!(json(&output)["first"], serde_json::Value::Null);
}

#[test]
fn clients_cannot_write_on_the_terminal() {
    let evil = line("192.0.2.1\x1b]0;owned\x07", 1).repeat(3);
    let output = replay_stdin(&["-", "--limit", "1/minute"], evil.as_bytes());
    assert!(stdout(&output).contains(r"192.0.2.1\u{1b}]0;owned\u{7}"), "{output:?}");
    assert!(!output.stdout.contains(&0x1b) && !output.stdout.contains(&0x07));
}

#[test]
fn fields_can_be_combined() {
    let log = small_log() + &line("192.0.2.1", 30).replace("/a?b", "/other");
    let by = |by: &str| {
        json(&replay_stdin(
            &["-", "--limit", "1/hour", "--json", "--by", by],
            log.as_bytes(),
        ))
    };
    assert_eq!(by("path")["clients"], 2);
    assert_eq!(by("ip,path")["clients"], 3);
    assert_eq!(by("ip,path")["limits"][0]["top"][0]["client"], "192.0.2.1 | /a");
    assert_eq!(by("status")["limits"][0]["top"][0]["client"], "2xx");
    assert_eq!(by("host,user,referer")["clients"], 1);
    let output = replay(&["-", "--by", "colour"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("ip, path, method, agent, status, host, user, referer"),
        "{output:?}"
    );
}

#[test]
fn strict_makes_each_limit_strict() {
    let log = small_log();
    let limits = |args: &[&str]| {
        let report = json(&replay_stdin(&[&["-", "--json"], args].concat(), log.as_bytes()));
        report["limits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|limit| limit["denied"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let strict = limits(&["--strict", "--limit", "6/minute", "--limit", "20/minute"]);
    assert_eq!(
        strict,
        limits(&["--limit", "6/minute strict", "--limit", "20/minute strict"])
    );
    assert_ne!(strict, limits(&["--limit", "6/minute", "--limit", "20/minute"]));
    let output = replay(&["--sample", "--strict", "--limit", "5/s burst 5"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn usage_errors_say_what_to_do() {
    let output = replay(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("LOG") && stderr(&output).contains("--sample"),
        "{output:?}"
    );
    for args in [
        &["a.log", "--limit", "many"][..],
        &["a.log", "--sample"],
        &["a.log", "--seed", "3"],
        &["-", "-"],
        &["a.log", "--sort-memory", "0"],
        &["a.log", "--no-such-option"],
    ] {
        let output = replay(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn files_that_cannot_be_read_or_written_exit_with_1() {
    let scratch = Scratch::new();
    let mut cut = gzip(&small_log().repeat(50).into_bytes());
    cut.truncate(cut.len() / 2);
    let cut = scratch.file("cut.gz", &cut);
    let packed = scratch.file("a.zst", b"\x28\xb5\x2f\xfd rest");
    for (args, word) in [
        (&["/no/such.log"][..], "cannot read /no/such.log"),
        (&[common::text(&scratch.path("")).as_str()], "is a folder"),
        (&[&cut], "cut.gz"),
        (&[&packed], "zstd"),
        (
            &["--sample", "--sample-requests", "10", "--plot", "/no/such/folder/a.svg"],
            "/no/such/folder/a.svg",
        ),
    ] {
        let output = replay(&[args, &["--limit", "1/s"]].concat());
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(stderr(&output).contains(word), "{args:?}: {output:?}");
    }
}

/// A drawing over the log it was made from would destroy what cannot be made again.
#[test]
fn a_drawing_never_takes_the_place_of_a_log() {
    let scratch = Scratch::new();
    let log = scratch.file("a.log", small_log().as_bytes());
    let other = scratch.file("b.log", small_log().as_bytes());
    let hard = common::text(&scratch.path("hard.svg"));
    std::fs::hard_link(&log, &hard).unwrap();
    let mut names = vec![log.clone(), hard];
    #[cfg(unix)]
    {
        let soft = common::text(&scratch.path("soft.svg"));
        std::os::unix::fs::symlink(&log, &soft).unwrap();
        names.push(soft);
    }
    for name in names {
        let output = replay(&[&other, &log, "--limit", "1/s", "--plot", &name]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        assert!(stderr(&output).contains("is the log"), "{name}: {output:?}");
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap(), small_log());
    #[cfg(unix)]
    {
        let output = ratelimit()
            .args(["replay", "-", "--plot", &log])
            .stdin(std::fs::File::open(&log).unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), small_log());
    }
}

/// Where the drawing cannot go is told before an hour of reading; a disk that fills up later costs the drawing alone.
#[test]
fn a_drawing_that_fails_costs_nothing_else() {
    let scratch = Scratch::new();
    let log = scratch.file("a.log", small_log().as_bytes());
    let bad = scratch.file("bad.log", b"no request\n");
    let output = replay(&[&bad, "--limit", "1/s", "--plot", "/no/such/folder/a.svg"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        !stderr(&output).contains("malformed"),
        "read before it failed: {output:?}"
    );
    if cfg!(target_os = "linux") {
        let output = replay(&[&log, "--limit", "1/s", "--plot", "/dev/full"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stdout(&output).contains("Replayed 11 requests"), "{output:?}");
    }
    // An old drawing stays until there is a new one, and no empty file is left behind.
    let (old, new) = (scratch.file("old.svg", b"old"), common::text(&scratch.path("new.svg")));
    for plot in [&old, &new] {
        let output = replay(&["/no/such.log", "--limit", "1/s", "--plot", plot]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    assert_eq!(std::fs::read(&old).unwrap(), b"old");
    assert!(!std::path::Path::new(&new).exists());
    // A shorter one leaves nothing of the longer one behind.
    std::fs::write(&old, [b'x'; 1_000_000]).unwrap();
    assert!(replay(&[&log, "--limit", "1/s", "--plot", &old]).status.success());
    assert!(std::fs::read_to_string(&old).unwrap().trim_end().ends_with("</svg>"));
}

#[test]
fn damaged_gzip_names_a_way_to_read_what_is_whole() {
    let scratch = Scratch::new();
    let whole = gzip(small_log().repeat(50).as_bytes());
    let cut = scratch.file("cut.gz", &whole[..whole.len() / 2]);
    let trailing = scratch.file("trailing.gz", &[&whole[..], b"more"].concat());
    for log in [&cut, &trailing] {
        let output = replay(&[log, "--limit", "1/s"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains("gzip -dc"), "{output:?}");
    }
}

#[test]
fn the_sample_needs_no_option() {
    let output = replay(&["--sample"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("60/minute"));
    assert!(
        stderr(&output).contains("no --limit was given, so 60/minute is tried"),
        "{output:?}"
    );
    let other = replay(&["--sample", "--seed", "2"]);
    assert_ne!(output.stdout, other.stdout);
}

/// The sample, the parser, the sorter, the limits and the report in one: a change in any of them shows here. Once a change is meant,
/// delete the file and run the test to write it anew.
#[test]
fn the_sample_of_one_seed_is_golden() {
    let args = [
        "--sample",
        "--seed",
        "42",
        "--sample-requests",
        "20000",
        "--top",
        "3",
        "--json",
    ];
    let limits = [
        "--limit",
        "10/minute",
        "--limit",
        "10/minute strict",
        "--limit",
        "60/minute burst 5",
        "--by",
        "ip",
    ];
    let output = replay(&[&args[..], &limits].concat());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sample-42.json");
    if !std::path::Path::new(path).exists() {
        std::fs::write(path, &output.stdout).unwrap();
        panic!("{path} was written anew: read it, and run the test again");
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(stdout(&output), golden.replace("\r\n", "\n"));
}

#[test]
fn the_drawing_has_a_panel_for_each_limit() {
    let scratch = Scratch::new();
    let file = common::text(&scratch.path("out.svg"));
    let output = replay(&["--sample", "--limit", "30/minute", "--limit", "1000/s", "--plot", &file]);
    assert!(output.status.success(), "{output:?}");
    let svg = std::fs::read_to_string(&file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("class=\"limit\"").count(), 2);
    assert_eq!(svg.matches("requests per 10 minutes").count(), 2);
    assert_eq!(svg.matches("<path class=\"allowed\"").count(), 2);
    assert_eq!(
        svg.matches("<path class=\"denied\"").count(),
        1,
        "the second limit denies nothing"
    );
    assert!(svg.contains("denied: 0") && svg.contains("time (UTC)") && svg.contains("2026-03-02"));
    assert_eq!(svg.matches('<').count(), svg.matches('>').count());

    let output = replay_stdin(&["-", "--limit", "1/s", "--plot", &file], b"");
    assert!(output.status.success(), "{output:?}");
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains("There is no request to draw.")
    );
}

/// Like `ratelimit replay ... | head -n 1`, with more output than a pipe holds.
#[test]
fn a_closed_pipe_is_no_error() {
    for form in [&["--json"][..], &[]] {
        let mut command = ratelimit();
        command
            .args(["replay", "--sample", "--limit", "1/day", "--top", "5000"])
            .args(form);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        drop(out);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(
            !stderr(&output).contains("panic") && !stderr(&output).contains("error"),
            "{output:?}"
        );
    }
}

#[test]
fn help_has_examples() {
    let output = replay(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for word in [
        "Examples:",
        "ratelimit replay access.log --limit 100/minute",
        "--sort-memory",
        "Exit codes",
    ] {
        assert!(stdout(&output).contains(word), "{word}");
    }
}

/// Waits for nothing but the command: it reads a pipe that stays open, so only the signal can end it.
#[cfg(unix)]
#[test]
fn a_signal_ends_reading_and_what_was_read_is_reported() {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let mut command = ratelimit();
        command.args(["replay", "-", "--limit", "6/minute", "--json", "--progress"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // The first progress line proves that lines were read: it comes a second after the start, with the next chunk.
        let mut notes = BufReader::new(child.stderr.take().unwrap());
        pipe.write_all(small_log().as_bytes()).unwrap();
        let feeder = std::thread::spawn(move || {
            while pipe.write_all(line("192.0.2.3", 60).as_bytes()).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let mut note = String::new();
        notes.read_line(&mut note).unwrap();
        assert!(note.starts_with("reading: "), "{note}");
        let kill = std::process::Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(child.id().to_string())
            .status();
        assert!(kill.unwrap().success());
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["interrupted"], true);
        assert_eq!(report["limits"][0]["top"][0]["client"], "192.0.2.3");
        assert!(report["requests"].as_u64().unwrap() > 11);
        let mut rest = String::new();
        notes.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("stopped while reading"), "{rest}");
    }
}
