// Puts the shared vectors into the package, so that its tests run wherever it is unpacked.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const shared = path.resolve(here, '..', '..', 'vectors');
if (fs.existsSync(shared)) fs.cpSync(shared, path.join(here, 'vectors'), { recursive: true });
