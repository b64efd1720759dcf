//! What services call: check, peek, refund.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ratelimit::Decision;
use ratelimit::headers::PROBLEM_JSON;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::{Json, Key, NoQuery, Sent, query};
use super::problem::Problem;
use crate::serve::node::{Named, Node};

/// The most requests of one batch.
const MAX_BATCH: usize = 1000;

/// One request to be decided.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    key: Key,
    #[serde(default = "one")]
    cost: u64,
    /// The name of the limit.
    limit: Option<String>,
}

fn one() -> u64 {
    1
}

/// Several of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    requests: Vec<Ask>,
}

/// A decision. Times are seconds.
#[derive(Debug, Serialize)]
struct Told {
    allowed: bool,
    limit: u64,
    remaining: u64,
    /// `null`: never.
    retry_after: Option<f64>,
    reset_after: f64,
}

impl From<Decision> for Told {
    fn from(decision: Decision) -> Self {
        Told {
            allowed: decision.allowed,
            limit: decision.limit,
            remaining: decision.remaining,
            retry_after: (decision.retry_after != Decision::NEVER).then_some(decision.retry_after.as_secs_f64()),
            reset_after: decision.reset_after.as_secs_f64(),
        }
    }
}

pub(super) fn named(node: &Node, name: Option<&str>) -> Result<Arc<Named>, Problem> {
    node.limiter(name).map_err(Problem::no_limit)
}

/// Whether a denial is to be told as the status 429.
pub(super) struct AsStatus(bool);

impl FromRequestParts<Shared> for AsStatus {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        match query(&parts.uri, "status")? {
            None | Some("200") => Ok(AsStatus(false)),
            Some("429") => Ok(AsStatus(true)),
            Some(_) => Err(Problem::argument(
                "status is the status of a denial: 429, or 200, which it is if nothing is said",
            )),
        }
    }
}

/// Decides, and charges what is allowed. Answers 200 with the decision; with `?status=429` a denial is 429 with its header fields and
/// an allowed request has them too.
pub(super) async fn check(
    State(shared): State<Shared>,
    AsStatus(as_status): AsStatus,
    Sent(ask): Sent<Ask>,
) -> Result<Response, Problem> {
    let named = named(&shared.node, ask.limit.as_deref())?;
    let decide = || named.limiter.check_n(&ask.key.0, ask.cost);
    let decision = shared.node.figures.latency.of(decide);
    if !as_status {
        return Ok(Json(Told::from(decision)).into_response());
    }
    let fields = named.headers();
    let mut response = if decision.allowed {
        Json(Told::from(decision)).into_response()
    } else {
        let problem = fields.problem(&decision);
        (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::CONTENT_TYPE, PROBLEM_JSON)],
            problem,
        )
            .into_response()
    };
    for (name, value) in fields.headers(&decision) {
        // Names of policies are those of limits, visible ASCII: a value cannot be refused.
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    Ok(response)
}

/// Decides several, in order. Nothing is decided if anything in it is wrong.
pub(super) async fn check_batch(
    State(shared): State<Shared>,
    _: NoQuery,
    Sent(batch): Sent<Batch>,
) -> Result<Response, Problem> {
    if batch.requests.len() > MAX_BATCH {
        return Err(Problem::argument(format!(
            "a batch has at most {MAX_BATCH} requests, and this one has {}: send several",
            batch.requests.len()
        )));
    }
    let limiters: Vec<Arc<Named>> = batch
        .requests
        .iter()
        .map(|ask| named(&shared.node, ask.limit.as_deref()))
        .collect::<Result<_, _>>()?;
    let decide = |(ask, named): (&Ask, &Arc<Named>)| Told::from(named.limiter.check_n(&ask.key.0, ask.cost));
    let decisions: Vec<Told> = batch.requests.iter().zip(&limiters).map(decide).collect();
    Ok(Json(serde_json::json!({"decisions": decisions})).into_response())
}

/// What a check would say. Charges nothing.
pub(super) async fn peek(State(shared): State<Shared>, _: NoQuery, Sent(ask): Sent<Ask>) -> Result<Response, Problem> {
    let named = named(&shared.node, ask.limit.as_deref())?;
    Ok(Json(Told::from(named.limiter.peek_n(&ask.key.0, ask.cost))).into_response())
}

/// Gives back what a request cost that failed for other reasons.
pub(super) async fn refund(
    State(shared): State<Shared>,
    _: NoQuery,
    Sent(ask): Sent<Ask>,
) -> Result<StatusCode, Problem> {
    named(&shared.node, ask.limit.as_deref())?
        .limiter
        .refund(&ask.key.0, ask.cost);
    Ok(StatusCode::NO_CONTENT)
}
