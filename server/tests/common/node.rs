//! A node as a process, and clients that speak to it byte by byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running node. Killed when dropped.
pub struct Node {
    child: Child,
    pub http: String,
    pub resp: String,
    /// What it has told on standard error so far.
    log: Arc<Mutex<String>>,
}

/// The command, with free ports.
pub fn serve(state: &Path, args: &[&str]) -> Command {
    let mut command = super::ratelimit();
    command
        .args(["serve", "--http", "127.0.0.1:0", "--resp", "127.0.0.1:0", "--state"])
        .arg(state)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for name in [
        "CONFIG",
        "HTTP",
        "RESP",
        "STATE",
        "LIMIT",
        "ALLOW_REMOTE",
        "TOKEN",
        "LOG",
    ] {
        command.env_remove(format!("RATELIMIT_{name}"));
    }
    command
}

impl Node {
    pub fn start(state: &Path, args: &[&str]) -> Node {
        Node::run(&mut serve(state, args))
    }

    pub fn run(command: &mut Command) -> Node {
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap();
        let kept = log.clone();
        std::thread::spawn(move || keep(stderr, &kept));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |prefix: &str| {
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("the node ended: {}", log.lock().unwrap()))
                .unwrap();
            line.strip_prefix(prefix)
                .unwrap_or_else(|| panic!("not {prefix}: {line}"))
                .to_owned()
        };
        let http = address("http  http");
        let http = http.trim_start_matches('s').trim_start_matches("://").to_owned();
        let resp = address("resp  redis://");
        Node { child, http, resp, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub fn stop(&mut self) -> ExitStatus {
        self.signal("-TERM");
        wait("the node to end", || self.child.try_wait().unwrap())
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn connect(&self) -> Client {
        Client::new(&self.resp)
    }

    /// A request over a connection of its own: the status, and everything after the status line.
    pub fn http(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let host = &self.http;
        let json = if body.is_empty() {
            ""
        } else {
            "content-type: application/json\r\n"
        };
        let length = body.len();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{json}content-length: {length}\r\n{headers}\r\n{body}"
        ))
    }

    pub fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {text}"));
        (status.parse().unwrap(), text.split_once("\r\n").unwrap().1.to_owned())
    }

    /// The value of a sample in `/metrics`.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = self.http("GET", "/metrics", "", "").1;
        let line = text
            .lines()
            .find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
        let line = line.unwrap_or_else(|| panic!("no {sample} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Its memory in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep(stderr: ChildStderr, log: &Mutex<String>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let mut log = log.lock().unwrap();
        log.push_str(&line);
        log.push('\n');
    }
}

/// Polls until there is a value.
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A connection that speaks RESP.
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub fn new(address: &str) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Asserts that exactly these bytes come next.
    pub fn expect(&mut self, reply: &str) {
        let mut bytes = vec![0; reply.len()];
        self.stream.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), reply);
    }

    /// The five numbers of a throttle.
    pub fn throttle(&mut self, arguments: &str) -> [i64; 5] {
        self.send(format!("CL.THROTTLE {arguments}\r\n").as_bytes());
        self.five()
    }

    pub fn five(&mut self) -> [i64; 5] {
        self.expect("*5\r\n");
        [(); 5].map(|()| {
            let mut number = String::new();
            let mut byte = [0];
            loop {
                self.stream.read_exact(&mut byte).unwrap();
                match byte[0] {
                    b'\n' => return number.trim_start_matches(':').trim().parse().unwrap(),
                    other => number.push(char::from(other)),
                }
            }
        })
    }

    /// What comes until the other side closes.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        // A connection that is closed with input unread ends with a reset, after what was sent.
        let _ = self.stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A file with a configuration.
pub fn config(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("node.toml");
    std::fs::write(&path, text).unwrap();
    path
}
