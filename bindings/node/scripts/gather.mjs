// Puts beside the package what belongs into it and lies elsewhere in the repository: the licences, and the shared vectors,
// so that its tests run wherever it is unpacked.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const root = path.resolve(here, '..', '..');
for (const name of ['LICENSE-MIT', 'LICENSE-APACHE', 'vectors']) {
  const from = path.join(root, name);
  if (fs.existsSync(from)) fs.cpSync(from, path.join(here, name), { recursive: true });
}
