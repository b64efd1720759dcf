"""The middleware, by itself and around Starlette and Flask."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import flask
import pytest
from ratelimit import Headers, Limiter, ManualClock, PolicyError, _web, asgi, wsgi
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket


def application() -> Starlette:
    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello", headers={"Retry-After": "7"} if "busy" in str(request.url) else None)

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    return Starlette(routes=[Route("/{path:path}", hello), WebSocketRoute("/ws", socket)])


def test_starlette(clock: ManualClock) -> None:
    app = application()
    app.add_middleware(asgi.RateLimitMiddleware, limiter=Limiter("2/minute", clock=clock))
    client = TestClient(app)
    first = client.get("/")
    assert first.status_code == 200 and first.text == "hello"
    assert first.headers["ratelimit-policy"] == '"default";q=2;w=60'
    assert first.headers["ratelimit"] == '"default";r=1;t=30'
    assert "retry-after" not in first.headers
    assert client.get("/busy").headers["retry-after"] == "7", "the application's own stays"
    denied = client.get("/", headers={"X-Forwarded-For": "1.2.3.4", "Forwarded": "for=1.2.3.4"})
    assert denied.status_code == 429, "no header field makes another client"
    assert denied.headers["retry-after"] == "30" and denied.headers["ratelimit"] == '"default";r=0;t=30'
    assert denied.headers["content-type"] == "application/problem+json"
    problem = denied.json()
    assert problem["status"] == 429 and problem["violated-policies"] == ["default"]
    head = client.head("/")
    assert (
        head.status_code == 429 and head.content == b"" and int(head.headers["content-length"]) == len(denied.content)
    )
    clock.advance(30)
    assert client.get("/").status_code == 200


def test_asgi_options(clock: ManualClock) -> None:
    limiter = Limiter(["10/s", "20/minute"], clock=clock)

    async def key(scope: asgi.Scope) -> str | None:
        return dict(scope["headers"]).get(b"x-api-key", b"").decode() or None

    async def cost(scope: asgi.Scope) -> int:
        return 5 if scope["path"] == "/dear" else 1

    app = asgi.RateLimitMiddleware(
        application(),
        limiter,
        key=key,
        cost=cost,
        exempt=lambda scope: scope["path"] == "/health",
        names=("burst", "minute"),
        x_ratelimit="delta",
        draft_6=True,
        cap_remaining=3,
    )
    client = TestClient(app)
    assert "ratelimit" not in client.get("/").headers, "no key, no limit"
    named = {"X-Api-Key": "a"}
    assert "ratelimit" not in client.get("/health", headers=named).headers
    dear = client.get("/dear", headers=named).headers
    assert dear["ratelimit-policy"] == '"burst";q=10;w=1, "minute";q=20;w=60'
    assert dear["ratelimit"].startswith('"burst";r=3;')
    assert dear["x-ratelimit-remaining"] == dear["ratelimit-remaining"] == "3"
    assert limiter.peek("a").remaining == 5


def test_two_middlewares_are_both_heard(clock: ManualClock) -> None:
    inner = asgi.RateLimitMiddleware(application(), Limiter("5/s", clock=clock), names=["inner"])
    outer = asgi.RateLimitMiddleware(inner, Limiter("9/s", clock=clock), names=["outer"])
    headers = TestClient(outer).get("/").headers
    assert headers["ratelimit-policy"] == '"inner";q=5;w=1, "outer";q=9;w=1'


def test_websockets(clock: ManualClock) -> None:
    app = asgi.RateLimitMiddleware(application(), Limiter("1/minute", clock=clock))
    client = TestClient(app)
    with client.websocket_connect("/ws") as session:
        assert session.receive_text() == "hello"
        assert (b"ratelimit", b'"default";r=0;t=60') in session.extra_headers
    # Starlette's client knows the extension: the denial is a response.
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/ws"):
        pass
    assert caught.value.status_code == 429 and caught.value.headers["retry-after"] == "60"


def conversation(app: Any, scope: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": f"{scope['type']}.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def test_websocket_denials_with_and_without_the_extension(clock: ManualClock) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("a denied request reached the application")

    limiter = Limiter("1/minute", clock=clock)
    limiter.is_allowed("9.9.9.9")
    app = asgi.RateLimitMiddleware(never, limiter)
    scope = {"type": "websocket", "client": ("9.9.9.9", 1), "headers": []}
    assert conversation(app, scope) == [{"type": "websocket.close", "code": 1008, "reason": "rate limit exceeded"}]
    start, body = conversation(app, {**scope, "extensions": {"websocket.http.response": {}}})
    assert start["type"] == "websocket.http.response.start" and start["status"] == 429
    assert dict(start["headers"])[b"retry-after"] == b"60"
    assert body["type"] == "websocket.http.response.body" and json.loads(body["body"])["status"] == 429
    with pytest.raises(AssertionError, match="reached the application"):
        conversation(app, {**scope, "client": ("8.8.8.8", 1)})


def test_a_denied_head_has_no_body(clock: ManualClock) -> None:
    limiter = Limiter("1/minute", clock=clock)
    limiter.is_allowed("9.9.9.9")
    app = asgi.RateLimitMiddleware(application(), limiter)
    scope = {"type": "http", "method": "HEAD", "path": "/", "client": ("9.9.9.9", 1), "headers": []}
    start, body = conversation(app, scope)
    assert start["status"] == 429 and int(dict(start["headers"])[b"content-length"]) > 0
    assert body["body"] == b""


def test_other_scopes_pass() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    limited = asgi.RateLimitMiddleware(app, Limiter("1/minute"))
    for kind in ("lifespan", "lifespan", "of the future"):
        conversation(limited, {"type": kind})
    assert seen == ["lifespan", "lifespan", "of the future"]


def test_starlette_starts_and_stops() -> None:
    events: list[str] = []

    import contextlib

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> Any:
        events.append("up")
        yield
        events.append("down")

    app = Starlette(lifespan=lifespan)
    app.add_middleware(asgi.RateLimitMiddleware, limiter=Limiter("1/minute"))
    with TestClient(app):
        pass
    assert events == ["up", "down"]


def test_flask(clock: ManualClock) -> None:
    app = flask.Flask(__name__)

    @app.get("/")
    def hello() -> str:
        return "hello"

    app.wsgi_app = wsgi.RateLimitMiddleware(app.wsgi_app, Limiter("2/minute", clock=clock))  # type: ignore[method-assign]
    client = app.test_client()
    first = client.get("/")
    assert first.status_code == 200 and first.headers["RateLimit"] == '"default";r=1;t=30'
    client.get("/")
    denied = client.get("/", headers={"X-Forwarded-For": "1.2.3.4"})
    assert denied.status_code == 429 and denied.headers["Retry-After"] == "30"
    assert denied.content_type == "application/problem+json" and denied.get_json(force=True)["status"] == 429
    assert client.head("/").data == b""
    other = client.get("/", environ_base={"REMOTE_ADDR": "10.0.0.9"})
    assert other.status_code == 200


def test_wsgi_options(clock: ManualClock) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("503 Busy", [("Retry-After", "9")], None)
        return [b"busy"]

    limited = wsgi.RateLimitMiddleware(
        app,
        Limiter("10/s", clock=clock),
        key=lambda environ: environ.get("HTTP_X_API_KEY"),
        cost=lambda environ: 4,
        exempt=lambda environ: environ["PATH_INFO"] == "/health",
        ratelimit=False,
        x_ratelimit="delta",
    )

    def call(environ: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
        told: list[Any] = []
        body = b"".join(limited({"PATH_INFO": "/", **environ}, lambda *args: told.append(args)))
        return told[0][0], dict(told[0][1]), body

    assert call({}) == ("503 Busy", {"Retry-After": "9"}, b"busy")
    assert call({"HTTP_X_API_KEY": "a", "PATH_INFO": "/health"})[1] == {"Retry-After": "9"}
    status, headers, _ = call({"HTTP_X_API_KEY": "a"})
    assert status == "503 Busy" and headers["Retry-After"] == "9" and headers["x-ratelimit-remaining"] == "6"
    call({"HTTP_X_API_KEY": "a"})
    status, headers, _ = call({"HTTP_X_API_KEY": "a"})
    assert status == "429 Too Many Requests" and headers["retry-after"] == "1" and "ratelimit" not in headers


def test_addresses() -> None:
    same = {
        "1.2.3.4": "1.2.3.4",
        "::ffff:1.2.3.4": "1.2.3.4",
        "::ffff:102:304": "1.2.3.4",
        "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
        "2001:db8:1:2:ffff::1": "2001:db8:1:2::/64",
        "fe80::1%eth0": "fe80::/64",
        "testclient": "unknown",
    }
    for address, key in same.items():
        assert asgi.client_address({"client": (address, 1)}) == key
        assert wsgi.client_address({"REMOTE_ADDR": address}) == key


def test_without_an_address_nobody_shares_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    _web.warn_no_address.cache_clear()
    with caplog.at_level(logging.WARNING, "ratelimit"):
        for _ in range(3):
            assert asgi.client_address({"client": None}) is None
            assert asgi.client_address({}) is None
            assert wsgi.client_address({"REMOTE_ADDR": ""}) is None
    assert len(caplog.records) == 1 and "give the middleware a key" in caplog.text


def test_headers_follow_the_limits(clock: ManualClock) -> None:
    limiter = Limiter("10/s", clock=clock)
    headers = Headers(limiter, names=["api"])
    assert headers.fields(limiter.check("a"))[0] == ("ratelimit-policy", '"api";q=10;w=1')
    limiter.set_limit("20/s")
    assert headers.fields(limiter.check("a"))[0] == ("ratelimit-policy", '"api";q=20;w=1')
    assert json.loads(headers.problem(limiter.check("a", 30)))["violated-policies"] == ["api"]


def test_misuse_is_said_when_it_is_written() -> None:
    limiter: Any = Limiter("1/s")
    for make in (asgi.RateLimitMiddleware, wsgi.RateLimitMiddleware):
        wrap: Any = make
        with pytest.raises(TypeError, match="key is 'ip': it takes a function"):
            wrap(None, limiter, key="ip")
        with pytest.raises(TypeError, match="exempt is '/health': it takes a function"):
            wrap(None, limiter, exempt="/health")
        with pytest.raises(ValueError, match="cost is -1"):
            wrap(None, limiter, cost=-1)
        with pytest.raises(PolicyError, match="2 names were given for 1 limits"):
            wrap(None, limiter, names=["a", "b"])
        with pytest.raises(ValueError, match='x_ratelimit is "iso"'):
            wrap(None, limiter, x_ratelimit="iso")
        with pytest.raises(TypeError):
            wrap(None, limiter, nmaes=["a"])


def test_trusted_proxies(clock: ManualClock) -> None:
    """Behind a proxy that is trusted, clients have limits of their own, and cannot pretend to be others."""

    async def ask(app: Any, peer: str, *fields: str) -> int:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request"}

        headers = [(b"x-forwarded-for", field.encode()) for field in fields]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": (peer, 1)}
        await app(scope, receive, send)
        return int(sent[0]["status"])

    async def fine(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = asgi.RateLimitMiddleware(fine, Limiter("1/minute", clock=clock), trusted_proxies=["10.0.0.0/8"])

    async def story() -> list[int]:
        return [
            await ask(app, "10.0.0.1", "198.51.100.1"),
            await ask(app, "10.0.0.1", "198.51.100.2"),
            await ask(app, "10.0.0.1", "203.0.113.1, 198.51.100.1"),
            await ask(app, "10.0.0.1", "203.0.113.1", "198.51.100.2"),
            await ask(app, "192.0.2.1", "198.51.100.3"),
            await ask(app, "192.0.2.1", "198.51.100.4"),
        ]

    assert asyncio.run(story()) == [200, 200, 429, 429, 200, 429]

    def plain(environ: dict[str, Any], start: Any) -> list[bytes]:
        start("200 OK", [])
        return [b""]

    on_wsgi = wsgi.RateLimitMiddleware(plain, Limiter("1/minute", clock=clock), trusted_proxies=1)
    seen: list[str] = []
    for field in ("198.51.100.1", "203.0.113.1, 198.51.100.1", "198.51.100.2"):
        environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": field, "REQUEST_METHOD": "GET"}
        list(on_wsgi(environ, lambda status, headers, *_: seen.append(status[:3])))
    assert seen == ["200", "429", "200"]
    with pytest.raises(ValueError, match="no network or address"):
        wsgi.RateLimitMiddleware(plain, Limiter("1/s"), trusted_proxies="proxy.example")
    with pytest.raises(TypeError, match="leave it out"):
        wsgi.RateLimitMiddleware(plain, Limiter("1/s"), key=lambda environ: "a", trusted_proxies=1)
