//! A layer for tower services: axum, tonic, hyper.
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use ratelimit::{Limiter, tower::RateLimitLayer};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limiter = Limiter::builder().limit("1/minute".parse()?).build()?;
//! let service = ServiceBuilder::new()
//!     .layer(RateLimitLayer::new(limiter, |request: &Request<String>| request.headers().get("x-api-key").cloned()))
//!     .service_fn(async |_: Request<String>| Ok::<_, std::convert::Infallible>(Response::new(String::from("hello"))));
//!
//! let request = || Request::builder().header("x-api-key", "a").body(String::new());
//! let allowed = service.clone().oneshot(request()?).await?;
//! assert_eq!(allowed.headers()["ratelimit-policy"], r#""default";q=1;w=60"#);
//! assert_eq!(allowed.headers()["ratelimit"], r#""default";r=0;t=60"#);
//!
//! let denied = service.oneshot(request()?).await?;
//! assert_eq!(denied.status(), StatusCode::TOO_MANY_REQUESTS);
//! assert_eq!(denied.headers()["retry-after"], "60");
//! # Ok(())
//! # }
//! ```
//!
//! # Who is limited
//!
//! The closure given to [`RateLimitLayer::new`] says whose budget a request spends; `None` lets it pass unlimited and
//! without header fields. A closure borrows the request and returns a key of its own: a `String`, a `Vec<u8>`, an array of
//! bytes, a [`HeaderValue`] (as above, without copying), or a [`ClientKey`](crate::ClientKey) hashed by
//! [`Limiter::key`] from whatever the request holds, which allocates nothing.
//!
//! - **Do not take an address from `X-Forwarded-For`** or its like unless a proxy of yours wrote it: whoever sends the
//!   request can write it too, and with a new address each time has no limit. The peer's address is safe.
//! - An IPv6 client has at least a /64 to choose addresses from: limit the first eight bytes.
//! - Let what is missing or malformed share one key, not escape by `None`.
//!
//! # What is answered
//!
//! Allowed requests reach the service, and its response gets the fields of [`crate::headers`]. Denied ones do not reach
//! it: an [`OnDenied`] answers.
//!
//! | response body | answer |
//! |---|---|
//! | `From<String>`: axum's, `Full<Bytes>`, `String` | [`ProblemDetails`] (the default): 429 and JSON |
//! | tonic's, or any other for gRPC | [`RateLimitLayer::grpc`]: `RESOURCE_EXHAUSTED` |
//! | any other | a closure, see [`RateLimitLayer::on_denied`] |
//!
//! `ratelimit-policy` and `ratelimit` are lists, so that two such layers around one service are both heard. Give their
//! policies [names](RateLimitLayer::policy_names) then. Of other fields the one that is already there stays: who sits
//! nearer to the handler knows better.
//!
//! # Readiness
//!
//! The layer is ready when its service is, and decides when it is called, at once and without waiting. What the service
//! reserved for a request that is then denied (a permit, a place in a queue) is given back by replacing that service
//! with a clone of it, so that a denied client holds nothing that others wait for.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use ratelimit_model::Decision;
use tower_layer::Layer;
use tower_service::Service;

use crate::headers::{self, HeaderStyle, Headers, PROBLEM_JSON, PolicyError};
use crate::{Key, Limiter};

/// Limits a service. See the [module](self).
///
/// `F` finds the key, `C` the cost, and `D` answers those who are denied.
#[derive(Clone)]
pub struct RateLimitLayer<F, C = UnitCost, D = ProblemDetails> {
    limiter: Limiter,
    key: F,
    cost: C,
    on_denied: D,
    names: Vec<String>,
    style: HeaderStyle,
    /// Shared with the services made from this layer and with its clones, for `refresh`.
    headers: Arc<RwLock<Arc<Headers>>>,
}

impl<F> RateLimitLayer<F> {
    /// Limits each client by a limiter. `key` says who the client is; `None` for a request that is not limited.
    ///
    /// The closure's argument needs its type: `|request: &http::Request<_>| …`.
    pub fn new<B, K>(limiter: Limiter, key: F) -> Self
    where
        F: Fn(&Request<B>) -> Option<K>,
        K: Key,
    {
        let headers = read_limits(&limiter, &[], HeaderStyle::new()).expect(SOUND);
        RateLimitLayer {
            limiter,
            key,
            cost: UnitCost,
            on_denied: ProblemDetails,
            names: Vec::new(),
            style: HeaderStyle::new(),
            headers: share(headers),
        }
    }
}

impl<F, C, D> RateLimitLayer<F, C, D> {
    /// Requests that cost as much as several, or nothing: 0 is always allowed and charges nothing.
    #[must_use]
    pub fn cost<B, G>(self, cost: G) -> RateLimitLayer<F, G, D>
    where
        G: Fn(&Request<B>) -> u64,
    {
        self.with(|_, on_denied| (cost, on_denied))
    }

    /// Answers denied requests in another way. The header fields of [`crate::headers`] are added to the answer.
    ///
    /// ```
    /// # use ratelimit::{Limiter, tower::RateLimitLayer};
    /// # let limiter = Limiter::builder().limit("1/s".parse()?).build()?;
    /// let layer = RateLimitLayer::new(limiter, |_: &http::Request<()>| Some("all"))
    ///     .on_denied(|denied| denied.response(String::from("Slow down.\n")));
    /// # Ok::<(), ratelimit::Error>(())
    /// ```
    #[must_use]
    pub fn on_denied<B, R>(self, on_denied: R) -> RateLimitLayer<F, C, R>
    where
        R: Fn(&Denied<'_>) -> Response<B>,
    {
        self.with(|cost, _| (cost, on_denied))
    }

    /// Answers denied requests as a gRPC server does, see [`GrpcStatus`].
    #[must_use]
    pub fn grpc(self) -> RateLimitLayer<F, C, GrpcStatus> {
        self.with(|cost, _| (cost, GrpcStatus))
    }

    fn with<G, R>(self, change: impl FnOnce(C, D) -> (G, R)) -> RateLimitLayer<F, G, R> {
        let (cost, on_denied) = change(self.cost, self.on_denied);
        RateLimitLayer {
            limiter: self.limiter,
            key: self.key,
            cost,
            on_denied,
            names: self.names,
            style: self.style,
            headers: self.headers,
        }
    }

    /// Names the limits, in the order in which the limiter was given them. Without names see [`Headers::unnamed`].
    ///
    /// Errors: see [`Headers::named`].
    pub fn policy_names<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Result<Self, PolicyError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.is_empty() {
            return Err(PolicyError::NameCount {
                names: 0,
                limits: self.limiter.limits().len(),
            });
        }
        self.headers = share(read_limits(&self.limiter, &names, self.style)?);
        self.names = names;
        Ok(self)
    }

    /// Chooses the header fields.
    #[must_use]
    pub fn style(mut self, style: HeaderStyle) -> Self {
        let headers = Headers::clone(&read(&self.headers)).with_style(style);
        self.style = style;
        self.headers = share(headers);
        self
    }

    /// Shows clients the limits that are in force now, in all services made from this layer or a clone of it: to be called
    /// after [`Limiter::set_limit`]. The limits themselves hold without it.
    pub fn refresh(&self) {
        let headers = read_limits(&self.limiter, &self.names, self.style).expect(SOUND);
        *self.headers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(headers);
    }
}

/// A limiter has no limits but sound ones and never a different number; the names were looked at when they were given.
const SOUND: &str = "the limits of a limiter make sense, and their names as well";

fn read_limits(limiter: &Limiter, names: &[String], style: HeaderStyle) -> Result<Headers, PolicyError> {
    let limits = limiter.limits();
    let headers = if names.is_empty() {
        Headers::unnamed(&limits)
    } else {
        Headers::named(names, &limits)
    };
    Ok(headers?.with_style(style))
}

fn share(headers: Headers) -> Arc<RwLock<Arc<Headers>>> {
    Arc::new(RwLock::new(Arc::new(headers)))
}

/// The lock is held for as long as a pointer takes to copy: whoever refreshes prepares everything before.
fn read(headers: &RwLock<Arc<Headers>>) -> Arc<Headers> {
    Arc::clone(&headers.read().unwrap_or_else(PoisonError::into_inner))
}

impl<S, F: Clone, C: Clone, D: Clone> Layer<S> for RateLimitLayer<F, C, D> {
    type Service = RateLimit<S, F, C, D>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit {
            inner,
            layer: Arc::new(self.clone()),
        }
    }
}

impl<F, C, D> fmt::Debug for RateLimitLayer<F, C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("limiter", &self.limiter)
            .field("policies", &read(&self.headers).policies())
            .finish_non_exhaustive()
    }
}

/// A limited service, made by [`RateLimitLayer`].
pub struct RateLimit<S, F, C = UnitCost, D = ProblemDetails> {
    inner: S,
    /// Behind one pointer, since frameworks clone a service for each connection or request.
    layer: Arc<RateLimitLayer<F, C, D>>,
}

impl<S: Clone, F, C, D> Clone for RateLimit<S, F, C, D> {
    fn clone(&self) -> Self {
        RateLimit {
            inner: self.inner.clone(),
            layer: Arc::clone(&self.layer),
        }
    }
}

impl<S: fmt::Debug, F, C, D> fmt::Debug for RateLimit<S, F, C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("layer", &self.layer)
            .finish()
    }
}

impl<S, F, C, D, K, ReqBody, ResBody> Service<Request<ReqBody>> for RateLimit<S, F, C, D>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    F: Fn(&Request<ReqBody>) -> Option<K>,
    K: Key,
    C: Cost<ReqBody>,
    D: OnDenied<ResBody>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let layer = &*self.layer;
        let Some(key) = (layer.key)(&request) else {
            let future = self.inner.call(request);
            return ResponseFuture::of_inner(future, Fields::default());
        };
        let decision = layer.limiter.check_n(&key, layer.cost.cost(&request));
        let headers = read(&layer.headers);
        let fields = Fields::of(&headers, &decision);
        if decision.allowed {
            // The service that was polled ready is the one that is called.
            return ResponseFuture::of_inner(self.inner.call(request), fields);
        }
        let mut response = layer.on_denied.respond(&Denied {
            decision,
            headers: &headers,
        });
        fields.add_to(response.headers_mut());
        // The ready service is dropped with whatever it reserved; the clone has not been polled.
        self.inner = self.inner.clone();
        ResponseFuture {
            state: State::Denied {
                response: Some(response),
            },
        }
    }
}

/// Header fields, made when the request is decided and sent when its response is ready.
#[derive(Default)]
struct Fields(Vec<(HeaderName, HeaderValue)>);

impl Fields {
    fn of(headers: &Headers, decision: &Decision) -> Self {
        let field = |(name, text)| {
            let value = HeaderValue::try_from(text).expect("header texts are visible ASCII");
            (HeaderName::from_static(name), value)
        };
        Fields(headers.headers(decision).map(field).collect())
    }

    fn add_to(self, headers: &mut HeaderMap) {
        for (name, value) in self.0 {
            let is_list = name == "ratelimit-policy" || name == "ratelimit";
            if is_list || !headers.contains_key(&name) {
                headers.append(name, value);
            }
        }
    }
}

pin_project! {
    /// The response of a [`RateLimit`].
    pub struct ResponseFuture<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B> {
        Inner { #[pin] future: F, fields: Fields },
        Denied { response: Option<Response<B>> },
    }
}

impl<F, B> ResponseFuture<F, B> {
    fn of_inner(future: F, fields: Fields) -> Self {
        ResponseFuture {
            state: State::Inner { future, fields },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().state.project() {
            StateProjection::Inner { future, fields } => {
                let mut response = ready!(future.poll(context))?;
                std::mem::take(fields).add_to(response.headers_mut());
                Ok(response)
            }
            StateProjection::Denied { response } => Ok(response
                .take()
                .expect("a future is not polled again after it was ready")),
        })
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// What a request costs, in requests. A closure says it: see [`RateLimitLayer::cost`].
pub trait Cost<B> {
    /// The cost of this request.
    fn cost(&self, request: &Request<B>) -> u64;
}

/// Every request costs 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnitCost;

impl<B> Cost<B> for UnitCost {
    fn cost(&self, _request: &Request<B>) -> u64 {
        1
    }
}

impl<B, F: Fn(&Request<B>) -> u64> Cost<B> for F {
    fn cost(&self, request: &Request<B>) -> u64 {
        self(request)
    }
}

/// Answers denied requests. A closure does: see [`RateLimitLayer::on_denied`].
pub trait OnDenied<B> {
    /// The answer, without the header fields of [`crate::headers`]: the layer adds those that are not there.
    fn respond(&self, denied: &Denied<'_>) -> Response<B>;
}

impl<B, F: Fn(&Denied<'_>) -> Response<B>> OnDenied<B> for F {
    fn respond(&self, denied: &Denied<'_>) -> Response<B> {
        self(denied)
    }
}

/// A request that was denied.
#[derive(Clone, Copy, Debug)]
pub struct Denied<'a> {
    decision: Decision,
    headers: &'a Headers,
}

impl Denied<'_> {
    /// The decision.
    #[must_use]
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Whole seconds to wait, as in `Retry-After`; `None` if waiting does not help.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        headers::retry_after(&self.decision)
    }

    /// A problem details body, see [`Headers::problem`].
    #[must_use]
    pub fn problem(&self) -> String {
        self.headers.problem(&self.decision)
    }

    /// A response of status 429 with a body of your own. It has no `Content-Type` yet.
    #[must_use]
    pub fn response<B>(&self, body: B) -> Response<B> {
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response
    }
}

/// Answers with status 429 and a problem details body (RFC 9457).
#[derive(Clone, Copy, Debug, Default)]
pub struct ProblemDetails;

impl<B: From<String>> OnDenied<B> for ProblemDetails {
    fn respond(&self, denied: &Denied<'_>) -> Response<B> {
        let mut response = denied.response(B::from(denied.problem()));
        let json = HeaderValue::from_static(PROBLEM_JSON);
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

/// Answers as a gRPC server does: HTTP status 200, no body, and `RESOURCE_EXHAUSTED` among the header fields.
///
/// To a gRPC client an HTTP status of 429 would be `UNAVAILABLE`, which many retry at once. `grpc-retry-pushback-ms` tells
/// those that retry when to do so, or not to.
///
/// Source: gRPC over HTTP/2 ("Trailers-Only"); gRFC A6 (pushback).
#[derive(Clone, Copy, Debug, Default)]
pub struct GrpcStatus;

impl<B: Default> OnDenied<B> for GrpcStatus {
    fn respond(&self, denied: &Denied<'_>) -> Response<B> {
        let (message, pushback_ms) = match denied.retry_after() {
            // A 32-bit integer by gRFC A6; longer than 24 days is not waited for by a retry.
            Some(seconds) => (
                format!("rate limit exceeded; try again in {seconds} s"),
                i32::try_from(seconds.saturating_mul(1000)).unwrap_or(i32::MAX),
            ),
            None => (String::from("this request costs more than is ever allowed at once"), -1),
        };
        let mut response = Response::new(B::default());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static("8"));
        // Printable ASCII without a percent sign needs no percent-encoding.
        headers.insert("grpc-message", HeaderValue::try_from(message).expect("visible ASCII"));
        headers.insert("grpc-retry-pushback-ms", HeaderValue::from(pushback_ms));
        response
    }
}
