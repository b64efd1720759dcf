// Ours, rate-limiter-flexible and express-rate-limit in one run: alternating rounds, medians, ratios.
//
//   cd benches/node && npm install && node bench.mjs [--rounds N] [--keys N]
//
// Fair: one limit for all, never reached, so that admissions are admissions; keys are prepared beforehand, flat, and the same
// for all; the store of express-rate-limit is asked as its middleware asks it, without the middleware's own work.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { MemoryStore } from 'express-rate-limit';
import { RateLimiterMemory } from 'rate-limiter-flexible';

const require = createRequire(import.meta.url);
const here = path.dirname(fileURLToPath(import.meta.url));
const binding = path.resolve(here, '../../bindings/node');
const argument = (name, otherwise) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
};
const ROUNDS = argument('--rounds', 801);
const KEYS = argument('--keys', 1024);
// A slice is shorter than what the system gives a process at once: on a busy machine most are undisturbed.
const CALLS = 4_000;
const WARM_UP = 100;

const { Limiter } = require(binding);

/** The addon with a function that does nothing but read its string: the floor for any addon. */
async function emptyNative() {
  const { build } = await import(pathToFileURL(path.join(binding, 'scripts/build.mjs')));
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ratelimit-bench-'));
  const file = path.join(folder, 'hooks.node');
  build(file, ['test-hooks']);
  process.once('exit', () => fs.rmSync(folder, { recursive: true }));
  return require(file).emptyFunction();
}
const empty = await emptyNative();

const keys = Array.from({ length: KEYS }, (_, i) => `client-${1_000_000_000 + i * 7919}-abcdef`);
for (const key of keys) Buffer.from(key); // flattens what was concatenated
const batches = [];
for (let i = 0; i + 1000 <= keys.length; i += 1000) batches.push(keys.slice(i, i + 1000));
const mask = (count) => {
  if ((count & (count - 1)) !== 0) throw new Error('--keys takes a power of two');
  return count - 1;
};
const MASK = mask(KEYS);

const limiter = new Limiter({ limits: '1000000/s burst 1000000000', maxKeys: Math.max(KEYS, 1000) });
const coarse = new Limiter({ limits: '1000000/s burst 1000000000', maxKeys: Math.max(KEYS, 1000), clock: 'coarse' });
const flexible = new RateLimiterMemory({ points: 1e9, duration: 3600 });
const store = new MemoryStore();
store.init({ windowMs: 3_600_000 });
const out = new Uint8Array(1000);

// Each contender is a loop of its own, so that the engine specialises it for that one.
const contenders = {
  'empty native function(string)': () => {
    for (let i = 0; i < CALLS; i++) empty(keys[i & MASK]);
    return CALLS;
  },
  'ratelimit isAllowed(string)': () => {
    let allowed = 0;
    for (let i = 0; i < CALLS; i++) if (limiter.isAllowed(keys[i & MASK])) allowed++;
    if (allowed !== CALLS) throw new Error(`${allowed} allowed`);
    return CALLS;
  },
  'ratelimit isAllowed(string), coarse clock': () => {
    let allowed = 0;
    for (let i = 0; i < CALLS; i++) if (coarse.isAllowed(keys[i & MASK])) allowed++;
    if (allowed !== CALLS) throw new Error(`${allowed} allowed`);
    return CALLS;
  },
  'ratelimit check(string)': () => {
    let allowed = 0;
    for (let i = 0; i < CALLS; i++) if (limiter.check(keys[i & MASK]).allowed) allowed++;
    if (allowed !== CALLS) throw new Error(`${allowed} allowed`);
    return CALLS;
  },
  'ratelimit allowedMany(1,000 strings)': () => {
    let calls = 0;
    while (calls < CALLS) for (const batch of batches) calls += limiter.allowedMany(batch).length;
    return calls;
  },
  'ratelimit allowedMany(1,000 strings, Uint8Array)': () => {
    let calls = 0;
    while (calls < CALLS) {
      for (const batch of batches) {
        limiter.allowedMany(batch, out);
        calls += batch.length;
      }
    }
    return calls;
  },
  'ratelimit checkMany(1,000 strings)': () => {
    let calls = 0;
    while (calls < CALLS) for (const batch of batches) calls += limiter.checkMany(batch).length;
    return calls;
  },
  'express-rate-limit MemoryStore.increment, awaited': async () => {
    let hits = 0;
    for (let i = 0; i < CALLS; i++) if ((await store.increment(keys[i & MASK])).totalHits < 1e9) hits++;
    if (hits !== CALLS) throw new Error(`${hits} hits`);
    return CALLS;
  },
  'rate-limiter-flexible consume, awaited': async () => {
    let allowed = 0;
    for (let i = 0; i < CALLS; i++) if ((await flexible.consume(keys[i & MASK])).remainingPoints >= 0) allowed++;
    if (allowed !== CALLS) throw new Error(`${allowed} allowed`);
    return CALLS;
  },
};

/** In an order that looks random and is the same in each run. */
let state = 1;
function shuffled(list) {
  const left = [...list];
  return list.map(() => {
    state = (state * 48_271) % 2_147_483_647;
    return left.splice(state % left.length, 1)[0];
  });
}

const names = Object.keys(contenders);
const times = Object.fromEntries(names.map((name) => [name, []]));
for (let round = -WARM_UP; round < ROUNDS; round++) {
  // Another order each round: a contender that always ran after one that uses the same memory would find it warm.
  for (const name of shuffled(names)) {
    const start = process.hrtime.bigint();
    const calls = await contenders[name]();
    const ns = Number(process.hrtime.bigint() - start) / calls;
    if (round >= 0) times[name].push(ns);
  }
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const ratio = (a, b) => median(times[a].map((ns, round) => ns / times[b][round]));
const [EMPTY, SINGLE, , , MANY, , , STORE, FLEXIBLE] = names;

console.log(`Node.js ${process.version}, ${os.cpus()[0].model}, ${KEYS} keys of ${keys[0].length} bytes, ${ROUNDS} rounds\n`);
console.log('| call | ns | 10 %..90 % | of an empty native function | of express-rate-limit | of rate-limiter-flexible |');
console.log('|---|---:|---:|---:|---:|---:|');
for (const name of names) {
  const sorted = [...times[name]].sort((a, b) => a - b);
  const cells = [EMPTY, STORE, FLEXIBLE].map((other) => ratio(name, other).toFixed(2));
  console.log(
    `| ${name} | ${median(sorted).toFixed(1)} | ${sorted[Math.floor(ROUNDS / 10)].toFixed(1)}..${sorted[Math.floor((9 * ROUNDS) / 10)].toFixed(1)} | ${cells.join(' | ')} |`,
  );
}

console.log('\n| bar | reached | |');
console.log('|---|---:|---|');
function bar(what, most, reached) {
  console.log(`| ${what}: at most ${most.toFixed(2)} | ${reached.toFixed(2)} | ${reached <= most ? 'met' : 'missed'} |`);
}
bar('isAllowed, of rate-limiter-flexible in memory', 0.5, ratio(SINGLE, FLEXIBLE));
bar("isAllowed, of express-rate-limit's MemoryStore", 1, ratio(SINGLE, STORE));
bar('allowedMany per key, of isAllowed', 0.5, ratio(MANY, SINGLE));
bar('allowedMany per key into a Uint8Array, of isAllowed', 0.5, ratio(names[5], SINGLE));
process.exit(0);
