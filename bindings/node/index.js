'use strict';

const { native, decision, errorCodes, misuse, refuseOthers } = require('./lib/core.js');
const { AbortError, RateLimitError } = require('./lib/error.js');
const { Waiters } = require('./lib/waiters.js');

/** Batches of up to so many keys need no new memory. */
const KEPT_KEYS = 4096;
const keptLengths = new Uint32Array(KEPT_KEYS);
const keptAnswers = new Uint8Array(KEPT_KEYS);

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

/** All keys as one string, and its parts' lengths in `lengths`: cheaper than handing over an array. Nothing if it cannot be. */
function joined(keys, lengths) {
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i];
    if (typeof key !== 'string') return undefined;
    lengths[i] = key.length;
  }
  try {
    return keys.join('');
  } catch {
    // Longer than a string may be.
    return undefined;
  }
}

function handOver(keys) {
  if (!Array.isArray(keys)) throw misuse('argument', 'keys takes an array of keys');
  const count = keys.length;
  const lengths = count <= KEPT_KEYS ? keptLengths.subarray(0, count) : new Uint32Array(count);
  return [joined(keys, lengths) ?? keys, lengths];
}

class Limiter {
  #handle;
  #isAllowed;
  #check;
  #checkAt;
  #allowedMany;
  #checkMany;
  #attempt;
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
    const handle = new native.Handle(
      names,
      names.map((name) => given[name]),
    );
    this.#handle = handle;
    [this.#isAllowed, this.#check, this.#checkAt, this.#allowedMany, this.#checkMany, this.#attempt] = handle.bound();
  }

  isAllowed(key) {
    return this.#isAllowed(key);
  }

  check(key, cost = 1, options) {
    if (options === undefined) this.#check(key, cost);
    else this.#checkAt(key, cost, timeOf(options, 'check'), false);
    return told();
  }

  peek(key, cost = 1, options) {
    this.#checkAt(key, cost, timeOf(options, 'peek'), true);
    return told();
  }

  checkMany(keys, costs) {
    const [text, lengths] = handOver(keys);
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
    this.#checkMany(text, lengths, prices, numbers);
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
    const [text, lengths] = handOver(keys);
    if (out !== undefined) {
      this.#allowedMany(text, lengths, out);
      return out;
    }
    const count = keys.length;
    const answers = count <= KEPT_KEYS ? keptAnswers : new Uint8Array(count);
    this.#allowedMany(text, lengths, answers);
    const allowed = new Array(count);
    for (let i = 0; i < count; i++) allowed[i] = answers[i] === 1;
    return allowed;
  }

  acquire(key, cost = 1, options = {}) {
    try {
      refuseOthers(options, ['timeoutMs', 'signal'], 'acquire');
      const { timeoutMs, signal } = options;
      if (signal !== undefined && !(signal instanceof AbortSignal)) {
        throw misuse('argument', 'signal takes an AbortSignal');
      }
      if (signal?.aborted) return Promise.reject(new AbortError(signal.reason));
      this.#waiters ??= new Waiters(this.#attempt, native.keyText);
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

  snapshot() {
    this.#handle.snapshot();
  }

  close() {
    this.#handle.close();
    this.#waiters?.close(misuse('closed', 'the limiter was closed while this request waited'));
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

module.exports = { Limiter, RateLimitError, errorCodes, version: native.version() };
