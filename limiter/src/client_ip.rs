//! The address of the client behind proxies, from header fields of which only a part can be believed.
//!
//! Whoever sends a request can write any header field. A proxy appends the address that it was reached from, so the fields are
//! read from the right, and only as far as each entry was written by a proxy that is trusted. What is left of that is the
//! client's own invention.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::Error;
use crate::address::{self, IPV6_PREFIX};

/// The most networks of one list.
pub const MAX_NETWORKS: usize = 1_024;
/// The most proxies in a row: entries further to the left are not looked at.
pub const MAX_HOPS: usize = 32;
/// The most bytes of one field that are looked at: the right end, which trusted proxies wrote.
const MAX_FIELD_BYTES: usize = 8 * 1_024;
/// The field that is read if nothing else is said.
pub const DEFAULT_HEADER: &str = "x-forwarded-for";

/// Which proxies are believed, and in which header field they say whom they speak for.
///
/// From a text: the networks or addresses of the proxies (`"10.0.0.0/8, 2001:db8::7"`; `loopback`, `private` and `unix` stand
/// for what they say), or how many proxies a request passes (`"2"`). An empty text trusts nobody.
///
/// ```
/// use ratelimit::client_ip::TrustedProxies;
///
/// let proxies: TrustedProxies = "10.0.0.0/8".parse()?;
/// // The client wrote the first entry, the proxy 10.0.0.7 the second.
/// let ip = proxies.client_ip("10.0.0.7:4711", ["192.0.2.1, 198.51.100.9"]);
/// assert_eq!(ip.as_deref(), Some("198.51.100.9"));
/// // Not from a proxy: the field is not believed at all.
/// let ip = proxies.client_ip("203.0.113.5", ["192.0.2.1"]);
/// assert_eq!(ip.as_deref(), Some("203.0.113.5"));
/// # Ok::<(), ratelimit::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TrustedProxies {
    trust: Trust,
    header: String,
    ipv6_prefix: u8,
}

#[derive(Clone, Debug)]
enum Trust {
    Networks { networks: Vec<IpNet>, unix: bool },
    Hops(usize),
}

impl FromStr for TrustedProxies {
    type Err = Error;

    /// Errors: an entry that is no network, address or number, or more than 1,024 of them.
    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let hops = text.parse().unwrap_or(usize::MAX);
            return TrustedProxies::hops(hops);
        }
        TrustedProxies::networks(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()))
    }
}

impl TrustedProxies {
    /// Trusts proxies by their networks or addresses. Entries are believed from the right for as long as each was written by one
    /// of them.
    ///
    /// Errors: an entry that is no network or address, or more than 1,024 of them.
    pub fn networks<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, Error> {
        let (mut networks, mut unix) = (Vec::new(), false);
        for entry in entries {
            let entry = entry.as_ref().trim();
            match entry.to_ascii_lowercase().as_str() {
                "unix" => unix = true,
                "loopback" => networks.extend(well_known(&["127.0.0.0/8", "::1/128"])),
                "private" => networks.extend(well_known(&[
                    "10.0.0.0/8",
                    "172.16.0.0/12",
                    "192.168.0.0/16",
                    "169.254.0.0/16",
                    "fc00::/7",
                    "fe80::/10",
                ])),
                _ => networks.push(network(entry)?),
            }
            if networks.len() > MAX_NETWORKS {
                return Err(Error::Argument(format!(
                    "trusted proxies are more than {MAX_NETWORKS} networks: join neighbours to larger ones"
                )));
            }
        }
        Ok(TrustedProxies::new(Trust::Networks { networks, unix }))
    }

    /// Trusts so many proxies in a row, whatever their addresses: the client is the entry that the first of them wrote. With 0
    /// it is the peer. Only right if nobody can reach the service past the proxies.
    ///
    /// Errors: more than 32.
    pub fn hops(hops: usize) -> Result<Self, Error> {
        if hops > MAX_HOPS {
            return Err(Error::Argument(format!(
                "trusted proxies are {hops} in a row: at most {MAX_HOPS} are supported"
            )));
        }
        Ok(TrustedProxies::new(Trust::Hops(hops)))
    }

    fn new(trust: Trust) -> Self {
        TrustedProxies {
            trust,
            header: DEFAULT_HEADER.to_owned(),
            ipv6_prefix: IPV6_PREFIX,
        }
    }

    /// The field in which the proxies say whom they speak for: `x-forwarded-for` (the default), `forwarded` (RFC 7239), or any other
    /// that holds addresses, like `x-real-ip` or `cf-connecting-ip`. One only: the proxies must write this one, and so replace or
    /// extend what a client sent in it.
    ///
    /// Errors: the text is no name of a field.
    pub fn header(mut self, name: &str) -> Result<Self, Error> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token) {
            return Err(Error::Argument(format!(
                "\"{}\" is no name of a header field: write one like x-forwarded-for",
                name.chars().take(64).collect::<String>().escape_debug()
            )));
        }
        self.header = name.to_ascii_lowercase();
        Ok(self)
    }

    /// How many bits of an IPv6 address count: see [`address::client_key`]. Default: 64.
    ///
    /// Errors: less than 32, which would join strangers, or more than 128.
    pub fn ipv6_prefix(mut self, bits: u8) -> Result<Self, Error> {
        if !(32..=128).contains(&bits) {
            return Err(Error::Argument(format!("ipv6_prefix is {bits}: use 32 to 128")));
        }
        self.ipv6_prefix = bits;
        Ok(self)
    }

    /// The name of the field that is read, in lower case: the caller hands its values over.
    #[must_use]
    pub fn header_name(&self) -> &str {
        &self.header
    }

    /// The key of the client: an IPv4 address as text, or an IPv6 network like `2001:db8:1:2::/64`.
    ///
    /// `peer` is the address at the other end of the connection, with or without a port; empty for a Unix socket. `values` are those
    /// of the [field](Self::header_name), in their order, one for each time that it was sent.
    ///
    /// The peer's own address is the answer if it is not trusted, if the field is not there, and if what a trusted proxy wrote is
    /// no address (`unknown`, a name, something cut off): nothing to the left of that can be believed. `None` only if the peer's
    /// address is none either.
    ///
    /// Cost: about 100 ns and one allocation for the answer; nothing grows with what a client sends.
    #[must_use]
    pub fn client_ip<V: AsRef<[u8]>>(&self, peer: &str, values: impl IntoIterator<Item = V>) -> Option<String> {
        let peer = address::parse(peer);
        let found = match &self.trust {
            Trust::Hops(0) => None,
            Trust::Networks { .. } if !self.trusts(peer) => None,
            _ => {
                let values: Vec<V> = values.into_iter().collect();
                self.behind(values.iter().map(AsRef::as_ref))
            }
        };
        found.or(peer).map(|address| address::key_of(address, self.ipv6_prefix))
    }

    fn trusts(&self, address: Option<IpAddr>) -> bool {
        match (&self.trust, address) {
            (Trust::Networks { networks, .. }, Some(address)) => networks.iter().any(|each| each.contains(&address)),
            (Trust::Networks { unix, .. }, None) => *unix,
            (Trust::Hops(_), _) => true,
        }
    }

    /// The client as the proxies name it. `None`: they name none, or something between that is no address.
    fn behind<'a>(&self, values: impl DoubleEndedIterator<Item = &'a [u8]>) -> Option<IpAddr> {
        let mut furthest = None;
        let mut seen = 0;
        for value in values.rev() {
            let cut = value.len() > MAX_FIELD_BYTES;
            let value = &value[value.len() - value.len().min(MAX_FIELD_BYTES)..];
            let text = std::str::from_utf8(value).ok();
            let entries = match (text, self.header.as_str()) {
                // Quotes are counted from the left, so nothing can be told of a field that was cut or is not text.
                (None, "forwarded") => return None,
                (Some(_), "forwarded") if cut => return None,
                (Some(text), "forwarded") => forwarded(text)?,
                _ => list(value),
            };
            for entry in entries.into_iter().rev() {
                seen += 1;
                let address = address::parse(&entry?)?;
                match self.trust {
                    Trust::Hops(hops) if seen < hops => {}
                    Trust::Hops(_) => return Some(address),
                    Trust::Networks { .. } if seen < MAX_HOPS && self.trusts(Some(address)) => furthest = Some(address),
                    Trust::Networks { .. } => return Some(address),
                }
            }
        }
        // By networks, everybody on the way was trusted, and the first of them is the client. By hops, entries are missing, and so
        // somebody did not come through all the proxies.
        furthest
    }
}

/// The entries of a list, from left to right. An entry that is not text is none.
fn list(value: &[u8]) -> Vec<Option<Cow<'_, str>>> {
    let trimmed = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let entries = trimmed.filter(|entry| !entry.is_empty());
    let from_right: Vec<_> = entries.rev().take(MAX_HOPS + 1).collect();
    let texts = from_right.into_iter().rev();
    texts
        .map(|entry| std::str::from_utf8(entry).ok().map(Cow::Borrowed))
        .collect()
}

/// What each element of a field `forwarded` says about `for`, from left to right. `None` for an element that says nothing; `None`
/// for all if quotes do not end, since nobody knows then which part a proxy wrote.
fn forwarded(text: &str) -> Option<Vec<Option<Cow<'_, str>>>> {
    let mut entries = Vec::new();
    for element in split_unquoted(text, b',')? {
        if element.trim().is_empty() {
            continue;
        }
        let mut of = None;
        let mut is_sound = true;
        for pair in split_unquoted(element, b';')? {
            let Some((name, value)) = pair.split_once('=') else {
                is_sound &= pair.trim().is_empty();
                continue;
            };
            if name.trim().eq_ignore_ascii_case("for") {
                // Twice: nobody knows which one the proxy wrote.
                is_sound &= of.is_none();
                of = Some(unquoted(value.trim())?);
            }
        }
        entries.push(of.filter(|_| is_sound));
    }
    Some(entries)
}

/// Splits where `at` stands outside of quotes. `None` if quotes do not end.
fn split_unquoted(text: &str, at: u8) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if byte == at && !quoted => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

fn unquoted(value: &str) -> Option<Cow<'_, str>> {
    let Some(inside) = value.strip_prefix('"') else {
        return Some(value.into());
    };
    let inside = inside.strip_suffix('"')?;
    if !inside.contains('\\') {
        return Some(inside.into());
    }
    let mut text = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(char) = chars.next() {
        text.push(if char == '\\' { chars.next()? } else { char });
    }
    Some(text.into())
}

fn well_known(texts: &[&str]) -> impl Iterator<Item = IpNet> {
    texts.iter().filter_map(|text| text.parse().ok())
}

/// A network or a single address. IPv4 inside IPv6 is IPv4, as it is for the addresses that are compared with it.
///
/// Errors: the text is neither.
pub(crate) fn network(text: &str) -> Result<IpNet, Error> {
    let wrong = || {
        let shown: String = text.chars().take(64).collect();
        Error::Argument(format!(
            "\"{}\" is no network or address: write one like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7",
            shown.escape_debug()
        ))
    };
    let Ok(network) = text.parse::<IpNet>() else {
        return address::parse(text).map(IpNet::from).ok_or_else(wrong);
    };
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => mapped(v4, v6.prefix_len() - 96).ok_or_else(wrong),
            None => Ok(network),
        },
        network => Ok(network),
    }
}

fn mapped(address: Ipv4Addr, prefix: u8) -> Option<IpNet> {
    Ipv4Net::new(address, prefix).ok().map(IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_texts_say_what_to_do() {
        for text in [
            "10.0.0.0/33",
            "proxy.example",
            "10.0.0.0/8, x",
            "1.2.3",
            "::/129",
            "33",
            "99999999999999999999999",
        ] {
            let error = text.parse::<TrustedProxies>().expect_err(text);
            assert_eq!(error.name(), "argument", "{text}");
        }
        let proxies: TrustedProxies = "".parse().expect("nobody");
        assert!(proxies.clone().header("x forwarded").is_err() && proxies.clone().header("").is_err());
        assert!(proxies.clone().ipv6_prefix(31).is_err() && proxies.ipv6_prefix(129).is_err());
        let many = (0..=MAX_NETWORKS).map(|i| format!("10.{}.{}.1", i / 256, i % 256));
        assert!(TrustedProxies::networks(many).is_err());
    }

    #[test]
    fn nothing_that_a_client_sends_takes_long_or_panics() {
        let proxies: TrustedProxies = "10.0.0.0/8".parse().expect("a network");
        let long = "10.0.0.1,".repeat(100_000);
        assert_eq!(proxies.client_ip("10.0.0.7", [&long]).as_deref(), Some("10.0.0.1"));
        let quotes = "for=\"".repeat(10_000);
        let forwarded = proxies.header("Forwarded").expect("a field");
        assert_eq!(forwarded.client_ip("10.0.0.7", [&quotes]).as_deref(), Some("10.0.0.7"));
        assert_eq!(
            forwarded.client_ip("10.0.0.7", [b"for=\xff".as_slice()]).as_deref(),
            Some("10.0.0.7")
        );
    }
}
