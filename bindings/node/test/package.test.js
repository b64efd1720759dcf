'use strict';
// The package as a user gets it: entries, types, what is packed, and that it works where its sources are not.

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const ratelimit = require('ratelimit');

const root = path.join(__dirname, '..');
const manifest = require('ratelimit/package.json');

function read(file) {
  return fs.readFileSync(path.join(root, file), 'utf8');
}

test('both kinds of modules export the same', async () => {
  const names = ['Limiter', 'RateLimitError', 'Rules', 'TrustedProxies', 'clientIp', 'errorCodes', 'version'];
  assert.deepEqual(Object.keys(ratelimit).sort(), names);
  const module = await import('ratelimit');
  for (const name of names) assert.equal(module[name], ratelimit[name], name);
  assert.equal(module.default, ratelimit);
  const middleware = await import('ratelimit/express');
  assert.equal(middleware.rateLimit, require('ratelimit/express').rateLimit);
  assert.deepEqual(Object.keys(require('ratelimit/express')), ['rateLimit']);
  assert.throws(() => require('ratelimit/lib/core.js'), { code: 'ERR_PACKAGE_PATH_NOT_EXPORTED' });
});

test('the types name what is there, and nothing else', () => {
  const types = read('index.d.ts');
  const body = types.match(/^export class Limiter \{\n([\s\S]*?)^\}/m)[1];
  const named = new Set([...body.matchAll(/^ {2}(?:get )?([a-zA-Z]+)(?:<.*>)?\(/gm)].map(([, name]) => name));
  const there = new Set(Object.getOwnPropertyNames(ratelimit.Limiter.prototype));
  assert.deepEqual([...named].sort(), [...there].sort());
  const exported = [...types.matchAll(/^export (?:class|const|function) ([a-zA-Z]+)/gm)].map(([, name]) => name);
  assert.deepEqual(exported.sort(), Object.keys(ratelimit).sort());
});

test('the generated types are those of the tables', () => {
  execFileSync(process.execPath, [path.join(root, 'scripts/types.mjs'), '--check']);
  for (const { code } of ratelimit.errorCodes) assert.ok(read('generated.d.ts').includes(`'${code}'`), code);
});

test('every option of the middleware is refused or used, and has a type', () => {
  const types = read('express.d.ts');
  const used = read('express.js').match(/const \{\n([\s\S]*?)\.\.\.limits/)[1];
  const names = [...used.matchAll(/^ {4}([a-zA-Z0-9]+)/gm)].map(([, name]) => name);
  assert.ok(names.length >= 13);
  for (const name of names) assert.match(types, new RegExp(`^ {2}${name}\\?: `, 'm'));
});

test('there is one version, and nothing runs at installation', () => {
  assert.equal(ratelimit.version, manifest.version);
  const workspace = path.join(root, '../../Cargo.toml');
  if (fs.existsSync(workspace)) {
    assert.equal(fs.readFileSync(workspace, 'utf8').match(/^version = "(.*)"$/m)[1], manifest.version);
  }
  for (const hook of ['preinstall', 'install', 'postinstall', 'prepare'])
    assert.equal(manifest.scripts[hook], undefined);
  assert.equal(manifest.dependencies, undefined);
});

test('packed and unpacked elsewhere it works, with CommonJS, modules and types', (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ratelimit-node-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const npm = (args, cwd) =>
    execFileSync('npm', args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], shell: process.platform === 'win32' });
  // The build has just been made: it is not made again for this.
  execFileSync(process.execPath, [path.join(root, 'scripts/gather.mjs')]);
  npm(['pack', '--ignore-scripts', '--pack-destination', folder], root);
  const tarball = fs.readdirSync(folder).find((name) => name.endsWith('.tgz'));
  fs.writeFileSync(path.join(folder, 'package.json'), '{ "private": true }');
  npm(['install', '--offline', '--no-audit', '--no-fund', `./${tarball}`], folder);
  const installed = path.join(folder, 'node_modules', 'ratelimit');
  const files = fs.readdirSync(installed);
  assert.ok(!files.some((name) => /^(src|Cargo|node_modules|build\.rs)/.test(name)), files.join(' '));
  assert.ok(files.includes('LICENSE-MIT') && files.includes('LICENSE-APACHE') && files.includes('README.md'));
  const program =
    "if (!new Limiter('1/s').isAllowed('a')) throw new Error('no'); console.log(version, typeof rateLimit);";
  // A runner of tests that finds this in its environment takes itself for part of this one, and runs nothing.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const run = (args) => execFileSync(process.execPath, args, { cwd: folder, env, encoding: 'utf8' }).trim();
  fs.writeFileSync(
    path.join(folder, 'a.cjs'),
    `const { Limiter, version } = require('ratelimit'); const { rateLimit } = require('ratelimit/express'); ${program}`,
  );
  fs.writeFileSync(
    path.join(folder, 'a.mjs'),
    `import { Limiter, version } from 'ratelimit'; import { rateLimit } from 'ratelimit/express'; ${program}`,
  );
  assert.equal(run(['a.cjs']), `${manifest.version} function`);
  assert.equal(run(['a.mjs']), `${manifest.version} function`);
  // Its own tests run there too; the rest of them need what only `npm install` brings.
  assert.match(run(['--test', path.join(installed, 'test', 'vectors.test.js')]), /^# pass [1-9]/m);
  // It is used as it is, since there is nothing to build it from.
  assert.match(run([path.join(installed, 'scripts', 'build.mjs')]), /is used as it is/);
  // Without its compiled part it says what to do.
  fs.rmSync(path.join(installed, require('../native.js').fileName));
  assert.throws(() => run(['a.cjs']), /was not built for this system. Build it where its sources are/);
  assert.throws(() => run([path.join(installed, 'scripts', 'build.mjs')]), /no sources to build it from/);
});
