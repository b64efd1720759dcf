//! The page at `/`: what the node does, and limits to be tried. One file, which loads nothing from anywhere.
//!
//! The browser is told to run only what is in the file: script and style carry a number that is another one for each answer, so that a text
//! that somebody smuggled in would not be run. All texts are set as texts, never as HTML.

use std::hash::{BuildHasher, RandomState};

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

const PAGE: &str = include_str!("page.html");

/// What stands in the file for the number.
const PLACE: &str = "NONCE";

/// Answers with the page.
pub(super) async fn page() -> Response {
    let nonce = nonce();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = (
        [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
        PAGE.replace(PLACE, &nonce),
    )
        .into_response();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // Hexadecimal digits and the text above are visible ASCII: the value cannot be refused.
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// 128 bits that nobody can guess: a keyed hash, whose key the system made and nobody sees.
fn nonce() -> String {
    let half = || RandomState::new().hash_one(PLACE);
    format!("{:016x}{:016x}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_another_one_each_time_and_stands_only_where_it_should() {
        assert_ne!(nonce(), nonce());
        assert_eq!(PAGE.matches(PLACE).count(), 2);
        assert_eq!(PAGE.matches("nonce=\"NONCE\"").count(), 2);
        for outside in ["http://", "https://", "//cdn", "innerHTML", "style=\"", "onclick"] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }
}
