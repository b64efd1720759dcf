//! `/metrics`, the alert rules and the dashboard against a real Prometheus, where that is installed.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::cluster::{addresses, certificates, linked, start};
use common::node::{Node, PATIENCE, wait};
use serde_json::Value;

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// Whether the program is there; says so if not.
fn found(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed (Debian: prometheus)");
    }
    found
}

/// Asks the node for everything that it counts.
fn used(directory: &Path) -> Node {
    let node = Node::start(directory, &["--limit", "3/day"]);
    for _ in 0..5 {
        node.http("POST", "/v1/check", "", r#"{"key": "a"}"#);
    }
    let mut client = node.connect();
    for _ in 0..3 {
        client.throttle("a 0 1 86400");
    }
    wait("a snapshot", || {
        let age = node.metric("ratelimit_snapshot_age_seconds{limiter=\"default\"}");
        (age >= 0.0).then_some(())
    });
    node
}

/// Two nodes of a cluster that hear each other and have spent something.
fn pair(directory: &Path) -> [Node; 2] {
    certificates(directory);
    let addresses = addresses();
    let nodes = ["a", "b"].map(|name| start(directory, &addresses, name, "eventual"));
    for node in &nodes {
        wait("the link", || (linked(node) == 1).then_some(()));
        node.http("POST", "/v1/check", "", r#"{"key": "a"}"#);
    }
    nodes
}

#[test]
fn names_help_and_types_are_as_prometheus_wants_them() {
    if !found("promtool") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let alone = used(directory.path());
    let [clustered, _other] = pair(directory.path());
    for node in [alone, clustered] {
        checked(&node);
    }

    let rules = Command::new("promtool")
        .args(["check", "rules"])
        .arg(packaging("alerts.yml"))
        .output();
    let rules = rules.unwrap();
    assert!(rules.status.success(), "{rules:?}");
}

/// Has what the node exports checked by Prometheus's own tool.
fn checked(node: &Node) {
    let text = node.http("GET", "/metrics", "", "").1;
    let text = text.split_once("\r\n\r\n").unwrap().1;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(common::stdout(&output).to_owned() + &common::stderr(&output), "");
}

/// Killed when dropped.
struct Prometheus {
    child: Child,
    address: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(directory: &Path, targets: &[&str]) -> Prometheus {
        let config = directory.join("prometheus.yml");
        let rules = packaging("alerts.yml").display().to_string();
        fs::write(
            &config,
            format!(
                "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [\"{rules}\"]\nscrape_configs:\n\
                 - job_name: ratelimit\n  static_configs: [{{ targets: {targets:?} }}]\n"
            ),
        )
        .unwrap();
        // It cannot choose a port by itself: one that was free a moment ago is taken.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Prometheus { child, address }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).ok()?;
        let mut told = String::new();
        stream.read_to_string(&mut told).ok()?;
        serde_json::from_str(told.split_once("\r\n\r\n")?.1).ok()
    }

    /// The rules of all groups.
    fn rules(&self) -> Option<Vec<Value>> {
        let told = self.get("/api/v1/rules")?;
        let groups = told["data"]["groups"].as_array()?;
        let rules = groups.iter().map(|group| group["rules"].as_array().cloned());
        Some(rules.collect::<Option<Vec<_>>>()?.concat())
    }

    /// The samples that an expression selects.
    fn query(&self, expression: &str) -> Option<usize> {
        let mut escaped = String::new();
        for byte in expression.bytes() {
            if byte.is_ascii_alphanumeric() {
                escaped.push(char::from(byte));
            } else {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        }
        let told = self.get(&format!("/api/v1/query?query={escaped}"))?;
        assert_eq!(told["status"], "success", "{expression}: {told}");
        Some(told["data"]["result"].as_array()?.len())
    }
}

#[test]
fn prometheus_scrapes_it_and_every_panel_and_alert_finds_its_metrics() {
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(packaging("grafana-dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 25);
    if !found("prometheus") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let node = used(directory.path());
    let [a, mut b] = pair(directory.path());
    let prometheus = Prometheus::start(directory.path(), &[&node.http, &a.http, &b.http]);
    wait("two scrapes", || {
        (prometheus.query("count_over_time(ratelimit_uptime_seconds[1m]) > 1") == Some(3)).then_some(())
    });
    assert_eq!(prometheus.query("up{job=\"ratelimit\"} == 1"), Some(3));
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression
                .replace("$__rate_interval", "1m")
                .replace("$instance", ".*")
                .replace("$limiter", ".*");
            assert!(!expression.contains('$'), "{expression}");
            let samples = prometheus.query(&expression);
            assert!(
                samples.is_some_and(|samples| samples > 0),
                "nothing found by {expression}"
            );
        }
    }
    // An alert finds nothing while all is well: its metrics are looked for without what compares them.
    let rules = fs::read_to_string(packaging("alerts.yml")).unwrap();
    let mut looked_for = 0;
    for word in rules.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
        if word.starts_with("ratelimit_") {
            assert_eq!(
                prometheus.query(&format!("count({word})")),
                Some(1),
                "nothing is called {word}"
            );
            looked_for += 1;
        }
    }
    assert!(looked_for >= 25, "{looked_for}");
    let told = wait("the rules to be evaluated", || {
        let rules = prometheus.rules()?;
        rules.iter().all(|rule| rule["health"] == "ok").then_some(rules)
    });
    assert!(told.len() >= 21);
    for rule in &told {
        assert_eq!(rule["state"], "inactive", "{rule}");
    }

    // One is killed: what says so waits only for its time to pass.
    b.kill();
    for alert in ["RatelimitDown", "RatelimitPeerLost", "RatelimitNodeAlone"] {
        wait(alert, || {
            let rules = prometheus.rules()?;
            let rule = rules.iter().find(|rule| rule["name"] == alert)?;
            (rule["state"] == "pending").then_some(())
        });
    }
}
