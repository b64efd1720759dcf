//! Errors of the calls: a status, and a JSON object that says what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ratelimit::Error;
use serde_json::json;

/// Why a call did nothing.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    /// The code of [`ratelimit::ERROR_CODES`]; none for what is about HTTP alone.
    code: Option<u32>,
    name: &'static str,
    message: String,
}

impl Problem {
    fn of_http(status: StatusCode, name: &'static str, message: impl Into<String>) -> Self {
        Problem {
            status,
            code: None,
            name,
            message: message.into(),
        }
    }

    /// The body or the query says something that cannot be.
    pub(super) fn argument(message: impl Into<String>) -> Self {
        Error::Argument(message.into()).into()
    }

    pub(super) fn not_found() -> Self {
        let paths = "there is nothing here: the paths are /v1/check, /v1/check/batch, /v1/peek, /v1/refund, /v1/reset, /v1/block, \
                     /v1/limits, /v1/overrides/{key}, /v1/top, /v1/peers, /, /metrics, /healthz and /readyz";
        Problem::of_http(StatusCode::NOT_FOUND, "not_found", paths)
    }

    /// There is no limit of that name.
    pub(super) fn no_limit(message: String) -> Self {
        Problem::of_http(StatusCode::NOT_FOUND, "no_such_limit", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let text = "this path does not take that method: the header allow lists those that it takes";
        Problem::of_http(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text)
    }

    pub(super) fn media_type() -> Self {
        let text = "the body must be JSON: send it with content-type: application/json";
        Problem::of_http(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", text)
    }

    pub(super) fn too_large(most: usize) -> Self {
        let text = format!("the body is longer than {most} bytes: send less, or several requests");
        Problem::of_http(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
    }

    pub(super) fn timeout() -> Self {
        Problem::of_http(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "the body did not come in time: send it at once",
        )
    }

    pub(super) fn unauthorized() -> Self {
        let text = "this call needs the token of the configuration: send it as authorization: Bearer TOKEN";
        Problem::of_http(StatusCode::UNAUTHORIZED, "unauthorized", text)
    }

    pub(super) fn forbidden() -> Self {
        let text = "without a token in the configuration this call is for programs on this machine, not through a proxy: set a token";
        Problem::of_http(StatusCode::FORBIDDEN, "forbidden", text)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error.name() {
            "full" => StatusCode::INSUFFICIENT_STORAGE,
            "system" | "internal" | "snapshot_write" => StatusCode::INTERNAL_SERVER_ERROR,
            "closed" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        Problem {
            status,
            code: Some(error.code()),
            name: error.name(),
            message: error.to_string(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "name": self.name, "message": self.message}});
        let mut response = (self.status, super::body::Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
