//! `ratelimit certs DIR NODE...`: the private authority of a cluster, and its nodes' certificates.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use ratelimit_certs::{Made, Options, Report, make};
use time::OffsetDateTime;

use crate::failure::{Failure, output};

/// What to make, and where.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct CertsArgs {
    /// The folder; made if it is not there
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Names of nodes, as in their configuration; those that have a certificate keep it
    #[arg(value_name = "NODE", required_unless_present = "renew")]
    pub nodes: Vec<String>,
    /// Makes a new key and certificate for a node that has one (may be given several times)
    #[arg(long, value_name = "NODE")]
    pub renew: Vec<String>,
    /// Days that certificates of nodes are valid
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=i64::from(ratelimit_certs::MAX_DAYS)))]
    pub days: u32,
}

const HELP: &str = "\
Files:
  DIR/ca.pem    the authority: every node has it
  DIR/ca.key    its key: whoever has it can name nodes; it stays here and is given to no node
  DIR/secret    keys the fingerprints of clients: every node has it, and all have the same
  DIR/NODE.pem, DIR/NODE.key
                a node's certificate and key; the first DNS name in it is the node's name

Nothing is overwritten but what --renew names. A node reads new files by itself, within ten seconds.";

/// Runs the command: makes what is missing, and says what there is.
pub fn run(args: &CertsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut options = Options::new(&args.directory, &[]);
    options.nodes.clone_from(&args.nodes);
    options.renew.clone_from(&args.renew);
    options.days = args.days;
    let report = make(&options).map_err(|error| {
        if error.is_usage() {
            Failure::Usage(error.to_string())
        } else {
            Failure::Io(error.to_string())
        }
    })?;
    say(&report, &args.directory, out)
        .and_then(|()| out.flush())
        .map_err(output)
}

fn say(report: &Report, directory: &Path, out: &mut dyn Write) -> std::io::Result<()> {
    let names = report.nodes.iter().map(|node| node.name.chars().count());
    let width = names.chain(["secret".len()]).max().unwrap_or(0);
    let mut line = |name: &str, made: Made, until: Option<SystemTime>| {
        let made = match made {
            Made::New => "new",
            Made::Kept => "kept",
            Made::Renewed => "renewed",
        };
        match until {
            Some(until) => {
                let date = OffsetDateTime::from(until).date();
                let expired = if until <= SystemTime::now() {
                    ", which is over"
                } else {
                    ""
                };
                writeln!(out, "{name:<width$}  {made:<7}  valid until {date}{expired}")
            }
            None => writeln!(out, "{name:<width$}  {made}"),
        }
    };
    line("ca", report.authority, Some(report.authority_not_after))?;
    line("secret", report.secret, None)?;
    for node in &report.nodes {
        line(&node.name, node.made, Some(node.not_after))?;
    }
    if let Some(node) = report.nodes.first().map(|node| &node.name) {
        writeln!(
            out,
            "\nEach node needs ca.pem, secret and its own two files from {}, like {node}.pem and {node}.key.\n\
             Keep ca.key where it is: whoever has it can name nodes.",
            directory.display()
        )?;
    }
    Ok(())
}
