'use strict';
// Waiting: order, deadlines, signals, and that nothing is left behind.

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const path = require('node:path');
const { test } = require('node:test');
const { Limiter } = require('ratelimit');

const since = (start) => performance.now() - start;

test('what fits is allowed at once, and what never fits is told at once', async () => {
  const limiter = new Limiter('2/hour');
  const start = performance.now();
  assert.equal(await limiter.acquire('a'), true);
  assert.equal(await limiter.acquire('a', 1, { timeoutMs: 1000 }), true);
  assert.equal(await limiter.acquire('a', 1, { timeoutMs: 1000 }), false, 'not within a second');
  assert.equal(await limiter.acquire('a', 1, { timeoutMs: 0 }), false);
  assert.equal(await limiter.acquire('a', 3), false, 'above the burst');
  assert.equal(await limiter.acquire('a', 0), true, 'nothing costs nothing');
  assert.ok(since(start) < 900, `${since(start)} ms`);
});

test('those who wait for a key go on in their order, and not too early', async () => {
  const limiter = new Limiter('50/s burst 1');
  const order = [];
  const start = performance.now();
  await Promise.all(
    [1, 2, 3, 4, 5].map(async (i) => {
      assert.equal(await limiter.acquire('a'), true);
      order.push(i);
    }),
  );
  assert.deepEqual(order, [1, 2, 3, 4, 5]);
  // The first at once, each other one 20 ms later; the two clocks may differ by a little.
  assert.ok(since(start) >= 79, `${since(start)} ms`);
});

test('keys are told apart by their bytes, and wait apart', async () => {
  const limiter = new Limiter('10/hour burst 1');
  for (const key of ['a', 'b']) limiter.isAllowed(key);
  const bytes = Buffer.from('a');
  const order = [];
  const waiting = [
    limiter.acquire('a').then(() => order.push('a')),
    limiter.acquire(bytes).then(() => order.push('a as bytes')),
    limiter.acquire('b').then(() => order.push('b')),
  ];
  bytes.fill('b');
  limiter.reset('b');
  await waiting[2];
  limiter.reset('a');
  await waiting[0];
  limiter.reset('a');
  await waiting[1];
  assert.deepEqual(order, ['b', 'a', 'a as bytes']);
});

test('an expensive request is not overtaken by cheap ones', async () => {
  const limiter = new Limiter('100/s burst 10');
  limiter.check('a', 10);
  const order = [];
  await Promise.all([
    limiter.acquire('a', 8).then(() => order.push('expensive')),
    limiter.acquire('a', 1).then(() => order.push('cheap')),
  ]);
  assert.deepEqual(order, ['expensive', 'cheap']);
});

test('who stands behind others is let go when his time is up', async () => {
  const limiter = new Limiter('1/hour');
  limiter.isAllowed('a');
  const first = limiter.acquire('a');
  // Of itself it would fit within the timeout: it is the queue that is too long.
  limiter.setOverride('a', '1/s burst 1');
  const start = performance.now();
  const second = limiter.acquire('a', 1, { timeoutMs: 1500 });
  limiter.block('a', 3_600_000);
  assert.equal(await second, false);
  assert.ok(since(start) < 5000);
  limiter.close();
  await assert.rejects(first, { code: 'ERR_RATELIMIT_CLOSED' });
});

test('a signal ends the waiting with an AbortError', async () => {
  const limiter = new Limiter('1/hour');
  limiter.isAllowed('a');
  const gone = new AbortController();
  gone.abort(new Error('too slow'));
  await assert.rejects(limiter.acquire('a', 1, { signal: gone.signal }), { name: 'AbortError', code: 'ABORT_ERR' });
  const controller = new AbortController();
  const waiting = limiter.acquire('a', 1, { signal: controller.signal });
  const next = limiter.acquire('a', 1, { signal: AbortSignal.any?.([controller.signal]) ?? controller.signal });
  controller.abort(new Error('too slow'));
  for (const promise of [waiting, next]) {
    await assert.rejects(promise, (error) => error.name === 'AbortError' && error.cause.message === 'too slow');
  }
  limiter.reset('a');
  assert.equal(limiter.isAllowed('a'), true, 'who was aborted was not charged');
  const late = new AbortController();
  assert.equal(await limiter.acquire('b', 1, { signal: late.signal }), true);
  late.abort();
});

test('when the first gives up, the next in line is asked', async () => {
  const limiter = new Limiter('10/hour burst 5');
  limiter.check('a', 3);
  const controller = new AbortController();
  const expensive = limiter.acquire('a', 5, { signal: controller.signal });
  const cheap = limiter.acquire('a', 1);
  assert.equal(limiter.peek('a').remaining, 2, 'what would fit waits behind what does not, uncharged');
  controller.abort();
  await assert.rejects(expensive, { name: 'AbortError' });
  assert.equal(await cheap, true);
  assert.equal(limiter.peek('a').remaining, 1, 'charged once');
});

test('misuse rejects, and queues nobody', async () => {
  const limiter = new Limiter('1/hour');
  limiter.isAllowed('a');
  for (const [args, code] of [
    [[], 'ERR_RATELIMIT_ARGUMENT'],
    [['a', -1], 'ERR_RATELIMIT_ARGUMENT'],
    [['a', 1, { timeoutMs: -1 }], 'ERR_RATELIMIT_ARGUMENT'],
    [['a', 1, { timeoutMs: 'soon' }], 'ERR_RATELIMIT_ARGUMENT'],
    [['a', 1, { signal: {} }], 'ERR_RATELIMIT_ARGUMENT'],
    [['a', 1, { timeout: 1 }], 'ERR_RATELIMIT_OPTION'],
    [['a', 1, null], 'ERR_RATELIMIT_ARGUMENT'],
  ]) {
    await assert.rejects(limiter.acquire(...args), { code });
  }
});

test('what changes a limit wakes those who wait', async () => {
  for (const change of [
    (limiter) => limiter.refund('a'),
    (limiter) => limiter.reset('a'),
    (limiter) => limiter.setLimit('1000/s'),
    (limiter) => limiter.setLimits(['1000/s']),
    (limiter) => limiter.setOverride('a', '1000/s'),
  ]) {
    const limiter = new Limiter('1/hour');
    limiter.isAllowed('a');
    const waiting = limiter.acquire('a', 1, { timeoutMs: 7_200_000 });
    change(limiter);
    assert.equal(await waiting, true, String(change));
  }
});

test('many who wait, with deadlines and signals, are all answered', async () => {
  const limiter = new Limiter('2000/s burst 1');
  const controllers = [];
  const outcomes = { allowed: 0, denied: 0, aborted: 0 };
  const all = [];
  for (let i = 0; i < 3000; i++) {
    const controller = new AbortController();
    controllers.push(controller);
    const options = { signal: controller.signal, timeoutMs: i % 3 === 0 ? 200 : undefined };
    all.push(
      limiter.acquire(`key ${i % 7}`, 1, options).then(
        (allowed) => outcomes[allowed ? 'allowed' : 'denied']++,
        () => outcomes.aborted++,
      ),
    );
  }
  for (let i = 0; i < 3000; i += 2) controllers[i].abort();
  await Promise.all(all);
  assert.equal(outcomes.allowed + outcomes.denied + outcomes.aborted, 3000);
  assert.ok(outcomes.aborted > 1000 && outcomes.allowed > 900, JSON.stringify(outcomes));
});

/** Runs a program of its own and returns what it prints; it must end by itself. */
function run(program) {
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      ['-e', program],
      { cwd: path.join(__dirname, '..'), timeout: 20_000 },
      (error, stdout) => (error ? reject(error) : resolve(stdout.trim())),
    );
  });
}

test('nothing but those who wait keeps the process alive', async () => {
  const start = "const { Limiter } = require('ratelimit'); const l = new Limiter('20/s burst 1'); l.isAllowed('a');";
  assert.equal(await run(`${start} l.acquire('a').then((ok) => console.log(ok))`), 'true', 'who waits does');
  const gone = `const c = new AbortController();
    l.setLimit('1/hour');
    l.acquire('a', 1, { signal: c.signal }).catch((error) => console.log(error.name)); c.abort();`;
  assert.equal(await run(`${start} ${gone}`), 'AbortError');
  const closed = "l.setLimit('1/hour'); l.acquire('a').catch((error) => console.log(error.code)); l.close();";
  assert.equal(await run(`${start} ${closed}`), 'ERR_RATELIMIT_CLOSED');
  assert.equal(await run(`${start} console.log(process.getActiveResourcesInfo().length <= 2)`), 'true');
});
