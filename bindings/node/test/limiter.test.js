'use strict';
// What each call means. Time is given wherever an answer depends on it.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Limiter, RateLimitError, errorCodes, version } = require('ratelimit');

/** Asserts that a call throws a RateLimitError with this code and a sentence that matches. */
function refuses(call, code, sentence) {
  assert.throws(call, (error) => {
    assert.ok(error instanceof RateLimitError, String(error));
    assert.equal(error.name, 'RateLimitError');
    assert.equal(error.code, code, error.message);
    assert.equal(error.number, errorCodes.find((each) => each.code === code).number);
    assert.match(error.message, sentence);
    return true;
  });
}

test('a limit is given in numbers, as a text, or as several texts', () => {
  for (const options of [
    { rateLimit: 2, timeWindowMs: 60_000 },
    { rateLimit: 2, timeWindowMs: 60_000, burst: null, strict: undefined },
    '2/minute',
    ['2/minute'],
    { limits: '2/minute', maxKeys: 1000, clock: 'os', overflow: 'deny', hashKey: '00112233445566778899aabbccddeeff' },
    { rateLimit: ['2/minute', '1000/day'] },
  ]) {
    const limiter = new Limiter(options);
    assert.deepEqual(
      [1, 2, 3].map(() => limiter.isAllowed('a')),
      [true, true, false],
      JSON.stringify(options),
    );
    assert.equal(limiter.limits[0], '2/minute');
  }
  assert.deepEqual(new Limiter({ rateLimit: 10, timeWindowMs: 1500, burst: 3, strict: true }).check('a').limit, 3);
});

test('options that do not exist, or do not fit, are refused with what to do', () => {
  const option = 'ERR_RATELIMIT_OPTION';
  refuses(() => new Limiter({ rateLimt: 5 }), option, /^there is no option "rateLimt": the options are rateLimit, /);
  refuses(() => new Limiter({ ratelimit: 5 }), option, /did you mean "rateLimit"/);
  refuses(() => new Limiter({ rateLimit: 5, timeWindow: 5 }), option, /did you mean "timeWindowMs"/);
  refuses(() => new Limiter({ rateLimit: 5 }), option, /rateLimit is given without timeWindowMs/);
  refuses(() => new Limiter({}), option, /there is no limit/);
  refuses(() => new Limiter({ rateLimit: 1.5, timeWindowMs: 1 }), option, /rateLimit is 1.5: it takes a whole number/);
  refuses(() => new Limiter({ rateLimit: 1n, timeWindowMs: 1 }), option, /rateLimit is a value of another kind/);
  refuses(() => new Limiter({ rateLimit: 1, timeWindowMs: -1 }), option, /timeWindowMs is -1: .*in milliseconds/);
  refuses(() => new Limiter({ rateLimit: 1, timeWindowMs: Infinity }), option, /timeWindowMs is Infinity/);
  refuses(() => new Limiter({ rateLimit: 1, timeWindowMs: 1, strict: 'yes' }), option, /strict is "yes"/);
  refuses(() => new Limiter({ limits: ['1/s', 2] }), option, /limits is an array: it takes a limit as text/);
  refuses(() => new Limiter({ limits: '1/s', path: () => {} }), option, /path is a function/);
  refuses(() => new Limiter('a lot'), 'ERR_RATELIMIT_INVALID_LIMIT', /a lot/);
  refuses(() => new Limiter(Array(9).fill('1/s')), 'ERR_RATELIMIT_LIMIT_COUNT', /at most 8/);
  refuses(() => new Limiter({ limits: '1/s', maxKeys: 2 ** 40 }), 'ERR_RATELIMIT_MAX_KEYS', /use at most/);
  refuses(() => new Limiter({ limits: '1/s', cluster: {} }), 'ERR_RATELIMIT_CLUSTER_CONFIG', /node/);
  refuses(() => new Limiter({ limits: '1/s', cluster: { noed: 'a' } }), option, /no cluster option "noed"/);
  refuses(() => new Limiter({ limits: '1/s', cluster: { intervalMs: {} } }), option, /intervalMs is an object/);
  refuses(() => new Limiter({ limits: '1/s', cluster: { mode: 'lax' } }), option, /mode is "lax"/);
  refuses(() => new Limiter({ limits: '1/s', cluster: ['a'] }), option, /table of cluster options/);
  for (const wrong of [undefined, null, 5, true]) {
    refuses(() => new Limiter(wrong), 'ERR_RATELIMIT_ARGUMENT', /takes an object of options/);
  }
  assert.throws(() => Limiter('1/s'), TypeError);
  const thrown = new Error('mine');
  const trap = {
    get rateLimit() {
      throw thrown;
    },
  };
  assert.throws(
    () => new Limiter(trap),
    (error) => error === thrown,
  );
});

test('strings, numbers and bytes with one text are one key', () => {
  const limiter = new Limiter('1/hour');
  const same = [
    ['1', 1, Buffer.from('1'), new Uint8Array([0x31])],
    ['-9007199254740991', Number.MIN_SAFE_INTEGER, Buffer.from('-9007199254740991')],
    ['0', 0, -0],
    ['é', Buffer.from('é'), new Uint8Array([0xc3, 0xa9])],
    ['😀', Buffer.from('😀')],
    ['', Buffer.alloc(0), new Uint8Array(0)],
    ['a\0b', Buffer.from([97, 0, 98])],
    ['\ud800', Buffer.from([0xed, 0xa0, 0x80])],
    ['x'.repeat(1000), Buffer.from('x'.repeat(1000))],
    ['€'.repeat(1000), Buffer.from('€'.repeat(1000))],
  ];
  for (const keys of same) {
    assert.deepEqual(
      keys.map((key) => limiter.isAllowed(key)),
      keys.map((_, i) => i === 0),
      String(keys[0]).slice(0, 20),
    );
    assert.ok(!limiter.allowedMany(keys).includes(true));
    assert.ok(!limiter.allowedMany(keys.filter((key) => typeof key === 'string')).includes(true));
  }
});

test('strings that differ are keys that differ, half surrogates too', () => {
  const limiter = new Limiter('1/hour');
  const keys = [
    '\ud800',
    '\ud801',
    '\udfff',
    '\ufffd',
    'a\ud800',
    '\ud800a',
    '\ud83d\ude00',
    '\ude00\ud83d',
    'a',
    'a\0',
    '\0a',
    'A',
  ];
  // Lengths around the edge of what is read without an allocation.
  for (const length of [189, 190, 191, 192, 193, 255, 256, 257])
    keys.push('k'.repeat(length), `${'k'.repeat(length - 1)}é`);
  assert.ok(keys.every((key) => limiter.isAllowed(key)));
  assert.ok(keys.every((key) => !limiter.isAllowed(key)));
  const many = new Limiter('1/hour');
  assert.ok(many.allowedMany(keys).every((allowed) => allowed));
  assert.ok(
    keys.every((key) => !many.isAllowed(key)),
    'a batch and single calls have the same keys',
  );
  const halves = ['\ud83d', '\ude00'];
  assert.ok(halves.every((key) => !limiter.isAllowed(key)) === false, 'halves side by side in a batch are not a pair');
});

test('what is no key is refused', () => {
  const limiter = new Limiter('1/hour');
  const wrong = [
    undefined,
    null,
    true,
    {},
    [],
    () => {},
    Symbol('a'),
    1n,
    new Float64Array(1),
    new ArrayBuffer(1),
    new Date(),
    1.5,
    NaN,
    Infinity,
    2 ** 53,
    new String('a'),
  ];
  for (const key of wrong) {
    for (const call of [
      () => limiter.isAllowed(key),
      () => limiter.check(key),
      () => limiter.peek(key),
      () => limiter.allowedMany(['a', key]),
      () => limiter.checkMany(['a', key]),
      () => limiter.refund(key),
      () => limiter.reset(key),
      () => limiter.block(key, 1),
      () => limiter.setOverride(key, '1/s'),
    ]) {
      refuses(call, 'ERR_RATELIMIT_ARGUMENT', /^the key is /);
    }
  }
  refuses(() => limiter.isAllowed(), 'ERR_RATELIMIT_ARGUMENT', /the key is undefined/);
  assert.equal(limiter.stats().allowed, 0, 'what is refused charges nothing, the good key of a batch neither');
});

test('a decision has five fields', () => {
  const limiter = new Limiter('10/s');
  assert.deepEqual(limiter.check('a', 4, { nowMs: 0 }), {
    allowed: true,
    limit: 10,
    remaining: 6,
    retryAfterMs: 0,
    resetAfterMs: 400,
  });
  assert.deepEqual(limiter.check('a', 7, { nowMs: 0 }), {
    allowed: false,
    limit: 10,
    remaining: 6,
    retryAfterMs: 100,
    resetAfterMs: 400,
  });
  assert.equal(limiter.check('a', 11, { nowMs: 0 }).retryAfterMs, Number.POSITIVE_INFINITY);
  assert.equal(limiter.check('a', 1e300, { nowMs: 0 }).allowed, false);
  assert.equal(limiter.check('a', 0, { nowMs: 0 }).allowed, true);
  assert.equal(limiter.peek('a', 6, { nowMs: 0 }).allowed, true);
  assert.equal(limiter.peek('a', 1, { nowMs: 0 }).remaining, 6);
  assert.equal(limiter.check('own').remaining, 9, 'without a time its own clock counts');
  assert.equal(limiter.check('own', 1, {}).remaining, 8);
  assert.equal(limiter.check('own', undefined, { nowMs: undefined }).remaining, 7);
});

test('costs and times that make no sense are refused', () => {
  const limiter = new Limiter('10/s');
  for (const cost of [-1, 0.5, NaN, Infinity, '1', null, 1n, {}]) {
    refuses(() => limiter.check('a', cost), 'ERR_RATELIMIT_ARGUMENT', /^cost is .*: it takes a whole number from 0/);
    refuses(() => limiter.refund('a', cost), 'ERR_RATELIMIT_ARGUMENT', /^cost is/);
    refuses(() => limiter.checkMany(['a'], [cost]), 'ERR_RATELIMIT_ARGUMENT', /^cost 0 is/);
  }
  for (const nowMs of [-1, -1e-9, NaN, Infinity, '1', 1e30]) {
    refuses(() => limiter.check('a', 1, { nowMs }), 'ERR_RATELIMIT_ARGUMENT', /^nowMs is .*milliseconds/);
  }
  refuses(() => limiter.check('a', 1, { now: 1 }), 'ERR_RATELIMIT_OPTION', /check has no option "now"/);
  refuses(() => limiter.check('a', 1, 5), 'ERR_RATELIMIT_ARGUMENT', /check takes an object with nowMs/);
  refuses(() => limiter.block('a', -1), 'ERR_RATELIMIT_ARGUMENT', /^ms is -1/);
  refuses(() => limiter.block('a'), 'ERR_RATELIMIT_ARGUMENT', /^ms is undefined/);
  assert.equal(limiter.stats().allowed + limiter.stats().denied, 0);
});

test('batches decide in order, and take all kinds of keys', () => {
  const limiter = new Limiter('2/hour');
  assert.deepEqual(limiter.allowedMany(['a', 'b', 'a', 'a']), [true, true, true, false]);
  assert.deepEqual(limiter.allowedMany(['a', 1, Buffer.from('b'), 'b']), [false, true, true, false]);
  assert.deepEqual(limiter.allowedMany([]), []);
  const out = new Uint8Array(3).fill(7);
  assert.equal(limiter.allowedMany(['c', 'a'], out), out);
  assert.deepEqual([...out], [1, 0, 7]);
  const decisions = limiter.checkMany(['d', 'd', 'd'], [1, 2, 1]);
  assert.deepEqual(
    decisions.map(({ allowed, limit, remaining }) => [allowed, limit, remaining]),
    [
      [true, 2, 1],
      [false, 2, 1],
      [true, 2, 0],
    ],
  );
  assert.equal(limiter.checkMany(['d'])[0].allowed, false);
  assert.equal(limiter.checkMany(['e'], new Float64Array([3]))[0].retryAfterMs, Number.POSITIVE_INFINITY);
  assert.deepEqual(limiter.checkMany([]), []);
  const keys = Array.from({ length: 10_000 }, (_, i) => `key ${i} é`);
  assert.equal(limiter.allowedMany(keys).filter(Boolean).length, 10_000);
  assert.equal(limiter.checkMany(keys).filter((decision) => decision.allowed).length, 10_000);
  assert.equal(limiter.allowedMany(keys).filter(Boolean).length, 0);
});

test('a batch that does not fit decides nothing', () => {
  const limiter = new Limiter('2/hour');
  refuses(() => limiter.checkMany(['a', 'b'], [1]), 'ERR_RATELIMIT_LENGTHS', /2 keys came with 1/);
  refuses(() => limiter.checkMany(['a'], [1, 1]), 'ERR_RATELIMIT_LENGTHS', /1 keys came with 2/);
  refuses(() => limiter.checkMany(['a', 'b'], [1, -1]), 'ERR_RATELIMIT_ARGUMENT', /cost 1 is -1/);
  refuses(() => limiter.checkMany(['a'], 1), 'ERR_RATELIMIT_ARGUMENT', /costs takes an array/);
  refuses(
    () => limiter.allowedMany(['a', 'b'], new Uint8Array(1)),
    'ERR_RATELIMIT_LENGTHS',
    /2 keys came with 1 places/,
  );
  refuses(() => limiter.allowedMany(['a'], [0]), 'ERR_RATELIMIT_ARGUMENT', /must be a Uint8Array/);
  refuses(() => limiter.allowedMany('abc'), 'ERR_RATELIMIT_ARGUMENT', /keys takes an array/);
  refuses(() => limiter.allowedMany(new Array(3).fill('a', 0, 1)), 'ERR_RATELIMIT_ARGUMENT', /the key is undefined/);
  const detached = new Uint8Array(4);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  refuses(() => limiter.allowedMany(['a'], detached), 'ERR_RATELIMIT_LENGTHS', /1 keys came with 0 places/);
  const thrown = new Error('mine');
  const trap = Object.defineProperty([1, 2], 1, {
    get() {
      throw thrown;
    },
  });
  assert.throws(
    () => limiter.allowedMany(trap),
    (error) => error === thrown,
  );
  assert.equal(limiter.stats().allowed, 0);
});

test('an array that closes its limiter while it is read is told so', () => {
  const limiter = new Limiter('2/hour');
  const trap = Object.defineProperty([1, 2], 1, {
    get() {
      limiter.close();
      return 'b';
    },
  });
  refuses(() => limiter.allowedMany(trap), 'ERR_RATELIMIT_CLOSED', /closed/);
});

test('refund, reset, block and overrides', () => {
  const limiter = new Limiter('2/hour');
  limiter.check('a', 2, { nowMs: 0 });
  limiter.refund('a', 1, { nowMs: 0 });
  assert.equal(limiter.peek('a', 1, { nowMs: 0 }).remaining, 1);
  limiter.reset('a', { nowMs: 0 });
  assert.equal(limiter.peek('a', 1, { nowMs: 0 }).remaining, 2);
  limiter.check('b', 2);
  limiter.refund('b');
  assert.equal(limiter.peek('b').remaining, 1);
  limiter.block('b', 60_000);
  const blocked = limiter.check('b');
  assert.ok(
    !blocked.allowed && blocked.retryAfterMs > 59_000 && blocked.retryAfterMs <= 60_000,
    JSON.stringify(blocked),
  );
  limiter.block('b', 0);
  assert.ok(limiter.isAllowed('b'));
  limiter.block('b', 60_000);
  limiter.reset('b');
  assert.equal(limiter.peek('b').remaining, 2);
  limiter.setOverride('vip', '100/s');
  assert.equal(limiter.check('vip').limit, 100);
  limiter.setOverride('vip', null);
  assert.equal(limiter.check('vip').limit, 2);
  limiter.setOverride('vip', '100/s');
  limiter.clearOverrides();
  assert.equal(limiter.check('vip').limit, 2);
  refuses(() => limiter.setOverride('vip'), 'ERR_RATELIMIT_ARGUMENT', /or null to take/);
  refuses(() => limiter.setOverride('vip', 5), 'ERR_RATELIMIT_ARGUMENT', /the limit is 5: it takes a text/);
  refuses(() => limiter.setOverride('vip', '0/s'), 'ERR_RATELIMIT_INVALID_LIMIT', /./);
});

test('limits change while clients keep what they have spent', () => {
  const limiter = new Limiter('10/hour');
  limiter.check('a', 5);
  limiter.setLimit('100/hour');
  assert.deepEqual(limiter.limits, ['100/hour']);
  assert.equal(limiter.peek('a').remaining, 50);
  refuses(() => limiter.setLimit(['1/s']), 'ERR_RATELIMIT_ARGUMENT', /use setLimits/);
  refuses(() => limiter.setLimit(5), 'ERR_RATELIMIT_ARGUMENT', /the limit is 5/);
  refuses(() => limiter.setLimits(['1/s', '2/s']), 'ERR_RATELIMIT_LIMIT_COUNT', /one for each/);
  const several = new Limiter(['10/s', '20/day']);
  several.setLimits(['30/s', '40/day']);
  assert.deepEqual(several.limits, ['30/second', '40/day']);
  refuses(() => several.setLimit('1/s'), 'ERR_RATELIMIT_LIMIT_COUNT', /1 limits were given where 2/);
});

test('statistics and metrics tell the same', () => {
  const limiter = new Limiter({ limits: '1/hour', maxKeys: 100 });
  limiter.isAllowed('a');
  limiter.isAllowed('a');
  const stats = limiter.stats();
  assert.equal(stats.allowed, 1);
  assert.equal(stats.denied, 1);
  assert.equal(stats.liveKeys, 1);
  for (const [name, value] of Object.entries(stats)) {
    const metric = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    assert.match(limiter.prometheus(), new RegExp(`^ratelimit_${metric}(_total)? ${value}$`, 'm'));
  }
});

test('after close every call says so, and to close again is no mistake', () => {
  const limiter = new Limiter('1/hour');
  limiter.close();
  limiter.close();
  const calls = {
    isAllowed: () => limiter.isAllowed('a'),
    check: () => limiter.check('a'),
    checkAt: () => limiter.check('a', 1, { nowMs: 0 }),
    peek: () => limiter.peek('a'),
    checkMany: () => limiter.checkMany(['a']),
    allowedMany: () => limiter.allowedMany(['a']),
    refund: () => limiter.refund('a'),
    reset: () => limiter.reset('a'),
    block: () => limiter.block('a', 1),
    limits: () => limiter.limits,
    setLimit: () => limiter.setLimit('1/s'),
    setLimits: () => limiter.setLimits(['1/s']),
    setOverride: () => limiter.setOverride('a', null),
    clearOverrides: () => limiter.clearOverrides(),
    stats: () => limiter.stats(),
    prometheus: () => limiter.prometheus(),
    snapshot: () => limiter.snapshot(),
  };
  for (const call of Object.values(calls)) refuses(call, 'ERR_RATELIMIT_CLOSED', /make a new one/);
  return assert.rejects(limiter.acquire('a'), { code: 'ERR_RATELIMIT_CLOSED' });
});

test('disposal closes, where the engine has it', {
  skip: typeof Symbol.dispose !== 'symbol' && 'this Node.js has no Symbol.dispose',
}, () => {
  const limiter = new Limiter('1/hour');
  limiter[Symbol.dispose]();
  refuses(() => limiter.isAllowed('a'), 'ERR_RATELIMIT_CLOSED', /./);
});

test('methods belong to limiters, which can be extended', () => {
  for (const receiver of [{}, null, Limiter.prototype, new Proxy(new Limiter('1/s'), {})]) {
    assert.throws(() => Limiter.prototype.isAllowed.call(receiver, 'a'), TypeError);
  }
  class Mine extends Limiter {
    isAllowed(key) {
      return super.isAllowed(`mine:${key}`);
    }
  }
  const mine = new Mine('1/hour');
  assert.ok(mine.isAllowed('a') && !mine.check('mine:a').allowed && mine.check('a').allowed);
});

test('codes are the table of all languages', () => {
  // A promise to every language: they may be added to, never changed. In generated.d.ts all are listed.
  const promised = {
    1: 'invalid_limit',
    2: 'limit_count',
    3: 'max_keys',
    4: 'system',
    5: 'full',
    6: 'lengths',
    7: 'policy',
    8: 'option',
    9: 'unsupported',
    10: 'argument',
    11: 'closed',
    12: 'internal',
    20: 'persist',
    21: 'snapshot_busy',
    22: 'snapshot_write',
    23: 'restore_required',
    24: 'not_persistent',
    25: 'forked_child',
    30: 'share_name',
    31: 'share_mismatch',
    32: 'share_full',
    33: 'share_unavailable',
  };
  const listed = Object.fromEntries(errorCodes.map(({ number, name }) => [number, name]));
  for (const [number, name] of Object.entries(promised)) assert.equal(listed[number], name);
  for (const { name, code, meaning } of errorCodes) {
    assert.equal(code, `ERR_RATELIMIT_${name.toUpperCase()}`);
    assert.ok(meaning.length > 10);
  }
  assert.equal(new Set(errorCodes.map(({ number }) => number)).size, errorCodes.length);
  assert.equal(version, require('ratelimit/package.json').version);
});

test('without a cluster there is nobody to wait for', async () => {
  const limiter = new Limiter('1/s');
  assert.deepEqual(limiter.peers(), []);
  assert.equal(await limiter.ready(), true);
  assert.equal(await limiter.ready(0), true);
  await assert.rejects(limiter.ready('soon'), { code: 'ERR_RATELIMIT_ARGUMENT' });
});
