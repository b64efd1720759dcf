//! Requests that name attributes, decided by the rules.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ratelimit::{Decision, RuleDecision, Rules};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Json, Key};
use super::calls::Told;

/// Names and values. What is null is not there.
#[derive(Debug, Deserialize)]
pub(super) struct Attributes(BTreeMap<String, Option<Key>>);

impl Attributes {
    fn pairs(&self) -> Vec<(&str, &str)> {
        let pairs = self.0.iter();
        pairs
            .filter_map(|(name, value)| Some((name.as_str(), value.as_ref()?.0.as_str())))
            .collect()
    }

    pub(super) fn check(&self, rules: &Rules, cost: u64) -> RuleDecision {
        rules.check(&self.pairs(), cost)
    }

    pub(super) fn peek(&self, rules: &Rules, cost: u64) -> RuleDecision {
        rules.peek(&self.pairs(), cost)
    }

    pub(super) fn refund(&self, rules: &Rules, cost: u64) {
        rules.refund(&self.pairs(), cost);
    }
}

/// A decision with the rule that binds. Without one, `limit` and `remaining` are null: there is none.
pub(super) fn json(told: &RuleDecision) -> Value {
    let mut value = json!(Told::from(told.decision));
    if told.rule.is_none() {
        value["limit"] = Value::Null;
        value["remaining"] = Value::Null;
    }
    value["rule"] = json!(told.rule.as_deref());
    value["shadow"] = json!(told.shadow.as_deref());
    value
}

/// The same as a response; `as_status` makes a denial a 429.
pub(super) fn answer(told: &RuleDecision, as_status: bool) -> Response {
    let mut response = Json(json(told)).into_response();
    if as_status && !told.decision.allowed {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        if told.decision.retry_after != Decision::NEVER {
            // A whole second too late rather than a part of one too early.
            let seconds = told.decision.retry_after.as_nanos().div_ceil(1_000_000_000);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
    }
    response
}
