//! What a request is counted by: one field of the line, or several together.

use std::fmt;
use std::str::FromStr;

use super::line::Line;

/// Joins the fields of a combination. No line holds a newline, so that two combinations never give one key.
const JOINT: u8 = b'\n';

/// A field of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The client's address.
    Ip,
    /// The path, without its query.
    Path,
    /// The method.
    Method,
    /// The user agent.
    Agent,
    /// The class of the status code.
    Status,
    /// The virtual host.
    Host,
    /// The authenticated user.
    User,
    /// The referer.
    Referer,
}

/// Each field's name on the command line.
const FIELDS: [(&str, Field); 8] = [
    ("ip", Field::Ip),
    ("path", Field::Path),
    ("method", Field::Method),
    ("agent", Field::Agent),
    ("status", Field::Status),
    ("host", Field::Host),
    ("user", Field::User),
    ("referer", Field::Referer),
];

impl Field {
    /// The field's name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        FIELDS
            .iter()
            .find(|(_, field)| *field == self)
            .map_or("", |(name, _)| name)
    }

    fn of<'a>(self, line: &Line<'a>) -> &'a [u8] {
        match self {
            Field::Ip => line.ip,
            Field::Path => line.path(),
            Field::Method => line.method(),
            Field::Agent => line.agent(),
            Field::Status => line.status_class(),
            Field::Host => line.host,
            Field::User => line.user,
            Field::Referer => line.referer(),
        }
    }
}

/// The fields that together say whose request it is. Never empty, no field twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    fields: Vec<Field>,
}

impl By {
    /// The fields, in the order given.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Every field, for rules.
    #[must_use]
    pub fn all() -> Self {
        By {
            fields: FIELDS.iter().map(|(_, field)| *field).collect(),
        }
    }

    /// Names and values of a key's fields, without those that the line did not have.
    #[must_use]
    pub fn split<'a>(&self, key: &'a [u8]) -> Vec<(&'static str, &'a [u8])> {
        let values = key.split(|&byte| byte == JOINT);
        let pairs = self.fields.iter().map(|field| field.name()).zip(values);
        pairs.filter(|(_, value)| *value != b"-").collect()
    }

    /// Writes the key of `line` into `key`, which is cleared first.
    pub fn key(&self, line: &Line<'_>, key: &mut Vec<u8>) {
        key.clear();
        for (index, field) in self.fields.iter().enumerate() {
            if index > 0 {
                key.push(JOINT);
            }
            key.extend_from_slice(field.of(line));
        }
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = Vec::new();
        for name in text.split(',').map(str::trim) {
            let Some((_, field)) = FIELDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
                let known = FIELDS.map(|(name, _)| name).join(", ");
                return Err(format!(
                    "\"{}\" is not a field: use one or more of {known}",
                    name.escape_debug()
                ));
            };
            if fields.contains(field) {
                return Err(format!("{name} is named twice: name each field once"));
            }
            fields.push(*field);
        }
        Ok(By { fields })
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.fields.iter().map(|field| field.name()).collect();
        f.write_str(&names.join(","))
    }
}

/// A key as text for programs: fields joined by ` | `, bytes that are no UTF-8 as `\xff`. Control characters stay, since
/// JSON guards them itself.
#[must_use]
pub fn plain(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == char::from(JOINT) {
                text.push_str(" | ")
            } else {
                text.push(c)
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// A key as text for terminals: as [`plain`], and without any character that moves the cursor, colours, hides or turns
/// text. Who wrote the log line must not write on our user's screen. At most `width` characters.
#[must_use]
pub fn shown(key: &[u8], width: usize) -> String {
    let mut text = String::new();
    for c in plain(key).chars() {
        if is_unsafe_to_show(c) {
            text.extend(c.escape_unicode())
        } else {
            text.push(c)
        }
    }
    match text.char_indices().nth(width) {
        None => text,
        Some(_) => {
            let end = text.char_indices().nth(width.saturating_sub(1)).map_or(0, |(at, _)| at);
            text.truncate(end);
            text.push('…');
            text
        }
    }
}

/// Control characters, line and paragraph separators, and the invisible ones that change direction or join.
fn is_unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] =
        br#"v.example:80 1.2.3.4 - ann [17/May/2015:10:05:03 +0000] "GET /a?q HTTP/1.1" 503 1 "http://r/" "Agent/1""#;

    fn key(by: &str) -> String {
        let mut key = b"left over".to_vec();
        by.parse::<By>().unwrap().key(&Line::parse(LINE).unwrap(), &mut key);
        plain(&key)
    }

    #[test]
    fn every_field() {
        for (by, expected) in [
            ("ip", "1.2.3.4"),
            ("path", "/a"),
            ("method", "GET"),
            ("agent", "Agent/1"),
            ("status", "5xx"),
            ("host", "v.example"),
            ("user", "ann"),
            ("referer", "http://r/"),
            ("ip,path", "1.2.3.4 | /a"),
            ("Path, ip ,method", "/a | 1.2.3.4 | GET"),
        ] {
            assert_eq!(key(by), expected, "{by}");
        }
    }

    #[test]
    fn what_is_no_field() {
        assert!("colour".parse::<By>().unwrap_err().contains("ip, path, method"));
        assert!("".parse::<By>().is_err());
        assert!("ip,".parse::<By>().is_err());
        assert!("ip,ip".parse::<By>().unwrap_err().contains("twice"));
        assert_eq!("ip,path".parse::<By>().unwrap().to_string(), "ip,path");
    }

    #[test]
    fn shown_text_cannot_touch_the_terminal() {
        assert_eq!(shown(b"a\x1b[2Jb\x07\x7f", 80), r"a\u{1b}[2Jb\u{7}\u{7f}");
        assert_eq!(
            shown("\u{9b}31m\u{202e}x\u{200b}".as_bytes(), 80),
            r"\u{9b}31m\u{202e}x\u{200b}"
        );
        assert_eq!(shown(b"caf\xc3\xa9 \xff\xfe", 80), "café \\xff\\xfe");
        assert_eq!(shown(b"1.2.3.4\n/path", 80), "1.2.3.4 | /path");
        assert_eq!(shown(b"abcdef", 6), "abcdef");
        assert_eq!(shown(b"abcdefg", 6), "abcde…");
    }
}
