'use strict';
// Rules: conversions, errors, and what each call does. The semantics are tested in Rust.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { Rules } = require('ratelimit');

const text = `
[[rule]]
name = "login"
when = { path = { prefix = "/login" } }
by = ["ip"]
limits = "2/hour"
[rule.tiers.tier]
gold = "3/hour"
`;

test('a rule binds and says so', () => {
  const rules = new Rules(text);
  const login = { ip: '192.0.2.7', path: '/login', unknown: 5, tier: undefined };
  const first = rules.check(login, 1, { nowMs: 0 });
  assert.deepEqual(first, {
    allowed: true,
    limit: 2,
    remaining: 1,
    retryAfterMs: 0,
    resetAfterMs: 1_800_000,
    rule: 'login',
    shadow: null,
  });
  assert.ok(rules.check({ ip: Buffer.from('192.0.2.7'), path: '/login' }, 1, { nowMs: 0 }).allowed);
  const denied = rules.check(login, 1, { nowMs: 0 });
  assert.deepEqual([denied.allowed, denied.retryAfterMs, denied.rule], [false, 1_800_000, 'login']);
  assert.equal(rules.check(login, 3, { nowMs: 0 }).retryAfterMs, Number.POSITIVE_INFINITY);
  const free = rules.check({ path: '/' });
  assert.deepEqual([free.allowed, free.rule, free.remaining], [true, null, Number.POSITIVE_INFINITY]);
  assert.deepEqual(rules.stats(), { login: { shadow: false, allowed: 2, denied: 2, wouldDeny: 0 } });
  assert.match(rules.prometheus(), /ratelimit_rule_decisions_total\{rule="login",outcome="denied"\} 2/);
});

test('changes at run time', () => {
  const rules = new Rules(text);
  const login = { ip: 7, path: '/login' };
  const burst = (attributes) => {
    let count = 0;
    while (count < 10 && rules.isAllowed(attributes)) count++;
    return count;
  };
  assert.ok(rules.isAllowed(login));
  // Half of the burst is spent, of the other limit too.
  rules.replace(text.replace('2/hour', '4/hour'));
  assert.equal(burst(login), 2);
  rules.refund(login);
  assert.equal(burst(login), 1);
  rules.reset(login);
  assert.equal(rules.peek(login).remaining, 4);
  rules.setOverride('login', '8', ['1/hour', '5/day']);
  assert.equal(burst({ ip: 8, path: '/login' }), 1);
  rules.setOverride('login', '8', null);
  assert.equal(rules.peek({ ip: 8, path: '/login' }).limit, 4);
});

test('wrong things say what to do', () => {
  assert.throws(() => new Rules('\n[[rule]]\n'), { code: 'ERR_RATELIMIT_OPTION', message: /line 2: .*name/ });
  assert.throws(() => new Rules(text, { limits: '1/s' }), /leave the options out/);
  assert.throws(() => new Rules(text, { maxKyes: 5 }), /there is no option/);
  assert.throws(() => new Rules(5), /the rules is 5: it takes a text/);
  const rules = new Rules(text);
  assert.throws(() => rules.check([]), /attributes take an object/);
  assert.throws(() => rules.check({ ip: {} }), { code: 'ERR_RATELIMIT_ARGUMENT' });
  assert.throws(() => rules.setOverride('log', '8', null), /there is no rule "log"/);
  rules.close();
  rules.close();
  assert.throws(() => rules.check({}), { code: 'ERR_RATELIMIT_CLOSED' });
});

test('counts survive in a snapshot', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ratelimit-rules-'));
  try {
    const file = path.join(folder, 'rules.snapshot');
    const login = { ip: 'a', path: '/login' };
    const rules = new Rules(text, { path: file });
    assert.ok(rules.isAllowed(login));
    rules.close();
    const again = new Rules(text, { path: file });
    assert.equal(again.peek(login).remaining, 1);
    again.close();
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
});
