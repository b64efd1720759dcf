//! Names of options: how each language spells them, and what is said about one that does not exist.

use super::value::shortened;
use crate::Error;

/// How a language spells names and which unit its durations have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `time_window`, in seconds: Python, TOML.
    SnakeSeconds,
    /// `timeWindowMs`, in milliseconds: Node.js.
    CamelMillis,
    /// `time_window_ns`, in nanoseconds: C.
    SnakeNanos,
}

/// What an option is about. Its documentation in every language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHelp {
    /// Its name with underscores and without a unit.
    pub name: &'static str,
    /// Whether it is a duration, whose name ends in a unit where the dialect has one.
    pub is_duration: bool,
    /// What it takes.
    pub takes: &'static str,
    /// What it does, and what holds if it is not given.
    pub help: &'static str,
}

/// An enum of options and the list of them with their documentation, from one table.
macro_rules! options {
    ($($variant:ident $name:literal $duration:literal $takes:literal $help:literal)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Name {
            $($variant,)*
        }
        const NAMES: &[(Name, OptionHelp)] = &[
            $((Name::$variant, OptionHelp { name: $name, is_duration: $duration, takes: $takes, help: $help }),)*
        ];
    };
}
pub(super) use options;

impl Dialect {
    /// How this dialect spells an option.
    #[must_use]
    pub fn spell(self, help: &OptionHelp) -> String {
        let mut name = match self {
            Dialect::SnakeSeconds | Dialect::SnakeNanos => help.name.to_owned(),
            Dialect::CamelMillis => camel(help.name),
        };
        if help.is_duration {
            name.push_str(match self {
                Dialect::SnakeSeconds => "",
                Dialect::CamelMillis => "Ms",
                Dialect::SnakeNanos => "_ns",
            });
        }
        name
    }

    /// The unit of durations, and how many seconds it has.
    pub(super) fn unit(self) -> (&'static str, f64) {
        match self {
            Dialect::SnakeSeconds => ("seconds", 1.0),
            Dialect::CamelMillis => ("milliseconds", 1e-3),
            Dialect::SnakeNanos => ("nanoseconds", 1e-9),
        }
    }

    /// The option of a name in this dialect. `kind` is the word for such options in the sentence about one that does not exist.
    pub(super) fn find<N: Copy>(
        self,
        names: &[(N, OptionHelp)],
        kind: &str,
        name: &str,
    ) -> Result<(N, OptionHelp), Error> {
        if let Some(found) = names.iter().find(|(_, help)| self.spell(help) == name) {
            return Ok(*found);
        }
        let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
        let wanted = plain(name);
        let near = names.iter().map(|(_, help)| self.spell(help)).find(|spelt| {
            let spelt = plain(spelt);
            spelt == wanted || (wanted.len() > 3 && (spelt.starts_with(&wanted) || wanted.starts_with(&spelt)))
        });
        let all = || {
            let names: Vec<String> = names.iter().map(|(_, help)| self.spell(help)).collect();
            names.join(", ")
        };
        Err(Error::Option(match near {
            Some(near) => format!("there is no {kind} \"{}\": did you mean \"{near}\"?", shortened(name)),
            None => format!("there is no {kind} \"{}\": the {kind}s are {}", shortened(name), all()),
        }))
    }
}

fn camel(snake: &str) -> String {
    let mut name = String::with_capacity(snake.len());
    let mut upper = false;
    for c in snake.chars() {
        if c == '_' {
            upper = true;
        } else if upper {
            name.push(c.to_ascii_uppercase());
            upper = false;
        } else {
            name.push(c);
        }
    }
    name
}
