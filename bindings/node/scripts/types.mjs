// Writes generated.d.ts from the tables in Rust: options, errors, statistics. `--check` only compares.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import ratelimit from '../index.js';
import core from '../lib/core.js';

const file = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', 'generated.d.ts');

/** The type of what an option takes, from the sentence that users are told. A new sentence needs a line here. */
function typeOf(takes) {
  const words = [...takes.matchAll(/"([^"]*)"/g)].map(([word]) => word);
  const kinds = [
    [/a whole number|a duration/, 'number'],
    [
      /limit as text|hexadecimal|name of a (file|directory)|a name|an address|"bounded:20"|PEM text|a list of (addresses|node)/,
      'string',
    ],
    [/list of (such texts|addresses|node|them)/, 'readonly string[]'],
    [/true or false/, 'boolean'],
    [/table of cluster options/, 'ClusterOptions'],
    [/or true($| for)/, 'true'],
  ];
  const found = kinds.filter(([pattern]) => pattern.test(takes)).map(([, type]) => type);
  if (found.length === 0) found.push(...words);
  if (found.length === 0) throw new Error(`no type is known for an option that takes ${takes}`);
  return found.map((type) => (type.startsWith('"') ? `'${type.slice(1, -1)}'` : type)).join(' | ');
}

function triples(list) {
  return Array.from({ length: list.length / 3 }, (_, i) => list.slice(3 * i, 3 * i + 3));
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
const lines = ['// Written by scripts/types.mjs from the tables in Rust. Do not edit.', ''];

function optionLines(options) {
  /** The tables name options as Rust and Python do. */
  const spelt = new Map(
    options.map(([name]) => [name.replace(/Ms$/, '').replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), name]),
  );
  return options.flatMap(([name, takes, plain]) => {
    const help = plain.replace(/\b[a-z]+_[a-z_]+\b/g, (word) => spelt.get(word) ?? word);
    return [`  /** ${help} Takes ${takes}. */`, `  ${name}?: ${typeOf(takes)} | null | undefined;`];
  });
}

lines.push('/** What a limiter is made from. Durations are milliseconds. */', 'export interface LimiterOptions {');
lines.push(...optionLines(triples(core.native.options())), '}', '');
lines.push(
  '/** One node of several that keep one limit. Durations are milliseconds. */',
  'export interface ClusterOptions {',
);
lines.push(...optionLines(triples(core.native.clusterOptions())), '}', '');
lines.push('/** What `RateLimitError.code` can be. */', 'export type ErrorCode =');
ratelimit.errorCodes.forEach(({ code, number, meaning }, i, all) => {
  lines.push(`  /** ${number}: ${meaning} */`, `  | '${code}'${i === all.length - 1 ? ';' : ''}`);
});
lines.push(
  '',
  '/** What was done and how full the table is; see `prometheus()` for what each means. */',
  'export interface Stats {',
);
const limiter = new ratelimit.Limiter('1/s');
const metrics = limiter.prometheus();
for (const name of Object.keys(limiter.stats())) {
  const metric = `ratelimit_${name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
  const help = metrics.match(new RegExp(`^# HELP ${metric}(?:_total)? (.*)$`, 'm'))[1];
  lines.push(`  /** ${capital(help)} */`, `  readonly ${name}: number;`);
}
lines.push('}', '');

const text = lines.join('\n');
if (process.argv.includes('--check')) {
  if (fs.readFileSync(file, 'utf8') !== text) {
    console.error('ratelimit: generated.d.ts is not what the tables say: run npm run types');
    process.exit(1);
  }
} else {
  fs.writeFileSync(file, text);
}
