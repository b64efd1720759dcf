'use strict';
// What must not end the process, leak, or keep it alive. RATELIMIT_FULL=1 runs the long forms.

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { Limiter } = require('ratelimit');
const { fileName } = require('../native.js');

const FULL = process.env.RATELIMIT_FULL === '1';
const root = path.join(__dirname, '..');

/** Runs a program in a process of its own, which must end by itself and in order. */
function run(program, flags = []) {
  return new Promise((resolve, reject) => {
    const options = { cwd: root, timeout: 590_000, maxBuffer: 1 << 24 };
    execFile(process.execPath, [...flags, '-e', program], options, (error, stdout, stderr) => {
      if (error) reject(new Error(`${error.message}\n${stdout}\n${stderr}`));
      else resolve(stdout.trim());
    });
  });
}

test('keys of ten megabytes, of every kind', () => {
  const limiter = new Limiter('1/hour');
  const size = 10_000_000;
  const keys = [
    'a'.repeat(size),
    'é'.repeat(size),
    '\ud800'.repeat(size / 10),
    Buffer.alloc(size, 1),
    `${'a'.repeat(size)}b`,
  ];
  for (const key of keys) assert.ok(limiter.isAllowed(key) && !limiter.isAllowed(key));
  assert.ok(limiter.allowedMany(keys).every((allowed) => !allowed));
  assert.ok(limiter.allowedMany(keys.filter((key) => typeof key === 'string')).every((allowed) => !allowed));
});

test('a batch that is longer than a string may be', {
  skip: !FULL && 'needs 2 GiB of memory: RATELIMIT_FULL=1',
}, () => {
  const limiter = new Limiter('100/hour');
  const key = 'a'.repeat(10_000_000);
  assert.equal(limiter.allowedMany(Array(101).fill(key)).filter(Boolean).length, 100);
});

/** A copy of the package with the addon that panics on demand. */
async function packageThatPanics() {
  const { build, hasSources } = await import('../scripts/build.mjs');
  if (!hasSources()) return undefined;
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ratelimit-node-'));
  for (const file of fs.readdirSync(root).filter((name) => /\.(js|json)$/.test(name))) {
    fs.copyFileSync(path.join(root, file), path.join(folder, file));
  }
  fs.cpSync(path.join(root, 'lib'), path.join(folder, 'lib'), { recursive: true });
  build(path.join(folder, fileName), ['test-hooks']);
  return folder;
}

test('a panic in any entry is an error, and everything goes on', async (t) => {
  const folder = await packageThatPanics();
  if (folder === undefined) return t.skip('the sources to build the addon that panics are not here');
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const { native, short } = require(path.join(folder, 'lib', 'core.js'));
  const { Limiter: Fragile, RateLimitError } = require(path.join(folder, 'index.js'));
  const handle = new native.Handle(['limits'], ['5/hour']);
  const fields = new native.HeaderFields(handle, null, true, null, false, null);
  const rules = new native.RulesHandle('[[rule]]\nname = "one"\nby = ["ip"]\nlimits = "5/hour"\n', [], []);
  const proxies = new native.Proxies('10.0.0.0/8', 'x-forwarded-for', 64);
  const [names, values] = [['ip'], ['1.2.3.4']];
  const numbers = [1, 5, 4, 0, 0];
  const out = new Uint8Array(1);
  const lengths = new Uint32Array([1]);
  const number = handle.number();
  const entries = {
    native: {
      version: () => native.version(),
      errorCodes: () => native.errorCodes(),
      options: () => native.options(),
      clusterOptions: () => native.clusterOptions(),
      addressKey: () => native.addressKey('1.2.3.4', 64),
      unshare: () => native.unshare('nobody'),
      keyText: () => native.keyText('a'),
      init: () => native.init(RateLimitError),
      writeLastSnapshots: () => native.writeLastSnapshots(),
      Handle: () => new native.Handle(['limits'], ['5/hour']),
      HeaderFields: () => new native.HeaderFields(handle, null, true, null, false, null),
      RulesHandle: () => new native.RulesHandle('', [], []),
      Proxies: () => new native.Proxies('', 'x-forwarded-for', 64),
    },
    RulesHandle: {
      check: () => rules.check(names, values, 1, undefined, false),
      refund: () => rules.refund(names, values, 1),
      reset: () => rules.reset(names, values),
      replace: () => rules.replace(''),
      setOverride: () => rules.setOverride('one', 'a', null),
      stats: () => rules.stats(),
      prometheus: () => rules.prometheus(),
      snapshot: () => rules.snapshot(),
      close: () => rules.close(),
    },
    Proxies: { headerName: () => proxies.headerName(), clientIp: () => proxies.clientIp('1.2.3.4', []) },
    Handle: {
      number: () => handle.number(),
      refund: () => handle.refund('a', 1),
      reset: () => handle.reset('a'),
      block: () => handle.block('a', 0),
      limits: () => handle.limits(),
      setLimits: () => handle.setLimits('5/hour'),
      setOverride: () => handle.setOverride('a', null),
      clearOverrides: () => handle.clearOverrides(),
      peers: () => handle.peers(),
      isReady: () => handle.isReady(),
      mayBecomeReady: () => handle.mayBecomeReady(),
      statsNames: () => handle.statsNames(),
      statsValues: () => handle.statsValues(),
      prometheus: () => handle.prometheus(),
      snapshot: () => handle.snapshot(),
      close: () => handle.close(),
    },
    HeaderFields: { fields: () => fields.fields(numbers), problem: () => fields.problem(numbers) },
    short: {
      isAllowed: () => short.isAllowed(number, 'a'),
      check: () => short.check(number, 'a', 1),
      checkAt: () => short.checkAt(number, 'a', 1, 0, false),
      allowedMany: () => short.allowedMany(number, 'a', lengths, 1, out),
      checkMany: () => short.checkMany(number, 'a', lengths, 1, undefined, new Float64Array(5)),
      attempt: () => short.attempt(number, 'a', 1, undefined, false),
    },
  };
  // No entry is missing here.
  const methods = (object) =>
    Object.getOwnPropertyNames(object)
      .filter((name) => name !== 'constructor')
      .sort();
  const hooks = ['panicNext', 'emptyFunction'];
  assert.deepEqual(
    methods(native).filter((name) => !hooks.includes(name)),
    Object.keys(entries.native).sort(),
  );
  assert.deepEqual(methods(native.Handle.prototype), Object.keys(entries.Handle).sort());
  assert.deepEqual(methods(native.RulesHandle.prototype), Object.keys(entries.RulesHandle).sort());
  assert.deepEqual(methods(native.Proxies.prototype), Object.keys(entries.Proxies).sort());
  assert.deepEqual(methods(native.HeaderFields.prototype), Object.keys(entries.HeaderFields).sort());
  assert.deepEqual(Object.keys(short), Object.keys(entries.short));
  let count = 0;
  for (const [where, calls] of Object.entries(entries)) {
    for (const [name, call] of Object.entries(calls)) {
      native.panicNext();
      assert.throws(
        call,
        (error) =>
          error instanceof RateLimitError && error.code === 'ERR_RATELIMIT_INTERNAL' && /injected/.test(error.message),
        `${where}.${name}`,
      );
      count++;
    }
  }
  t.diagnostic(`${count} entries`);
  assert.ok(short.isAllowed(number, 'b'), 'a limiter goes on after all of that');
  const limiter = new Fragile('1/hour');
  native.panicNext();
  await assert.rejects(limiter.acquire('a'), { code: 'ERR_RATELIMIT_INTERNAL' });
  assert.ok(limiter.isAllowed('a') && !limiter.isAllowed('a'));
});

test('what is shipped cannot be made to panic', () => {
  const { native } = require('../lib/core.js');
  assert.equal(native.panicNext, undefined);
  assert.equal(native.emptyFunction, undefined);
});

test('numbers of limiters that are gone name nothing, and are given out again', () => {
  return run(
    `const { native, short } = require('./lib/core.js');
     const open = () => new native.Handle(['limits'], ['1/hour']);
     const closed = (number) => {
       try { short.isAllowed(number, 'a'); } catch (error) { return error.code === 'ERR_RATELIMIT_CLOSED'; }
       return false;
     };
     for (const number of [-1, 0.5, 2 ** 32, 1e9, NaN, 'a', undefined, {}]) {
       if (!closed(number)) throw new Error('a limiter has the number ' + String(number));
     }
     (function () { for (let i = 0; i < 100; i++) open(); })();
     global.gc();
     setTimeout(() => {
       global.gc();
       setImmediate(() => {
         if (!closed(50)) throw new Error('a limiter that is gone has a number');
         const kept = open();
         if (kept.number() >= 100) throw new Error('numbers are not given out again');
         if (!short.isAllowed(kept.number(), 'a')) throw new Error('its number is not its own');
       });
     }, 50);`,
    ['--expose-gc'],
  );
});

test('limiters that are opened and closed, or forgotten, leave nothing', async (t) => {
  const rounds = FULL ? 1_000_000 : 6_000;
  const result = await run(
    `const { Limiter } = require('ratelimit');
     const turn = () => new Promise((resolve) => setImmediate(resolve));
     let before = 0;
     async function all(rounds, close) {
       for (let i = 0; i < rounds; i++) {
         const limiter = new Limiter('1/hour');
         limiter.isAllowed('a');
         if (close) limiter.close();
         if (i % 250 === 0) { global.gc(); await turn(); }
       }
       global.gc(); await turn(); await turn(); global.gc();
     }
     (async () => {
       await all(1000, true); await all(1000, false);
       const before = process.memoryUsage.rss();
       await all(${rounds}, true); await all(${rounds / 10}, false);
       console.log((process.memoryUsage.rss() - before) / ${rounds});
     })()`,
    ['--expose-gc'],
  );
  t.diagnostic(`${result} bytes for each of ${rounds} rounds`);
  // One leaked limiter keeps at least the 64 KiB of its first tier, of which a page or two are touched.
  assert.ok(Number(result) < 1000, `${result} bytes for each round`);
});

test('workers load and unload the addon', async (t) => {
  const rounds = FULL ? 1000 : 60;
  // The main thread never loads it, so that it would be unloaded with the last worker; several run at once.
  const result = await run(
    `const { Worker } = require('node:worker_threads');
     const work = \`
       const { Limiter } = require('ratelimit');
       const { workerData } = require('node:worker_threads');
       const limiter = new Limiter({ limits: '1/hour', maxKeys: 1000 });
       for (let i = 0; i < 1000; i++) limiter.isAllowed('key ' + i);
       limiter.allowedMany(['a', 'b']); limiter.check('a'); limiter.stats();
       try { limiter.isAllowed(); throw new Error('no error'); } catch (error) { if (error.number !== 10) throw error; }
       const kind = workerData % 8;
       if (kind === 1 || kind === 5) limiter.acquire('a').catch(() => {});           // a timer that still runs
       if (kind === 1 || kind === 2 || kind === 5) setImmediate(() => process.exit(0));
       if (kind === 3) limiter.close();
       if (kind === 7) { for (;;) limiter.isAllowed('spinning'); }
     \`;
     let started = 0, ended = 0;
     function one() {
       if (started === ${rounds}) return;
       const number = started++;
       const worker = new Worker(work, { eval: true, workerData: number });
       if (number % 8 === 7) worker.once('online', () => setTimeout(() => worker.terminate(), 30));
       worker.once('error', (error) => { console.error(error); process.exit(1); });
       worker.once('exit', () => { ended++; one(); });
     }
     for (let i = 0; i < 4; i++) one();
     process.once('exit', () => console.log(ended));`,
  );
  assert.equal(result, String(rounds));
  t.diagnostic(`${rounds} rounds`);
});

test('16 workers decide while their limiters are closed', async () => {
  const result = await run(
    `const { Worker, isMainThread } = require('node:worker_threads');
     const { Limiter } = require('ratelimit');
     const work = \`
       const { Limiter } = require('ratelimit');
       const { parentPort } = require('node:worker_threads');
       let closed = 0;
       for (let round = 0; round < 20; round++) {
         const limiter = new Limiter('1000000/s');
         for (let i = 0; i < 2000; i++) {
           if (i === 1000) limiter.close();
           try { limiter.isAllowed('key ' + i); } catch (error) {
             if (error.code !== 'ERR_RATELIMIT_CLOSED') throw error;
             closed++;
           }
         }
       }
       parentPort.postMessage(closed);
     \`;
     let sum = 0;
     for (let i = 0; i < 16; i++) {
       const worker = new Worker(work, { eval: true });
       worker.on('message', (closed) => { sum += closed; });
       worker.on('error', (error) => { console.error(error); process.exit(1); });
     }
     process.once('exit', () => console.log(sum));`,
  );
  assert.equal(result, String(16 * 20 * 1000));
});

test('two copies of the package in one process do not disturb each other', () => {
  const first = require('ratelimit');
  for (const file of Object.keys(require.cache))
    if (file.startsWith(root) && !file.includes('node_modules')) delete require.cache[file];
  const second = require('ratelimit');
  assert.notEqual(first.Limiter, second.Limiter);
  for (let i = 0; i < 3; i++) {
    assert.equal(new first.Limiter('7/s').check('a').limit, 7);
    assert.equal(new second.Limiter('8/s').check('a').limit, 8);
  }
  assert.throws(() => new first.Limiter('x'), { code: 'ERR_RATELIMIT_INVALID_LIMIT' });
  assert.throws(() => new second.Limiter('x'), second.RateLimitError);
});

test('nothing is left of a process that exits in the middle', () =>
  run("const { Limiter } = require('ratelimit'); global.l = new Limiter('1/hour'); l.isAllowed('a'); process.exit(0)"));
