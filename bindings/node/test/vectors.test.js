'use strict';
// The shared test data, through the public interface: the same files that every other language runs.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { Limiter, clientIp } = require('ratelimit');

// In the repository the files themselves; in a package that was unpacked elsewhere, its copy.
const folder = [path.join(__dirname, '../../../vectors'), path.join(__dirname, '../vectors')].find((each) =>
  fs.existsSync(path.join(each, 'gcra.json')),
);

/** Reads an object and notices fields that nobody asked for. */
function reader(object, where) {
  const unread = new Set(Object.keys(object));
  return {
    take(name) {
      unread.delete(name);
      assert.ok(name in object, `${where} has no ${name}`);
      return object[name];
    },
    done() {
      assert.deepEqual([...unread], [], `${where} has fields that nobody reads`);
    },
  };
}

/** A number, or nothing for one that does not survive as a JavaScript number. */
function number(value) {
  const number = Number(value);
  return BigInt(value) === BigInt(number) ? number : undefined;
}

/** Nanoseconds as milliseconds, or nothing for a time that does not survive the way there and back. */
function milliseconds(ns) {
  const exact = number(ns);
  if (exact === undefined) return undefined;
  const ms = exact / 1e6;
  const whole = Math.trunc(ms);
  return BigInt(whole) * 1_000_000n + BigInt(Math.round((ms - whole) * 1e6)) === BigInt(ns) ? ms : undefined;
}

function assertDuration(found, ns, place) {
  if (ns === 'never') return assert.equal(found, Number.POSITIVE_INFINITY, place);
  const expected = Number(ns) / 1e6;
  assert.ok(Math.abs(found - expected) <= Math.max(expected * 1e-12, 0.5e-6), `${place}: ${found}, not ${expected} ms`);
}

function runCases(file) {
  let run = 0;
  let left = 0;
  for (const raw of file.take('cases')) {
    const each = reader(raw, JSON.stringify(raw.name));
    const name = each.take('name');
    each.take('why');
    const limiter = new Limiter(each.take('limit'));
    const calls = each.take('calls');
    each.done();
    const survives = calls.every(
      (call) => milliseconds(call.now_ns) !== undefined && number(call.cost ?? 0) !== undefined,
    );
    if (!survives) {
      left += calls.length;
      continue;
    }
    for (const [index, rawCall] of calls.entries()) {
      const place = `"${name}", call ${index}`;
      const call = reader(rawCall, place);
      const op = call.take('op');
      const key = call.take('key');
      const at = { nowMs: milliseconds(call.take('now_ns')) };
      run++;
      if (op === 'reset') {
        limiter.reset(key, at);
        call.done();
        continue;
      }
      const cost = number(call.take('cost'));
      if (op === 'refund') {
        limiter.refund(key, cost, at);
        call.done();
        continue;
      }
      assert.ok(op === 'check' || op === 'peek', `${place}: there is no operation "${op}"`);
      const decision = limiter[op](key, cost, at);
      const rawExpected = call.take('expected');
      call.done();
      if (Object.keys(rawExpected).length === 0) continue;
      const expected = reader(rawExpected, place);
      assert.equal(decision.allowed, expected.take('allowed'), place);
      assert.equal(decision.limit, number(expected.take('limit')) ?? Number(rawExpected.limit), place);
      assert.equal(decision.remaining, number(expected.take('remaining')) ?? Number(rawExpected.remaining), place);
      assertDuration(decision.retryAfterMs, expected.take('retry_after_ns'), place);
      assertDuration(decision.resetAfterMs, expected.take('reset_after_ns'), place);
      expected.done();
    }
  }
  return [run, left];
}

function runPolls(file) {
  let run = 0;
  for (const raw of file.take('polls')) {
    const poll = reader(raw, JSON.stringify(raw.name));
    const name = poll.take('name');
    const limiter = new Limiter(poll.take('limit'));
    const [start, every, cost] = [
      number(poll.take('start_ns')),
      number(poll.take('every_ns')),
      number(poll.take('cost')),
    ];
    const [calls, min, max] = [
      number(poll.take('calls')),
      number(poll.take('allowed_min')),
      number(poll.take('allowed_max')),
    ];
    poll.done();
    let allowed = 0;
    for (let i = 0; i < calls; i++) {
      if (limiter.check('a', cost, { nowMs: (start + i * every) / 1e6 }).allowed) allowed++;
    }
    assert.ok(allowed >= min && allowed <= max, `"${name}": ${allowed} is not in ${min}..${max}`);
    run += calls;
  }
  return [run, 0];
}

function runTexts(file) {
  let run = 0;
  for (const raw of file.take('accepted')) {
    const text = reader(raw, JSON.stringify(raw.text));
    const limiter = new Limiter(text.take('text'));
    const canonical = text.take('canonical');
    assert.deepEqual(limiter.limits, [canonical]);
    assert.deepEqual(new Limiter(canonical).limits, [canonical]);
    const burst = number(text.take('burst'));
    assert.equal(limiter.check('a').limit, burst);
    // The same in numbers, if it can be said in them, is the same limit.
    const [rateLimit, timeWindowMs] = [number(text.take('rate_limit')), milliseconds(text.take('window_ns'))];
    const inNumbers = { rateLimit, timeWindowMs, burst, strict: text.take('strict') };
    const again = new Limiter(inNumbers);
    assert.deepEqual(
      again.check('a', burst, { nowMs: 0 }),
      new Limiter(canonical).check('a', burst, { nowMs: 0 }),
      canonical,
    );
    text.done();
    run++;
  }
  for (const raw of file.take('refused')) {
    const text = reader(raw, JSON.stringify(raw.text));
    assert.throws(() => new Limiter(text.take('text')), { code: 'ERR_RATELIMIT_INVALID_LIMIT' });
    // Kinds of wrong limits are not told apart here: all have one code.
    text.take('kind');
    text.take('why');
    text.done();
    run++;
  }
  return [run, 0];
}

function runClientIps(file) {
  let run = 0;
  for (const raw of file.take('client_ips')) {
    const one = reader(raw, JSON.stringify(raw.why));
    one.take('why');
    const take = (name) => (name in raw ? one.take(name) : undefined);
    const [header, ipv6Prefix] = [take('header'), take('ipv6_prefix')];
    const [trusted, peer, values] = [one.take('trusted'), one.take('peer'), one.take('values')];
    const expected = one.take('expected');
    const headers = { host: 'example.org' };
    if (values.length > 0)
      headers[(header ?? 'x-forwarded-for').toLowerCase()] = values.length > 1 ? values : values[0];
    const spellings = [trusted, trusted.split(','), /^\d+$/.test(trusted) ? Number(trusted) : trusted];
    for (const each of spellings) {
      assert.equal(clientIp(peer, headers, each, { header, ipv6Prefix }), expected, JSON.stringify(raw));
    }
    one.done();
    run++;
  }
  return [run, 0];
}

const readers = {
  'client_ip.json': runClientIps,
  'gcra.json': runCases,
  'strict.json': runCases,
  'several.json': runCases,
  'clock.json': runCases,
  'rates.json': runPolls,
  'text.json': runTexts,
};

for (const name of fs.readdirSync(folder).filter((each) => each.endsWith('.json'))) {
  test(`vectors/${name}`, (t) => {
    assert.ok(name in readers, `vectors/${name} has no reader here`);
    const file = reader(JSON.parse(fs.readFileSync(path.join(folder, name), 'utf8')), name);
    file.take('about');
    const [run, left] = readers[name](file);
    file.done();
    assert.ok(run > 30, `${name} has ${run} entries only`);
    t.diagnostic(`${run} entries run, ${left} left out since a number of theirs does not survive as a double`);
  });
}

test('no file is missing', () => {
  for (const name of Object.keys(readers)) assert.ok(fs.existsSync(path.join(folder, name)), `vectors/${name}`);
});
