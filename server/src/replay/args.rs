//! The options of `ratelimit replay`.

use std::path::PathBuf;

use clap::Args;

use super::engine::Limit;
use super::input::Source;
use super::keys::By;
use super::sample::SampleConfig;
use crate::failure::Failure;

/// The limit that is tried when none is given.
pub const DEFAULT_LIMIT: &str = "60/minute";

const EXAMPLES: &str = "\
Examples:
  ratelimit replay access.log --limit 100/minute
      What would this limit have done?
  ratelimit replay old.log.gz access.log --limit 10/s --limit \"100/minute burst 20\"
      Several logs, several limits: each limit is decided on its own, side by side.
  ratelimit replay access.log --limit 20/minute --by ip,path --plot replay.svg
      One budget for each client and path, drawn over time.
  zstdcat access.log.zst | ratelimit replay - --limit 5/10s --strict --json | jq .denied
      From a pipe, for a program.
  ratelimit replay --sample
      No log at hand: a made-up day of traffic.

Limits:
  RATE/WINDOW [burst N] [strict], like 100/minute, 5/10s, \"1000/day burst 50\", \"100/minute strict\".
  A client that was idle can spend a whole burst and then the refill: up to twice the rate
  in one window. With strict no window of that length ever sees more than the rate.

Exit codes: 0 all done; 1 a file, pipe or disk failed; 2 the command line makes no sense;
  130 stopped by Ctrl-C or SIGTERM (what was read until then is decided and reported).";

/// What to replay, against which limits, and how to show it.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    /// Access logs in common or combined format, plain or gzip; - is standard input
    ///
    /// Lines may be out of order, and several logs may overlap: requests are sorted by time before they are decided.
    #[arg(value_name = "LOG")]
    pub logs: Vec<PathBuf>,

    /// A limit to try, like 100/minute; give it again for further ones [default: 60/minute]
    #[arg(short, long = "limit", value_name = "LIMIT", value_parser = limit)]
    pub limits: Vec<Limit>,

    /// Decide by the tables `[[rule]]` of this file in place of limits, and print what each rule did
    ///
    /// Attributes of a request: ip, path, method, agent, status (the class, like 4xx), host, user, referer, as far as the log has them.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["limits", "strict", "by", "plot", "top"])]
    pub config: Option<PathBuf>,

    /// Keep every limit in any window of its length, not only on average
    #[arg(long)]
    pub strict: bool,

    /// Whom a request is counted for: ip, path, method, agent, status, host, user, referer, or several joined by commas
    ///
    /// path is without its query; status is the class, like 4xx; host is the virtual host, if the log has it in front.
    #[arg(long, value_name = "FIELDS", default_value = "ip")]
    pub by: By,

    /// How many of the clients that were denied most to list, for each limit
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,

    /// Draw allowed and denied requests over time, for each limit, into this SVG file
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,

    /// Replay a made-up day of traffic instead of a log
    #[arg(long, conflicts_with = "logs")]
    pub sample: bool,

    /// The seed of the sample: the same number gives the same traffic [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,

    /// How many requests the sample has [default: 200000]
    #[arg(long, value_name = "N")]
    pub sample_requests: Option<u64>,

    /// Memory for sorting, in MiB; what does not fit goes through temporary files
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub sort_memory: u32,

    /// The folder for temporary files [default: the system's]
    #[arg(long, value_name = "FOLDER")]
    pub temp_dir: Option<PathBuf>,

    /// Say on stderr how far the work is, even if stderr is no terminal
    #[arg(long)]
    pub progress: bool,
}

impl ReplayArgs {
    /// The limits to try: strict ones if asked for, the default one if none was given.
    pub fn limits(&self) -> Result<Vec<Limit>, Failure> {
        let mut limits = self.limits.clone();
        if limits.is_empty() {
            limits.push(limit(DEFAULT_LIMIT).map_err(Failure::Usage)?);
        }
        if self.strict {
            limits = limits.into_iter().map(Limit::strict).collect();
        }
        for limit in &limits {
            limit
                .validate()
                .map_err(|error| Failure::Usage(format!("{limit} cannot be used: {error}")))?;
        }
        Ok(limits)
    }

    /// What to read.
    pub fn sources(&self) -> Result<Vec<Source>, Failure> {
        if self.sample {
            let (seed, requests) = (self.seed.unwrap_or(1), self.sample_requests.unwrap_or(200_000));
            return Ok(vec![Source::Sample(SampleConfig { seed, requests })]);
        }
        // By hand: clap waives `requires = "sample"` as soon as a log is named, since the two exclude each other.
        if self.seed.is_some() || self.sample_requests.is_some() {
            return Err(Failure::Usage(
                "--seed and --sample-requests are about the sample: add --sample".to_owned(),
            ));
        }
        if self.logs.is_empty() {
            return Err(Failure::Usage(
                "there is nothing to replay: name an access log as LOG (- is standard input), or try a made-up day of \
                 traffic with --sample"
                    .to_owned(),
            ));
        }
        let sources: Vec<_> = self.logs.iter().map(|path| Source::from_argument(path)).collect();
        if sources.iter().filter(|source| matches!(source, Source::Stdin)).count() > 1 {
            return Err(Failure::Usage(
                "standard input can be read only once: name - only once".to_owned(),
            ));
        }
        Ok(sources)
    }
}

fn limit(text: &str) -> Result<Limit, String> {
    text.parse::<Limit>().map_err(|error| error.to_string())
}
