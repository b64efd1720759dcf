//! Values of options as languages hand them over, and as options take them.

use std::time::Duration;

use ratelimit_model::Limit;

use super::names::{Dialect, OptionHelp};
use crate::Error;

/// The value of an option as a language hands it over.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OptionValue {
    /// Nothing: as if the option had not been given.
    Nothing,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// Options of their own, by name: a dict, an object, a table.
    Table(Vec<(String, OptionValue)>),
    /// Something else, by the name that its language has for it: always an error, with that name in its text.
    Other(String),
}

impl OptionValue {
    fn kind(&self) -> String {
        match self {
            OptionValue::Nothing => "nothing".to_owned(),
            OptionValue::Bool(value) => value.to_string(),
            OptionValue::Int(value) => value.to_string(),
            OptionValue::Float(value) => value.to_string(),
            OptionValue::Text(text) => format!("\"{}\"", shortened(text)),
            OptionValue::Texts(_) => "a list".to_owned(),
            OptionValue::Table(_) => "a table".to_owned(),
            OptionValue::Other(name) => shortened(name),
        }
    }
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// An option that was given, for the sentences about it.
pub(super) struct Given<'a> {
    /// As its language spells it.
    pub(super) name: &'a str,
    pub(super) help: OptionHelp,
    pub(super) dialect: Dialect,
}

impl Given<'_> {
    pub(super) fn wrong(&self, value: &OptionValue) -> Error {
        let unit = if self.help.is_duration {
            format!(", in {}", self.dialect.unit().0)
        } else {
            String::new()
        };
        Error::Option(format!(
            "{} is {}: it takes {}{unit}",
            self.name,
            value.kind(),
            self.help.takes
        ))
    }

    pub(super) fn limits(&self, value: OptionValue) -> Result<Vec<Limit>, Error> {
        let texts = match value {
            OptionValue::Text(text) => vec![text],
            OptionValue::Texts(texts) if !texts.is_empty() => texts,
            other => return Err(self.wrong(&other)),
        };
        Ok(texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?)
    }

    /// A whole number from 1. Languages whose numbers are all floating point hand over whole ones too.
    pub(super) fn count(&self, value: &OptionValue) -> Result<u64, Error> {
        let count = match *value {
            OptionValue::Int(count) => u64::try_from(count).ok(),
            OptionValue::Float(count) if count.fract() == 0.0 && (1.0..=9_007_199_254_740_992.0).contains(&count) => {
                Some(count as u64)
            }
            _ => None,
        };
        count.filter(|&count| count > 0).ok_or_else(|| self.wrong(value))
    }

    pub(super) fn duration(&self, value: &OptionValue) -> Result<Duration, Error> {
        let (_, seconds_per_unit) = self.dialect.unit();
        let duration = match *value {
            // Nanoseconds are whole, and would lose their last digits as a fraction of a second.
            OptionValue::Int(ns) if self.dialect == Dialect::SnakeNanos => {
                u64::try_from(ns).ok().map(Duration::from_nanos)
            }
            OptionValue::Int(count) => Duration::try_from_secs_f64(count as f64 * seconds_per_unit).ok(),
            OptionValue::Float(count) => Duration::try_from_secs_f64(count * seconds_per_unit).ok(),
            _ => None,
        };
        duration
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| self.wrong(value))
    }

    pub(super) fn truth(&self, value: &OptionValue) -> Result<bool, Error> {
        match value {
            OptionValue::Bool(truth) => Ok(*truth),
            _ => Err(self.wrong(value)),
        }
    }

    pub(super) fn text(&self, value: OptionValue) -> Result<String, Error> {
        match value {
            OptionValue::Text(text) if !text.is_empty() => Ok(text),
            other => Err(self.wrong(&other)),
        }
    }

    /// A text that no sentence shows.
    #[cfg(feature = "cluster")]
    pub(super) fn hidden_text(&self, value: OptionValue) -> Result<String, Error> {
        match value {
            OptionValue::Text(text) if !text.is_empty() => Ok(text),
            _ => Err(self.wrong_secret()),
        }
    }

    /// Texts: a list of them, or one with commas between.
    #[cfg(feature = "cluster")]
    pub(super) fn texts(&self, value: OptionValue) -> Result<Vec<String>, Error> {
        let texts = match &value {
            OptionValue::Texts(texts) => texts.clone(),
            OptionValue::Text(text) => text.split(',').map(str::trim).map(str::to_owned).collect(),
            _ => return Err(self.wrong(&value)),
        };
        if texts.iter().any(String::is_empty) {
            return Err(self.wrong(&value));
        }
        Ok(texts)
    }

    pub(super) fn one_of<T: Copy>(&self, value: OptionValue, choices: &[(&str, T)]) -> Result<T, Error> {
        let chosen = match &value {
            OptionValue::Text(text) => choices.iter().find(|(name, _)| name == text),
            _ => None,
        };
        chosen.map(|(_, choice)| *choice).ok_or_else(|| self.wrong(&value))
    }

    /// A value that must not be shown.
    pub(super) fn wrong_secret(&self) -> Error {
        self.wrong(&OptionValue::Other("no such text".to_owned()))
    }

    pub(super) fn secret(&self, value: OptionValue) -> Result<[u8; 16], Error> {
        let OptionValue::Text(text) = value else {
            return Err(self.wrong_secret());
        };
        hexadecimal(&text).ok_or_else(|| self.wrong_secret())
    }
}

/// 16 bytes from 32 hexadecimal digits.
pub(crate) fn hexadecimal(text: &str) -> Option<[u8; 16]> {
    let text = text.trim();
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut secret = [0; 16];
    for (byte, digits) in secret.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(secret)
}
