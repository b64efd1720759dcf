//! What services call: check, peek, refund.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ratelimit::headers::PROBLEM_JSON;
use ratelimit::{Decision, Rules};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::body::{Json, Key, NoQuery, Sent, query};
use super::problem::Problem;
use super::rules::{self, Attributes};
use crate::serve::node::{Named, Node};

/// The most requests of one batch.
const MAX_BATCH: usize = 1000;

/// One request to be decided.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// Whose request it is; or `attributes`, for what the rules say.
    key: Option<Key>,
    attributes: Option<Attributes>,
    #[serde(default = "one")]
    cost: u64,
    /// The name of the limit.
    limit: Option<String>,
}

/// What decides a request.
enum Of<'a> {
    Key(Arc<Named>, &'a Key),
    Rules(&'a Rules, &'a Attributes),
}

impl Ask {
    fn of<'a>(&'a self, node: &'a Node) -> Result<Of<'a>, Problem> {
        match (&self.key, &self.attributes) {
            (Some(key), None) => Ok(Of::Key(named(node, self.limit.as_deref())?, key)),
            (None, Some(attributes)) if self.limit.is_none() => match node.rules() {
                Some(rules) => Ok(Of::Rules(rules, attributes)),
                None => Err(Problem::argument(
                    "there are no rules to decide by attributes: write a [[rule]] into the configuration",
                )),
            },
            (None, None) => Err(Problem::argument(
                "say whose request it is: \"key\" for a limit, or \"attributes\" for the rules",
            )),
            _ => Err(Problem::argument(
                "\"attributes\" are decided by the rules: leave out \"key\" and \"limit\"",
            )),
        }
    }
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
pub(super) struct Told {
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
    let (named, key) = match ask.of(&shared.node)? {
        Of::Rules(rules, attributes) => {
            let decide = || attributes.check(rules, ask.cost);
            return Ok(rules::answer(&shared.node.figures.latency.of(decide), as_status));
        }
        Of::Key(named, key) => (named, key),
    };
    let decide = || named.limiter.check_n(&key.0, ask.cost);
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
    let asked: Vec<Of<'_>> = batch
        .requests
        .iter()
        .map(|ask| ask.of(&shared.node))
        .collect::<Result<_, _>>()?;
    let decide = |(ask, of): (&Ask, &Of<'_>)| match of {
        Of::Rules(rules, attributes) => rules::json(&attributes.check(rules, ask.cost)),
        Of::Key(named, key) => serde_json::json!(Told::from(named.limiter.check_n(&key.0, ask.cost))),
    };
    let decisions: Vec<_> = batch.requests.iter().zip(&asked).map(decide).collect();
    Ok(Json(serde_json::json!({"decisions": decisions})).into_response())
}

/// What a check would say. Charges nothing.
pub(super) async fn peek(State(shared): State<Shared>, _: NoQuery, Sent(ask): Sent<Ask>) -> Result<Response, Problem> {
    match ask.of(&shared.node)? {
        Of::Rules(rules, attributes) => Ok(rules::answer(&attributes.peek(rules, ask.cost), false)),
        Of::Key(named, key) => Ok(Json(Told::from(named.limiter.peek_n(&key.0, ask.cost))).into_response()),
    }
}

/// Gives back what a request cost that failed for other reasons.
pub(super) async fn refund(
    State(shared): State<Shared>,
    _: NoQuery,
    Sent(ask): Sent<Ask>,
) -> Result<StatusCode, Problem> {
    match ask.of(&shared.node)? {
        Of::Rules(rules, attributes) => attributes.refund(rules, ask.cost),
        Of::Key(named, key) => named.limiter.refund(&key.0, ask.cost),
    }
    Ok(StatusCode::NO_CONTENT)
}
