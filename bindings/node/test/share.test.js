'use strict';
// One limit for several processes: the option `share`, and what survives a restart: `path`.

const assert = require('node:assert/strict');
const { execFileSync, fork } = require('node:child_process');
const cluster = require('node:cluster');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { Limiter } = require('ratelimit');

// Until Options::build knows an option it is refused as unsupported, and its tests wait. Nothing else is a reason to wait.
function waitsFor(options) {
  try {
    new Limiter({ limits: '1/hour', ...options }).close();
    return false;
  } catch (error) {
    if (error.code === 'ERR_RATELIMIT_UNSUPPORTED') return `waits for the option ${Object.keys(options)[0]}`;
    throw error;
  }
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ratelimit-node-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
const names = new Set();
function name(what) {
  const name = `node-test-${process.pid}-${what}`;
  names.add(name);
  return name;
}
process.on('exit', () => {
  for (const each of names) Limiter.unshare(each);
});

test('4 cluster workers with one name hold one limit exactly', {
  skip: waitsFor({ share: name('probe') }),
}, async () => {
  const limit = 1000;
  const main = path.join(folder, 'main.js');
  fs.writeFileSync(
    main,
    `const cluster = require('node:cluster');
     const { Limiter } = require(${JSON.stringify(path.join(__dirname, '..'))});
     if (cluster.isPrimary) {
       let allowed = 0, ready = 0, done = 0;
       for (let i = 0; i < 4; i++) cluster.fork();
       cluster.on('message', (_worker, message) => {
         if (message === 'ready') {
           // All decide at the same time.
           if (++ready === 4) for (const worker of Object.values(cluster.workers)) worker.send('go');
           return;
         }
         allowed += message;
         if (++done === 4) process.send(allowed, () => { cluster.disconnect(() => process.disconnect()); });
       });
     } else {
       const limiter = new Limiter({ rateLimit: ${limit}, timeWindowMs: 86_400_000, share: ${JSON.stringify(name('cluster'))} });
       process.on('message', () => {
         let allowed = 0;
         for (let i = 0; i < ${limit}; i++) if (limiter.isAllowed('a')) allowed++;
         process.send(allowed);
       });
       process.send('ready');
     }`,
  );
  const primary = fork(main, { cwd: path.join(__dirname, '..') });
  const allowed = await new Promise((resolve, reject) => {
    primary.once('message', resolve);
    primary.once('exit', (code) => reject(new Error(`ended with ${code} before its answer`)));
  });
  // While they decide, some milliseconds of refill may pass: one request comes back every 86 seconds.
  assert.ok(allowed >= limit && allowed <= limit + 1, `${allowed} of ${limit}`);
  assert.ok(cluster.isPrimary);
});

test('worker threads with one name share a table', { skip: waitsFor({ share: name('probe') }) }, async () => {
  const { Worker } = require('node:worker_threads');
  const share = name('threads');
  const limiter = new Limiter({ limits: '100/day', share });
  const allowed = await Promise.all(
    [1, 2, 3, 4].map(
      () =>
        new Promise((resolve, reject) => {
          const worker = new Worker(
            `const { Limiter } = require('ratelimit');
             const limiter = new Limiter({ limits: '100/day', share: ${JSON.stringify(share)} });
             let allowed = 0;
             for (let i = 0; i < 100; i++) if (limiter.isAllowed('a')) allowed++;
             require('node:worker_threads').parentPort.postMessage(allowed);`,
            { eval: true },
          );
          worker.once('message', resolve);
          worker.once('error', reject);
        }),
    ),
  );
  assert.equal(
    allowed.reduce((sum, each) => sum + each),
    100,
  );
  assert.equal(limiter.isAllowed('a'), false);
  limiter.close();
});

test('a name with other limits is refused, and replaced if so wished', {
  skip: waitsFor({ share: name('probe') }),
}, () => {
  const share = name('limits');
  const first = new Limiter({ limits: '100/day', share });
  assert.throws(() => new Limiter({ limits: '200/day', share }), { name: 'RateLimitError' });
  const second = new Limiter({ limits: '200/day', share, replaceLimits: true });
  assert.deepEqual(second.limits, ['200/day']);
  assert.deepEqual(first.limits, ['200/day']);
  first.close();
  second.close();
});

test('a shared table is removed by its name', { skip: waitsFor({ share: name('probe') }) }, () => {
  const share = name('removed');
  assert.equal(Limiter.unshare(share), false);
  const first = new Limiter({ limits: '1/day', share });
  assert.ok(first.isAllowed('a'));
  assert.equal(first.stats().tableIsShared, 1);
  assert.throws(() => Limiter.unshare(share), { code: 'ERR_RATELIMIT_SHARE_UNAVAILABLE' });
  first.close();
  assert.equal(Limiter.unshare(share), true);
  const second = new Limiter({ limits: '1/day', share });
  assert.ok(second.isAllowed('a'), 'a new table');
  second.close();
  assert.throws(() => Limiter.unshare('no/such name'), { code: 'ERR_RATELIMIT_SHARE_NAME' });
  assert.throws(() => Limiter.unshare(5), { code: 'ERR_RATELIMIT_ARGUMENT' });
});

test('counts survive a restart', { skip: waitsFor({ path: path.join(folder, 'probe.snapshot') }) }, () => {
  const file = path.join(folder, 'restart.snapshot');
  const before = new Limiter({ limits: '3/day', path: file, snapshotEveryMs: 60_000 });
  before.isAllowed('a');
  before.snapshot();
  before.isAllowed('a');
  before.close();
  const after = new Limiter({ limits: '3/day', path: file });
  assert.equal(after.peek('a').remaining, 1, 'close writes what came after the last snapshot');
  after.close();
});

test('a process that exits without a word leaves a last snapshot', {
  skip: waitsFor({ path: path.join(folder, 'probe.snapshot') }),
}, () => {
  const file = path.join(folder, 'exit.snapshot');
  const program = (end) =>
    `const { Limiter } = require('ratelimit');
     global.limiter = new Limiter({ limits: '3/day', path: ${JSON.stringify(file)}, snapshotEveryMs: 3_600_000 });
     console.log(limiter.check('a').remaining); ${end}`;
  const run = (end) =>
    execFileSync(process.execPath, ['-e', program(end)], {
      cwd: path.join(__dirname, '..'),
      encoding: 'utf8',
      timeout: 20_000,
    }).trim();
  assert.equal(run(''), '2');
  assert.equal(run("process.on('exit', () => limiter.isAllowed('b')); process.exit(0)"), '1');
  assert.equal(run('limiter.close()'), '0');
});

test('a worker that ends gives its file back', {
  skip: waitsFor({ path: path.join(folder, 'probe.snapshot') }),
}, async () => {
  const { Worker } = require('node:worker_threads');
  const file = path.join(folder, 'worker.snapshot');
  for (const expected of [2, 1, 0]) {
    const worker = new Worker(
      `const { Limiter } = require('ratelimit');
       const limiter = new Limiter({ limits: '3/day', path: ${JSON.stringify(file)} });
       require('node:worker_threads').parentPort.postMessage(limiter.check('a').remaining);`,
      { eval: true },
    );
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    const remaining = await new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    await ended;
    assert.equal(remaining, expected);
  }
});

test('what is wrong with a file is told', { skip: waitsFor({ path: path.join(folder, 'probe.snapshot') }) }, () => {
  const file = path.join(folder, 'busy.snapshot');
  const first = new Limiter({ limits: '3/day', path: file });
  assert.throws(() => new Limiter({ limits: '3/day', path: file }), { code: 'ERR_RATELIMIT_SNAPSHOT_BUSY' });
  first.close();
  assert.throws(() => new Limiter('1/day').snapshot(), { code: 'ERR_RATELIMIT_NOT_PERSISTENT' });
  const junk = path.join(folder, 'junk.snapshot');
  fs.writeFileSync(junk, 'junk');
  assert.throws(() => new Limiter({ limits: '3/day', path: junk, restore: 'required' }), {
    code: 'ERR_RATELIMIT_RESTORE_REQUIRED',
  });
});
