//! The client's address behind proxies.

use pyo3::prelude::*;
use pyo3::types::PyInt;

use crate::error::{argument, raise};
use crate::guard::guard;

/// Which proxies are believed, and in which header field they say whom they speak for.
///
/// trusted: the networks or addresses of the proxies, as a list or a text with commas ("loopback", "private" and "unix" stand
/// for what they say), or how many proxies a request passes. header: the field that they extend or replace; "forwarded" is
/// read by RFC 7239. ipv6_prefix: how many bits of an IPv6 address count, 32 to 128.
#[pyclass(frozen, module = "ratelimit")]
pub(crate) struct TrustedProxies {
    proxies: ratelimit::client_ip::TrustedProxies,
}

#[pymethods]
impl TrustedProxies {
    #[new]
    #[pyo3(signature = (trusted, *, header = None, ipv6_prefix = None))]
    fn new(trusted: &Bound<'_, PyAny>, header: Option<&str>, ipv6_prefix: Option<u8>) -> PyResult<Self> {
        let py = trusted.py();
        guard(|| {
            let text = if trusted.is_instance_of::<PyInt>() {
                trusted.str()?.to_string()
            } else if let Ok(text) = trusted.extract::<String>() {
                text
            } else if let Ok(texts) = trusted.extract::<Vec<String>>() {
                texts.join(",")
            } else {
                return Err(argument(
                    py,
                    "trusted proxies are a number, a text like \"10.0.0.0/8\", or a list of such texts".to_owned(),
                ));
            };
            let mut proxies: ratelimit::client_ip::TrustedProxies = text.parse().map_err(|error| raise(py, error))?;
            if let Some(header) = header {
                proxies = proxies.header(header).map_err(|error| raise(py, error))?;
            }
            if let Some(bits) = ipv6_prefix {
                proxies = proxies.ipv6_prefix(bits).map_err(|error| raise(py, error))?;
            }
            Ok(TrustedProxies { proxies })
        })
    }

    /// The name of the field that is read, in lower case.
    #[getter]
    fn header(&self) -> PyResult<&str> {
        guard(|| Ok(self.proxies.header_name()))
    }

    /// The key of the client: an IPv4 address, or an IPv6 network like "2001:db8:1:2::/64". `peer` is the address at the
    /// other end of the connection, "" for a Unix socket; `values` are those of the field, one for each time it was sent.
    #[pyo3(signature = (peer, values, /))]
    fn client_ip(&self, peer: &str, values: Vec<String>) -> PyResult<Option<String>> {
        guard(|| Ok(self.proxies.client_ip(peer, &values)))
    }
}
