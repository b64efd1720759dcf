//! The Node.js addon. It converts values; all that decides anything is in the crate `ratelimit`.
//!
//! Two kinds of functions. The short ones (`hot.rs`) know a limiter by its number and read their arguments with the plain C
//! interface: napi's general conversions, and finding what an object stands for, cost several times a decision. All others (`limiter.rs`, `headers.rs`) are ordinary napi classes.
//! `index.js` makes one class of both.

mod boundary;
mod client_ip;
mod headers;
#[cfg(feature = "test-hooks")]
mod hooks;
mod hot;
mod key;
mod limiter;
mod limiters;
mod rules;
mod values;

use napi::bindgen_prelude::Env;
use napi_derive::napi;
use ratelimit::address::{IPV6_PREFIX, client_key};
use ratelimit::options::{Dialect, OptionHelp, cluster_option_help, option_help};
use ratelimit::{ERROR_CODES, Error};

use crate::boundary::{guard, limiters};
use crate::values::Js;

/// The version of this build.
#[napi(catch_unwind)]
pub fn version(env: Env) -> napi::Result<&'static str> {
    guard(env.raw(), || Ok(env!("CARGO_PKG_VERSION")))
}

/// Every error: number, name and meaning, three in a row for each.
#[napi(catch_unwind)]
pub fn error_codes(env: Env) -> napi::Result<Vec<String>> {
    guard(env.raw(), || {
        let codes = ERROR_CODES.iter();
        Ok(codes
            .flat_map(|error| [error.code.to_string(), error.name.to_owned(), error.meaning.to_owned()])
            .collect())
    })
}

/// Every option: name, what it takes, what it does, three in a row for each.
#[napi(catch_unwind)]
pub fn options(env: Env) -> napi::Result<Vec<String>> {
    guard(env.raw(), || Ok(told(option_help())))
}

/// The same of the options of a cluster.
#[napi(catch_unwind)]
pub fn cluster_options(env: Env) -> napi::Result<Vec<String>> {
    guard(env.raw(), || Ok(told(cluster_option_help())))
}

fn told(options: Vec<OptionHelp>) -> Vec<String> {
    let options = options.into_iter();
    options
        .flat_map(|help| {
            [
                Dialect::CamelMillis.spell(&help),
                help.takes.to_owned(),
                help.help.to_owned(),
            ]
        })
        .collect()
}

/// The key of a network address, or null if the text is none.
#[napi(catch_unwind)]
pub fn address_key(env: Env, text: Js, ipv6_prefix: Js) -> napi::Result<Option<String>> {
    guard(env.raw(), || {
        let prefix = match ipv6_prefix.optional() {
            Some(prefix) => u8::try_from(prefix.count("ipv6Prefix")?).unwrap_or(u8::MAX),
            None => IPV6_PREFIX,
        };
        Ok(client_key(&text.text("the address")?, prefix))
    })
}

/// Writes the last snapshots of this environment, at the end of the process: what cannot be written then is lost, as it would
/// be by a crash. Decisions may go on.
#[napi(catch_unwind)]
pub fn write_last_snapshots(env: Env) -> napi::Result<()> {
    guard(env.raw(), || {
        for limiter in limiters(env.raw()).iter().flat_map(|limiters| limiters.all()) {
            let _nobody_is_left_to_tell = limiter.close();
        }
        Ok(())
    })
}

/// Removes the shared table of a name. False if there is none.
#[napi(catch_unwind)]
pub fn unshare(env: Env, name: Js) -> napi::Result<bool> {
    guard(env.raw(), || remove_shared(&name.text("the name")?))
}

#[cfg(target_os = "linux")]
fn remove_shared(name: &str) -> Result<bool, Error> {
    ratelimit::Limiter::unshare(name)
}

#[cfg(not(target_os = "linux"))]
fn remove_shared(_: &str) -> Result<bool, Error> {
    Err(Error::Unsupported("only Linux has shared tables".to_owned()))
}

/// A key's bytes as one text that is different for different keys: each character is one byte.
#[napi(catch_unwind)]
pub fn key_text(env: Env, key: Js) -> napi::Result<String> {
    guard(env.raw(), || {
        key.key(|bytes| bytes.iter().map(|&byte| char::from(byte)).collect())
    })
}
