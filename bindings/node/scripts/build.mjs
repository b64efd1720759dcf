// Builds the compiled part beside index.js. Where only the package is, without the sources around it, what is there is
// used as it is.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import native from '../native.js';

const here = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const workspace = path.resolve(here, '..', '..');

/** The crates that the addon is made of lie beside it in the repository, and nowhere else. */
export function hasSources() {
  return ['Cargo.toml', 'Cargo.lock', 'limiter/Cargo.toml', 'core/Cargo.toml', 'model/Cargo.toml'].every((file) =>
    fs.existsSync(path.join(workspace, file)),
  );
}

/** Builds, and puts the result to `target`. */
export function build(target, features = []) {
  const run = (args) =>
    spawnSync(process.env.CARGO ?? 'cargo', args, { cwd: here, stdio: ['ignore', 'pipe', 'inherit'] });
  const args = ['build', '--locked', '--release', '-p', 'ratelimit-node', '--message-format=json-render-diagnostics'];
  if (features.length > 0) args.push('--features', features.join(','));
  const built = run(args);
  if (built.error?.code === 'ENOENT') {
    throw new Error('cargo was not found: install Rust from https://rustup.rs, and run this again');
  }
  if (built.status !== 0) throw new Error(`cargo failed (${built.status ?? built.signal ?? built.error})`);
  const artifacts = built.stdout
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
  const library = artifacts
    .filter((artifact) => artifact.reason === 'compiler-artifact' && artifact.target.name === 'ratelimit_node')
    .flatMap((artifact) => artifact.filenames)
    .find((file) => /\.(so|dylib|dll)$/.test(file));
  if (library === undefined) throw new Error('cargo built no library');
  // Not written in place: a process that has the old one loaded would crash.
  const fresh = `${target}.${process.pid}.new`;
  fs.copyFileSync(library, fresh);
  fs.renameSync(fresh, target);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const target = path.join(here, native.fileName);
  try {
    if (hasSources()) {
      build(target);
    } else if (fs.existsSync(target)) {
      console.log(`${native.fileName} is used as it is: its sources are not here`);
    } else {
      throw new Error(
        `there is no ${native.fileName}, and no sources to build it from: run this in bindings/node of the repository`,
      );
    }
  } catch (error) {
    console.error(`ratelimit: ${error.message}`);
    process.exit(1);
  }
}
