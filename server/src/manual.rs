//! The manual pages and the completions of shells, made from the command line itself.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::{Failure, output};

/// Which page.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// A subcommand; without one the page is that of the whole command
    pub subcommand: Option<String>,
}

/// For which shell.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Prints a manual page in roff, for `man -l`.
///
/// Errors: there is no such subcommand, or the output cannot be written.
pub fn man(args: &ManArgs, out: &mut dyn Write) -> Result<(), Failure> {
    // Building gives subcommands their full names.
    let mut whole = Cli::command();
    whole.build();
    let command = match &args.subcommand {
        None => whole,
        Some(name) => {
            let found = whole.find_subcommand(name).filter(|found| found.get_name() != "help");
            found.cloned().ok_or_else(|| {
                let names: Vec<&str> = whole.get_subcommands().map(clap::Command::get_name).collect();
                let name = name.escape_debug();
                Failure::Usage(format!(
                    "there is no subcommand \"{name}\": it is one of {}",
                    names.join(", ")
                ))
            })?
        }
    };
    clap_mangen::Man::new(command)
        .source(concat!("ratelimit ", env!("CARGO_PKG_VERSION")))
        .render(&mut &mut *out)
        .map_err(output)?;
    out.flush().map_err(output)
}

/// Prints a script that lets the shell complete the command.
///
/// Errors: the output cannot be written.
pub fn completions(args: &CompletionsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    // The generator takes a closed pipe for a fault of its own and panics: it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ratelimit", &mut script);
    out.write_all(&script).and_then(|()| out.flush()).map_err(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(subcommand: Option<&str>) -> String {
        let mut out = Vec::new();
        let subcommand = subcommand.map(str::to_owned);
        man(&ManArgs { subcommand }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn pages_have_what_help_has() {
        let whole = printed(None);
        assert!(
            whole.contains(".TH ratelimit 1") && whole.contains("replay") && whole.contains("Exit codes"),
            "{whole}"
        );
        let serve = printed(Some("serve"));
        assert!(
            serve.contains(".TH ratelimit\\-serve 1") || serve.contains(".TH ratelimit-serve 1"),
            "{serve}"
        );
        for option in ["allow\\-remote", "check\\-config", "RATELIMIT_STATE"] {
            assert!(serve.contains(option), "{option}: {serve}");
        }
        let wrong = ManArgs {
            subcommand: Some("srve".to_owned()),
        };
        let error = man(&wrong, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("replay, inspect, serve"), "{error}");
    }

    #[test]
    fn every_shell_is_told_of_every_option() {
        for shell in <Shell as clap::ValueEnum>::value_variants() {
            let mut out = Vec::new();
            completions(&CompletionsArgs { shell: *shell }, &mut out).unwrap();
            let script = String::from_utf8(out).unwrap();
            for word in ["serve", "replay", "check-config", "allow-remote"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
