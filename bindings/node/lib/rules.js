'use strict';
// Limits by other criteria than one key.

const { native, misuse, refuseOthers } = require('./core.js');

/** Names and values of attributes that are there. */
function pairs(attributes) {
  if (attributes === null || typeof attributes !== 'object' || Array.isArray(attributes)) {
    throw misuse('argument', 'attributes take an object of names and values');
  }
  const names = Object.keys(attributes).filter((name) => attributes[name] !== undefined && attributes[name] !== null);
  return [names, names.map((name) => attributes[name])];
}

function told(decision) {
  // The compiled part leaves out what is nothing.
  return { ...decision, rule: decision.rule ?? null, shadow: decision.shadow ?? null };
}

class Rules {
  #handle;

  constructor(text, options = {}) {
    if (options === null || typeof options !== 'object') throw misuse('argument', 'Rules takes an object of options');
    const names = Object.keys(options);
    this.#handle = new native.RulesHandle(
      text,
      names,
      names.map((name) => options[name]),
    );
  }

  check(attributes, cost = 1, options = {}) {
    refuseOthers(options, ['nowMs'], 'check');
    return told(this.#handle.check(...pairs(attributes), cost, options.nowMs, true));
  }

  isAllowed(attributes) {
    return this.check(attributes).allowed;
  }

  peek(attributes, cost = 1) {
    return told(this.#handle.check(...pairs(attributes), cost, undefined, false));
  }

  refund(attributes, cost = 1) {
    this.#handle.refund(...pairs(attributes), cost);
  }

  reset(attributes) {
    this.#handle.reset(...pairs(attributes));
  }

  replace(text) {
    this.#handle.replace(text);
  }

  setOverride(rule, value, limits) {
    const list = limits === null || limits === undefined ? [] : [limits].flat();
    this.#handle.setOverride(rule, value, list);
  }

  stats() {
    return Object.fromEntries(this.#handle.stats().map(({ name, ...counts }) => [name, counts]));
  }

  prometheus() {
    return this.#handle.prometheus();
  }

  snapshot() {
    this.#handle.snapshot();
  }

  close() {
    this.#handle.close();
  }
}

module.exports = { Rules };
