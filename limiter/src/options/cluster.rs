//! The options of the cluster by name: a table in a table.

use super::Options;
use super::names::{Dialect, OptionHelp, options};
use super::value::{Given, OptionValue};
use crate::cluster::{Mode, OnPartition};
use crate::{ClusterConfig, Error};

/// What begins the name of an environment variable about the cluster.
const PREFIX: &str = "RATELIMIT_CLUSTER_";

options! {
    Node "node" false "a name of 1 to 64 bytes"
        "This node's name, as in its certificate."
    Listen "listen" false "an address and port like \"127.0.0.1:7001\""
        "Where this node listens, UDP."
    Advertise "advertise" false "an address or DNS name with port"
        "What other nodes are told to dial. Default: listen, unless that is a wildcard."
    Seeds "seeds" false "a list of addresses or DNS names with port"
        "Nodes to dial first; the others are learnt from them. Default: none, others dial this one."
    Certs "certs" false "the name of a directory"
        "The directory that `ratelimit certs` made: ca, cert, key and secret are found there unless they are given."
    Ca "ca" false "PEM text, or the name of a file"
        "The certificate of the authority that all nodes trust."
    Cert "cert" false "PEM text, or the name of a file"
        "This node's certificate."
    Key "key" false "PEM text, or the name of a file"
        "The private key of this node's certificate."
    Secret "secret" false "32 hexadecimal digits, or the name of a file with them"
        "What keys the hash of ids: equal on all nodes."
    Mode "mode" false "\"eventual\", \"bounded:20\", \"strict\" or \"strict:10%\", or a list of them, one for each limit"
        "What a node may spend on a key that it has no lease for: all, so many units, nothing. Default: eventual."
    Owners "owners" false "a list of node names"
        "The nodes that own keys, the same on all nodes; needed for bounded and strict. Default, for eventual: all nodes."
    OnPartition "on_partition" false "\"open\", \"share\" or \"closed\""
        "What nodes do about keys whose owner they do not hear: each side takes over, takes its part of the rate, or nobody takes over. Default: open."
    Interval "interval" true "a duration from 1 ms to 10 s"
        "Time between two reports of a key in steady use. Default: 50 ms."
    MaxNodes "max_nodes" false "a whole number from 1 to 65535"
        "The most nodes there will be. Default: 256."
}

/// Every option of the cluster, in the order in which documents list them.
#[must_use]
pub fn cluster_option_help() -> Vec<OptionHelp> {
    NAMES.iter().map(|(_, help)| *help).collect()
}

impl Options {
    /// All of the cluster's options at once: what was set before is forgotten.
    pub(super) fn set_whole_cluster(&mut self, of: &Given<'_>, value: OptionValue) -> Result<(), Error> {
        let mut config = ClusterConfig::default();
        match value {
            OptionValue::Bool(false) => {
                self.cluster = None;
                return Ok(());
            }
            OptionValue::Bool(true) => config = ClusterConfig::from_environment()?,
            OptionValue::Table(table) => {
                for (name, value) in table {
                    set(&mut config, self.dialect, &name, value)?;
                }
            }
            other => return Err(of.wrong(&other)),
        }
        self.cluster = Some(config);
        Ok(())
    }

    /// Sets one option of the cluster, by the name that it has in this dialect: the way for a language without tables.
    /// [`OptionValue::Nothing`] leaves it as it is.
    ///
    /// Errors: no such option, or a value that it does not take; nothing is changed then.
    pub fn set_cluster(&mut self, name: &str, value: OptionValue) -> Result<(), Error> {
        let mut config = self.cluster.clone().unwrap_or_default();
        set(&mut config, self.dialect, name, value)?;
        self.cluster = Some(config);
        Ok(())
    }
}

impl ClusterConfig {
    /// The configuration that the environment gives: `RATELIMIT_CLUSTER_NODE`, `RATELIMIT_CLUSTER_SEEDS` and so on, one variable
    /// for each field, lists with commas, the interval in seconds.
    ///
    /// Errors: a variable of that beginning which is no field, or a value that the field does not take.
    pub fn from_environment() -> Result<Self, Error> {
        Self::from_variables(std::env::vars_os().filter_map(|(name, value)| {
            // What is not text is not ours.
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    fn from_variables(variables: impl Iterator<Item = (String, String)>) -> Result<Self, Error> {
        let mut config = ClusterConfig::default();
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(PREFIX) else {
                continue;
            };
            let in_context = |error: Error| match error {
                Error::Option(text) => Error::Option(format!("environment variable {variable}: {text}")),
                other => other,
            };
            if value.is_empty() {
                continue;
            }
            let name = name.to_ascii_lowercase();
            let number = |name: &str| matches!(name, "interval" | "max_nodes");
            let value = match value.trim().parse::<f64>() {
                Ok(value) if number(&name) => OptionValue::Float(value),
                _ => OptionValue::Text(value),
            };
            set(&mut config, Dialect::SnakeSeconds, &name, value).map_err(in_context)?;
        }
        Ok(config)
    }
}

fn set(config: &mut ClusterConfig, dialect: Dialect, name: &str, value: OptionValue) -> Result<(), Error> {
    let (found, help) = dialect.find(NAMES, "cluster option", name)?;
    if value == OptionValue::Nothing {
        return Ok(());
    }
    let of = Given { name, help, dialect };
    match found {
        Name::Node => config.node = of.text(value)?,
        Name::Listen => config.listen = of.text(value)?,
        Name::Advertise => config.advertise = Some(of.text(value)?),
        // An empty list is what a generated configuration of the first node has.
        Name::Seeds => config.seeds = of.texts(value)?,
        Name::Owners => config.owners = of.texts(value)?,
        Name::Certs => config.certs = Some(of.text(value)?.into()),
        Name::Ca => config.ca = Some(of.text(value)?),
        Name::Cert => config.cert = Some(of.text(value)?),
        Name::Key => config.key = Some(of.hidden_text(value)?),
        Name::Secret => config.secret = Some(of.hidden_text(value)?),
        Name::Mode => {
            let modes = of
                .texts(value.clone())?
                .iter()
                .map(|text| text.parse())
                .collect::<Result<Vec<Mode>, _>>()
                .map_err(|_| of.wrong(&value))?;
            (config.mode, config.modes) = match modes[..] {
                [] => return Err(of.wrong(&value)),
                [one] if !matches!(value, OptionValue::Texts(_)) => (one, Vec::new()),
                _ => (Mode::default(), modes),
            };
        }
        Name::OnPartition => {
            config.on_partition = of.one_of(
                value,
                &[
                    ("open", OnPartition::Open),
                    ("share", OnPartition::Share),
                    ("closed", OnPartition::Closed),
                ],
            )?;
        }
        Name::Interval => config.interval = of.duration(&value)?,
        Name::MaxNodes => config.max_nodes = of.count(&value)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(text: &str) -> OptionValue {
        OptionValue::Text(text.to_owned())
    }

    fn variables(given: &[(&str, &str)]) -> Result<ClusterConfig, Error> {
        ClusterConfig::from_variables(
            given
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn the_environment_says_the_same() {
        let config = variables(&[
            ("RATELIMIT_CLUSTER_NODE", "7"),
            ("RATELIMIT_CLUSTER_LISTEN", "0.0.0.0:7001"),
            ("RATELIMIT_CLUSTER_SEEDS", "a:1, b:2"),
            ("RATELIMIT_CLUSTER_MODE", "bounded:20"),
            ("RATELIMIT_CLUSTER_INTERVAL", "0.1"),
            ("RATELIMIT_CLUSTER_MAX_NODES", "9"),
            ("RATELIMIT_CLUSTER_OWNERS", ""),
            ("RATELIMIT_LIMIT", "of something else"),
        ])
        .expect("a configuration");
        assert_eq!((config.node.as_str(), config.max_nodes), ("7", 9));
        assert_eq!(config.seeds, ["a:1", "b:2"]);
        assert_eq!(config.mode, Mode::Bounded { units: 20 });
        assert_eq!(config.interval, Duration::from_millis(100));
        let error = variables(&[("RATELIMIT_CLUSTER_SEED", "a:1")]).expect_err("no such option");
        assert!(
            error.to_string().contains("RATELIMIT_CLUSTER_SEED") && error.to_string().contains("\"seeds\"?"),
            "{error}"
        );
        let error = variables(&[("RATELIMIT_CLUSTER_INTERVAL", "soon")]).expect_err("no number");
        assert!(error.to_string().contains("interval is \"soon\""), "{error}");
    }

    #[test]
    fn a_secret_is_in_no_sentence() {
        for name in ["key", "secret"] {
            let mut options = Options::new(Dialect::SnakeSeconds);
            let error = options
                .set_cluster(name, OptionValue::Texts(vec!["a secret".into()]))
                .expect_err("a list");
            assert!(!error.to_string().contains("a secret"));
        }
    }

    #[test]
    fn a_table_is_taken_whole_or_not_at_all() {
        let mut options = Options::new(Dialect::CamelMillis);
        let table = |entries: &[(&str, OptionValue)]| {
            OptionValue::Table(
                entries
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect(),
            )
        };
        let good = table(&[
            ("node", text("a")),
            ("onPartition", text("share")),
            ("intervalMs", OptionValue::Float(20.0)),
            ("mode", OptionValue::Texts(vec!["strict".into(), "eventual".into()])),
            ("seeds", OptionValue::Texts(Vec::new())),
            ("advertise", OptionValue::Nothing),
        ]);
        options.set("cluster", good).expect("a table");
        let config = options.cluster.clone().expect("set");
        assert_eq!(
            (config.interval, config.on_partition),
            (Duration::from_millis(20), OnPartition::Share)
        );
        assert_eq!(config.modes, [Mode::Strict { floor_ppm: 0 }, Mode::Eventual]);

        let bad = table(&[("node", text("b")), ("mode", text("lax"))]);
        let error = options.set("cluster", bad).expect_err("no such mode");
        assert!(error.to_string().contains("\"bounded:20\""), "{error}");
        assert_eq!(options.cluster.as_ref(), Some(&config));
        let error = options
            .set("cluster", table(&[("noed", text("b"))]))
            .expect_err("no such name");
        assert!(
            error.to_string().starts_with("there is no cluster option \"noed\""),
            "{error}"
        );
        let error = options.set("cluster", text("a")).expect_err("no table");
        assert!(error.to_string().contains("a table of cluster options"), "{error}");
        options.set("cluster", OptionValue::Bool(false)).expect("no cluster");
        assert_eq!(options.cluster, None);
    }
}
