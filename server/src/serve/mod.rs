//! `ratelimit serve`: limits for services in any language, over HTTP with JSON and over the protocol of Redis.
//!
//! [`config`] puts together what is to be served; `node` holds the limiters that all connections share; `listen` accepts
//! connections, within bounds, for `resp` and `http`. A decision is made by the thread that read the request: nothing is handed over, and
//! no lock is held while deciding.
//!
//! The runtime has one thread per core and moves connections between them. One runtime per core, each with a socket of its own, would
//! save that, but the kernel spreads connections by a hash: a few busy ones, as connection pools have, land on one core and leave
//! the others idle.

pub mod config;
mod files;
mod handed;
mod http;
mod latency;
mod listen;
mod metrics;
mod node;
pub mod resp;
mod throttle;
mod tls;
mod watch;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as channel;

use self::config::Config;
use self::handed::Handed;
use self::node::{Node, texts};
use crate::events::tell;
use crate::failure::{Failure, output};
use crate::stop::Stop;

/// How long connections may take to finish what they are at when the node stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// A line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What to serve and where.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// A configuration in TOML; without one there is a limit "default" of 100/minute
    #[arg(long, value_name = "FILE", env = "RATELIMIT_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where HTTP is served, or "off"; port 0 picks a free one [default: 127.0.0.1:8078]
    #[arg(long, value_name = "ADDR", env = "RATELIMIT_HTTP")]
    pub http: Option<String>,
    /// Where the protocol of Redis is served, or "off" [default: 127.0.0.1:6378]
    #[arg(long, value_name = "ADDR", env = "RATELIMIT_RESP")]
    pub resp: Option<String>,
    /// The directory of the snapshots, which let counts survive a restart [default: ratelimit-state]
    #[arg(long, value_name = "DIR", env = "RATELIMIT_STATE")]
    pub state: Option<PathBuf>,
    /// The limit called "default", like "100/minute burst 20"; again for a further one that must allow as well
    #[arg(long, value_name = "TEXT", env = "RATELIMIT_LIMIT", value_delimiter = ',')]
    pub limit: Vec<String>,
    /// Listens where other machines can reach it, if an address says so
    #[arg(long, env = "RATELIMIT_ALLOW_REMOTE")]
    pub allow_remote: bool,
    /// How events are written to standard error
    #[arg(long, value_name = "FORM", env = "RATELIMIT_LOG", value_enum, default_value_t)]
    pub log: Log,
    /// Checks the configuration and ends
    #[arg(long)]
    pub check_config: bool,
    /// The token that clients of RESP and administrators need. Not on the command line, where all users of the machine can read it
    #[arg(skip)]
    pub token: Option<String>,
}

/// Runs the command: serves until SIGINT or SIGTERM.
///
/// Errors: the configuration makes no sense, an address is taken, or the state directory cannot be used.
pub fn run(args: &ServeArgs, stop: &Stop, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
    let mut args = args.clone();
    args.token = args.token.or_else(|| std::env::var("RATELIMIT_TOKEN").ok());
    let config = Config::load(&args)?;
    if args.check_config {
        check(&config)?;
        let names: Vec<&str> = config.limiters.keys().map(String::as_str).collect();
        return writeln!(out, "the configuration is fine: limits {}", names.join(", ")).map_err(output);
    }
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    let told = match args.log {
        Log::Text => subscriber.try_init(),
        Log::Json => subscriber.json().flatten_event(true).try_init(),
    };
    told.unwrap_or_else(|error| {
        // A process that already has a subscriber sends events there.
        let _ = writeln!(err, "note: {error}");
    });
    files::raise(2 * config.max_connections);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Io(format!("cannot start threads: {error}")))?;
    let served = runtime.block_on(serve(&args, config, stop, out));
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// Makes every limiter once, in a directory that is gone afterwards: what only shows when a limiter is made shows here too.
fn check(config: &Config) -> Result<(), Failure> {
    use ratelimit::options::OptionValue;

    let directory =
        tempfile::tempdir().map_err(|error| Failure::Io(format!("cannot make a directory to try it in: {error}")))?;
    if let Some(files) = &config.http_tls {
        tls::load(files)?;
    }
    for (name, limiter) in &config.limiters {
        if limiter.fixed.contains_key("share") {
            // The table of other processes is not for trying things out.
            continue;
        }
        let mut options = limiter.options.clone();
        let path = directory.path().join(name).to_string_lossy().into_owned();
        let wrong = |error: ratelimit::Error| Failure::Usage(format!("limit \"{name}\": {error}"));
        options.set("path", OptionValue::Text(path)).map_err(wrong)?;
        options
            .set("restore", OptionValue::Text("auto".to_owned()))
            .map_err(wrong)?;
        options.build().map_err(wrong)?;
    }
    Ok(())
}

async fn serve(args: &ServeArgs, config: Config, stop: &Stop, out: &mut dyn Write) -> Result<(), Failure> {
    let refused = |error| Failure::Io(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(refused)?;

    // Addresses first: who starts a second node by mistake is told so before it touches the state of the first.
    let handed = Handed::take()?;
    let http = bind("http", config.http, handed.http).await?;
    let resp = bind("resp", config.resp, handed.resp).await?;
    let most = config.max_connections;
    let addresses = (address(http.as_ref())?, address(resp.as_ref())?);
    if addresses.1.is_some_and(|address| !address.ip().is_loopback()) && config.token.is_none() {
        tell!(OPEN_TO_ALL);
    }
    let node = Arc::new(Node::new(config)?);
    let (stopper, stopping) = channel::channel(false);
    let mut tasks = vec![tokio::spawn(watch::run(node.clone(), stopping.clone()))];
    if let Some(listener) = http {
        tasks.push(tokio::spawn(listen::http(
            listener,
            node.clone(),
            most,
            stopping.clone(),
        )));
    }
    if let Some(listener) = resp {
        tasks.push(tokio::spawn(listen::resp(
            listener,
            node.clone(),
            most,
            stopping.clone(),
        )));
    }
    match announce(&node, addresses, out) {
        // Who started it has read what it wanted and closed the pipe: no reason to stop serving.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        announced => announced.map_err(output)?,
    }
    tell!(STARTED, version = env!("CARGO_PKG_VERSION"));
    notify(NotifyState::Ready);

    // A signal that came before these handlers is seen only as the flag.
    while !stop.requested() {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                notify(NotifyState::Reloading);
                reload(args, &node).await;
                notify(NotifyState::Ready);
            }
        }
    }
    tell!(STOPPING);
    notify(NotifyState::Stopping);
    // Nobody listens any more if the listeners have failed.
    let _ = stopper.send(true);
    let finished = async {
        for task in tasks {
            if let Err(error) = task.await {
                tell!(LISTENER_FAILED, %error);
            }
        }
    };
    if tokio::time::timeout(STOP_TIMEOUT, finished).await.is_err() {
        tell!(CONNECTIONS_CUT, timeout = ?STOP_TIMEOUT);
    }
    let failed = tokio::task::block_in_place(|| node.close());
    if failed > 0 {
        return Err(Failure::Io(format!(
            "{failed} last snapshots could not be written: the events above say why"
        )));
    }
    tell!(STOPPED);
    Ok(())
}

/// Tells systemd, if it is there to listen.
fn notify(state: NotifyState<'_>) {
    // Who started the node otherwise hears nothing, which is no fault.
    let _ = sd_notify::notify(&[state]);
}

/// Listens at the address, or on the socket that was handed over in its place.
async fn bind(
    name: &str,
    address: Option<SocketAddr>,
    handed: Option<TcpListener>,
) -> Result<Option<TcpListener>, Failure> {
    if handed.is_some() {
        return Ok(handed);
    }
    let Some(address) = address else {
        return Ok(None);
    };
    let bound = TcpListener::bind(address).await;
    bound.map(Some).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!(": another program listens there; use --{name} with port 0 for a free one")
            }
            _ => String::new(),
        };
        Failure::Io(format!("cannot listen on {address}: {error}{hint}"))
    })
}

fn address(listener: Option<&TcpListener>) -> Result<Option<SocketAddr>, Failure> {
    let address = listener.map(TcpListener::local_addr).transpose();
    address.map_err(|error| Failure::Io(format!("cannot tell the address of a listener: {error}")))
}

fn announce(
    node: &Node,
    (http, resp): (Option<SocketAddr>, Option<SocketAddr>),
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let scheme = if node.tls().is_some() { "https" } else { "http" };
    if let Some(address) = http {
        writeln!(out, "http  {scheme}://{address}")?;
    }
    if let Some(address) = resp {
        writeln!(out, "resp  redis://{address}")?;
    }
    writeln!(out)?;
    for (name, named) in node.limiters().iter() {
        writeln!(out, "limit {name}: {}", texts(&named.limiter.limits()).join(", "))?;
    }
    writeln!(out, "\nTry it:")?;
    if let Some(address) = http {
        writeln!(
            out,
            "  curl -s {scheme}://{address}/v1/check --json '{{\"key\": \"client-7\"}}'\n  curl -s {scheme}://{address}/metrics\n  \
             a browser at {scheme}://{address}/"
        )?;
    }
    if let Some(address) = resp {
        let (ip, port) = (address.ip(), address.port());
        writeln!(out, "  redis-cli -h {ip} -p {port} CL.THROTTLE client-7 0 1 60")?;
    }
    writeln!(out, "\nCtrl-C stops it; counts are kept.")?;
    out.flush()
}

/// Puts the configuration in force as it is now. Whatever is wrong with it is told, and the one before stays in force.
async fn reload(args: &ServeArgs, node: &Arc<Node>) {
    let (args, node) = (args.clone(), node.clone());
    let work = move || match Config::load(&args).and_then(|config| node.reload(config)) {
        Ok(notes) => {
            node.figures.reloads.add();
            for note in notes {
                tell!(TAKES_RESTART, part = note);
            }
            tell!(RELOADED);
        }
        Err(error) => {
            node.figures.reload_errors.add();
            tell!(RELOAD_REFUSED, %error);
        }
    };
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tell!(RELOAD_REFUSED, %error);
    }
}
