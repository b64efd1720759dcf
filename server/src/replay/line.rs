//! One line of an access log: common or combined format, with or without the virtual host in front.
//!
//! Lines are bytes, never text: real logs hold whatever clients sent. The parser takes what a server can have written,
//! including a last field that was cut off, and refuses a line only if who asked, when, or what is missing.

use std::fmt;
use std::net::IpAddr;

use memchr::{memchr, memchr2, memrchr};

use super::time::{self, TimeFault};

/// What stands for a field that the line does not have; servers write the same.
const ABSENT: &[u8] = b"-";
/// The longest text between the brackets: the fixed form, nine digits of fraction and their point.
const LONGEST_TIME: usize = 36;

/// A line taken apart. Slices borrow from the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When, in nanoseconds since the UNIX epoch.
    pub time_ns: u64,
    /// The virtual host, without its port, if the format writes it in front.
    pub host: &'a [u8],
    /// The client's address, or its name if the server looks names up.
    pub ip: &'a [u8],
    /// The authenticated user.
    pub user: &'a [u8],
    /// What stands between the quotes, such as `GET /path?query HTTP/1.1`; a client can have sent anything.
    pub request: &'a [u8],
    /// The status code: three digits, or `-`.
    pub status: &'a [u8],
    /// What follows the status: size, and in the combined format referer and user agent.
    tail: &'a [u8],
}

/// Why a line is not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// There is no `[...]`.
    NoTime,
    /// What stands between the brackets is no time.
    BadTime(TimeFault),
    /// Nothing stands before the time.
    NoClient,
    /// There is no `"..."` after the time.
    NoRequest,
    /// The request's quotes do not close: the line was cut off.
    OpenRequest,
    /// No status code follows the request.
    NoStatus,
    /// Longer than any server writes; see [`super::split::LONGEST_LINE`].
    TooLong,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::NoTime => "there is no time in brackets",
            Malformed::BadTime(fault) => return fault.fmt(f),
            Malformed::NoClient => "there is no client before the time",
            Malformed::NoRequest => "there is no request in quotes after the time",
            Malformed::OpenRequest => "the request's closing quote is missing",
            Malformed::NoStatus => "there is no status code after the request",
            Malformed::TooLong => "the line is longer than 1 MiB",
        })
    }
}

impl<'a> Line<'a> {
    /// Takes a line apart. Without its line ending.
    pub fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        let (before, time_ns, after) = split_at_time(line)?;
        let [host, ip, user] = who(before)?;
        let (request, after) = quoted(after).ok_or(Malformed::NoRequest)?;
        let after = after.ok_or(Malformed::OpenRequest)?.trim_ascii_start();
        let (status, tail) = after.split_at(memchr(b' ', after).unwrap_or(after.len()));
        if status != ABSENT && !(status.len() == 3 && status.iter().all(u8::is_ascii_digit)) {
            return Err(Malformed::NoStatus);
        }
        Ok(Line {
            time_ns,
            host,
            ip,
            user,
            request,
            status,
            tail,
        })
    }

    /// The request's method, or `-` if the client sent something that is no HTTP.
    #[must_use]
    pub fn method(&self) -> &'a [u8] {
        match memchr(b' ', self.request) {
            Some(end @ 1..) => &self.request[..end],
            _ => ABSENT,
        }
    }

    /// The path without its query; the whole request if the client sent something that is no HTTP.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        let Some(start) = memchr(b' ', self.request) else {
            return present(self.request);
        };
        let target = &self.request[start + 1..];
        let end = match memrchr(b' ', target) {
            Some(end) if target[end + 1..].starts_with(b"HTTP/") => end,
            _ => target.len(),
        };
        let target = &target[..end];
        present(&target[..memchr(b'?', target).unwrap_or(target.len())])
    }

    /// The class of the status code: `2xx`, `4xx` and so on, or `-`.
    #[must_use]
    pub fn status_class(&self) -> &'static [u8] {
        match self.status[0] {
            b'1' => b"1xx",
            b'2' => b"2xx",
            b'3' => b"3xx",
            b'4' => b"4xx",
            b'5' => b"5xx",
            _ => ABSENT,
        }
    }

    /// The referer, or `-` in the common format.
    #[must_use]
    pub fn referer(&self) -> &'a [u8] {
        quoted(self.tail).map_or(ABSENT, |(referer, _)| present(referer))
    }

    /// The user agent, or `-` in the common format. One that is cut off by the line's end counts as it is.
    #[must_use]
    pub fn agent(&self) -> &'a [u8] {
        let after_referer = quoted(self.tail).and_then(|(_, after)| after);
        after_referer
            .and_then(quoted)
            .map_or(ABSENT, |(agent, _)| present(agent))
    }
}

fn present(field: &[u8]) -> &[u8] {
    if field.is_empty() { ABSENT } else { field }
}

/// The first bracketed time with what stands before and after it. A user name can hold a bracket, so one that does not
/// open a time is passed over; the complaint is then about the first.
fn split_at_time(line: &[u8]) -> Result<(&[u8], u64, &[u8]), Malformed> {
    let mut first_fault = None;
    let mut from = 0;
    while let Some(open) = memchr(b'[', &line[from..]).map(|at| from + at) {
        // A bracket in the request is past every time; looking further would only find times that clients invented.
        if first_fault.is_some() && memchr(b'"', &line[..open]).is_some() {
            break;
        }
        let inside = &line[open + 1..];
        let close = memchr(b']', &inside[..inside.len().min(LONGEST_TIME + 1)]);
        match close.map_or(Err(TimeFault::Form), |close| {
            Ok((time::parse(&inside[..close])?, close))
        }) {
            Ok((time_ns, close)) => return Ok((&line[..open], time_ns, &inside[close + 1..])),
            Err(fault) => _ = first_fault.get_or_insert(fault),
        }
        from = open + 1;
    }
    Err(first_fault.map_or(Malformed::NoTime, Malformed::BadTime))
}

/// Host, client and user from what stands before the time: `ip - user` or `host:port ip - user`.
fn who(before: &[u8]) -> Result<[&[u8]; 3], Malformed> {
    let (first, rest) = word(before);
    if first.is_empty() {
        return Err(Malformed::NoClient);
    }
    let (second, rest) = word(rest);
    // A user name can hold spaces, so the number of words does not tell the formats apart; an address in second place does.
    if is_address(second) && !is_address(first) {
        let (_ident, user) = word(rest);
        return Ok([without_port(first), second, present(user.trim_ascii())]);
    }
    Ok([ABSENT, first, present(rest.trim_ascii())])
}

/// The first word and what follows it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    text.split_at(memchr(b' ', text).unwrap_or(text.len()))
}

fn is_address(word: &[u8]) -> bool {
    // The commonest second word by far is the identity nobody sends; it is worth skipping the parser for.
    word != ABSENT && std::str::from_utf8(word).is_ok_and(|word| word.parse::<IpAddr>().is_ok())
}

fn without_port(host: &[u8]) -> &[u8] {
    match memrchr(b':', host) {
        Some(colon) if host[colon + 1..].iter().all(u8::is_ascii_digit) => &host[..colon],
        _ => host,
    }
}

/// The next quoted text, and what follows its closing quote; nothing follows if it never closes. A backslash guards the
/// byte after it: servers write a quote that a client sent as `\"`.
fn quoted(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let inside = &text[memchr(b'"', text)? + 1..];
    let mut from = 0;
    while let Some(at) = inside
        .get(from..)
        .and_then(|rest| memchr2(b'"', b'\\', rest))
        .map(|at| from + at)
    {
        if inside[at] == b'"' {
            return Some((&inside[..at], Some(&inside[at + 1..])));
        }
        from = at + 2;
    }
    Some((inside, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "[17/May/2015:10:05:03 +0000]";

    fn bytes(text: &str) -> Vec<u8> {
        text.replace("TIME", TIME).into_bytes()
    }

    #[test]
    fn combined() {
        let text = bytes(r#"1.2.3.4 - ann TIME "GET /a/b?q=1&r=2 HTTP/1.1" 200 2326 "http://x/" "Agent/1 (a; b)""#);
        let line = Line::parse(&text).unwrap();
        assert_eq!(line.time_ns, 1_431_857_103_000_000_000);
        assert_eq!(
            (line.host, line.ip, line.user),
            (&b"-"[..], &b"1.2.3.4"[..], &b"ann"[..])
        );
        assert_eq!((line.method(), line.path()), (&b"GET"[..], &b"/a/b"[..]));
        assert_eq!((line.status, line.status_class()), (&b"200"[..], &b"2xx"[..]));
        assert_eq!(
            (line.referer(), line.agent()),
            (&b"http://x/"[..], &b"Agent/1 (a; b)"[..])
        );
    }

    #[test]
    fn common_has_no_referer_and_no_agent() {
        let text = bytes(r#"::1 - - TIME "HEAD / HTTP/1.0" 304 -"#);
        let line = Line::parse(&text).unwrap();
        assert_eq!((line.ip, line.user), (&b"::1"[..], &b"-"[..]));
        assert_eq!(
            (line.referer(), line.agent(), line.status_class()),
            (&b"-"[..], &b"-"[..], &b"3xx"[..])
        );
    }

    #[test]
    fn virtual_host_in_front() {
        let text = bytes(r#"shop.example:443 2001:db8::7 - - TIME "GET / HTTP/2.0" 200 1 "-" "a""#);
        let line = Line::parse(&text).unwrap();
        assert_eq!((line.host, line.ip), (&b"shop.example"[..], &b"2001:db8::7"[..]));
    }

    #[test]
    fn odd_but_real_lines() {
        // A user with spaces and a bracket.
        let text = bytes(r#"1.2.3.4 - Ann [dev] Lee TIME "GET / HTTP/1.1" 200 1"#);
        assert_eq!(Line::parse(&text).unwrap().user, b"Ann [dev] Lee");
        // A client that sent TLS to a plain port, as servers escape it.
        let text = bytes(r#"1.2.3.4 - - TIME "\x16\x03\x01" 400 226 "-" "-""#);
        let line = Line::parse(&text).unwrap();
        assert_eq!((line.method(), line.path()), (&b"-"[..], &br"\x16\x03\x01"[..]));
        // An empty request, and one that timed out.
        let text = bytes(r#"1.2.3.4 - - TIME "" 408 0 "-" "-""#);
        assert_eq!(Line::parse(&text).unwrap().path(), b"-");
        // Guarded quotes, and spaces in the path.
        let text = bytes(r#"1.2.3.4 - - TIME "GET /a \"b\" c HTTP/1.1" 200 1 "r\"" "a\\""#);
        let line = Line::parse(&text).unwrap();
        assert_eq!(
            (line.path(), line.referer(), line.agent()),
            (&br#"/a \"b\" c"#[..], &br#"r\""#[..], &br"a\\"[..])
        );
        // An agent cut off by the line's end is still an agent, even with a backslash last.
        let text = bytes(r#"1.2.3.4 - - TIME "GET / HTTP/1.1" 200 1 "-" "Moz\"#);
        assert_eq!(Line::parse(&text).unwrap().agent(), br"Moz\");
        // HTTP/0.9 names no version.
        let text = bytes(r#"1.2.3.4 - - TIME "GET /old?x" 200 1"#);
        assert_eq!(Line::parse(&text).unwrap().path(), b"/old");
        // Not UTF-8.
        let text = [b"1.2.3.4 - - ", TIME.as_bytes(), b" \"GET /\xff\xfe HTTP/1.1\" 200 1"].concat();
        assert_eq!(Line::parse(&text).unwrap().path(), b"/\xff\xfe");
    }

    #[test]
    fn malformed_lines_say_why() {
        for (text, why) in [
            ("garbage", Malformed::NoTime),
            ("", Malformed::NoTime),
            (
                r#"1.2.3.4 - - [yesterday] "GET / HTTP/1.1" 200 1"#,
                Malformed::BadTime(TimeFault::Form),
            ),
            (
                r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000 "GET / HTTP/1.1" 200 1"#,
                Malformed::BadTime(TimeFault::Form),
            ),
            (
                r#"1.2.3.4 - - [31/Feb/2015:10:05:03 +0000] "GET / HTTP/1.1" 200"#,
                Malformed::BadTime(TimeFault::Value),
            ),
            (
                r#"- - [x] "GET /TIME HTTP/1.1" 200 1"#,
                Malformed::BadTime(TimeFault::Form),
            ),
            (r#"TIME "GET / HTTP/1.1" 200 1"#, Malformed::NoClient),
            ("1.2.3.4 - - TIME", Malformed::NoRequest),
            (r#"1.2.3.4 - - TIME "GET /cut"#, Malformed::OpenRequest),
            (r#"1.2.3.4 - - TIME "GET / HTTP/1.1""#, Malformed::NoStatus),
            (r#"1.2.3.4 - - TIME "GET / HTTP/1.1" OK 1"#, Malformed::NoStatus),
            (r#"1.2.3.4 - - TIME "GET / HTTP/1.1" 2000 1"#, Malformed::NoStatus),
        ] {
            let text = bytes(text);
            assert_eq!(Line::parse(&text), Err(why), "{}", String::from_utf8_lossy(&text));
        }
    }

    /// Every beginning of a good line parses or is refused; none panics.
    #[test]
    fn any_cut_is_survived() {
        let text = bytes(r#"v.example:80 1.2.3.4 - ann TIME "GET /a\"?q HTTP/1.1" 200 2326 "http://x/" "A\"gent""#);
        for end in 0..=text.len() {
            for start in [0, end / 2] {
                if let Ok(line) = Line::parse(&text[start..end]) {
                    let _ = (
                        line.method(),
                        line.path(),
                        line.status_class(),
                        line.referer(),
                        line.agent(),
                    );
                }
            }
        }
    }
}
