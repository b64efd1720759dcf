//! Bodies of requests and responses, and what the query says.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::Shared;
use super::problem::Problem;

/// The longest body.
pub(super) const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The longest key.
pub(super) const MAX_KEY_BYTES: usize = 64 * 1024;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A body of JSON. What else a handler takes is looked at before it is read.
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Shared> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        read(&parts.headers, body).await.map(Sent)
    }
}

/// That the query says nothing, for calls that take none.
pub(super) struct NoQuery;

impl FromRequestParts<Shared> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        match parts.uri.query() {
            None | Some("") => Ok(NoQuery),
            Some(_) => Err(Problem::argument("this call takes no query: say it in the body")),
        }
    }
}

/// Reads a body of JSON.
///
/// Errors: another media type (which keeps pages in a browser from sending it without being asked), too long, too slow, or not
/// what the call takes.
async fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Problem::media_type());
    }
    // A length that is declared is judged before a byte of it has come.
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(Problem::too_large(MAX_BODY_BYTES));
    }
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect());
    let bytes = match collected.await {
        Err(_) => return Err(Problem::timeout()),
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Problem::too_large(MAX_BODY_BYTES)),
        Ok(Err(error)) => return Err(Problem::argument(format!("the body broke off: {error}"))),
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| Problem::argument(format!("the body is not what this call takes: {error}")))
}

/// The value of a parameter of the query. Names and values here need no escapes.
///
/// Errors: there are other parameters.
pub(super) fn query<'a>(uri: &'a Uri, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut found = None;
    for pair in uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        match pair.split_once('=') {
            Some((given, value)) if given == name => found = Some(value),
            _ => {
                let shown: String = pair.chars().take(64).collect();
                return Err(Problem::argument(format!(
                    "the query says \"{shown}\", and this call takes only {name}=..."
                )));
            }
        }
    }
    Ok(found)
}

/// A response of JSON.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
            Err(error) => Problem::from(ratelimit::Error::Internal(error.to_string())).into_response(),
        }
    }
}

/// A client's key: a text, or a whole number, which is the same key as its digits.
#[derive(Debug)]
pub(super) struct Key(pub(super) String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Key;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a key: a text of at most {MAX_KEY_BYTES} bytes, or a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key, E> {
                if text.len() > MAX_KEY_BYTES {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(Key(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Key, E> {
                Ok(Key(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Key, E> {
                Ok(Key(number.to_string()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
