'use strict';
// The middleware on real servers: express 4, express 5, and plain http.

const assert = require('node:assert/strict');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const express4 = require('express4');
const express5 = require('express');
const { Limiter } = require('ratelimit');
const { rateLimit } = require('ratelimit/express');

assert.match(require('express4/package.json').version, /^4\./);
assert.match(require('express/package.json').version, /^5\./);

/** A server that answers `fine` behind the middleware, in each of three ways. */
const servers = {
  'express 4': (middleware, settings = {}) => withExpress(express4, middleware, settings),
  'express 5': (middleware, settings = {}) => withExpress(express5, middleware, settings),
  'plain http': (middleware) => (req, res) => {
    const all = [middleware].flat();
    const next = (i) => (error) => {
      if (error !== undefined) {
        res.statusCode = 500;
        return res.end(error.message);
      }
      if (i < all.length) return all[i](req, res, next(i + 1));
      res.statusCode = req.url === '/broken' ? 503 : 200;
      return res.end('fine');
    };
    next(0)();
  },
};

function withExpress(express, middleware, settings) {
  const app = express();
  for (const [name, value] of Object.entries(settings)) app.set(name, value);
  app.use(middleware);
  app.use((req, res) => res.status(req.url === '/broken' ? 503 : 200).send('fine'));
  app.use((error, _req, res, _next) => res.status(500).send(error.message));
  return app;
}

/** Serves for as long as `use` runs; `use` gets a function that sends one request. */
async function serving(handler, use, listen = { port: 0, host: '127.0.0.1' }) {
  const server = http.createServer(handler);
  await new Promise((resolve) => server.listen(listen, resolve));
  const address = server.address();
  const where = typeof address === 'string' ? { socketPath: address } : { host: address.address, port: address.port };
  const get = (url = '/', headers = {}, method = 'GET') =>
    new Promise((resolve, reject) => {
      const request = http.request({ ...where, path: url, headers, method, agent: false }, (res) => {
        let body = '';
        res.setEncoding('utf8');
        res.on('data', (part) => {
          body += part;
        });
        res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body }));
      });
      request.on('error', reject);
      request.end();
    });
  try {
    await use(get);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

for (const [name, serve] of Object.entries(servers)) {
  test(`${name}: allowed requests carry what is left, denied ones a problem`, () =>
    serving(serve(rateLimit({ rateLimit: 2, timeWindowMs: 60_000 })), async (get) => {
      const first = await get();
      assert.equal(first.status, 200);
      assert.equal(first.body, 'fine');
      assert.equal(first.headers['ratelimit-policy'], '"default";q=2;w=60');
      assert.equal(first.headers.ratelimit, '"default";r=1;t=30');
      assert.equal(first.headers['retry-after'], undefined);
      assert.equal(first.headers['x-ratelimit-limit'], undefined);
      await get();
      const denied = await get();
      assert.equal(denied.status, 429);
      assert.equal(denied.headers.ratelimit, '"default";r=0;t=30');
      assert.equal(denied.headers['retry-after'], '30');
      assert.match(denied.headers['content-type'], /^application\/problem\+json/);
      assert.deepEqual(JSON.parse(denied.body), {
        type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
        title: 'Request cannot be satisfied as assigned quota has been exceeded',
        status: 429,
        detail: 'Try again in 30 seconds.',
        'violated-policies': ['default'],
      });
      const head = await get('/', {}, 'HEAD');
      assert.deepEqual([head.status, head.body], [429, '']);
    }));

  test(`${name}: header fields that a client sends are no key`, () =>
    serving(serve(rateLimit('1/minute')), async (get) => {
      assert.equal((await get('/', { 'x-forwarded-for': '1.1.1.1' })).status, 200);
      assert.equal((await get('/', { 'x-forwarded-for': '2.2.2.2', 'x-real-ip': '3.3.3.3' })).status, 429);
    }));

  test(`${name}: key, cost, skip and handler, at once or as promises`, async () => {
    for (const later of [(value) => value, (value) => Promise.resolve(value)]) {
      const limiter = new Limiter('10/minute');
      const middleware = rateLimit({
        limiter,
        key: (req) => later(req.headers.user),
        cost: (req) => later(Number(req.headers.cost ?? 1)),
        skip: (req) => later(req.headers.user === 'admin'),
        handler: (_req, res, _next, decision) => {
          res.statusCode = 420;
          res.end(`wait ${Math.ceil(decision.retryAfterMs / 1000)}`);
        },
      });
      assert.equal(middleware.limiter, limiter);
      await serving(serve(middleware), async (get) => {
        assert.equal((await get('/', { user: 'a', cost: '8' })).headers.ratelimit, '"default";r=2;t=48');
        const denied = await get('/', { user: 'a', cost: '3' });
        assert.deepEqual([denied.status, denied.body], [420, 'wait 6']);
        assert.equal(denied.headers['retry-after'], '6');
        const never = await get('/', { user: 'a', cost: '11' });
        assert.equal(never.headers['retry-after'], undefined);
        assert.equal((await get('/', { user: 'b' })).status, 200);
        const admin = await get('/', { user: 'admin', cost: '100' });
        assert.deepEqual([admin.status, admin.headers.ratelimit], [200, undefined]);
        const wrong = await get('/', { user: 'a', cost: 'much' });
        assert.equal(wrong.status, 500);
        assert.match(wrong.body, /cost is NaN: it takes a whole number/);
        const nobody = await get('/');
        assert.equal(nobody.status, 500);
        assert.match(nobody.body, /the key is undefined/);
      });
    }
  });

  test(`${name}: functions that throw or reject are errors of the request`, async () => {
    for (const key of [
      () => {
        throw new Error('no session');
      },
      () => Promise.reject(new Error('no session')),
    ]) {
      await serving(serve(rateLimit({ limits: '1/minute', key })), async (get) => {
        const response = await get();
        assert.deepEqual([response.status, response.body], [500, 'no session']);
      });
    }
    const closed = rateLimit('1/minute');
    closed.limiter.close();
    await serving(serve(closed), async (get) => assert.match((await get()).body, /closed/));
  });

  test(`${name}: requests that failed are given back`, async () => {
    const middleware = rateLimit({ limits: '1/minute', refundIf: (_req, res) => res.statusCode >= 500 });
    await serving(serve(middleware), async (get) => {
      assert.equal((await get('/broken')).status, 503);
      // The refund comes with the end of the response, which the client may see first.
      const until = performance.now() + 5000;
      while (middleware.limiter.peek('127.0.0.1').remaining < 1 && performance.now() < until) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.equal((await get('/')).status, 200);
      assert.equal((await get('/')).status, 429);
    });
  });

  test(`${name}: what was denied is not given back`, async () => {
    const asked = [];
    const middleware = rateLimit({ limits: '1/minute', refundIf: (_req, res) => void asked.push(res.statusCode) });
    await serving(serve(middleware), async (get) => {
      await get();
      assert.equal((await get()).status, 429);
      middleware.limiter.reset('127.0.0.1');
      await get();
      const until = performance.now() + 5000;
      while (asked.length < 2 && performance.now() < until) await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(asked, [200, 200]);
    });
  });

  test(`${name}: several limits, several limiters, and older header fields`, () =>
    serving(
      serve([
        rateLimit({ limits: ['10/s', '20/day'], names: ['burst', 'daily'] }),
        rateLimit({
          limits: '5/minute',
          names: ['search'],
          legacyHeaders: 'delta',
          draft6Headers: true,
          capRemaining: 3,
        }),
      ]),
      async (get) => {
        const { headers } = await get();
        assert.equal(headers['ratelimit-policy'], '"burst";q=10;w=1, "daily";q=20;w=86400, "search";q=5;w=60');
        assert.match(headers.ratelimit, /^"burst";r=9;t=1, "search";r=3;t=12$/);
        assert.equal(headers['x-ratelimit-limit'], '5');
        assert.equal(headers['x-ratelimit-remaining'], '3');
        assert.equal(headers['x-ratelimit-reset'], '12');
        assert.equal(headers['ratelimit-reset'], '12');
      },
    ));
}

test('legacy fields alone, with the time of day', () =>
  serving(
    servers['express 5'](rateLimit({ limits: '5/minute', standardHeaders: false, legacyHeaders: true })),
    async (get) => {
      const { headers } = await get();
      assert.equal(headers.ratelimit, undefined);
      const left = Number(headers['x-ratelimit-reset']) - Date.now() / 1000;
      assert.ok(left > 8 && left < 14, `${left} s`);
    },
  ));

test('header fields follow a change of limit', () => {
  const middleware = rateLimit('5/minute');
  return serving(servers['express 5'](middleware), async (get) => {
    await get();
    middleware.limiter.setLimit('50/minute');
    const { headers } = await get();
    assert.equal(headers['ratelimit-policy'], '"default";q=50;w=60');
    middleware.limiter.setOverride('127.0.0.1', '7/s');
    assert.equal((await get()).headers['ratelimit-policy'], '"override";q=7');
  });
});

test('behind a proxy that is trusted the address is that of express', async () => {
  for (const serve of [servers['express 4'], servers['express 5']]) {
    await serving(serve(rateLimit({ limits: '1/minute', trustProxy: true }), { 'trust proxy': 1 }), async (get) => {
      const from = (address) => get('/', { 'x-forwarded-for': address });
      assert.equal((await from('9.9.9.9, 1.1.1.1')).status, 200);
      assert.equal(
        (await from('8.8.8.8, 1.1.1.1')).status,
        429,
        'what the client wrote before the proxy does not count',
      );
      assert.equal((await from('::ffff:1.1.1.1')).status, 429, 'the same address');
      assert.equal((await from('2001:db8::1')).status, 200);
      assert.equal((await from('2001:db8::2')).status, 429, 'the same /64');
      assert.equal((await from('2001:db8:0:1::1')).status, 200, 'another one');
      assert.equal((await from('junk 1')).status, 200);
      assert.equal((await from('junk 2')).status, 429, 'junk is one client');
    });
  }
  await serving(servers['plain http'](rateLimit({ limits: '1/minute', trustProxy: true })), async (get) => {
    assert.match((await get()).body, /needs req.ip/);
  });
});

test('mapped addresses are IPv4, and IPv6 counts by its network', async () => {
  const middleware = rateLimit({ limits: '10/minute', ipv6Prefix: 48 });
  const seen = (remoteAddress) => {
    const req = { socket: { remoteAddress } };
    const res = { getHeader: () => undefined, setHeader: () => {} };
    let passed;
    middleware(req, res, (error) => {
      passed = error ?? req.rateLimit.remaining;
    });
    return passed;
  };
  assert.equal(seen('::ffff:1.2.3.4'), 9);
  assert.equal(seen('1.2.3.4'), 8);
  assert.equal(seen('2001:db8:7:1::1%eth0'), 9);
  assert.equal(seen('2001:db8:7:2::1'), 8);
  assert.match(seen(undefined).message, /no network address/);
});

test('over a Unix socket there is no address, and no bucket shared by all', async (t) => {
  if (process.platform === 'win32') return t.skip('no Unix sockets');
  const listen = { path: path.join(os.tmpdir(), `ratelimit-node-${process.pid}.sock`) };
  await serving(
    servers['plain http'](rateLimit('1/minute')),
    async (get) => {
      const response = await get();
      assert.equal(response.status, 500);
      assert.match(response.body, /no network address.*give the option key/);
    },
    listen,
  );
});

test('options that make no sense are refused when the middleware is made', () => {
  const limiter = new Limiter('1/s');
  for (const [options, sentence] of [
    [undefined, /takes an object of options/],
    [{}, /there is no limit/],
    [{ max: 5, windowMs: 1000 }, /there is no option "max"/],
    [{ limiter, rateLimit: 5 }, /limiter comes with its own limits: leave out rateLimit/],
    [{ limiter: {} }, /limiter takes a Limiter/],
    [{ limits: '1/s', key: 'ip' }, /key takes a function/],
    [{ limits: '1/s', skip: true }, /skip takes a function/],
    [{ limits: '1/s', handler: 1 }, /handler takes a function/],
    [{ limits: '1/s', refundIf: 1 }, /refundIf takes a function/],
    [{ limits: '1/s', cost: -1 }, /cost takes a whole number/],
    [{ limits: '1/s', names: 'api' }, /names takes an array of texts/],
    [{ limits: '1/s', names: ['a', 'b'] }, /2 names were given for 1 limits/],
    [{ limits: '1/s', names: ['a\r\nset-cookie: x'] }, /is not a name for a policy/],
    [{ limits: '1/s', legacyHeaders: 'seconds' }, /legacyHeaders takes/],
    [{ limits: '1/s', standardHeaders: 'draft-8' }, /standardHeaders takes true or false/],
    [{ limits: '1/s', draft6Headers: 1 }, /draft6Headers takes/],
    [{ limits: '1/s', capRemaining: -1 }, /capRemaining is -1/],
    [{ limits: '1/s', trustProxy: 1 }, /trustProxy takes/],
    [{ limits: '1/s', ipv6Prefix: 16 }, /ipv6Prefix takes/],
  ]) {
    assert.throws(() => rateLimit(options), { name: 'RateLimitError', message: sentence });
  }
});

for (const [name, make] of Object.entries(servers)) {
  test(`${name}: clients behind a trusted proxy have limits of their own`, async () => {
    const middleware = rateLimit({ limits: '1/minute', trustedProxies: 'loopback' });
    await serving(make(middleware), async (get) => {
      const status = async (field) => (await get('/', { 'x-forwarded-for': field })).status;
      assert.equal(await status('198.51.100.1'), 200);
      assert.equal(await status('198.51.100.2'), 200);
      assert.equal(await status('203.0.113.1, 198.51.100.1'), 429);
      assert.equal(await status('198.51.100.3, garbage'), 200);
      assert.equal(await status('198.51.100.4, garbage'), 429, 'the peer has one limit, whatever is sent');
    });
  });
}

test('trustedProxies is checked at once', () => {
  assert.throws(() => rateLimit({ limits: '1/s', trustedProxies: 'proxy.example' }), /no network or address/);
  assert.throws(() => rateLimit({ limits: '1/s', trustedProxies: {} }), /trustedProxies takes/);
  assert.throws(() => rateLimit({ limits: '1/s', trustedProxies: 1, trustProxy: true }), /leave out/);
});
