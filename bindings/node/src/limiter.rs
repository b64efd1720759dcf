//! The calls of a limiter that are not short.

use std::rc::Rc;
use std::time::Duration;

use napi::bindgen_prelude::Env;
use napi_derive::napi;
use ratelimit::options::{Dialect, Options};
use ratelimit::{Error, Limit, Limiter, Peer};

use crate::boundary::{guard, limiters};
use crate::limiters::Limiters;
use crate::values::{Js, elements, milliseconds};

/// A limiter, for `index.js`. Its number is good for as long as this object.
#[napi]
pub struct Handle {
    pub(crate) limiters: Rc<Limiters>,
    pub(crate) number: u32,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.limiters.remove(self.number);
    }
}

impl Handle {
    fn with<R>(&self, work: impl FnOnce(&Limiter) -> R) -> Result<R, Error> {
        self.limiters.with(self.number, work)
    }
}

/// A node of the cluster as JavaScript sees it.
#[napi(object)]
pub struct PeerObject {
    /// Its name.
    pub name: String,
    /// Address and port.
    pub address: String,
    /// A word.
    pub state: String,
    /// The round-trip time of its link; null without one.
    pub rtt_ms: Option<f64>,
    /// The age of the oldest report that it has not acknowledged.
    pub lag_ms: f64,
    /// Units in such reports.
    pub unacked_units: f64,
    /// Bytes sent to it.
    pub sent_bytes: f64,
    /// Bytes received from it.
    pub received_bytes: f64,
}

impl From<Peer> for PeerObject {
    fn from(peer: Peer) -> Self {
        PeerObject {
            name: peer.name,
            address: peer.address,
            state: peer.state.name().to_owned(),
            rtt_ms: peer.rtt.map(milliseconds),
            lag_ms: milliseconds(peer.lag),
            unacked_units: peer.unacked_units as f64,
            sent_bytes: peer.sent_bytes as f64,
            received_bytes: peer.received_bytes as f64,
        }
    }
}

#[napi]
impl Handle {
    /// From the names of options and as many values.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, names: Js, values: Js) -> napi::Result<Self> {
        guard(env.raw(), || {
            let internal = || Error::Internal("options came without their names".to_owned());
            let names = elements(names.env, names.value).ok_or_else(internal)?;
            let values = elements(values.env, values.value).ok_or_else(internal)?;
            let mut options = Options::new(Dialect::CamelMillis);
            for (name, value) in names.into_iter().zip(values) {
                let [name, value] = [name, value].map(|value| Js { env: env.raw(), value });
                options.set(&name.text("the name of an option")?, value.option())?;
            }
            let limiters = limiters(env.raw())
                .ok_or_else(|| Error::Internal("the addon was not set up: load it through its package".to_owned()))?;
            let number = limiters.add(options.build()?)?;
            Ok(Handle { limiters, number })
        })
    }

    /// The number by which the short calls know the limiter.
    #[napi(catch_unwind)]
    pub fn number(&self, env: Env) -> napi::Result<u32> {
        guard(env.raw(), || Ok(self.number))
    }

    /// Gives requests back.
    #[napi(catch_unwind)]
    pub fn refund(&self, env: Env, key: Js, cost: Js, now_ms: Js) -> napi::Result<()> {
        guard(env.raw(), || {
            let cost = cost.count("cost")?;
            let now = now_ms.optional().map(|now| now.milliseconds("nowMs")).transpose()?;
            key.key(|key| {
                self.with(|limiter| match now {
                    None => limiter.refund(key, cost),
                    Some(now) => limiter.refund_at(key, cost, now),
                })
            })?
        })
    }

    /// Forgets a client.
    #[napi(catch_unwind)]
    pub fn reset(&self, env: Env, key: Js, now_ms: Js) -> napi::Result<()> {
        guard(env.raw(), || {
            let now = now_ms.optional().map(|now| now.milliseconds("nowMs")).transpose()?;
            key.key(|key| {
                self.with(|limiter| match now {
                    None => limiter.reset(key),
                    Some(now) => limiter.reset_at(key, now),
                })
            })?
        })
    }

    /// Denies all requests of a client for a while.
    #[napi(catch_unwind)]
    pub fn block(&self, env: Env, key: Js, ms: Js) -> napi::Result<()> {
        guard(env.raw(), || {
            let duration = ms.milliseconds("ms")?;
            key.key(|key| self.with(|limiter| limiter.block(key, duration)))??
        })
    }

    /// The limits in force, as texts.
    #[napi(catch_unwind)]
    pub fn limits(&self, env: Env) -> napi::Result<Vec<String>> {
        guard(env.raw(), || {
            self.with(|limiter| limiter.limits().iter().map(Limit::to_string).collect())
        })
    }

    /// Puts other limits in force.
    #[napi(catch_unwind)]
    pub fn set_limits(&self, env: Env, limits: Js) -> napi::Result<()> {
        guard(env.raw(), || {
            let texts = elements(limits.env, limits.value).unwrap_or_else(|| vec![limits.value]);
            let limits: Vec<Limit> = texts
                .into_iter()
                .map(|value| Js { env: env.raw(), value }.limit())
                .collect::<Result<_, _>>()?;
            self.with(|limiter| limiter.set_limits(&limits))?
        })
    }

    /// Gives a client a limit of its own, or takes it away.
    #[napi(catch_unwind)]
    pub fn set_override(&self, env: Env, key: Js, limit: Js) -> napi::Result<()> {
        guard(env.raw(), || {
            let limit = limit.optional().map(Js::limit).transpose()?;
            key.key(|key| self.with(|limiter| limiter.set_override(key, limit)))??
        })
    }

    /// Takes all clients' own limits away.
    #[napi(catch_unwind)]
    pub fn clear_overrides(&self, env: Env) -> napi::Result<()> {
        guard(env.raw(), || self.with(Limiter::clear_overrides))
    }

    /// Names of statistics.
    #[napi(catch_unwind)]
    pub fn stats_names(&self, env: Env) -> napi::Result<Vec<&'static str>> {
        guard(env.raw(), || {
            self.with(|limiter| limiter.stats_by_name().into_iter().map(|(name, _)| name).collect())
        })
    }

    /// Their values, in the same order.
    #[napi(catch_unwind)]
    pub fn stats_values(&self, env: Env) -> napi::Result<Vec<f64>> {
        guard(env.raw(), || {
            self.with(|limiter| {
                limiter
                    .stats_by_name()
                    .into_iter()
                    .map(|(_, value)| value as f64)
                    .collect()
            })
        })
    }

    /// The text of `/metrics`.
    #[napi(catch_unwind)]
    pub fn prometheus(&self, env: Env) -> napi::Result<String> {
        guard(env.raw(), || self.with(Limiter::prometheus))
    }

    /// The other nodes of the cluster, as they are now.
    #[napi(catch_unwind)]
    pub fn peers(&self, env: Env) -> napi::Result<Vec<PeerObject>> {
        guard(env.raw(), || {
            self.with(|limiter| limiter.peers().into_iter().map(PeerObject::from).collect())
        })
    }

    /// Whether every seed of the cluster is linked.
    #[napi(catch_unwind)]
    pub fn is_ready(&self, env: Env) -> napi::Result<bool> {
        guard(env.raw(), || self.with(|limiter| limiter.ready(Duration::ZERO)))
    }

    /// Whether waiting for that makes sense.
    #[napi(catch_unwind)]
    pub fn may_become_ready(&self, env: Env) -> napi::Result<bool> {
        guard(env.raw(), || self.with(Limiter::may_become_ready))
    }

    /// Writes a snapshot now, and waits until it is durable.
    #[napi(catch_unwind)]
    pub fn snapshot(&self, env: Env) -> napi::Result<()> {
        guard(env.raw(), || self.with(Limiter::snapshot)?)
    }

    /// Closes the limiter; a second time does nothing.
    #[napi(catch_unwind)]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        guard(env.raw(), || match self.limiters.close(self.number) {
            Some(limiter) => limiter.close(),
            None => Ok(()),
        })
    }
}
