// The same types for CommonJS.
import { createServer } from 'node:http';

import ratelimit = require('ratelimit');
import ratelimitExpress = require('ratelimit/express');

const limit = ratelimitExpress.rateLimit('100/minute');

export const server = createServer((req, res) => {
  limit(req, res, (error) => {
    res.statusCode = error === undefined ? 200 : 500;
    res.end(`${limit.limiter.peek('a').remaining} ${ratelimit.version}\n`);
  });
});
