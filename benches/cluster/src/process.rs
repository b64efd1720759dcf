//! Processes of this program: started in one place, ended by their own id on every way out, and never waited for
//! without looking whether the user wants to stop.

use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

/// How often something that may take a while is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Ticks a second in `/proc/PID/stat`: a constant of Linux's interface, whatever the kernel's own clock does.
const TICKS: u64 = 100;

/// Ctrl-C and SIGTERM as a flag.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn listen() -> Result<Stop, String> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).map_err(|error| error.to_string())?;
        }
        Ok(Stop(flag))
    }

    pub(crate) fn request(&self) {
        // Relaxed here and below: the flag guards no other data.
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails once the user asked to stop.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.requested() {
            return Err("Stopped; all that was started has been ended.".to_owned());
        }
        Ok(())
    }

    /// Sleeps until `time`.
    pub(crate) fn sleep_until(&self, time: Instant) -> Result<(), String> {
        loop {
            self.check()?;
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    /// Polls `done` until it says so; fails after `within`.
    pub(crate) fn until(
        &self,
        what: &str,
        within: Duration,
        mut done: impl FnMut() -> Result<bool, String>,
    ) -> Result<(), String> {
        let end = Instant::now() + within;
        while !done()? {
            self.check()?;
            if Instant::now() > end {
                return Err(format!("{what}: not within {within:?}"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

/// What this run may use: a directory of its own, and the programs of others.
#[derive(Debug)]
pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) stop: Stop,
    /// Gubernator's daemon, or why there is none.
    pub(crate) gubernator: Result<PathBuf, String>,
}

impl Place {
    pub(crate) fn new(stop: Stop, gubernator: Result<PathBuf, String>) -> Result<Place, String> {
        let directory = tempfile::Builder::new()
            .prefix("ratelimit-cluster-bench-")
            .tempdir()
            .map_err(|error| format!("no temporary directory: {error}"))?;
        Ok(Place {
            directory,
            stop,
            gubernator,
        })
    }

    pub(crate) fn temporary(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn certificates(&self) -> PathBuf {
        self.temporary().join("certs")
    }
}

/// A running process. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    errors: PathBuf,
}

impl Process {
    /// Starts `command` with its input and output at hand and its errors in a file.
    pub(crate) fn start(name: &str, mut command: Command, place: &Place) -> Result<Process, String> {
        let errors = place.temporary().join(format!("{name}.err"));
        let file = File::create(&errors).map_err(|error| format!("{}: {error}", errors.display()))?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(|error| format!("{name} does not start: {error}"))?;
        Ok(Process {
            name: name.to_owned(),
            child,
            errors,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub(crate) fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Fails with its last words if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.ended().map_or(Ok(()), Err)
    }

    /// How it ended and its last words, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("{} ended ({status}): {}", self.name, self.last_words())),
            Err(error) => Some(format!("{}: {error}", self.name)),
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let mut lines: Vec<_> = text.lines().rev().take(3).collect();
        lines.reverse();
        lines.join(" | ")
    }

    /// Waits until `address` takes connections.
    pub(crate) fn listens(&mut self, address: &str, within: Duration, place: &Place) -> Result<(), String> {
        // Nobody reads what a server prints; a full pipe would stop it.
        drop(self.drain());
        let what = format!("{} listens on {address}", self.name);
        place.stop.until(&what, within, || {
            self.check()?;
            Ok(TcpStream::connect(address).is_ok())
        })
    }

    fn drain(&mut self) -> Option<std::thread::JoinHandle<()>> {
        let mut output = self.child.stdout.take()?;
        Some(std::thread::spawn(move || {
            let _ = std::io::copy(&mut output, &mut std::io::sink());
        }))
    }

    /// The time that its threads spent on a core until now.
    pub(crate) fn cpu(&self) -> Duration {
        std::fs::read_to_string(format!("/proc/{}/stat", self.id()))
            .ok()
            .and_then(|stat| cpu_in(&stat))
            .unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended on its own; then there is nothing to do but to collect it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time in a line of `/proc/PID/stat`.
fn cpu_in(stat: &str) -> Option<Duration> {
    // The name, in parentheses, may hold anything; what follows it are numbers from the third field on.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * (1000 / TICKS)))
}

/// An address on loopback whose port is free for TCP and UDP.
pub(crate) fn free_address() -> Result<String, String> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let tcp = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
        let address = tcp.local_addr().map_err(|error| error.to_string())?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address.to_string());
        }
    }
    Err(format!("no port free for TCP and UDP in {TRIES} tries"))
}

/// Whether a program of this name can be started.
pub(crate) fn on_path(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_a_core_is_read_whatever_the_name_holds() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 3 0 1000 1 1";
        assert_eq!(cpu_in(stat), Some(Duration::from_millis(1680)));
        assert_eq!(cpu_in("nonsense"), None);
    }

    #[test]
    fn a_process_ends_with_its_handle() {
        let place = Place::new(Stop(Arc::default()), Err("not needed".to_owned())).expect("a directory");
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut process = Process::start("sleep", command, &place).expect("sleep is on every system");
        let id = process.id();
        process.check().expect("it runs");
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
        let directory = place.temporary().to_owned();
        drop(place);
        assert!(!directory.exists());
    }

    #[test]
    fn the_last_words_of_a_process_that_ended_are_told() {
        let place = Place::new(Stop(Arc::default()), Err("not needed".to_owned())).expect("a directory");
        let mut command = Command::new("sh");
        command.args(["-c", "echo the port is taken >&2; exit 3"]);
        let mut process = Process::start("sh", command, &place).expect("sh is on every system");
        let told = place
            .stop
            .until("it ends", Duration::from_secs(20), || process.check().map(|()| false));
        assert!(told.expect_err("it ended").contains("the port is taken"));
    }

    #[test]
    fn waiting_ends_when_the_user_wants_to_stop() {
        let stop = Stop(Arc::default());
        stop.request();
        let far = Instant::now() + Duration::from_secs(3600);
        assert!(stop.sleep_until(far).is_err());
    }
}
