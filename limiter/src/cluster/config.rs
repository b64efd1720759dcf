//! What a user says about the cluster, and what is made of it before anything starts.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ratelimit_cluster_table::limit_ids;
use ratelimit_model::Limit;
use ratelimit_protocol::{LimitSpec, NodeConfig, NodeId};
use ratelimit_quic::{Identity, Pem};

use crate::Error;
use crate::options::hexadecimal;

pub use ratelimit_protocol::{Mode, OnPartition};

/// Time between two reports of a key in steady use, if nothing is said.
const INTERVAL: Duration = Duration::from_millis(50);
/// A lease holds for as many intervals within these times: a report that is lost once or twice ends none.
const INTERVALS_PER_LEASE: u32 = 20;
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
const LONGEST_LEASE: Duration = Duration::from_secs(60);
/// The most nodes, if nothing is said.
const MAX_NODES: u64 = 256;

/// Makes a limiter one node of several that keep one limit. Give it to [`Builder::cluster`](crate::Builder::cluster).
///
/// The nodes trust each other by certificates of a private authority, which `ratelimit certs DIR a b c` makes; there is no connection
/// without them. Names, listening address and [`certs`](ClusterConfig::certs) are enough:
///
/// ```no_run
/// use ratelimit::{ClusterConfig, Limiter};
///
/// let limiter = Limiter::builder()
///     .limit("1000/s".parse()?)
///     .cluster(ClusterConfig {
///         node: "a".into(),
///         listen: "10.0.0.1:7001".into(),
///         seeds: vec!["10.0.0.2:7001".into(), "10.0.0.3:7001".into()],
///         certs: Some("/etc/ratelimit/certs".into()),
///         ..ClusterConfig::default()
///     })
///     .build()?;
/// # Ok::<(), ratelimit::Error>(())
/// ```
///
/// `docs/consistency.md` says what each [`mode`](ClusterConfig::mode) promises.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// This node's name, as in its certificate: 1 to 64 bytes.
    pub node: String,
    /// The address and port on which this node listens, UDP, as `127.0.0.1:7001` or `[::]:7001`. Port 0 picks a free one.
    pub listen: String,
    /// What other nodes are told to dial, an address or DNS name with port. Default: [`listen`](ClusterConfig::listen), unless that is
    /// a wildcard.
    pub advertise: Option<String>,
    /// Nodes to dial first, as addresses or DNS names with port; all addresses of a name are dialled, and it is looked up again every
    /// 30 s. The others are learnt from these. A node may find its own address among them.
    pub seeds: Vec<String>,
    /// The directory that `ratelimit certs` made: gives `ca`, `cert`, `key` and `secret` where these are not given themselves.
    pub certs: Option<PathBuf>,
    /// The authority's certificate: PEM text, or a file.
    pub ca: Option<String>,
    /// This node's certificate: PEM text, or a file. A file is read again when it changes.
    pub cert: Option<String>,
    /// Its private key: PEM text, or a file.
    pub key: Option<String>,
    /// What keys the hash of ids, equal on all nodes: 32 hexadecimal digits, or a file with them.
    pub secret: Option<String>,
    /// What a node may spend on a key that it has no lease for.
    pub mode: Mode,
    /// The same for each of several limits, in their order; empty: [`mode`](ClusterConfig::mode) for all.
    pub modes: Vec<Mode>,
    /// The nodes that own keys, by name and the same on all nodes. Needed for [`Mode::Bounded`] and [`Mode::Strict`]; for
    /// [`Mode::Eventual`] all nodes own some if none is given.
    pub owners: Vec<String>,
    /// What happens to keys of [`Mode::Eventual`] whose owner is not heard.
    pub on_partition: OnPartition,
    /// Time between two reports of a key in steady use: 1 ms to 10 s. Default: 50 ms.
    pub interval: Duration,
    /// The most nodes there will be. Default: 256.
    pub max_nodes: u64,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        ClusterConfig {
            node: String::new(),
            listen: String::new(),
            advertise: None,
            seeds: Vec::new(),
            certs: None,
            ca: None,
            cert: None,
            key: None,
            secret: None,
            mode: Mode::Eventual,
            modes: Vec::new(),
            owners: Vec::new(),
            on_partition: OnPartition::Open,
            interval: INTERVAL,
            max_nodes: MAX_NODES,
        }
    }
}

/// Keys and secrets are not shown.
impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("node", &self.node)
            .field("listen", &self.listen)
            .field("advertise", &self.advertise)
            .field("seeds", &self.seeds)
            .field("certs", &self.certs)
            .field("mode", &self.mode)
            .field("modes", &self.modes)
            .field("owners", &self.owners)
            .field("on_partition", &self.on_partition)
            .field("interval", &self.interval)
            .field("max_nodes", &self.max_nodes)
            .finish_non_exhaustive()
    }
}

/// A configuration that was looked at.
pub(crate) struct Resolved {
    pub(crate) driver: ratelimit_quic::Config,
    pub(crate) secret: [u8; 16],
}

fn wrong(text: impl Into<String>) -> Error {
    Error::ClusterConfig(text.into())
}

impl ClusterConfig {
    /// Looks at the configuration of a node with these limits. `snapshot`: where the limiter keeps its snapshot.
    pub(crate) fn resolve(&self, limits: &[Limit], snapshot: Option<&Path>) -> Result<Resolved, Error> {
        if self.node.is_empty() {
            return Err(wrong(
                "the cluster's \"node\" is not given: say this node's name, as in its certificate",
            ));
        }
        if self.listen.is_empty() {
            return Err(wrong(
                "the cluster's \"listen\" is not given: say an address and port like \"127.0.0.1:7001\"",
            ));
        }
        let listen = address(&self.listen)?;
        let mut node = NodeConfig::new(&self.node);
        node.owners = self.owners.clone();
        node.on_partition = self.on_partition;
        node.interval_ns = nanoseconds(self.interval);
        // Whole milliseconds, as leases are told.
        let lease = self
            .interval
            .saturating_mul(INTERVALS_PER_LEASE)
            .clamp(SHORTEST_LEASE, LONGEST_LEASE);
        node.ttl_ns = nanoseconds(lease).next_multiple_of(1_000_000);
        node.max_nodes = self.max_nodes;
        node.limits = self.specs(limits)?;
        node.check().map_err(|error| wrong(error.to_string()))?;
        let life = match (snapshot, &self.certs) {
            (Some(snapshot), _) => Some(beside(snapshot, "node")),
            // A directory that is mounted to be read only is a good place for certificates: then every start counts as one after a crash.
            (None, Some(certs)) => Some(certs.join(format!("{}.life", self.node))).filter(|life| can_be_written(life)),
            (None, None) => None,
        };
        let identity = Identity {
            ca: self.pem("ca", self.ca.as_ref(), "ca.pem")?,
            cert: self.pem("cert", self.cert.as_ref(), &format!("{}.pem", self.node))?,
            key: self.pem("key", self.key.as_ref(), &format!("{}.key", self.node))?,
        };
        let mut driver = ratelimit_quic::Config::new(node, listen, identity);
        driver.advertise = self.advertise.clone();
        driver.seeds = self.seeds.clone();
        driver.incarnation_file = life;
        Ok(Resolved {
            driver,
            secret: self.shared_secret()?,
        })
    }

    /// The limits as the cluster numbers them.
    fn specs(&self, limits: &[Limit]) -> Result<Vec<LimitSpec>, Error> {
        if !self.modes.is_empty() && self.modes.len() != limits.len() {
            return Err(wrong(format!(
                "\"mode\" is a list of {} for {} limits: give one for each, or one for all",
                self.modes.len(),
                limits.len()
            )));
        }
        let numbered = limit_ids(limits.len()).into_iter().zip(limits).enumerate();
        let specs = numbered.map(|(place, (id, limit))| LimitSpec {
            id,
            version: 1,
            author: NodeId::of(&self.node),
            limit: *limit,
            mode: self.modes.get(place).copied().unwrap_or(self.mode),
        });
        Ok(specs.collect())
    }

    fn pem(&self, name: &str, given: Option<&String>, in_certs: &str) -> Result<Pem, Error> {
        match (given, &self.certs) {
            (Some(given), _) => Ok(Pem::from_setting(given)),
            (None, Some(certs)) => Ok(Pem::File(certs.join(in_certs))),
            (None, None) => Err(wrong(format!(
                "the cluster's \"{name}\" is not given: make certificates with `ratelimit certs DIR {}` and give \"certs\", or give \
                 \"ca\", \"cert\" and \"key\" as files or PEM texts",
                self.node
            ))),
        }
    }

    fn shared_secret(&self) -> Result<[u8; 16], Error> {
        let file = match (&self.secret, &self.certs) {
            (Some(given), _) => match hexadecimal(given) {
                Some(secret) => return Ok(secret),
                None => PathBuf::from(given),
            },
            (None, Some(certs)) => certs.join("secret"),
            (None, None) => {
                return Err(wrong(
                    "the cluster's \"secret\" is not given: 32 hexadecimal digits, equal on all nodes, or a file with them; \
                     `ratelimit certs` makes one",
                ));
            }
        };
        // What was given may be a secret with a slip in it: it must not be shown.
        let shown = if self.secret.is_some() {
            "what the cluster's \"secret\" names".to_owned()
        } else {
            file.display().to_string()
        };
        let text = fs::read_to_string(&file).map_err(|error| {
            wrong(format!(
                "{shown} is not 32 hexadecimal digits and cannot be read as a file with them: {error}"
            ))
        })?;
        hexadecimal(&text).ok_or_else(|| {
            wrong(format!(
                "{shown} holds something other than 32 hexadecimal digits: `ratelimit certs` makes such a file"
            ))
        })
    }
}

fn address(listen: &str) -> Result<SocketAddr, Error> {
    if let Ok(address) = listen.parse() {
        return Ok(address);
    }
    let mut found = listen.to_socket_addrs().map_err(|error| {
        wrong(format!(
            "\"listen\" is \"{listen}\", which is no address of this host: {error}"
        ))
    })?;
    found
        .next()
        .ok_or_else(|| wrong(format!("\"listen\" is \"{listen}\", a name without an address")))
}

/// Whether a file can be made beside this one, which is left alone.
fn can_be_written(path: &Path) -> bool {
    let attempt = beside(path, &format!("try.{}", std::process::id()));
    let made = fs::File::create(&attempt).is_ok();
    // It is ours, and empty.
    let _gone = fs::remove_file(&attempt);
    made
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `dir/api.snapshot` as `dir/api.snapshot.node`.
fn beside(snapshot: &Path, extension: &str) -> PathBuf {
    let mut name = snapshot.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "000102030405060708090a0b0c0d0e0f";

    fn config() -> ClusterConfig {
        ClusterConfig {
            node: "a".into(),
            listen: "127.0.0.1:7001".into(),
            ca: Some("-----BEGIN CERTIFICATE-----".into()),
            cert: Some("a.pem".into()),
            key: Some("a.key".into()),
            secret: Some(SECRET.into()),
            ..ClusterConfig::default()
        }
    }

    fn limits(texts: &[&str]) -> Vec<Limit> {
        texts.iter().map(|text| text.parse().expect("a limit")).collect()
    }

    #[test]
    fn what_is_left_out_is_found_in_the_directory_of_certificates() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("secret"), format!("{SECRET}\n")).expect("a file");
        let resolved = ClusterConfig {
            node: "a".into(),
            listen: "0.0.0.0:7001".into(),
            certs: Some(directory.path().into()),
            ..ClusterConfig::default()
        }
        .resolve(&limits(&["1/s"]), None)
        .expect("all that is needed");
        assert_eq!(resolved.secret[..3], [0, 1, 2]);
        assert_eq!(resolved.driver.identity.cert, Pem::File(directory.path().join("a.pem")));
        assert_eq!(resolved.driver.incarnation_file, Some(directory.path().join("a.life")));
        let kept = config()
            .resolve(&limits(&["1/s"]), Some(Path::new("d/x.snapshot")))
            .expect("fine");
        assert_eq!(kept.driver.incarnation_file, Some("d/x.snapshot.node".into()));
        assert_eq!(kept.driver.identity.ca, Pem::Text("-----BEGIN CERTIFICATE-----".into()));
    }

    #[test]
    fn leases_are_longer_than_reports_are_apart() {
        for (interval_ms, ttl_ms) in [(1, 1_000), (50, 1_000), (200, 4_000), (10_000, 60_000)] {
            let mut config = config();
            config.interval = Duration::from_millis(interval_ms);
            let node = config
                .resolve(&limits(&["1/s"]), None)
                .expect("an interval in range")
                .driver
                .node;
            assert_eq!(node.ttl_ns, ttl_ms * 1_000_000);
        }
    }

    #[test]
    fn each_limit_may_have_its_mode() {
        let mut config = config();
        config.owners = vec!["a".into()];
        config.modes = vec![Mode::Strict { floor_ppm: 0 }, Mode::Bounded { units: 5 }];
        let specs = config
            .resolve(&limits(&["1/s", "9/day"]), None)
            .expect("fine")
            .driver
            .node
            .limits;
        assert_eq!(specs.iter().map(|spec| spec.mode).collect::<Vec<_>>(), config.modes);
        assert_eq!(specs.iter().map(|spec| spec.id).collect::<Vec<_>>(), limit_ids(2));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        type Change = fn(&mut ClusterConfig);
        let cases: &[(&str, Change)] = &[
            ("\"node\" is not given", |c| c.node.clear()),
            ("\"listen\" is not given", |c| c.listen.clear()),
            ("no address of this host", |c| c.listen = "127.0.0.1".into()),
            ("no address of this host", |c| {
                c.listen = "no.such.host.invalid:1".into()
            }),
            ("ratelimit certs DIR a", |c| c.ca = None),
            ("\"secret\" is not given", |c| c.secret = None),
            ("not 32 hexadecimal digits", |c| c.secret = Some("0001020304".into())),
            ("one for each, or one for all", |c| c.modes = vec![Mode::Eventual; 2]),
            ("`owners`", |c| c.mode = Mode::Strict { floor_ppm: 0 }),
            ("interval", |c| c.interval = Duration::from_secs(20)),
        ];
        for (text, change) in cases {
            let mut config = config();
            change(&mut config);
            let Err(error) = config.resolve(&limits(&["1/s"]), None) else {
                panic!("not refused: {text}");
            };
            assert_eq!(error.name(), "cluster_config");
            assert!(error.to_string().contains(text), "{error} does not say {text}");
            assert!(!error.to_string().contains("0001020304"), "a secret is shown: {error}");
        }
        assert!(!format!("{:?}", config()).contains(SECRET));
    }
}
