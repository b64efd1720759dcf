'use strict';

const { native, short, decision, errorCodes, misuse, refuseOthers } = require('./lib/core.js');
const { TrustedProxies, clientIp } = require('./lib/client-ip.js');
const { AbortError, RateLimitError } = require('./lib/error.js');
const { Rules } = require('./lib/rules.js');
const { Waiters } = require('./lib/waiters.js');

const { isAllowed, check, checkAt, allowedMany, checkMany, attempt } = short;

/** Batches of up to so many keys need no new memory. */
const KEPT_KEYS = 4096;
/** How often one who waits for the cluster looks. */
const READY_LOOK_MS = 20;
const keptLengths = new Uint32Array(KEPT_KEYS);
const keptAnswers = new Uint8Array(KEPT_KEYS);

let writesAtExit = false;

/** `process.exit()` collects nothing: what is to be written last is written by the event before it. */
function writeAtExit() {
  if (writesAtExit) return;
  writesAtExit = true;
  process.once('exit', () => native.writeLastSnapshots());
}

function told() {
  return {
    allowed: decision[0] === 1,
    limit: decision[1],
    remaining: decision[2],
    retryAfterMs: decision[3],
    resetAfterMs: decision[4],
  };
}

function timeOf(options, what) {
  if (options === undefined) return undefined;
  refuseOthers(options, ['nowMs'], what);
  return options.nowMs;
}

/**
 * Keys as the compiled part takes them: all as one string, with their lengths, which is cheaper than an array; or the array, if
 * they are not all strings, or too long together.
 */
function handOver(keys, lengths) {
  let all = '';
  try {
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i];
      if (typeof key !== 'string') return keys;
      lengths[i] = key.length;
      // Copies nothing yet: the engine does so once, when the string is read.
      all += key;
    }
  } catch {
    // Longer than a string may be; or the caller's array threw, and will again.
    return keys;
  }
  return all;
}

function roomFor(keys) {
  if (!Array.isArray(keys)) throw misuse('argument', 'keys takes an array of keys');
  return keys.length <= KEPT_KEYS ? keptLengths : new Uint32Array(keys.length);
}

function booleans(answers, count) {
  const all = new Array(count);
  for (let i = 0; i < count; i++) all[i] = answers[i] === 1;
  return all;
}

class Limiter {
  #handle;
  /** How the short calls know it: good for as long as the handle is. */
  #number;
  #waiters;

  constructor(options) {
    let given = options;
    if (typeof given === 'string' || Array.isArray(given)) given = { limits: given };
    if (given === null || typeof given !== 'object') {
      throw misuse(
        'argument',
        'Limiter takes an object of options, a text like "100/minute", or an array of such texts',
      );
    }
    const names = Object.keys(given);
    this.#handle = new native.Handle(
      names,
      names.map((name) => given[name]),
    );
    this.#number = this.#handle.number();
    if (typeof given.path === 'string' || given.cluster) writeAtExit();
  }

  isAllowed(key) {
    return isAllowed(this.#number, key);
  }

  check(key, cost = 1, options) {
    if (options === undefined) check(this.#number, key, cost);
    else checkAt(this.#number, key, cost, timeOf(options, 'check'), false);
    return told();
  }

  peek(key, cost = 1, options) {
    checkAt(this.#number, key, cost, timeOf(options, 'peek'), true);
    return told();
  }

  checkMany(keys, costs) {
    const lengths = roomFor(keys);
    const text = handOver(keys, lengths);
    let prices;
    if (costs !== undefined && costs !== null) {
      if (!Array.isArray(costs) && !ArrayBuffer.isView(costs)) {
        throw misuse('argument', 'costs takes an array of whole numbers, one for each key');
      }
      prices = new Float64Array(costs.length);
      for (let i = 0; i < costs.length; i++) prices[i] = typeof costs[i] === 'number' ? costs[i] : Number.NaN;
    }
    const count = keys.length;
    const numbers = new Float64Array(count * decision.length);
    checkMany(this.#number, text, lengths, count, prices, numbers);
    const decisions = new Array(count);
    for (let i = 0, at = 0; i < count; i++, at += decision.length) {
      decisions[i] = {
        allowed: numbers[at] === 1,
        limit: numbers[at + 1],
        remaining: numbers[at + 2],
        retryAfterMs: numbers[at + 3],
        resetAfterMs: numbers[at + 4],
      };
    }
    return decisions;
  }

  allowedMany(keys, out) {
    const lengths = roomFor(keys);
    const count = keys.length;
    const text = handOver(keys, lengths);
    if (out !== undefined) {
      allowedMany(this.#number, text, lengths, count, out);
      return out;
    }
    const answers = count <= KEPT_KEYS ? keptAnswers : new Uint8Array(count);
    allowedMany(this.#number, text, lengths, count, answers);
    return booleans(answers, count);
  }

  acquire(key, cost = 1, options = {}) {
    try {
      refuseOthers(options, ['timeoutMs', 'signal'], 'acquire');
      const { timeoutMs, signal } = options;
      if (signal !== undefined && !(signal instanceof AbortSignal)) {
        throw misuse('argument', 'signal takes an AbortSignal');
      }
      if (signal?.aborted) return Promise.reject(new AbortError(signal.reason));
      this.#waiters ??= new Waiters((...ask) => attempt(this.#number, ...ask), native.keyText);
      // To wait for ever is to wait without a time.
      return this.#waiters.acquire(key, cost, timeoutMs === Number.POSITIVE_INFINITY ? undefined : timeoutMs, signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  refund(key, cost = 1, options) {
    this.#handle.refund(key, cost, timeOf(options, 'refund'));
    this.#waiters?.wake();
  }

  reset(key, options) {
    this.#handle.reset(key, timeOf(options, 'reset'));
    this.#waiters?.wake();
  }

  block(key, ms) {
    this.#handle.block(key, ms);
    this.#waiters?.wake();
  }

  get limits() {
    return this.#handle.limits();
  }

  setLimit(limit) {
    if (Array.isArray(limit)) throw misuse('argument', 'setLimit takes one limit: use setLimits for several');
    this.#handle.setLimits(limit);
    this.#waiters?.wake();
  }

  setLimits(limits) {
    this.#handle.setLimits(limits);
    this.#waiters?.wake();
  }

  setOverride(key, limit) {
    if (limit === undefined) {
      throw misuse('argument', 'setOverride takes a limit like "10/s", or null to take the override away');
    }
    this.#handle.setOverride(key, limit);
    this.#waiters?.wake();
  }

  clearOverrides() {
    this.#handle.clearOverrides();
    this.#waiters?.wake();
  }

  stats() {
    const values = this.#handle.statsValues();
    const stats = {};
    this.#handle.statsNames().forEach((name, i) => {
      stats[name.replace(/_(.)/g, (_, letter) => letter.toUpperCase())] = values[i];
    });
    return stats;
  }

  prometheus() {
    return this.#handle.prometheus();
  }

  peers() {
    return this.#handle.peers();
  }

  async ready(timeoutMs = Number.POSITIVE_INFINITY) {
    if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) {
      throw misuse('argument', `timeoutMs is ${String(timeoutMs)}: it takes milliseconds, a number from 0`);
    }
    const until = performance.now() + timeoutMs;
    while (!this.#handle.isReady()) {
      const left = until - performance.now();
      if (left <= 0 || !this.#handle.mayBecomeReady()) return false;
      await new Promise((resolve) => setTimeout(resolve, Math.min(left, READY_LOOK_MS)));
    }
    return true;
  }

  snapshot() {
    this.#handle.snapshot();
  }

  close() {
    this.#handle.close();
    this.#waiters?.close(misuse('closed', 'the limiter was closed while this request waited'));
  }

  static unshare(name) {
    return native.unshare(name);
  }

  /** For the middleware: what makes header fields of this limiter's decisions. */
  static headerFields(limiter, names, standard, legacy, draft6, cap) {
    return new native.HeaderFields(limiter.#handle, names, standard, legacy, draft6, cap);
  }
}

if (typeof Symbol.dispose === 'symbol') {
  Object.defineProperty(Limiter.prototype, Symbol.dispose, {
    value: Limiter.prototype.close,
    writable: true,
    configurable: true,
  });
}

module.exports = { Limiter, Rules, TrustedProxies, clientIp, RateLimitError, errorCodes, version: native.version() };
