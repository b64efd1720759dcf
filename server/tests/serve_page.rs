//! The page at `/`, in headless Chromium where that is installed.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use common::node::Node;

/// What the browser shows at `url`, as HTML, after its scripts ran for `seconds` of its own time. `None`: there is no browser.
fn browse(url: &str, seconds: u32, screenshot: Option<(&Path, &str)>) -> Option<(String, String)> {
    let browser = std::env::var("RATELIMIT_TEST_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(&browser);
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ])
        .args([
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            "--enable-logging=stderr",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--virtual-time-budget={}", seconds * 1000));
    match screenshot {
        Some((file, size)) => command
            .arg(format!("--screenshot={}", file.display()))
            .arg(format!("--window-size={size}")),
        None => command.arg("--dump-dom"),
    };
    match command.arg(url).output() {
        Ok(output) => Some((common::stdout(&output).to_owned(), common::stderr(&output).to_owned())),
        Err(error) => {
            eprintln!("skipped: {browser} cannot be run ({error}; Debian: chromium)");
            None
        }
    }
}

/// The text of the element with this id, without its tags.
fn text_of(page: &str, id: &str) -> String {
    let start = page
        .find(&format!("id=\"{id}\""))
        .unwrap_or_else(|| panic!("no {id} in {page}"));
    let tag = page[..start].rfind('<').unwrap();
    let name: String = page[tag + 1..]
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    let end = page[start..].find(&format!("</{name}>")).unwrap() + start;
    let mut text = String::new();
    let mut inside = true;
    for letter in page[start..end].chars() {
        match letter {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            letter if !inside => text.push(letter),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether the element with this id is hidden.
fn is_hidden(page: &str, id: &str) -> bool {
    let start = page
        .find(&format!("id=\"{id}\""))
        .unwrap_or_else(|| panic!("no {id} in {page}"));
    let tag = page[..start].rfind('<').unwrap();
    page[tag..].split('>').next().unwrap().contains("hidden")
}

#[test]
fn the_page_runs_nothing_but_itself() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let (status, first) = node.http("GET", "/", "", "");
    assert_eq!(status, 200);
    let (head, body) = first.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    let policy = head
        .lines()
        .find_map(|line| line.strip_prefix("content-security-policy: "))
        .unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert!(!policy.contains("unsafe"), "{policy}");
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(nonce.len(), 32);
    assert_eq!(body.matches(nonce).count(), 2);
    let (_, second) = node.http("GET", "/", "", "");
    assert!(!second.contains(nonce), "one number for two answers");
    assert!(head.contains("x-content-type-options: nosniff"));
    assert!(body.len() < 24 * 1024, "{} bytes", body.len());
}

#[test]
fn a_browser_shows_what_the_node_does() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &["--limit", "3/day"]);
    for _ in 0..5 {
        node.http("POST", "/v1/check", "", r#"{"key": "a"}"#);
    }
    let Some((page, log)) = browse(&format!("http://{}/", node.http), 5, None) else {
        return;
    };
    assert_eq!(text_of(&page, "status"), "live", "{log}");
    let rows = text_of(&page, "rows");
    assert!(rows.starts_with("default 3/day 0 0 1 "), "{rows}");
    assert!(rows.contains(" % "), "{rows}");
    assert!(text_of(&page, "terms").contains("0 different limits"));
    assert!(text_of(&page, "limit").contains("default"));
    assert!(text_of(&page, "figures").contains("Up for"));
    assert!(
        page.contains("id=\"line-allowed\"") && page.contains(" d=\"M"),
        "nothing is drawn"
    );
    for id in ["peers", "sign-in", "closed"] {
        assert!(is_hidden(&page, id), "{id} is shown");
    }
    for wrong in ["Refused to", "Content Security Policy", "Uncaught"] {
        assert!(!log.contains(wrong), "{log}");
    }
}

#[test]
fn a_browser_is_asked_for_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::run(common::node::serve(directory.path(), &[]).env("RATELIMIT_TOKEN", "0123456789abcdef"));
    let Some((page, log)) = browse(&format!("http://{}/", node.http), 3, None) else {
        return;
    };
    assert_eq!(text_of(&page, "status"), "live", "{log}");
    assert!(!is_hidden(&page, "sign-in"));
    assert!(text_of(&page, "closed").contains("token"));
    assert!(
        text_of(&page, "rows").starts_with("default – "),
        "limits are shown without the token"
    );
}

/// Serves the node's own page with made-up figures: a busy member of a cluster.
fn made_up(page: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let policy = head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("content-security"))
        .unwrap();
    let (policy, body) = (policy.to_owned(), body.to_owned());
    std::thread::spawn(move || {
        let asked = AtomicU64::new(0);
        for stream in listener.incoming().map_while(Result::ok) {
            answer(stream, &policy, &body, &asked);
        }
    });
    address
}

fn answer(mut stream: TcpStream, policy: &str, page: &str, asked: &AtomicU64) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
    }
    let _ = reader.take(length).read_to_end(&mut Vec::new());
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (kind, body) = match path {
        "/" => ("text/html; charset=utf-8", page.to_owned()),
        "/metrics" => ("text/plain", metrics(asked.fetch_add(1, Ordering::Relaxed))),
        "/v1/limits" => (
            "application/json",
            r#"{"limits": {"default": ["100/minute burst 20"], "login": ["5/minute", "50/day"]}}"#.to_owned(),
        ),
        "/v1/top" => (
            "application/json",
            r#"{"limits": {"login": {"denied": [{"client": "203.0.113.7", "requests": 41250}, {"client": "<b>bold</b>", "requests": 77}],
                "used": [{"client": "198.51.100.20", "requests": 1200}]}}}"#
                .to_owned(),
        ),
        "/v1/peers" => (
            "application/json",
            r#"{"peers": [{"name": "b", "state": "linked", "rtt": 0.0021, "lag": 0.05, "unacked_units": 40},
                {"name": "c", "state": "unreachable", "rtt": null, "lag": 12.5, "unacked_units": 1}]}"#
                .to_owned(),
        ),
        _ => ("text/plain", String::new()),
    };
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{policy}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn metrics(round: u64) -> String {
    let wave = |base: u64, height: u64| (0..round).map(|at| base + at % 7 * height).sum::<u64>();
    let mut text = String::new();
    for (limiter, allowed, denied, live) in [
        ("default", wave(2_000, 150), wave(90, 40), 181_000),
        ("login", wave(40, 3), wave(300, 110), 2_300),
    ] {
        for (name, value) in [
            ("allowed_total", allowed.to_string()),
            ("denied_total", denied.to_string()),
            ("live_keys", live.to_string()),
            ("cells_max", "1250000".to_owned()),
            ("snapshot_age_seconds", "0.62".to_owned()),
            ("snapshot_errors_total", "0".to_owned()),
        ] {
            text.push_str(&format!("ratelimit_{name}{{limiter=\"{limiter}\"}} {value}\n"));
        }
    }
    for name in [
        "throttle_allowed_total",
        "throttle_denied_total",
        "throttle_refused_total",
        "throttle_limits",
        "throttle_live_keys",
    ] {
        text.push_str(&format!("ratelimit_{name} 3\n"));
    }
    text.push_str("ratelimit_uptime_seconds 93784\nratelimit_reloads_total 2\nratelimit_reload_errors_total 0\n");
    for listener in ["http", "resp"] {
        for name in ["connections", "connections_refused_total", "connections_dropped_total"] {
            text.push_str(&format!("ratelimit_{name}{{listener=\"{listener}\"}} 12\n"));
        }
    }
    text
}

#[test]
fn panels_of_a_cluster_show_and_what_clients_are_called_is_text() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let address = made_up(&node.http("GET", "/", "", "").1);
    let url = format!("http://{address}/");
    let Some((page, log)) = browse(&url, 8, None) else {
        return;
    };
    assert!(!is_hidden(&page, "top") && !is_hidden(&page, "peers"), "{log}");
    let peers = text_of(&page, "peer-rows");
    assert_eq!(peers, "b linked 2 ms 50 ms 40 c unreachable – 12.5 s 1");
    assert!(
        page.contains("&lt;b&gt;bold&lt;/b&gt;") && !page.contains("<b>bold"),
        "a name was taken for HTML"
    );
    assert_ne!(text_of(&page, "allowed"), "–");
    // Kept where a path is given: these are looked at by people, and one of them is in the documents.
    if let Some(folder) = std::env::var_os("RATELIMIT_SCREENSHOTS") {
        for (name, size) in [("page-phone.png", "390,1900"), ("page.png", "900,1150")] {
            browse(&url, 60, Some((&Path::new(&folder).join(name), size)));
        }
    }
}
