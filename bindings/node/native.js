'use strict';
// Finds the compiled part beside this file. One package may hold it for several systems.

const fs = require('node:fs');
const path = require('node:path');

/** The C library matters only on Linux: a report names glibc's version if it is the one. */
function isMusl() {
  if (process.platform !== 'linux') return false;
  const report = process.report?.getReport();
  return report !== undefined && report.header?.glibcVersionRuntime === undefined;
}

const name = `ratelimit.${process.platform}-${process.arch}${isMusl() ? '-musl' : ''}.node`;
const file = path.join(__dirname, name);

exports.fileName = name;

exports.load = () => {
  if (!fs.existsSync(file)) {
    throw new Error(
      `ratelimit has no ${name} beside ${__filename}: this package was not built for this system. Build it where its ` +
        'sources are (in bindings/node of the repository, with Rust installed): npm run build',
    );
  }
  return require(file);
};
