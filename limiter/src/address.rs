//! A client's network address as its key: one rule for the middlewares of every language.
//!
//! One client must not have many keys, or it has many limits. So spellings that mean one address give one key, and IPv6
//! addresses are cut to the network that one customer is given: whoever has a /64 can send from 2^64 addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The prefix that IPv6 addresses are cut to if nothing else is said: what a single customer is given at least.
pub const IPV6_PREFIX: u8 = 64;

/// The key of the client with this address, or `None` if the text is none: give such clients one key for all of them,
/// never the text itself, which its sender chose.
///
/// Ports, brackets and zones are dropped. IPv4 inside IPv6 (`::ffff:1.2.3.4`, however it is written) is that IPv4 address.
/// `ipv6_prefix` is how many bits of an IPv6 address count: 32 to 64 make sense, 128 is the whole address.
///
/// ```
/// use ratelimit::address::{IPV6_PREFIX, client_key};
///
/// let key = |text| client_key(text, IPV6_PREFIX);
/// assert_eq!(key("192.0.2.7").as_deref(), Some("192.0.2.7"));
/// assert_eq!(key("192.0.2.7:1234").as_deref(), Some("192.0.2.7"));
/// assert_eq!(key("::ffff:c000:207").as_deref(), Some("192.0.2.7"));
/// assert_eq!(key("[2001:db8:1:2:3:4:5:6%eth0]:1234").as_deref(), Some("2001:db8:1:2::/64"));
/// assert_eq!(key("unknown"), None);
/// ```
#[must_use]
pub fn client_key(text: &str, ipv6_prefix: u8) -> Option<String> {
    parse(text).map(|address| key_of(address, ipv6_prefix))
}

/// The key of an address that [`parse`] has read.
pub(crate) fn key_of(address: IpAddr, ipv6_prefix: u8) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let prefix = u32::from(ipv6_prefix.min(128));
            // A shift by all 128 bits has no meaning of its own.
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            format!("{}/{prefix}", Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

/// The address that a text means, IPv4 inside IPv6 as IPv4.
pub(crate) fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let plain = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, port) = rest.split_once(']')?;
            let port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
            port.then_some(inside)?
        }
        None => text,
    };
    let without_zone = plain.split_once('%').map_or(plain, |(address, _)| address);
    let address = without_zone.parse::<IpAddr>().ok().or_else(|| {
        let with_port: SocketAddr = text.parse().ok()?;
        Some(with_port.ip())
    })?;
    Some(match address {
        IpAddr::V6(address) => embedded(address).map_or(IpAddr::V6(address), IpAddr::V4),
        v4 => v4,
    })
}

/// The IPv4 address of a client that the system or a translator shows as IPv6: mapped (`::ffff:0:0/96`), or through NAT64
/// (`64:ff9b::/96`, RFC 6052), where the last 32 bits are the client's.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    let nat64 = bits >> 32 == 0x0064_ff9b_u128 << 64;
    // Cast: the last 32 bits are what is wanted.
    address
        .to_ipv4_mapped()
        .or_else(|| nat64.then(|| Ipv4Addr::from_bits(bits as u32)))
}

#[cfg(test)]
mod tests {
    use super::client_key;

    #[test]
    fn one_client_has_one_key() {
        for spelling in [
            "1.2.3.4",
            " 1.2.3.4 ",
            "1.2.3.4:80",
            "::ffff:1.2.3.4",
            "::ffff:102:304",
            "0:0:0:0:0:ffff:0102:0304",
            "[::ffff:1.2.3.4]",
            "[::FFFF:1.2.3.4]:80",
            "64:ff9b::1.2.3.4",
            "64:ff9b::102:304",
        ] {
            assert_eq!(client_key(spelling, 64).as_deref(), Some("1.2.3.4"), "{spelling}");
        }
        for spelling in [
            "2001:DB8::1",
            "2001:db8:0:0:ffff::2%eth0",
            "[2001:db8::3]:443",
            "[2001:db8::3%1]",
        ] {
            assert_eq!(client_key(spelling, 64).as_deref(), Some("2001:db8::/64"), "{spelling}");
        }
    }

    #[test]
    fn the_prefix_says_how_much_counts() {
        let key = |prefix| client_key("2001:db8:1:2:3:4:5:6", prefix);
        assert_eq!(key(32).as_deref(), Some("2001:db8::/32"));
        assert_eq!(key(48).as_deref(), Some("2001:db8:1::/48"));
        assert_eq!(key(56).as_deref(), Some("2001:db8:1::/56"));
        assert_eq!(key(128).as_deref(), Some("2001:db8:1:2:3:4:5:6/128"));
        assert_eq!(key(255), key(128));
        assert_eq!(key(0).as_deref(), Some("::/0"));
    }

    #[test]
    fn junk_is_no_key() {
        for junk in [
            "",
            "unknown",
            "1.2.3",
            "1.2.3.4.5",
            "[::1",
            "[::1]x",
            "[::1]:99999",
            "::1:2:3:4:5:6:7:8:9",
            "1.2.3.4:x",
            "%",
            "_hidden",
        ] {
            assert_eq!(client_key(junk, 64), None, "{junk}");
        }
    }
}
