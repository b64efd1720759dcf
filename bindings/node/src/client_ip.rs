//! The client's address behind proxies.

use napi::bindgen_prelude::Env;
use napi_derive::napi;
use ratelimit::Error;
use ratelimit::client_ip::TrustedProxies;

use crate::boundary::guard;
use crate::values::{Js, elements};

/// Which proxies are believed, and in which header field they say whom they speak for.
#[napi]
pub struct Proxies {
    proxies: TrustedProxies,
}

#[napi]
impl Proxies {
    /// `trusted` as one text; the name of the field and the bits of IPv6 addresses, or nothing.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, trusted: Js, header: Js, ipv6_prefix: Js) -> napi::Result<Self> {
        guard(env.raw(), || {
            let mut proxies: TrustedProxies = trusted.text("trustedProxies")?.parse()?;
            if let Some(header) = header.optional() {
                proxies = proxies.header(&header.text("header")?)?;
            }
            if let Some(bits) = ipv6_prefix.optional() {
                proxies = proxies.ipv6_prefix(u8::try_from(bits.count("ipv6Prefix")?).unwrap_or(u8::MAX))?;
            }
            Ok(Proxies { proxies })
        })
    }

    /// The name of the field that is read, in lower case.
    #[napi(catch_unwind)]
    pub fn header_name(&self, env: Env) -> napi::Result<String> {
        guard(env.raw(), || Ok(self.proxies.header_name().to_owned()))
    }

    /// The key of the client, or null if not even the peer's address is known.
    #[napi(catch_unwind)]
    pub fn client_ip(&self, env: Env, peer: Js, values: Js) -> napi::Result<Option<String>> {
        guard(env.raw(), || {
            let values = elements(values.env, values.value)
                .ok_or_else(|| Error::Argument("the values of a header field are an array of texts".to_owned()))?;
            let values = values
                .into_iter()
                .map(|value| Js { env: env.raw(), value }.text("a header field"));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            Ok(self.proxies.client_ip(&peer.text("the peer's address")?, &values))
        })
    }
}
