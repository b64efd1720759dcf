//! The layer around services: what passes, what is answered instead, and who is called.
#![cfg(feature = "tower")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use ratelimit::headers::{HeaderStyle, PolicyError, Reset};
use ratelimit::tower::RateLimitLayer;
use ratelimit::{Clock, Limiter, ManualClock};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

fn limiter(limits: &[&str]) -> (Limiter, ManualClock) {
    let (clock, hand) = Clock::manual();
    let builder = limits.iter().fold(Limiter::builder().clock(clock), |builder, text| {
        builder.limit(text.parse().unwrap())
    });
    (builder.build().unwrap(), hand)
}

fn client(request: &Request<String>) -> Option<HeaderValue> {
    request.headers().get("client").cloned()
}

fn request(client: &str) -> Request<String> {
    Request::builder().header("client", client).body(String::new()).unwrap()
}

async fn hello(_: Request<String>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(String::from("hello")))
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&http::HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    headers.iter().map(line).collect()
}

#[tokio::test]
async fn allowed_then_denied_then_allowed() {
    let (limiter, clock) = limiter(&["2/minute"]);
    let service = RateLimitLayer::new(limiter, client).layer(service_fn(hello));
    let ask = || service.clone().oneshot(request("a"));

    for (remaining, reset) in [(1, 30), (0, 60)] {
        let response = ask().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(
            lines(response.headers()),
            [
                String::from(r#"ratelimit-policy: "default";q=2;w=60"#),
                format!(r#"ratelimit: "default";r={remaining};t={reset}"#)
            ]
        );
        assert_eq!(response.into_body(), "hello");
    }

    clock.advance(Duration::from_millis(100));
    let response = ask().await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        lines(response.headers()),
        [
            "content-type: application/problem+json",
            r#"ratelimit-policy: "default";q=2;w=60"#,
            r#"ratelimit: "default";r=0;t=30"#,
            "retry-after: 30"
        ]
    );
    assert!(
        response
            .body()
            .contains(r#""status":429,"detail":"Try again in 30 seconds.""#)
    );

    // Another client is not meant.
    assert_eq!(service.clone().oneshot(request("b")).await.unwrap().status(), 200);
    clock.advance(Duration::from_secs(30));
    assert_eq!(ask().await.unwrap().status(), 200);
}

#[tokio::test]
async fn requests_without_a_key_are_not_limited() {
    let (limiter, _clock) = limiter(&["1/day"]);
    let service = RateLimitLayer::new(limiter.clone(), client).layer(service_fn(hello));
    for _ in 0..5 {
        let response = service.clone().oneshot(Request::new(String::new())).await.unwrap();
        assert_eq!(
            (response.status(), lines(response.headers()).len()),
            (StatusCode::OK, 0)
        );
    }
    assert_eq!((limiter.stats().allowed, limiter.stats().denied), (0, 0));
}

#[tokio::test]
async fn keys_may_be_hashed_at_once() {
    let (limiter, _clock) = limiter(&["1/day"]);
    let hasher = limiter.clone();
    let layer = RateLimitLayer::new(limiter, move |request: &Request<String>| {
        request.headers().get("client").map(|client| hasher.key(client))
    });
    let service = layer.layer(service_fn(hello));
    assert_eq!(service.clone().oneshot(request("a")).await.unwrap().status(), 200);
    assert_eq!(service.clone().oneshot(request("a")).await.unwrap().status(), 429);
    assert_eq!(service.oneshot(request("b")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn costs() {
    let (limiter, _clock) = limiter(&["10/10s"]);
    let layer = RateLimitLayer::new(limiter, client).cost(|request: &Request<String>| request.body().len() as u64);
    let service = layer.layer(service_fn(hello));
    let ask = |bytes: usize| {
        let mut request = request("a");
        *request.body_mut() = "x".repeat(bytes);
        service.clone().oneshot(request)
    };
    assert_eq!(ask(7).await.unwrap().headers()["ratelimit"], r#""default";r=3;t=7"#);
    assert_eq!(ask(0).await.unwrap().headers()["ratelimit"], r#""default";r=3;t=7"#);
    let denied = ask(5).await.unwrap();
    assert_eq!(
        (denied.status(), &denied.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &HeaderValue::from(2))
    );
    let never = ask(11).await.unwrap();
    assert_eq!(
        (never.status(), never.headers().get("retry-after")),
        (StatusCode::TOO_MANY_REQUESTS, None)
    );
    assert_eq!(never.headers()["ratelimit"], r#""default";r=0;t=7"#);
}

#[tokio::test]
async fn names_and_style() {
    let (limiter, _clock) = limiter(&["10/s", "12/day"]);
    let style = HeaderStyle::new().x_ratelimit(Reset::Delta).cap_remaining(5);
    // In either order.
    let one = RateLimitLayer::new(limiter.clone(), client)
        .style(style)
        .policy_names(["burst", "daily"])
        .unwrap();
    let other = RateLimitLayer::new(limiter, client)
        .policy_names(["burst", "daily"])
        .unwrap()
        .style(style);
    for (layer, key) in [(one, "a"), (other, "b")] {
        let response = layer.layer(service_fn(hello)).oneshot(request(key)).await.unwrap();
        assert_eq!(
            lines(response.headers()),
            [
                r#"ratelimit-policy: "burst";q=10;w=1, "daily";q=12;w=86400"#,
                r#"ratelimit: "burst";r=5;t=1"#,
                "x-ratelimit-limit: 10",
                "x-ratelimit-remaining: 5",
                "x-ratelimit-reset: 1"
            ]
        );
    }
}

#[test]
fn bad_names_are_refused() {
    let (limiter, _clock) = limiter(&["10/s", "12/day"]);
    let named = |names: &[&str]| RateLimitLayer::new(limiter.clone(), client).policy_names(names.iter().copied());
    assert!(matches!(
        named(&["a", "b\r\nset-cookie: c=d"]),
        Err(PolicyError::Name { .. })
    ));
    assert!(matches!(
        named(&["a"]),
        Err(PolicyError::NameCount { names: 1, limits: 2 })
    ));
    assert!(matches!(
        named(&[]),
        Err(PolicyError::NameCount { names: 0, limits: 2 })
    ));
    assert!(matches!(named(&["a", "a"]), Err(PolicyError::Repeated { .. })));
    assert!(named(&["a", "b"]).is_ok());
}

#[tokio::test]
async fn another_limit_is_shown_after_refresh() {
    let (limiter, _clock) = limiter(&["10/s"]);
    let layer = RateLimitLayer::new(limiter.clone(), client)
        .policy_names(["api"])
        .unwrap();
    let service = layer.layer(service_fn(hello));
    let policy = async || {
        let response = service.clone().oneshot(request("a")).await.unwrap();
        response.headers()["ratelimit-policy"].to_str().unwrap().to_owned()
    };
    assert_eq!(policy().await, r#""api";q=10;w=1"#);
    limiter.set_limit("500/minute".parse().unwrap()).unwrap();
    layer.refresh();
    assert_eq!(policy().await, r#""api";q=500;w=60"#);
}

#[tokio::test]
async fn the_answer_can_be_another() {
    let (limiter, _clock) = limiter(&["1/2s"]);
    let layer = RateLimitLayer::new(limiter, client).on_denied(|denied| {
        assert!(!denied.decision().allowed);
        let mut response = denied.response(format!("wait {:?}: {}", denied.retry_after(), denied.problem()));
        response
            .headers_mut()
            .insert("x-ratelimit-reset", HeaderValue::from_static("mine"));
        response
    });
    let service = layer
        .style(HeaderStyle::new().x_ratelimit(Reset::Delta))
        .layer(service_fn(hello));
    assert_eq!(service.clone().oneshot(request("a")).await.unwrap().status(), 200);
    let denied = service.oneshot(request("a")).await.unwrap();
    assert_eq!(denied.status(), 429);
    assert!(denied.body().starts_with(r#"wait Some(2): {"type":"#));
    assert_eq!(denied.headers()["retry-after"], "2");
    assert_eq!(denied.headers()["x-ratelimit-reset"], "mine");
    assert_eq!(denied.headers().get("content-type"), None);
}

#[tokio::test]
async fn grpc() {
    let (limiter, _clock) = limiter(&["1/2s"]);
    let layer = RateLimitLayer::new(limiter, client).cost(|request: &Request<String>| 1 + request.body().len() as u64);
    let service = layer.grpc().layer(service_fn(hello));
    assert_eq!(service.clone().oneshot(request("a")).await.unwrap().status(), 200);
    let denied = service.clone().oneshot(request("a")).await.unwrap();
    assert_eq!((denied.status(), denied.body().as_str()), (StatusCode::OK, ""));
    assert_eq!(
        lines(denied.headers()),
        [
            "content-type: application/grpc",
            "grpc-status: 8",
            "grpc-message: rate limit exceeded; try again in 2 s",
            "grpc-retry-pushback-ms: 2000",
            r#"ratelimit-policy: "default";q=1;w=2"#,
            r#"ratelimit: "default";r=0;t=2"#,
            "retry-after: 2"
        ]
    );
    let mut costly = request("a");
    costly.body_mut().push('x');
    let never = service.oneshot(costly).await.unwrap();
    assert_eq!(never.headers()["grpc-retry-pushback-ms"], "-1");
    assert_eq!(never.headers()["grpc-status"], "8");
}

#[tokio::test]
async fn errors_pass() {
    let (limiter, _clock) = limiter(&["1/day"]);
    let failing = service_fn(async |_: Request<String>| Err::<Response<String>, _>("broken"));
    let service = RateLimitLayer::new(limiter, client).layer(failing);
    assert_eq!(service.clone().oneshot(request("a")).await.unwrap_err(), "broken");
    assert_eq!(service.oneshot(request("a")).await.unwrap().status(), 429);
}

#[tokio::test]
async fn nested_layers_are_both_heard() {
    let (inner, _clock) = limiter(&["1/2s"]);
    let (outer, _clock) = limiter(&["9/3s"]);
    let style = HeaderStyle::new().x_ratelimit(Reset::Delta);
    let service = ServiceBuilder::new()
        .layer(
            RateLimitLayer::new(outer, client)
                .policy_names(["all"])
                .unwrap()
                .style(style),
        )
        .layer(
            RateLimitLayer::new(inner, client)
                .policy_names(["this"])
                .unwrap()
                .style(style),
        )
        .service_fn(hello);
    assert_eq!(service.clone().oneshot(request("a")).await.unwrap().status(), 200);
    let denied = service.oneshot(request("a")).await.unwrap();
    assert_eq!(denied.status(), 429);
    let all = |name| denied.headers().get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(all("ratelimit-policy"), [r#""this";q=1;w=2"#, r#""all";q=9;w=3"#]);
    assert_eq!(all("ratelimit"), [r#""this";r=0;t=2"#, r#""all";r=7;t=1"#]);
    assert_eq!(all("retry-after"), ["2"]);
    assert_eq!(all("x-ratelimit-remaining"), ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_are_allowed_exactly_what_the_limit_says() {
    let (limiter, _clock) = limiter(&["100/hour"]);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let service = RateLimitLayer::new(limiter, client).layer(service_fn(move |request| {
        counted.fetch_add(1, Relaxed);
        hello(request)
    }));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let mut service = service.clone();
            tokio::spawn(async move {
                let mut denied = 0;
                for _ in 0..50 {
                    let response = service.ready().await.unwrap().call(request("a")).await.unwrap();
                    denied += usize::from(response.status() == StatusCode::TOO_MANY_REQUESTS);
                }
                denied
            })
        })
        .collect();
    let mut denied = 0;
    for task in tasks {
        denied += task.await.unwrap();
    }
    assert_eq!((calls.load(Relaxed), denied), (100, 300));
}

/// A service that insists on being polled ready before each call, and whose clones start unready, as tower's contract has
/// it.
#[derive(Default)]
struct Strict {
    calls: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    is_ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Strict {
            calls: Arc::clone(&self.calls),
            open: Arc::clone(&self.open),
            is_ready: false,
        }
    }
}

impl Service<Request<String>> for Strict {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.is_ready = self.open.load(Relaxed) > 0;
        if self.is_ready {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn call(&mut self, _: Request<String>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called without being ready");
        self.calls.fetch_add(1, Relaxed);
        std::future::ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn the_service_that_is_ready_is_called_and_no_other() {
    let (limiter, clock) = limiter(&["2/s"]);
    let strict = Strict::default();
    let mut service = RateLimitLayer::new(limiter, client).layer(strict.clone());
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_pending());
    strict.open.store(1, Relaxed);
    for round in 1..=3 {
        for expected in [200, 200, 429, 429, 429] {
            let response = service.ready().await.unwrap().call(request("a")).await.unwrap();
            assert_eq!(response.status(), expected);
        }
        assert_eq!(strict.calls.load(Relaxed), 2 * round);
        clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_denied_request_holds_no_permit() {
    let (limiter, _clock) = limiter(&["1/day"]);
    let service = ServiceBuilder::new()
        .layer(RateLimitLayer::new(limiter, client))
        .concurrency_limit(1)
        .service_fn(hello);
    let (mut a, mut b) = (service.clone(), service);
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(a.ready().await.unwrap().call(request("a")).await.unwrap().status(), 200);

    // Readiness is the service's own: the one permit is with `a`.
    assert!(a.poll_ready(&mut context).is_ready());
    assert!(b.poll_ready(&mut context).is_pending());
    let denied = a.call(request("a"));
    // From now on, even before the answer is sent.
    assert!(b.poll_ready(&mut context).is_ready());
    assert_eq!(denied.await.unwrap().status(), 429);
    assert_eq!(b.call(request("b")).await.unwrap().status(), 200);
}

/// Out of the box with hyper's usual body, and with axum's router.
#[tokio::test]
async fn bodies() {
    let (limiter, _clock) = limiter(&["1/day"]);
    let layer = RateLimitLayer::new(limiter.clone(), |_: &Request<()>| Some("hyper"));
    let service = layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<axum::body::Bytes>::default()))
    }));
    assert_eq!(service.clone().oneshot(Request::new(())).await.unwrap().status(), 200);
    let denied = service.oneshot(Request::new(())).await.unwrap();
    assert!(
        denied
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .starts_with(b"{\"type\":")
    );

    let app = axum::Router::new()
        .route("/", axum::routing::get(async || "hello"))
        .layer(RateLimitLayer::new(limiter, |request: &axum::extract::Request| {
            Some(request.uri().path().to_owned())
        }));
    let ask = || Request::new(axum::body::Body::empty());
    assert_eq!(app.clone().oneshot(ask()).await.unwrap().status(), 200);
    let denied = app.oneshot(ask()).await.unwrap();
    assert_eq!(denied.status(), 429);
    assert_eq!(denied.headers()["content-type"], "application/problem+json");
    assert!(
        denied
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .starts_with(b"{\"type\":")
    );
}

#[test]
fn what_is_shared_between_threads_can_be() {
    fn sendable<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn future<T: Future + Send>(_: T) {}
    let (limiter, _clock) = limiter(&["1/day"]);
    let layer = RateLimitLayer::new(limiter, client);
    sendable(&layer);
    let mut service = layer.layer(service_fn(hello));
    sendable(&service);
    future(service.call(request("a")));
    assert!(format!("{layer:?}").starts_with("RateLimitLayer { limiter: Limiter"));
}
