'use strict';
// Middleware for express, connect, and whatever calls its handlers with (req, res, next).

const { Limiter, TrustedProxies } = require('./index.js');
const { native, misuse } = require('./lib/core.js');

const PROBLEM_JSON = 'application/problem+json';
/** The bucket of addresses that are none. What a client sent there is not used as a key: it could send another each time. */
const UNKNOWN_ADDRESS = 'unknown address';

function isThenable(value) {
  return value !== null && typeof value === 'object' && typeof value.then === 'function';
}

/** Goes on with a value, at once if it is there. */
function after(value, next) {
  return isThenable(value) ? value.then(next) : next(value);
}

function numbers(decision) {
  return [decision.allowed ? 1 : 0, decision.limit, decision.remaining, decision.retryAfterMs, decision.resetAfterMs];
}

function check(name, value, ok, takes) {
  if (value !== undefined && !ok(value)) throw misuse('option', `${name} takes ${takes}`);
}

const isFunction = (value) => typeof value === 'function';
const isBoolean = (value) => typeof value === 'boolean';
const isWhole = (most) => (value) => Number.isInteger(value) && value >= 0 && value <= most;

function rateLimit(options) {
  const given = typeof options === 'string' || Array.isArray(options) ? { limits: options } : options;
  if (given === null || typeof given !== 'object') {
    throw misuse(
      'argument',
      'rateLimit takes an object of options, a text like "100/minute", or an array of such texts',
    );
  }
  const {
    limiter: existing,
    key,
    cost = 1,
    skip,
    refundIf,
    handler,
    names,
    standardHeaders = true,
    legacyHeaders = false,
    draft6Headers = false,
    capRemaining,
    trustProxy = false,
    trustedProxies,
    ipv6Prefix = 64,
    ...limits
  } = given;
  check('key', key, isFunction, 'a function of (req, res) that returns the key, or a promise of it');
  check('skip', skip, isFunction, 'a function of (req, res) that returns true for requests that are not limited');
  check(
    'refundIf',
    refundIf,
    isFunction,
    'a function of (req, res) that returns true if the request is to be given back',
  );
  check('handler', handler, isFunction, 'a function of (req, res, next, decision)');
  check(
    'cost',
    cost,
    (value) => isFunction(value) || isWhole(Number.MAX_SAFE_INTEGER)(value),
    'a whole number from 0, or a function of (req, res) that returns one',
  );
  check('standardHeaders', standardHeaders, isBoolean, 'true or false');
  check(
    'legacyHeaders',
    legacyHeaders,
    (value) => isBoolean(value) || value === 'epoch' || value === 'delta',
    '"epoch", "delta", true (which is "epoch") or false',
  );
  check('draft6Headers', draft6Headers, isBoolean, 'true or false');
  check('trustProxy', trustProxy, isBoolean, 'true (use req.ip) or false');
  check('ipv6Prefix', ipv6Prefix, (value) => isWhole(128)(value) && value >= 32, 'a whole number from 32 to 128');
  let proxies;
  if (trustedProxies !== undefined) {
    if (trustProxy || key !== undefined) {
      throw misuse('option', 'trustedProxies is about the default key: leave out trustProxy and key');
    }
    proxies =
      trustedProxies instanceof TrustedProxies ? trustedProxies : new TrustedProxies(trustedProxies, { ipv6Prefix });
  }
  check('limiter', existing, (value) => value instanceof Limiter, 'a Limiter');
  if (existing !== undefined && Object.keys(limits).length > 0) {
    throw misuse('option', `limiter comes with its own limits: leave out ${Object.keys(limits).join(', ')}`);
  }
  const limiter = existing ?? new Limiter(limits);
  const legacy = legacyHeaders === true ? 'epoch' : legacyHeaders || undefined;
  const headers = Limiter.headerFields(limiter, names, standardHeaders, legacy, draft6Headers, capRemaining);

  function addressOf(req) {
    if (proxies !== undefined) {
      const peer = req.socket?.remoteAddress;
      const client = proxies.clientIp(peer, req.headers);
      if (client !== null) return client;
      if (peer !== undefined) return UNKNOWN_ADDRESS;
    }
    const address = trustProxy ? req.ip : req.socket?.remoteAddress;
    if (address === undefined) {
      throw misuse(
        'argument',
        trustProxy
          ? 'trustProxy needs req.ip, which express has: give the option key'
          : 'this request has no network address, since it came over a Unix socket or its client is gone: give the option key',
      );
    }
    return native.addressKey(address, ipv6Prefix) ?? UNKNOWN_ADDRESS;
  }

  const keyOf = key ?? addressOf;
  const costOf = isFunction(cost) ? cost : () => cost;

  function decide(req, res) {
    return after(skip === undefined ? false : skip(req, res), (skipped) => {
      if (skipped) return undefined;
      return after(keyOf(req, res), (client) =>
        after(costOf(req, res), (price) => {
          const decision = limiter.check(client, price);
          if (decision.allowed && refundIf !== undefined) refundLater(req, res, client, price);
          return decision;
        }),
      );
    });
  }

  function refundLater(req, res, client, price) {
    res.once('close', () => {
      if (!refundIf(req, res)) return;
      try {
        limiter.refund(client, price);
      } catch (error) {
        // A limiter that was closed while its last responses were sent has nothing to give back.
        if (error.code !== 'ERR_RATELIMIT_CLOSED') throw error;
      }
    });
  }

  function tell(res, decision) {
    const fields = headers.fields(numbers(decision));
    for (let i = 0; i < fields.length; i += 2) {
      const [name, value] = [fields[i], fields[i + 1]];
      // These two are lists: of several limiters on one way each is told.
      const earlier = name === 'ratelimit' || name === 'ratelimit-policy' ? res.getHeader(name) : undefined;
      res.setHeader(name, earlier === undefined ? value : `${earlier}, ${value}`);
    }
  }

  function deny(res, decision) {
    res.statusCode = 429;
    res.setHeader('content-type', PROBLEM_JSON);
    res.end(headers.problem(numbers(decision)));
  }

  function answer(req, res, next, decision) {
    if (decision === undefined) return next();
    try {
      req.rateLimit = decision;
      tell(res, decision);
      if (!decision.allowed && handler === undefined) return deny(res, decision);
    } catch (error) {
      return next(error);
    }
    return decision.allowed ? next() : handler(req, res, next, decision);
  }

  function middleware(req, res, next) {
    let decision;
    try {
      decision = decide(req, res);
    } catch (error) {
      return next(error);
    }
    if (!isThenable(decision)) return answer(req, res, next, decision);
    decision.then((decided) => answer(req, res, next, decided), next);
  }

  middleware.limiter = limiter;
  return middleware;
}

module.exports = { rateLimit };
