//! The client's address behind proxies.

use std::ffi::c_char;

use ratelimit::client_ip::TrustedProxies;

use crate::boundary::{self, Failure};
use crate::result::ratelimit_result;

/// The key of the client that a request comes from, behind proxies: an IPv4 address as text, or an IPv6 network like
/// "2001:db8:1:2::/64". Written into `buffer` (63 bytes are always enough) with a zero byte, and the bytes that both take into
/// `*needed`; with a `capacity` of 0 only the latter. The empty text if not even the peer's address is known.
///
/// `trusted` are the networks or addresses of the proxies, like "10.0.0.0/8, 2001:db8::7" ("loopback", "private" and "unix" stand
/// for what they say), or how many proxies a request passes, like "2"; "" trusts nobody. `header` is the name of the field that they
/// extend or replace, NULL for "x-forwarded-for"; "forwarded" is read by RFC 7239. `ipv6_prefix` is how many bits of an IPv6 address
/// count, 32 to 128; 0 for 64. `peer` is the address at the other end of the connection, "" for a Unix socket. `value` is the
/// field's value: several are to be joined by a comma.
/// Entries are believed from the right for as long as a trusted proxy wrote them. What is no address is never believed: the answer
/// is then the peer's own.
/// Errors: `RATELIMIT_ERR_ARGUMENT` (`trusted`, `header` or `ipv6_prefix`), `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_TEXT`,
/// `RATELIMIT_ERR_BUFFER_TOO_SMALL`.
///
/// # Safety
/// Texts end with a zero byte; `value_len` bytes can be read at `value`; `capacity` bytes can be written to `buffer`, and a size to
/// `needed`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_client_ip(
    trusted: *const c_char,
    header: *const c_char,
    ipv6_prefix: u8,
    peer: *const c_char,
    value: *const u8,
    value_len: usize,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> ratelimit_result {
    boundary::guard("ratelimit_client_ip", || {
        // Safety: guaranteed by caller.
        let (trusted, peer) = unsafe { (boundary::text(trusted, "trusted")?, boundary::text(peer, "peer")?) };
        // Safety: guaranteed by caller.
        let value = unsafe { boundary::array(value, value_len, "value") }?;
        let mut proxies: TrustedProxies = trusted.parse().map_err(Failure::from)?;
        if !header.is_null() {
            // Safety: guaranteed by caller.
            proxies = proxies.header(unsafe { boundary::text(header, "header") }?)?;
        }
        if ipv6_prefix != 0 {
            proxies = proxies.ipv6_prefix(ipv6_prefix)?;
        }
        let ip = proxies.client_ip(peer, [value]).unwrap_or_default();
        // Safety: guaranteed by caller.
        unsafe { boundary::write_text(ip.as_bytes(), buffer, capacity, needed) }
    })
}
