//! What a driver is told before it starts.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ratelimit_protocol::NodeConfig;

use crate::error::Error;

/// A PEM file, by name or as text.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// A file; read at the start and again whenever it changes.
    File(PathBuf),
    /// The text itself; changed by [`Driver::set_identity`](crate::Driver::set_identity).
    Text(String),
}

impl Pem {
    /// What a user's setting means: PEM text if it contains `-----BEGIN`, else the name of a file.
    #[must_use]
    pub fn from_setting(setting: &str) -> Self {
        if setting.contains("-----BEGIN") {
            Pem::Text(setting.to_owned())
        } else {
            Pem::File(PathBuf::from(setting))
        }
    }
}

// A key must not reach a log by way of `{:?}`.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => f.debug_tuple("File").field(path).finish(),
            Pem::Text(_) => f.write_str("Text(..)"),
        }
    }
}

/// Who this node is, and whom it believes. `ratelimit certs` makes all three files.
///
/// The first DNS name of the certificate is the node's name, and must be the one in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificates of the private authorities that may name nodes; several while one replaces the other.
    pub ca: Pem,
    /// This node's certificate, and the chain to the authority if there is one between.
    pub cert: Pem,
    /// The certificate's private key (PKCS #8, SEC1 or PKCS #1).
    pub key: Pem,
}

/// What a driver is told before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The protocol's part. The driver fills in `address` from [`advertise`](Config::advertise), and `first_start` from
    /// [`incarnation_file`](Config::incarnation_file).
    pub node: NodeConfig,
    /// The UDP address that peers reach this node at; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The address that peers are told, as `host:port` or `host` (then with the port listened on). `None`: the address
    /// listened on, or that of the interface that packets leave by if all are listened on.
    pub advertise: Option<String>,
    /// Where other nodes may be, as `address:port` or `name:port`. A name is resolved again and again, and every address
    /// that it has is linked to. The node's own address may be among them.
    pub seeds: Vec<String>,
    /// Certificates.
    pub identity: Identity,
    /// Remembers the node's life, so that the next is later although the clock may be set back. `None`: every start counts
    /// as one after a crash, which costs a `Bounded` or `Strict` limit a lease time of silence.
    pub incarnation_file: Option<PathBuf>,
    /// Times and sizes; the defaults suit a network within one region.
    pub tuning: Tuning,
}

impl Config {
    /// A node that listens on `listen`, with defaults for everything else.
    #[must_use]
    pub fn new(node: NodeConfig, listen: SocketAddr, identity: Identity) -> Self {
        Config {
            node,
            listen,
            advertise: None,
            seeds: Vec::new(),
            identity,
            incarnation_file: None,
            tuning: Tuning::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        for seed in &self.seeds {
            check_address(seed).map_err(|reason| Error::Seed {
                seed: seed.clone(),
                reason,
            })?;
        }
        self.tuning.check()
    }
}

/// `host:port`, `[v6]:port`; not 0 as the port.
pub(crate) fn check_address(address: &str) -> Result<(), &'static str> {
    if address.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0) {
        return Ok(());
    }
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err("it has no port");
    };
    if !port.parse::<u16>().is_ok_and(|port| port != 0) {
        return Err("its port is no number from 1 to 65535");
    }
    if host.is_empty() {
        return Err("it has no host");
    }
    if host.contains([':', '/', '[', ']', ' ', '@']) {
        return Err("its host is no name and no address (an IPv6 address needs brackets, and there is no scheme)");
    }
    Ok(())
}

/// Times and sizes of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// A link over which nothing comes for so long is down (default 4 s).
    pub idle: Duration,
    /// A link over which nothing is said for so long is asked for a sign of life (default 1 s; less than half of `idle`).
    pub keep_alive: Duration,
    /// A handshake that takes longer is given up (default 3 s).
    pub handshake: Duration,
    /// Names among the seeds are resolved this often (default 30 s).
    pub resolve_every: Duration,
    /// Certificate files are looked at this often (default 10 s).
    pub reload_every: Duration,
    /// The first pause before an address is tried again (default 50 ms); doubled each time, and at random up to half shorter.
    pub backoff_min: Duration,
    /// The longest such pause (default 5 s).
    pub backoff_max: Duration,
    /// The node's own certificate is said to expire this long before it does (default 7 days), and each day after.
    pub expiry_warning: Duration,
    /// Handshakes of others in progress, at most (default 64).
    pub handshakes: usize,
    /// The same from one source address (default 8).
    pub handshakes_per_address: usize,
    /// From this many handshakes in progress on, a source must first prove that it receives at its address (default 8).
    pub retry_from: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            idle: Duration::from_secs(4),
            keep_alive: Duration::from_secs(1),
            handshake: Duration::from_secs(3),
            resolve_every: Duration::from_secs(30),
            reload_every: Duration::from_secs(10),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            expiry_warning: Duration::from_secs(7 * 86_400),
            handshakes: 64,
            handshakes_per_address: 8,
            retry_from: 8,
        }
    }
}

impl Tuning {
    fn check(&self) -> Result<(), Error> {
        let millisecond = Duration::from_millis(1);
        let times = [
            ("idle", self.idle),
            ("keep_alive", self.keep_alive),
            ("handshake", self.handshake),
            ("resolve_every", self.resolve_every),
            ("reload_every", self.reload_every),
            ("backoff_min", self.backoff_min),
            ("backoff_max", self.backoff_max),
        ];
        let day = Duration::from_secs(86_400);
        for (name, time) in times {
            if time < millisecond || time > day {
                return Err(Error::Tuning {
                    name,
                    reason: "use 1 ms to 1 day",
                });
            }
        }
        if self.keep_alive * 2 >= self.idle {
            return Err(Error::Tuning {
                name: "keep_alive",
                reason: "use less than half of the idle time, or a link that is merely quiet is taken for dead",
            });
        }
        if self.backoff_min > self.backoff_max {
            return Err(Error::Tuning {
                name: "backoff_min",
                reason: "use at most backoff_max",
            });
        }
        if self.handshakes == 0 || self.handshakes_per_address == 0 {
            return Err(Error::Tuning {
                name: "handshakes",
                reason: "use at least 1, or nobody can link to this node",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_what_is_wrong() {
        for good in ["10.0.0.1:7001", "[::1]:7001", "localhost:1", "cache.default.svc:65535"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("10.0.0.1", "no port"),
            ("node", "no port"),
            ("node:0", "no number"),
            ("node:70000", "no number"),
            (":7001", "no host"),
            ("::1:7001", "brackets"),
            ("quic://node:7001", "scheme"),
        ] {
            let reason = check_address(bad).expect_err(bad);
            assert!(reason.contains(why), "{bad}: {reason}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let pem = Pem::from_setting("-----BEGIN PRIVATE KEY-----\nsecret");
        assert_eq!(format!("{pem:?}"), "Text(..)");
        assert_eq!(Pem::from_setting("/etc/a.key"), Pem::File("/etc/a.key".into()));
    }

    #[test]
    fn times_that_cannot_work_are_refused() {
        let mut tuning = Tuning::default();
        assert!(tuning.check().is_ok());
        tuning.keep_alive = tuning.idle / 2;
        assert!(matches!(tuning.check(), Err(Error::Tuning { name: "keep_alive", .. })));
        tuning.keep_alive = Duration::ZERO;
        assert!(matches!(tuning.check(), Err(Error::Tuning { name: "keep_alive", .. })));
    }
}
