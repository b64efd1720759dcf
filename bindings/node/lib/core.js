'use strict';
// The compiled part, set up for this environment.

const { load } = require('../native.js');
const { RateLimitError } = require('./error.js');

const native = load();

const [buffer, isAllowed, check, checkAt, allowedMany, checkMany, attempt] = native.init(RateLimitError);

/** Five numbers: where the compiled part writes a decision. It must not leave these files. */
const decision = new Float64Array(buffer);
/** Calls that know a limiter by its number. */
const short = { isAllowed, check, checkAt, allowedMany, checkMany, attempt };

const errorCodes = [];
const table = native.errorCodes();
for (let i = 0; i < table.length; i += 3) {
  const [number, name, meaning] = table.slice(i, i + 3);
  errorCodes.push(
    Object.freeze({ number: Number(number), name, code: `ERR_RATELIMIT_${name.toUpperCase()}`, meaning }),
  );
}
Object.freeze(errorCodes);

/** An error that is found on this side, with the number of its name. */
function misuse(name, sentence) {
  return new RateLimitError(sentence, name, errorCodes.find((error) => error.name === name).number);
}

/** Refuses names in an object of options that are not among those that exist. */
function refuseOthers(options, names, what) {
  if (options === null || typeof options !== 'object') {
    throw misuse('argument', `${what} takes an object with ${names.join(', ')}`);
  }
  for (const name in options) {
    if (!names.includes(name)) {
      throw misuse('option', `${what} has no option "${name}": the options are ${names.join(', ')}`);
    }
  }
}

module.exports = { native, short, decision, errorCodes, misuse, refuseOthers };
