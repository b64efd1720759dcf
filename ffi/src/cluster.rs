//! The cluster: its options in a config, a setter for each by the one parser of all languages; its peers.

use std::ffi::c_char;
use std::time::Duration;

use ratelimit::Peer;
use ratelimit::options::OptionValue;

use crate::boundary::{self, Out};
use crate::config::{Config, change, ratelimit_config, set_text};
use crate::decision::{RATELIMIT_NEVER, nanoseconds};
use crate::limiter::{hold, ratelimit_limiter};
use crate::result::ratelimit_result;

/// The longest that one who waits for the cluster does not look whether the limiter was closed.
const LOOK: Duration = Duration::from_millis(100);

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
    unsafe {
        set_text(
            Config::set_cluster,
            "ratelimit_config_set_cluster_node",
            config,
            "node",
            node,
        )
    }
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
    unsafe {
        set_text(
            Config::set_cluster,
            "ratelimit_config_set_cluster_listen",
            config,
            "listen",
            listen,
        )
    }
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
    unsafe {
        set_text(
            Config::set_cluster,
            "ratelimit_config_set_cluster_advertise",
            config,
            "advertise",
            advertise,
        )
    }
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
    unsafe {
        set_text(
            Config::set_cluster,
            "ratelimit_config_set_cluster_seeds",
            config,
            "seeds",
            seeds,
        )
    }
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
    unsafe {
        set_text(
            Config::set_cluster,
            "ratelimit_config_set_cluster_certs",
            config,
            "certs",
            certs,
        )
    }
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
    unsafe { set_text(Config::set_cluster, "ratelimit_config_set_cluster_ca", config, "ca", ca) }
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
    unsafe {
        set_text(
            Config::set_cluster,
            "ratelimit_config_set_cluster_cert",
            config,
            "cert",
            cert,
        )
    }
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
    unsafe {
        set_text(
            Config::set_cluster,
            "ratelimit_config_set_cluster_key",
            config,
            "key",
            key,
        )
    }
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
    unsafe {
        set_text(
            Config::set_cluster,
            "ratelimit_config_set_cluster_secret",
            config,
            "secret",
            secret,
        )
    }
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
    unsafe {
        set_text(
            Config::set_cluster,
            "ratelimit_config_set_cluster_mode",
            config,
            "mode",
            mode,
        )
    }
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
    unsafe {
        set_text(
            Config::set_cluster,
            "ratelimit_config_set_cluster_owners",
            config,
            "owners",
            owners,
        )
    }
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
    unsafe {
        set_text(
            Config::set_cluster,
            "ratelimit_config_set_cluster_on_partition",
            config,
            "on_partition",
            on_partition,
        )
    }
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

/// Bytes of a node's name with the zero byte at its end.
pub const RATELIMIT_PEER_NAME: usize = 65;
/// Bytes of a node's address with the zero byte at its end; a longer one is cut.
pub const RATELIMIT_PEER_ADDRESS: usize = 64;

/// A node of the cluster as this one sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ratelimit_peer {
    /// Its name, as its certificate says.
    pub name: [c_char; RATELIMIT_PEER_NAME],
    /// Where its link goes, or went last; empty if it was only heard of.
    pub address: [c_char; RATELIMIT_PEER_ADDRESS],
    /// "linked", "unheard", "alive", "suspect", "dead" or "left". A static text.
    pub state: *const c_char,
    /// The round-trip time of its link; `RATELIMIT_NEVER` without one.
    pub rtt_ns: u64,
    /// How long the oldest report to it has waited for its acknowledgement; 0 if none waits.
    pub lag_ns: u64,
    /// Units in reports that it has not acknowledged.
    pub unacked_units: u64,
    /// Bytes sent to it, over all links.
    pub sent_bytes: u64,
    /// Bytes received from it, over all links.
    pub received_bytes: u64,
}

/// A text with zero bytes behind it, cut to what has room.
fn cut<const N: usize>(text: &str) -> [c_char; N] {
    let mut bytes = [0; N];
    let mut end = text.len().min(N - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    for (to, from) in bytes.iter_mut().zip(&text.as_bytes()[..end]) {
        // The same bits, whatever a char of C is here.
        *to = *from as c_char;
    }
    bytes
}

impl From<Peer> for ratelimit_peer {
    fn from(peer: Peer) -> Self {
        let state = [c"linked", c"unheard", c"alive", c"suspect", c"dead", c"left"]
            .into_iter()
            .find(|word| word.to_bytes() == peer.state.name().as_bytes())
            .unwrap_or(c"unknown");
        ratelimit_peer {
            name: cut(&peer.name),
            address: cut(&peer.address),
            state: state.as_ptr(),
            rtt_ns: peer.rtt.map_or(RATELIMIT_NEVER, nanoseconds),
            lag_ns: nanoseconds(peer.lag),
            unacked_units: peer.unacked_units,
            sent_bytes: peer.sent_bytes,
            received_bytes: peer.received_bytes,
        }
    }
}

/// The other nodes of the cluster, into `peers`, which has room for `capacity`; how many there are goes to `*count`, and may be more.
///
/// None without a cluster. With a capacity of 0 `peers` may be NULL.
/// Errors: `RATELIMIT_ERR_CLOSED`, `RATELIMIT_ERR_NULL`, `RATELIMIT_ERR_LENGTH`.
///
/// # Safety
/// `capacity` peers can be written to `peers`, and a number to `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_peers(
    limiter: ratelimit_limiter,
    peers: *mut ratelimit_peer,
    capacity: usize,
    count: *mut usize,
) -> ratelimit_result {
    boundary::guard("ratelimit_peers", || {
        // Safety: guaranteed by caller.
        let count = unsafe { Out::new(count, "count") }?;
        boundary::checked_array(peers, capacity, "peers")?;
        let found = hold(limiter)?.peers();
        count.write(found.len());
        for (place, peer) in found.into_iter().take(capacity).enumerate() {
            // Safety: not null and aligned if there is capacity (checked), with room for `capacity` peers (guaranteed by caller).
            unsafe { peers.add(place).write(peer.into()) };
        }
        Ok(())
    })
}

/// Waits until every seed of the cluster is linked, at most `timeout_ns` (0: does not wait; `RATELIMIT_NEVER`: however long it takes),
/// and writes to `*ready` whether they are. True at once without a cluster; false at once in a
/// forked child of a node, or if the node could not start.
///
/// Errors: `RATELIMIT_ERR_CLOSED` (also if it is closed meanwhile, within a tenth of a second), `RATELIMIT_ERR_NULL`.
///
/// # Safety
/// A truth can be written to `ready`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ratelimit_ready(
    limiter: ratelimit_limiter,
    timeout_ns: u64,
    ready: *mut bool,
) -> ratelimit_result {
    boundary::guard("ratelimit_ready", || {
        // Safety: guaranteed by caller.
        let ready = unsafe { Out::new(ready, "ready") }?;
        let until = match timeout_ns {
            RATELIMIT_NEVER => None,
            timeout_ns => std::time::Instant::now().checked_add(Duration::from_nanos(timeout_ns)),
        };
        loop {
            let left = until.map_or(LOOK, |until| until.saturating_duration_since(std::time::Instant::now()));
            // Not for longer: the limiter may be closed meanwhile, which then answers.
            let held = hold(limiter)?;
            if held.ready(left.min(LOOK)) {
                ready.write(true);
                return Ok(());
            }
            if left.is_zero() || !held.may_become_ready() {
                ready.write(false);
                return Ok(());
            }
        }
    })
}
