'use strict';
// Every example in the documents runs: each block of js, in order, as a module of its own.

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');

const root = path.join(__dirname, '..');
const documents = [path.join(root, 'README.md'), path.join(root, '../../docs/migration/node.md')];

for (const document of documents) {
  if (!fs.existsSync(document)) {
    // The package that was unpacked elsewhere has its README only.
    assert.ok(!fs.existsSync(path.join(root, '../../docs')), `${document} is missing`);
    continue;
  }
  const text = fs.readFileSync(document, 'utf8');
  const blocks = [...text.matchAll(/^```js( old)?\n([\s\S]*?)^```/gm)];
  blocks.forEach(([, old, code], index) => {
    const line = text.slice(0, text.indexOf(code)).split('\n').length;
    // What shows how another package was used is not ours to run.
    if (old) return;
    test(`${path.basename(document)}:${line}`, (t) => {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ratelimit-node-'));
      t.after(() => fs.rmSync(folder, { recursive: true }));
      const file = path.join(folder, `example${index}.${/^import /m.test(code) ? 'mjs' : 'cjs'}`);
      fs.mkdirSync(path.join(folder, 'node_modules'));
      fs.symlinkSync(root, path.join(folder, 'node_modules', 'ratelimit'), 'junction');
      fs.symlinkSync(
        path.join(root, 'node_modules', 'express'),
        path.join(folder, 'node_modules', 'express'),
        'junction',
      );
      // A server of an example may stay up: what matters is that it came up, and all lines before it.
      fs.writeFileSync(file, `${code}\nsetTimeout(() => process.exit(0), 200).unref?.();\n`);
      execFileSync(process.execPath, [file], { cwd: folder, timeout: 20_000, stdio: ['ignore', 'pipe', 'inherit'] });
    });
  });
  assert.ok(blocks.length >= 3, `${document} has ${blocks.length} examples`);
}
