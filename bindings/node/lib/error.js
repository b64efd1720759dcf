'use strict';

/**
 * What is raised at once for misuse. A denial is never an error.
 *
 * Its sentence comes from Rust, its code from the one table of errors: `code` is the name with a prefix, and `number` is the
 * same number in every language.
 */
class RateLimitError extends Error {
  constructor(message, name, number) {
    super(message);
    this.code = `ERR_RATELIMIT_${name.toUpperCase()}`;
    this.number = number;
  }
}
// As with the errors of Node.js itself, the name is not a property of each error.
Object.defineProperty(RateLimitError.prototype, 'name', {
  value: 'RateLimitError',
  writable: true,
  configurable: true,
});

/** As Node.js's own functions that take a signal reject. */
class AbortError extends Error {
  constructor(reason) {
    super('The operation was aborted', { cause: reason });
    this.code = 'ABORT_ERR';
  }
}
Object.defineProperty(AbortError.prototype, 'name', {
  value: 'AbortError',
  writable: true,
  configurable: true,
});

module.exports = { RateLimitError, AbortError };
