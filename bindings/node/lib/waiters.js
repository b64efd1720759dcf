'use strict';
// Those who wait for a limiter: first come, first served for each key, and one timer for all.

const { AbortError } = require('./error.js');

/** The longest time that a timer of Node.js takes. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Times and what is due then, the earliest first: a binary heap. */
class Agenda {
  #entries = [];

  get size() {
    return this.#entries.length;
  }

  get next() {
    return this.#entries[0]?.at;
  }

  add(at, what) {
    const entries = this.#entries;
    let place = entries.length;
    entries.push({ at, what });
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (entries[parent].at <= entries[place].at) break;
      [entries[parent], entries[place]] = [entries[place], entries[parent]];
      place = parent;
    }
  }

  take() {
    const entries = this.#entries;
    const first = entries[0];
    const last = entries.pop();
    if (entries.length > 0) {
      entries[0] = last;
      let place = 0;
      for (;;) {
        let child = 2 * place + 1;
        if (child >= entries.length) break;
        if (child + 1 < entries.length && entries[child + 1].at < entries[child].at) child++;
        if (entries[place].at <= entries[child].at) break;
        [entries[child], entries[place]] = [entries[place], entries[child]];
        place = child;
      }
    }
    return first.what;
  }

  /** Drops what is not wanted any more. */
  keep(wanted) {
    const entries = this.#entries.filter((entry) => wanted(entry.what));
    this.#entries = [];
    for (const { at, what } of entries) this.add(at, what);
  }
}

class Waiters {
  /** `attempt(key, cost, leftMs, peek)` is the rule of waiting: 0 allowed, -1 give up, else milliseconds. */
  #attempt;
  #keyText;
  /** Queues by their key's bytes. A queue is there only as long as somebody stands in it. */
  #queues = new Map();
  #agenda = new Agenda();
  /** Entries of the agenda that are of no use any more. */
  #stale = 0;
  #timer;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(attempt, keyText) {
    this.#attempt = attempt;
    this.#keyText = keyText;
  }

  /** Resolves to whether the request was allowed, and charged. Throws for misuse. */
  acquire(key, cost, timeoutMs, signal) {
    const text = this.#queues.size > 0 ? this.#keyText(key) : undefined;
    const queue = text === undefined ? undefined : this.#queues.get(text);
    // Behind others it is only asked whether to wait makes sense, so that nobody is overtaken.
    const answer = this.#attempt(key, cost, timeoutMs, queue !== undefined);
    if (answer < 0) return Promise.resolve(false);
    if (queue === undefined && answer === 0) return Promise.resolve(true);
    return new Promise((resolve, reject) => {
      const now = performance.now();
      const waiter = {
        // The caller may write to his buffer while he waits.
        key: ArrayBuffer.isView(key) ? Buffer.from(key) : key,
        cost,
        until: timeoutMs === undefined ? Number.POSITIVE_INFINITY : now + timeoutMs,
        queue: queue ?? this.#open(text ?? this.#keyText(key)),
        hasDeadline: false,
        resolve,
        reject,
        signal,
        onAbort: undefined,
      };
      waiter.queue.waiters.add(waiter);
      if (signal !== undefined) {
        waiter.onAbort = () => {
          this.#settle(waiter, () => reject(new AbortError(signal.reason)));
          this.#serve(waiter.queue);
          this.#arm();
        };
        signal.addEventListener('abort', waiter.onAbort, { once: true });
      }
      if (queue === undefined) {
        this.#plan(waiter.queue, now + answer);
      } else if (waiter.until !== Number.POSITIVE_INFINITY) {
        waiter.hasDeadline = true;
        this.#agenda.add(waiter.until, waiter);
      }
      this.#arm();
    });
  }

  /** Something has changed that may let those who wait go on earlier. */
  wake() {
    for (const queue of [...this.#queues.values()]) this.#serve(queue);
    this.#arm();
  }

  /** The limiter is closed. */
  close(error) {
    for (const queue of [...this.#queues.values()]) {
      for (const waiter of [...queue.waiters]) this.#settle(waiter, () => waiter.reject(error));
    }
    this.#arm();
  }

  #open(text) {
    const queue = { text, waiters: new Set(), at: Number.POSITIVE_INFINITY };
    this.#queues.set(text, queue);
    return queue;
  }

  #plan(queue, at) {
    if (queue.at !== Number.POSITIVE_INFINITY) this.#stale++;
    queue.at = at;
    this.#agenda.add(at, { queue, at });
  }

  #settle(waiter, answer) {
    const { queue, signal } = waiter;
    if (!queue.waiters.delete(waiter)) return;
    if (waiter.hasDeadline) this.#stale++;
    if (queue.waiters.size === 0) {
      this.#queues.delete(queue.text);
      if (queue.at !== Number.POSITIVE_INFINITY) this.#stale++;
      queue.at = Number.POSITIVE_INFINITY;
    }
    signal?.removeEventListener('abort', waiter.onAbort);
    answer();
  }

  /** Asks for the first of a queue, and for the next ones as long as they are allowed. */
  #serve(queue) {
    for (const waiter of queue.waiters) {
      const now = performance.now();
      const left = waiter.until === Number.POSITIVE_INFINITY ? undefined : Math.max(0, waiter.until - now);
      let answer;
      try {
        answer = this.#attempt(waiter.key, waiter.cost, left, false);
      } catch (error) {
        this.#settle(waiter, () => waiter.reject(error));
        continue;
      }
      if (answer > 0) {
        this.#plan(queue, now + answer);
        return;
      }
      this.#settle(waiter, () => waiter.resolve(answer === 0));
    }
  }

  #isWanted = (what) =>
    what.queue.waiters.has(what) || (what.at !== undefined && what.queue.at === what.at && what.queue.waiters.size > 0);

  #due() {
    this.#timer = undefined;
    this.#timerAt = Number.POSITIVE_INFINITY;
    const now = performance.now();
    while (this.#agenda.next <= now) {
      const what = this.#agenda.take();
      if (!this.#isWanted(what)) {
        this.#stale--;
      } else if (what.at !== undefined) {
        what.queue.at = Number.POSITIVE_INFINITY;
        this.#serve(what.queue);
      } else {
        // His time is up, and others are before him still.
        what.hasDeadline = false;
        this.#settle(what, () => what.resolve(false));
      }
    }
    this.#arm();
  }

  #arm() {
    if (this.#stale > 64 && this.#stale * 2 > this.#agenda.size) {
      this.#agenda.keep(this.#isWanted);
      this.#stale = 0;
    }
    const next = this.#queues.size > 0 ? this.#agenda.next : undefined;
    if (next === this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerAt = Number.POSITIVE_INFINITY;
    // With nobody waiting there is no timer, so that nothing keeps the process alive.
    if (next === undefined) return;
    this.#timerAt = next;
    const wait = Math.min(Math.max(1, Math.ceil(next - performance.now())), LONGEST_TIMER_MS);
    this.#timer = setTimeout(() => this.#due(), wait);
  }
}

module.exports = { Waiters };
