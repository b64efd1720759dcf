//! Three Gubernator daemons that find each other by gossip, one next to each node, asked over gRPC for one decision a
//! call, as a service asks for one request. Its settings are its own but for addresses, and but for the traces that it
//! would send to a collector which is not here: without them it is faster.
//!
//! Its gossip tells members by the name of their host and by their IP address. So each daemon has a host name of its own
//! (a UTS namespace) and an address of its own from 127.0.0.0/8.
//!
//! The limit is its leaky bucket, which has a rate and a burst of its own: the same promise as everyone else's. Its
//! default algorithm counts in fixed windows that begin with the first call and knows no burst; it is measured too where
//! it matters, in what is admitted.

use std::process::Command;
use std::time::{Duration, Instant};

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::{Asked, Node, READY_WITHIN, Remote, Servers, Subject};
use crate::plan::{NODES, Quota};
use crate::process::{Place, Process, free_address};

/// The daemon as the Go module proxy serves it.
pub(crate) const PACKAGE: &str = "github.com/gubernator-io/gubernator/v2/cmd/gubernator";
pub(crate) const VERSION: &str = "v2.13.0";

pub(crate) fn servers(place: &Place) -> Result<Servers, String> {
    let daemon = place.gubernator.as_ref().map_err(Clone::clone)?;
    let free = || {
        (0..NODES)
            .map(|node| Ok(free_address()?.replace("127.0.0.1:", &format!("127.0.0.{}:", node + 1))))
            .collect::<Result<Vec<_>, String>>()
    };
    let (grpc, http, gossip) = (free()?, free()?, free()?);
    let mut processes = Vec::new();
    for node in 0..NODES {
        let mut command = Command::new("unshare");
        // Both replace themselves by what they start, so that the process we end is the daemon.
        command
            .args([
                "--uts",
                "sh",
                "-c",
                "echo \"$1\" > /proc/sys/kernel/hostname && exec \"$0\"",
            ])
            .arg(daemon)
            .arg(format!("gubernator-{node}"))
            .env("OTEL_TRACES_EXPORTER", "none")
            .env("GUBER_GRPC_ADDRESS", &grpc[node])
            .env("GUBER_ADVERTISE_ADDRESS", &grpc[node])
            .env("GUBER_HTTP_ADDRESS", &http[node])
            .env("GUBER_PEER_DISCOVERY_TYPE", "member-list")
            .env("GUBER_MEMBERLIST_ADDRESS", &gossip[node])
            .env("GUBER_MEMBERLIST_BIND_ADDRESS", &gossip[node])
            .env("GUBER_MEMBERLIST_KNOWN_NODES", gossip.join(","))
            .env("GUBER_LOG_LEVEL", "error");
        processes.push(Process::start(&format!("gubernator-{node}"), command, place)?);
    }
    for (process, address) in processes.iter_mut().zip(&grpc) {
        process.listens(address, READY_WITHIN, place)?;
    }
    Ok(Servers {
        processes,
        addresses: grpc,
    })
}

// Its messages, as far as they are used: gubernator.proto of the version above.

#[derive(Clone, PartialEq, prost::Message)]
struct GetRateLimitsReq {
    #[prost(message, repeated, tag = "1")]
    requests: Vec<RateLimitReq>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RateLimitReq {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    unique_key: String,
    #[prost(int64, tag = "3")]
    hits: i64,
    #[prost(int64, tag = "4")]
    limit: i64,
    #[prost(int64, tag = "5")]
    duration_ms: i64,
    #[prost(int32, tag = "6")]
    algorithm: i32,
    #[prost(int32, tag = "7")]
    behavior: i32,
    #[prost(int64, tag = "8")]
    burst: i64,
}

const TOKEN_BUCKET: i32 = 0;
const LEAKY_BUCKET: i32 = 1;
const BATCHING: i32 = 0;
const GLOBAL: i32 = 2;
const OVER_LIMIT: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct GetRateLimitsResp {
    #[prost(message, repeated, tag = "1")]
    responses: Vec<RateLimitResp>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RateLimitResp {
    #[prost(int32, tag = "1")]
    status: i32,
    #[prost(string, tag = "5")]
    error: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckReq {}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResp {
    #[prost(string, tag = "1")]
    status: String,
    #[prost(int32, tag = "3")]
    peer_count: i32,
}

struct Gubernator {
    grpc: Grpc<Channel>,
    quota: Quota,
    algorithm: i32,
    behavior: i32,
}

async fn call<Q, A>(mut grpc: Grpc<Channel>, method: &'static str, message: Q) -> Result<A, String>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    grpc.ready().await.map_err(|error| error.to_string())?;
    let answer = grpc
        .unary(
            tonic::Request::new(message),
            PathAndQuery::from_static(method),
            ProstCodec::<Q, A>::default(),
        )
        .await
        .map_err(|status| status.to_string())?;
    Ok(answer.into_inner())
}

impl Remote for Gubernator {
    fn ask<'a>(&'a self, id: &'a str) -> Asked<'a> {
        let request = RateLimitReq {
            name: "bench".to_owned(),
            unique_key: id.to_owned(),
            hits: 1,
            limit: self.quota.rate.into(),
            duration_ms: 1000,
            algorithm: self.algorithm,
            behavior: self.behavior,
            burst: self.quota.burst.into(),
        };
        let message = GetRateLimitsReq {
            requests: vec![request],
        };
        let answer = call::<_, GetRateLimitsResp>(self.grpc.clone(), "/pb.gubernator.V1/GetRateLimits", message);
        Box::pin(async move {
            let answer = answer.await?;
            let first = answer.responses.first().ok_or("an answer without a decision")?;
            if !first.error.is_empty() {
                return Err(first.error.clone());
            }
            Ok(first.status != OVER_LIMIT)
        })
    }
}

/// Connects to this node's daemon and waits until it knows all the others.
pub(crate) async fn connect(subject: Subject, node: &Node) -> Result<Box<dyn Remote>, String> {
    let channel = Endpoint::from_shared(format!("http://{}", node.address()))
        .map_err(|error| error.to_string())?
        .connect()
        .await
        .map_err(|error| format!("no connection to Gubernator: {error}"))?;
    let grpc = Grpc::new(channel);
    let until = Instant::now() + READY_WITHIN;
    loop {
        // A daemon that does not yet know itself answers with an error.
        let health = call::<_, HealthCheckResp>(grpc.clone(), "/pb.gubernator.V1/HealthCheck", HealthCheckReq {}).await;
        let state = match health {
            Ok(health) if usize::try_from(health.peer_count) == Ok(NODES) => break,
            Ok(health) => format!("{}, {} of {NODES} daemons known", health.status, health.peer_count),
            Err(error) => error,
        };
        if Instant::now() > until {
            return Err(format!("Gubernator is not ready after {READY_WITHIN:?}: {state}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(Box::new(Gubernator {
        grpc,
        quota: node.quota,
        algorithm: match subject {
            Subject::GubernatorWindow | Subject::GubernatorGlobalWindow => TOKEN_BUCKET,
            _ => LEAKY_BUCKET,
        },
        behavior: match subject {
            Subject::GubernatorGlobal | Subject::GubernatorGlobalWindow => GLOBAL,
            _ => BATCHING,
        },
    }))
}
