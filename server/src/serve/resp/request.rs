//! Reading requests: arrays of bulk strings, as clients send them, and lines, as people type them.
//!
//! A request is looked for at the start of what has come so far and is either whole or not there yet. Nothing is copied or
//! allocated by what a length says: a length beyond its bound is an error at once, before anything is read for it.
//! Texts of errors are Redis's own, since clients and people know them.

use std::ops::Range;

/// The longest argument in bytes. Keys may be as long as that.
pub(crate) const MAX_BULK_BYTES: usize = 64 * 1024;
/// The most arguments of one request. The longest command here takes six.
pub(crate) const MAX_ARGUMENTS: usize = 128;
/// The longest request in bytes, and so the most that is kept of one that is not whole yet.
pub(crate) const MAX_REQUEST_BYTES: usize = 128 * 1024;
/// The longest line of a request that is typed.
const MAX_INLINE_BYTES: usize = 64 * 1024;
/// The longest line with a length in it.
const MAX_LENGTH_LINE: usize = 32;

/// Why a connection cannot go on: what follows cannot be told apart any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolError(pub(crate) String);

fn protocol_error<T>(text: &str) -> Result<T, ProtocolError> {
    Err(ProtocolError(format!("Protocol error: {text}")))
}

/// Finds requests. Kept for a connection, so that its buffers are used again.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    arguments: Vec<Range<usize>>,
    /// What a typed line says once its quotes are gone.
    typed: Vec<u8>,
    is_typed: bool,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    arguments: &'a [Range<usize>],
    bytes: &'a [u8],
}

impl<'a> Request<'a> {
    /// The argument at `index`; that at 0 is the name of the command.
    pub(crate) fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.arguments.get(index).map(|range| &self.bytes[range.clone()])
    }

    /// How many arguments there are, the name included: at least one.
    pub(crate) fn len(&self) -> usize {
        self.arguments.len()
    }

    /// All arguments.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.arguments.iter().map(move |range| &bytes[range.clone()])
    }
}

/// What was found at the start of the input.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A request and how many bytes it took.
    Request(Request<'a>, usize),
    /// So many bytes that ask for nothing: an empty line or array.
    Nothing(usize),
    /// The start of a request, or no byte at all.
    Unfinished,
}

impl Reader {
    /// Looks for a request at the start of `input`.
    ///
    /// Errors: what is there cannot become a request, or one beyond the bounds of this module.
    pub(crate) fn find<'a>(&'a mut self, input: &'a [u8]) -> Result<Found<'a>, ProtocolError> {
        self.arguments.clear();
        let taken = match input.first() {
            None => None,
            Some(b'*') => self.array(input)?,
            Some(_) => self.line(input)?,
        };
        Ok(match taken {
            None => Found::Unfinished,
            Some(taken) if self.arguments.is_empty() => Found::Nothing(taken),
            Some(taken) => {
                let bytes = if self.is_typed { &self.typed[..] } else { input };
                let request = Request {
                    arguments: &self.arguments,
                    bytes,
                };
                Found::Request(request, taken)
            }
        })
    }

    fn array(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        self.is_typed = false;
        let Some((count, mut at)) = length(input, 1, "too big mbulk count string", "invalid multibulk length")? else {
            return Ok(None);
        };
        if count > MAX_ARGUMENTS as i64 {
            return protocol_error("invalid multibulk length");
        }
        for _ in 0..count {
            match input.get(at) {
                None => return Ok(None),
                Some(b'$') => {}
                Some(&other) => return protocol_error(&format!("expected '$', got '{}'", other.escape_ascii())),
            }
            let found = length(input, at + 1, "too big bulk count string", "invalid bulk length")?;
            let Some((bytes, start)) = found else {
                return Ok(None);
            };
            let bytes = match usize::try_from(bytes) {
                Ok(bytes) if bytes <= MAX_BULK_BYTES => bytes,
                _ => return protocol_error("invalid bulk length"),
            };
            let end = start + bytes;
            if end + 2 > MAX_REQUEST_BYTES {
                return protocol_error("request is longer than 128 KiB");
            }
            match input.get(end..end + 2) {
                None => return Ok(None),
                Some(b"\r\n") => {}
                Some(_) => return protocol_error("invalid bulk length"),
            }
            self.arguments.push(start..end);
            at = end + 2;
        }
        Ok(Some(at))
    }

    fn line(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        self.is_typed = true;
        let within = &input[..input.len().min(MAX_INLINE_BYTES)];
        let Some(end) = memchr::memchr(b'\n', within) else {
            if input.len() >= MAX_INLINE_BYTES {
                return protocol_error("too big inline request");
            }
            return Ok(None);
        };
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        self.typed.clear();
        if split(line, &mut self.typed, &mut self.arguments).is_none() {
            return protocol_error("unbalanced quotes in request");
        }
        if self.arguments.len() > MAX_ARGUMENTS {
            return protocol_error("invalid multibulk length");
        }
        Ok(Some(end + 1))
    }

    /// Gives memory back that only an unusual request needed.
    pub(crate) fn shrink(&mut self) {
        self.typed.clear();
        self.typed.shrink_to(1024);
        self.arguments.clear();
        self.arguments.shrink_to(16);
    }
}

/// The number in the line that starts at `at`, and where the next one starts. `None` if the line has no end yet.
fn length(input: &[u8], at: usize, too_long: &str, wrong: &str) -> Result<Option<(i64, usize)>, ProtocolError> {
    let rest = &input[at.min(input.len())..];
    let Some(end) = rest.iter().take(MAX_LENGTH_LINE).position(|&byte| byte == b'\r') else {
        return if rest.len() >= MAX_LENGTH_LINE {
            protocol_error(too_long)
        } else {
            Ok(None)
        };
    };
    match rest.get(end + 1) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return protocol_error(wrong),
    }
    match std::str::from_utf8(&rest[..end])
        .ok()
        .and_then(|text| text.parse().ok())
    {
        Some(number) => Ok(Some((number, at + end + 2))),
        None => protocol_error(wrong),
    }
}

/// Splits a typed line at its blanks, outside quotes. `None` if a quote has no end, or no blank after it.
fn split(line: &[u8], typed: &mut Vec<u8>, arguments: &mut Vec<Range<usize>>) -> Option<()> {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if at >= line.len() {
            return Some(());
        }
        let start = typed.len();
        loop {
            match line.get(at) {
                Some(&quote @ (b'"' | b'\'')) => {
                    at = quoted(line, at + 1, quote, typed)?;
                    if line.get(at).is_some_and(|byte| !byte.is_ascii_whitespace()) {
                        return None;
                    }
                }
                Some(byte) if !byte.is_ascii_whitespace() => {
                    typed.push(*byte);
                    at += 1;
                }
                _ => break,
            }
        }
        arguments.push(start..typed.len());
    }
}

/// Copies what stands between quotes; returns where the line goes on after them.
fn quoted(line: &[u8], mut at: usize, quote: u8, typed: &mut Vec<u8>) -> Option<usize> {
    loop {
        let byte = *line.get(at)?;
        at += 1;
        if byte == quote {
            return Some(at);
        }
        if byte != b'\\' {
            typed.push(byte);
            continue;
        }
        let escaped = *line.get(at)?;
        if quote == b'\'' {
            // Between single quotes a backslash means itself, unless it keeps a quote from ending the text.
            if escaped == b'\'' {
                typed.push(b'\'');
                at += 1;
            } else {
                typed.push(b'\\');
            }
            continue;
        }
        at += 1;
        let hexadecimal = || {
            let digits = std::str::from_utf8(line.get(at..at + 2)?).ok()?;
            let digits = digits
                .bytes()
                .all(|digit| digit.is_ascii_hexdigit())
                .then_some(digits)?;
            u8::from_str_radix(digits, 16).ok()
        };
        typed.push(match escaped {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 0x08,
            b'a' => 0x07,
            b'x' => match hexadecimal() {
                Some(byte) => {
                    at += 2;
                    byte
                }
                None => b'x',
            },
            other => other,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments and the bytes they took.
    type Read = (Vec<Vec<u8>>, usize);

    fn read(input: &[u8]) -> Result<Option<Read>, String> {
        let mut reader = Reader::default();
        match reader.find(input) {
            Ok(Found::Request(request, taken)) => Ok(Some((request.iter().map(<[u8]>::to_vec).collect(), taken))),
            Ok(Found::Nothing(taken)) => Ok(Some((Vec::new(), taken))),
            Ok(Found::Unfinished) => Ok(None),
            Err(ProtocolError(text)) => Err(text),
        }
    }

    fn words(text: &[&str]) -> Vec<Vec<u8>> {
        text.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_request_is_found_only_when_it_is_whole() {
        let whole = b"*2\r\n$4\r\nECHO\r\n$5\r\na\r\nbc\r\n";
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Ok(None), "{end} bytes");
        }
        assert_eq!(read(whole), Ok(Some((words(&["ECHO", "a\r\nbc"]), whole.len()))));
        let two = [&whole[..], b"PING\r\n"].concat();
        assert_eq!(read(&two).unwrap().unwrap().1, whole.len());
    }

    #[test]
    fn typed_lines_are_split_as_redis_does() {
        assert_eq!(read(b"  PING  \r\n"), Ok(Some((words(&["PING"]), 10))));
        assert_eq!(
            read(b"echo \"a b\\x41\\n\" 'it\\'s'\n").unwrap().unwrap().0,
            words(&["echo", "a bA\n", "it's"])
        );
        assert_eq!(read(b"echo \"\"\n").unwrap().unwrap().0, words(&["echo", ""]));
        assert_eq!(read(b"echo \"\\xZZ\"\n").unwrap().unwrap().0, words(&["echo", "xZZ"]));
        assert_eq!(read(b"\r\n"), Ok(Some((Vec::new(), 2))));
        assert_eq!(read(b"*0\r\n"), Ok(Some((Vec::new(), 4))));
        assert_eq!(read(b"*-1\r\n"), Ok(Some((Vec::new(), 5))));
        for line in [&b"echo \"a\n"[..], b"echo 'a\n", b"echo \"a\"b\n"] {
            assert_eq!(
                read(line),
                Err("Protocol error: unbalanced quotes in request".to_owned())
            );
        }
    }

    #[test]
    fn lengths_beyond_their_bounds_are_refused_before_anything_is_read() {
        for (input, text) in [
            (&b"*2000000000\r\n"[..], "invalid multibulk length"),
            (b"*x\r\n", "invalid multibulk length"),
            (b"*1\r\n$1073741824\r\n", "invalid bulk length"),
            (b"*1\r\n$65537\r\n", "invalid bulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n:5\r\n", "expected '$', got ':'"),
            (b"*1\r\n$1\r\nabc\r\n", "invalid bulk length"),
            (b"*11111111111111111111111111111111111", "too big mbulk count string"),
            (
                b"*1\r\n$1111111111111111111111111111111111111",
                "too big bulk count string",
            ),
        ] {
            assert_eq!(
                read(input),
                Err(format!("Protocol error: {text}")),
                "{}",
                input.escape_ascii()
            );
        }
        let longest = MAX_BULK_BYTES;
        let mut input = format!("*2\r\n$4\r\nECHO\r\n${longest}\r\n").into_bytes();
        input.extend(vec![b'k'; longest]);
        input.extend(b"\r\n");
        assert_eq!(read(&input).unwrap().unwrap().0[1].len(), longest);
        let three = [&b"*3\r\n$4\r\nECHO\r\n"[..], &input[14..], &input[14..]].concat();
        assert_eq!(
            read(&three),
            Err("Protocol error: request is longer than 128 KiB".to_owned())
        );
        assert_eq!(read(&vec![b'a'; MAX_INLINE_BYTES - 1]), Ok(None));
        assert_eq!(
            read(&vec![b'a'; MAX_INLINE_BYTES]),
            Err("Protocol error: too big inline request".to_owned())
        );
        let many = "a ".repeat(MAX_ARGUMENTS + 1) + "\n";
        assert_eq!(
            read(many.as_bytes()),
            Err("Protocol error: invalid multibulk length".to_owned())
        );
    }
}
