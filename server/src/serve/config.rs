//! The configuration: a TOML file, the environment and the command line, the later ones before the earlier.
//!
//! Names, defaults and checks of a limiter's options are those of [`Options`], as for every language. Errors name the file and the line.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use ratelimit::options::{Dialect, OptionValue, Options};
use ratelimit::{Limit, RuleSet};
use serde::Deserialize;
use toml::Spanned;

use super::ServeArgs;
use crate::failure::Failure;

/// Where HTTP is served if nothing is said.
pub const DEFAULT_HTTP: &str = "127.0.0.1:8078";
/// Where RESP is served if nothing is said: one below the port of Redis.
pub const DEFAULT_RESP: &str = "127.0.0.1:6378";
/// Where snapshots lie if nothing is said.
pub const DEFAULT_STATE: &str = "ratelimit-state";
/// The limit if none is given.
pub const DEFAULT_LIMIT: &str = "100/minute";
/// What the limit is called that `--limit` gives, and that a request means which names none.
pub const DEFAULT_NAME: &str = "default";
/// How many connections of each kind are served at a time if nothing is said.
const DEFAULT_CONNECTIONS: usize = 1024;
/// How many sets of terms `CL.THROTTLE` can be asked about at a time if nothing is said.
const DEFAULT_THROTTLE_LIMITS: usize = 256;
/// For how many keys each of these has room if nothing is said: 33 MB when all are in debt.
const DEFAULT_THROTTLE_KEYS: usize = 1_000_000;

/// The longest name of a limit.
const MAX_NAME_BYTES: usize = 64;

/// A secret that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    /// Whether these bytes are the token. Takes the same time wherever they differ.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        subtle::ConstantTimeEq::ct_eq(self.0.as_bytes(), bytes).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A limiter as it is configured.
#[derive(Clone, Debug)]
pub(crate) struct LimiterConfig {
    /// Its options, with the place of its snapshot.
    pub(crate) options: Options,
    /// Its limits.
    pub(crate) limits: Vec<Limit>,
    /// Clients with limits of their own.
    pub(crate) overrides: BTreeMap<String, Limit>,
    /// Everything beside limits and overrides: what cannot be changed while it decides.
    pub(crate) fixed: BTreeMap<String, OptionValue>,
}

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsConfig {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) http: Option<SocketAddr>,
    pub(crate) http_tls: Option<TlsConfig>,
    pub(crate) resp: Option<SocketAddr>,
    pub(crate) state: PathBuf,
    pub(crate) token: Option<Token>,
    pub(crate) max_connections: usize,
    pub(crate) throttle_limits: usize,
    pub(crate) throttle_keys: usize,
    pub(crate) limiters: BTreeMap<String, LimiterConfig>,
    pub(crate) rules: RuleSet,
    /// Whether the clients that ask most and are denied most are listed.
    pub(crate) top: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    /// An address, or a table.
    http: Option<Spanned<toml::Value>>,
    resp: Option<Spanned<String>>,
    state: Option<PathBuf>,
    token: Option<Spanned<String>>,
    allow_remote: Option<bool>,
    top: Option<bool>,
    max_connections: Option<Spanned<usize>>,
    throttle: Throttle,
    limits: BTreeMap<String, Spanned<BTreeMap<String, Spanned<toml::Value>>>>,
    /// Read by [`RuleSet`], from the same text.
    #[serde(rename = "rule")]
    _rules: Vec<serde::de::IgnoredAny>,
}

/// The table of HTTP.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    listen: Option<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
}

impl Http {
    /// `http = "ADDRESS"` is short for a table with `listen` alone.
    fn of(value: toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(address) => Ok(Http {
                listen: Some(address),
                ..Http::default()
            }),
            table @ toml::Value::Table(_) => table
                .try_into()
                .map_err(|error: toml::de::Error| format!("http: {}", error.message())),
            _ => Err(
                "http is an address like \"127.0.0.1:8078\", or a section with listen, tls_cert and tls_key".to_owned(),
            ),
        }
    }

    fn tls(&self) -> Result<Option<TlsConfig>, String> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Ok(Some(TlsConfig {
                cert: cert.clone(),
                key: key.clone(),
            })),
            (None, None) => Ok(None),
            _ => Err("tls_cert and tls_key go together: give both, or neither".to_owned()),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Throttle {
    max_limits: Option<Spanned<usize>>,
    max_keys: Option<Spanned<usize>>,
}

/// The text of the file, to tell in which line something is.
struct Source<'a> {
    name: String,
    text: &'a str,
}

impl Source<'_> {
    fn wrong(&self, at: usize, what: impl fmt::Display) -> Failure {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        Failure::Usage(format!("{}, line {line}: {what}", self.name))
    }

    fn count(&self, name: &str, given: Option<&Spanned<usize>>, default: usize) -> Result<usize, Failure> {
        match given {
            Some(given) if *given.get_ref() == 0 => {
                Err(self.wrong(given.span().start, format!("{name} is 0: use at least 1")))
            }
            Some(given) => Ok(*given.get_ref()),
            None => Ok(default),
        }
    }
}

impl Config {
    /// Puts the configuration together. Reads the file, and opens nothing else.
    ///
    /// Errors: each names what is wrong and what to do, those of the file with its line.
    pub(crate) fn load(args: &ServeArgs) -> Result<Self, Failure> {
        let text = match &args.config {
            Some(path) => fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?,
            None => String::new(),
        };
        let name = args.config.as_deref().unwrap_or(Path::new("")).display().to_string();
        Config::of_text(args, &Source { name, text: &text })
    }

    fn of_text(args: &ServeArgs, source: &Source<'_>) -> Result<Self, Failure> {
        let file: File = toml::from_str(source.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            source.wrong(at, error.message())
        })?;
        let rules =
            RuleSet::in_toml(source.text).map_err(|error| Failure::Usage(format!("{}, {error}", source.name)))?;
        let allow_remote = args.allow_remote || file.allow_remote.unwrap_or(false);
        let address =
            |name: &str, arg: &Option<String>, given: &Option<Spanned<String>>, default: &str| match (arg, given) {
                (Some(text), _) => parse_address(text, allow_remote).map_err(|error| {
                    Failure::Usage(format!("--{name} (or RATELIMIT_{}): {error}", name.to_uppercase()))
                }),
                (None, Some(given)) => parse_address(given.get_ref(), allow_remote)
                    .map_err(|error| source.wrong(given.span().start, error)),
                (None, None) => parse_address(default, allow_remote).map_err(Failure::Usage),
            };
        let mut given = Http::default();
        let mut place = 0;
        if let Some(value) = file.http {
            place = value.span().start;
            given = Http::of(value.into_inner()).map_err(|error| source.wrong(place, error))?;
        }
        let http_tls = given.tls().map_err(|error| source.wrong(place, error))?;
        let listen = given.listen.map(|listen| Spanned::new(place..place, listen));
        let http = address("http", &args.http, &listen, DEFAULT_HTTP)?;
        let resp = address("resp", &args.resp, &file.resp, DEFAULT_RESP)?;
        if http.is_none() && resp.is_none() {
            return Err(Failure::Usage(
                "http and resp are both off: leave one on, there is nothing to serve".to_owned(),
            ));
        }
        let token = match (&args.token, &file.token) {
            (Some(token), _) => {
                Some(token_of(token).map_err(|error| Failure::Usage(format!("RATELIMIT_TOKEN: {error}")))?)
            }
            (None, Some(given)) => {
                Some(token_of(given.get_ref()).map_err(|error| source.wrong(given.span().start, error))?)
            }
            (None, None) => None,
        };
        let state = (args.state.clone().or(file.state)).unwrap_or_else(|| DEFAULT_STATE.into());
        let mut limiters = BTreeMap::new();
        for (name, options) in file.limits {
            let at = options.span().start;
            let limiter = limiter_of(&name, options.into_inner(), &state, at, source)?;
            limiters.insert(name, limiter);
        }
        if !args.limit.is_empty() || limiters.is_empty() {
            let texts = if args.limit.is_empty() {
                vec![DEFAULT_LIMIT.to_owned()]
            } else {
                args.limit.clone()
            };
            let mut options = BTreeMap::new();
            if let Some(given) = limiters.remove(DEFAULT_NAME) {
                options = given.fixed;
            }
            options.insert("limits".to_owned(), OptionValue::Texts(texts));
            let refused = |error: ratelimit::Error| Failure::Usage(format!("--limit (or RATELIMIT_LIMIT): {error}"));
            let limiter = build_config(DEFAULT_NAME, options, BTreeMap::new(), &state, |_, error| {
                refused(error)
            })?;
            limiters.insert(DEFAULT_NAME.to_owned(), limiter);
        }
        Ok(Config {
            http,
            http_tls,
            resp,
            state,
            token,
            max_connections: source.count("max_connections", file.max_connections.as_ref(), DEFAULT_CONNECTIONS)?,
            throttle_limits: source.count("max_limits", file.throttle.max_limits.as_ref(), DEFAULT_THROTTLE_LIMITS)?,
            throttle_keys: source.count("max_keys", file.throttle.max_keys.as_ref(), DEFAULT_THROTTLE_KEYS)?,
            limiters,
            rules,
            top: file.top.unwrap_or(true),
        })
    }
}

fn token_of(text: &str) -> Result<Token, String> {
    if text.len() < 16 || !text.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return Err(
            "a token has at least 16 visible ASCII characters and no blank: make one with `openssl rand -hex 32`"
                .to_owned(),
        );
    }
    Ok(Token(text.to_owned()))
}

/// `None`: not served.
fn parse_address(text: &str, allow_remote: bool) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let resolved = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let address = resolved.ok_or_else(|| {
        format!(
            "\"{}\" is not an address: write it like \"127.0.0.1:8078\", with port 0 for any free one, or \"off\"",
            text.escape_debug()
        )
    })?;
    if !allow_remote && !address.ip().is_loopback() {
        return Err(format!(
            "{address} can be reached from other machines: allow it with --allow-remote or allow_remote = true, and set a token; or \
             listen on 127.0.0.1"
        ));
    }
    Ok(Some(address))
}

fn limiter_of(
    name: &str,
    given: BTreeMap<String, Spanned<toml::Value>>,
    state: &Path,
    at: usize,
    source: &Source<'_>,
) -> Result<LimiterConfig, Failure> {
    if let Some(reason) = wrong_name(name) {
        return Err(source.wrong(
            at,
            format!("\"{}\" cannot be the name of a limit: {reason}", name.escape_debug()),
        ));
    }
    let mut places = BTreeMap::new();
    let mut options = BTreeMap::new();
    let mut overrides = BTreeMap::new();
    for (option, value) in given {
        let at = value.span().start;
        if option == "overrides" {
            let toml::Value::Table(clients) = value.into_inner() else {
                return Err(source.wrong(
                    at,
                    "overrides is not a table: write \"client-7\" = \"10/s\" in it for each client",
                ));
            };
            for (client, limit) in clients {
                let limit = limit.as_str().map(str::parse::<Limit>);
                let limit = match limit {
                    Some(Ok(limit)) => limit,
                    Some(Err(error)) => return Err(source.wrong(at, format!("override of \"{client}\": {error}"))),
                    None => {
                        let text = format!("override of \"{client}\": not a limit as text like \"10/s\"");
                        return Err(source.wrong(at, text));
                    }
                };
                overrides.insert(client, limit);
            }
            continue;
        }
        places.insert(option.clone(), at);
        options.insert(option, option_value(value.into_inner()));
    }
    let place = |option: Option<&str>| option.and_then(|option| places.get(option).copied()).unwrap_or(at);
    build_config(name, options, overrides, state, |option, error| {
        source.wrong(place(option), error)
    })
}

/// `wrong` makes a failure of an error in an option, or in how they go together.
fn build_config(
    name: &str,
    given: BTreeMap<String, OptionValue>,
    overrides: BTreeMap<String, Limit>,
    state: &Path,
    wrong: impl Fn(Option<&str>, ratelimit::Error) -> Failure,
) -> Result<LimiterConfig, Failure> {
    let mut options = Options::new(Dialect::SnakeSeconds);
    for (option, value) in &given {
        options
            .set(option, value.clone())
            .map_err(|error| wrong(Some(option), error))?;
    }
    if !given.contains_key("path") {
        let path = state.join(format!("{name}.snapshot"));
        let path = OptionValue::Text(path.to_string_lossy().into_owned());
        options.set("path", path).map_err(|error| wrong(None, error))?;
    }
    let limits = options.all_limits().map_err(|error| wrong(None, error))?;
    let of_limits = ["limits", "rate_limit", "time_window", "burst", "strict"];
    let fixed = given
        .into_iter()
        .filter(|(option, _)| !of_limits.contains(&option.as_str()))
        .collect();
    Ok(LimiterConfig {
        options,
        limits,
        overrides,
        fixed,
    })
}

/// Names are those of files and values of labels, so they may hold little.
fn wrong_name(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        Some("it needs 1 to 64 characters")
    } else if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    {
        Some("use letters, digits, hyphens and underscores")
    } else {
        None
    }
}

fn option_value(value: toml::Value) -> OptionValue {
    match value {
        toml::Value::String(text) => OptionValue::Text(text),
        toml::Value::Integer(number) => OptionValue::Int(number.into()),
        toml::Value::Float(number) => OptionValue::Float(number),
        toml::Value::Boolean(truth) => OptionValue::Bool(truth),
        toml::Value::Datetime(_) => OptionValue::Other("a date".to_owned()),
        toml::Value::Table(table) => {
            let entries = table.into_iter().map(|(name, value)| match value {
                toml::Value::Table(_) => (name, OptionValue::Other("a table".to_owned())),
                value => (name, option_value(value)),
            });
            OptionValue::Table(entries.collect())
        }
        toml::Value::Array(values) => {
            let texts = values.into_iter().map(|value| match value {
                toml::Value::String(text) => Some(text),
                _ => None,
            });
            match texts.collect() {
                Some(texts) => OptionValue::Texts(texts),
                None => OptionValue::Other("a list of other things than texts".to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        load_with(&ServeArgs::default(), text)
    }

    fn load_with(args: &ServeArgs, text: &str) -> Result<Config, String> {
        let name = "node.toml".to_owned();
        Config::of_text(args, &Source { name, text }).map_err(|failure| failure.to_string())
    }

    #[test]
    fn nothing_need_be_said() {
        let config = load("").unwrap();
        assert_eq!(config.http.unwrap().to_string(), DEFAULT_HTTP);
        assert_eq!(config.resp.unwrap().to_string(), DEFAULT_RESP);
        assert_eq!(config.limiters[DEFAULT_NAME].limits, ["100/minute".parse().unwrap()]);
    }

    #[test]
    fn limiters_take_all_options_by_name() {
        let text = "http = \"127.0.0.1:0\"\nresp = \"off\"\n[limits.api]\nlimits = [\"10/s\", \"1000/day\"]\nmax_keys = 1000\n\
                    [limits.api.overrides]\n\"client-7\" = \"100/s\"\n[limits.login]\nrate_limit = 5\ntime_window = 60.0\nstrict = true\n";
        let config = load(text).unwrap();
        assert_eq!(config.resp, None);
        assert_eq!(config.limiters["api"].limits.len(), 2);
        assert_eq!(config.limiters["api"].overrides["client-7"], "100/s".parse().unwrap());
        assert_eq!(config.limiters["login"].limits, ["5/minute strict".parse().unwrap()]);
        assert!(!config.limiters.contains_key(DEFAULT_NAME));
    }

    #[test]
    fn the_command_line_comes_first() {
        let args = ServeArgs {
            http: Some("127.0.0.1:1".to_owned()),
            limit: vec!["3/s".to_owned()],
            ..ServeArgs::default()
        };
        let config = load_with(
            &args,
            "http = \"127.0.0.1:2\"\n[limits.default]\nlimits = \"1/s\"\nmax_keys = 7",
        )
        .unwrap();
        assert_eq!(config.http.unwrap().port(), 1);
        assert_eq!(config.limiters[DEFAULT_NAME].limits, ["3/s".parse().unwrap()]);
        assert_eq!(config.limiters[DEFAULT_NAME].fixed["max_keys"], OptionValue::Int(7));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line, part) in [
            ("\nhtpp = \"127.0.0.1:0\"", 2, "unknown field `htpp`"),
            ("\n\nhttp = 5", 3, "http is an address"),
            ("\n[http]\nlistn = \"127.0.0.1:0\"", 2, "http: unknown field `listn`"),
            ("\n[http]\ntls_cert = \"a.pem\"", 2, "go together"),
            ("\n[http]\nlisten = \"0.0.0.0:80\"", 2, "--allow-remote"),
            ("http = \"localhost\"", 1, "is not an address"),
            ("\nhttp = \"0.0.0.0:80\"", 2, "--allow-remote"),
            ("token = \"short\"", 1, "at least 16"),
            ("max_connections = 0", 1, "use at least 1"),
            ("[throttle]\nmax_limits = 0", 2, "use at least 1"),
            (
                "[limits.api]\nlimits = \"1/s\"\nmaxKeys = 5",
                3,
                "did you mean \"max_keys\"",
            ),
            ("[limits.api]\nlimits = \"1/fortnight\"", 2, "is not a limit"),
            ("[limits.api]\nlimits = [1]", 2, "a list of other things"),
            ("[limits.api]\nmax_keys = 5", 1, "there is no limit"),
            (
                "[limits.api]\nlimits = \"1/s\"\noverrides = { a = \"x\" }",
                3,
                "override of \"a\"",
            ),
            ("[limits.api]\nlimits = \"1/s\"\noverrides = 5", 3, "is not a table"),
            ("[limits.\"a b\"]\nlimits = \"1/s\"", 1, "cannot be the name of a limit"),
            ("= 5", 1, ""),
        ] {
            let error = load(text).unwrap_err();
            assert!(
                error.starts_with(&format!("node.toml, line {line}: ")),
                "{text}: {error}"
            );
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn other_machines_are_served_only_on_demand() {
        assert!(load("allow_remote = true\nhttp = \"0.0.0.0:80\"").is_ok());
        assert!(load("http = \"[::1]:80\"").is_ok());
        assert!(load("http = \"off\"\nresp = \"off\"").is_err());
    }

    #[test]
    fn a_token_is_not_shown() {
        let config = load("token = \"0123456789abcdef\"").unwrap();
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
        let token = config.token.unwrap();
        assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeg") && !token.is(b""));
    }
}
