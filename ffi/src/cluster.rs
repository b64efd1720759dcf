//! The options of the cluster in a config: a setter for each, by the one parser of all languages.

use std::ffi::c_char;

use ratelimit::options::OptionValue;

use crate::boundary;
use crate::config::{change, ratelimit_config};
use crate::result::ratelimit_result;

/// Sets an option of the cluster to a text that C has given.
///
/// # Safety
/// As for `boundary::text`.
unsafe fn set_cluster_text(
    entry: &'static str,
    config: *mut ratelimit_config,
    name: &'static str,
    text: *const c_char,
) -> ratelimit_result {
    change(entry, config, |config| {
        // Safety: guaranteed by caller.
        match unsafe { boundary::text(text, name) } {
            Ok(text) => config.set_cluster(name, OptionValue::Text(text.to_owned())),
            Err(failure) => config.note(name, Err(failure)),
        }
    })
}

/// The cluster: this node's name, as in its certificate: 1 to 64 bytes. Setting any option of the cluster makes the limiter one node of several that keep one limit.
///
/// `node`, `listen` and `certs` are needed; all nodes but the first need `seeds`. Errors, beside those of other setters: `ratelimit_open` gives `RATELIMIT_ERR_CLUSTER_CONFIG` for
/// what does not fit together and `RATELIMIT_ERR_CLUSTER_START` for a port that is taken.
///
/// # Safety
/// `node` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_node(
    config: *mut ratelimit_config,
    node: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_node", config, "node", node) }
}

/// The cluster: the address and port that this node listens on, UDP, as "127.0.0.1:7001".
///
/// # Safety
/// `listen` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_listen(
    config: *mut ratelimit_config,
    listen: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_listen", config, "listen", listen) }
}

/// The cluster: the address or DNS name with port that other nodes are told to dial. Default: `listen`, unless that is a wildcard.
///
/// # Safety
/// `advertise` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_advertise(
    config: *mut ratelimit_config,
    advertise: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_advertise", config, "advertise", advertise) }
}

/// The cluster: the nodes to dial first: addresses or DNS names with port, with commas between. Default: none.
///
/// # Safety
/// `seeds` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_seeds(
    config: *mut ratelimit_config,
    seeds: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_seeds", config, "seeds", seeds) }
}

/// The cluster: the directory that `ratelimit certs` made; the authority, certificate, key and secret are found there unless they are given.
///
/// # Safety
/// `certs` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_certs(
    config: *mut ratelimit_config,
    certs: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_certs", config, "certs", certs) }
}

/// The cluster: the certificate of the authority that all nodes trust: PEM text, or the name of a file.
///
/// # Safety
/// `ca` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_ca(
    config: *mut ratelimit_config,
    ca: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_ca", config, "ca", ca) }
}

/// The cluster: this node's certificate: PEM text, or the name of a file. A file is read again when it changes.
///
/// # Safety
/// `cert` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_cert(
    config: *mut ratelimit_config,
    cert: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_cert", config, "cert", cert) }
}

/// The cluster: the private key of this node's certificate: PEM text, or the name of a file.
///
/// # Safety
/// `key` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_key(
    config: *mut ratelimit_config,
    key: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_key", config, "key", key) }
}

/// The cluster: what keys the hash of keys, equal on all nodes: 32 hexadecimal digits, or the name of a file with them.
///
/// # Safety
/// `secret` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_secret(
    config: *mut ratelimit_config,
    secret: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_secret", config, "secret", secret) }
}

/// The cluster: what a node may spend on a key that it has no lease for: "eventual", "bounded:20", "strict" or "strict:10%"; for several limits
/// one for all, or as many with commas between. Default: "eventual".
///
/// # Safety
/// `mode` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_mode(
    config: *mut ratelimit_config,
    mode: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_mode", config, "mode", mode) }
}

/// The cluster: the names of the nodes that own keys, with commas between, the same on all nodes. Needed for bounded and strict. Default: all nodes.
///
/// # Safety
/// `owners` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_owners(
    config: *mut ratelimit_config,
    owners: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_owners", config, "owners", owners) }
}

/// The cluster: what nodes do about keys whose owner they do not hear: "open" (each side takes over), "share" (each side takes its part of
/// the rate), or "closed" (nobody takes over). Default: "open".
///
/// # Safety
/// `on_partition` ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_config_set_cluster_on_partition(
    config: *mut ratelimit_config,
    on_partition: *const c_char,
) -> ratelimit_result {
    // Safety: guaranteed by caller.
    unsafe { set_cluster_text("ratelimit_config_set_cluster_on_partition", config, "on_partition", on_partition) }
}

/// The cluster: time between two reports of a key in steady use, in nanoseconds, from 1 ms to 10 s. Default: 50 ms.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_config_set_cluster_interval(
    config: *mut ratelimit_config,
    interval_ns: u64,
) -> ratelimit_result {
    change("ratelimit_config_set_cluster_interval", config, |config| {
        config.set_cluster("interval_ns", OptionValue::Int(i128::from(interval_ns)))
    })
}

/// The cluster: the most nodes there will be, from 1 to 65,535. Default: 256.
#[unsafe(no_mangle)]
pub extern "C" fn ratelimit_config_set_cluster_max_nodes(
    config: *mut ratelimit_config,
    max_nodes: u64,
) -> ratelimit_result {
    change("ratelimit_config_set_cluster_max_nodes", config, |config| {
        config.set_cluster("max_nodes", OptionValue::Int(i128::from(max_nodes)))
    })
}
