// A server with a limit for each client address, and a stricter one for what is expensive. `npm run typecheck` checks it.
import express, { type Request, type Response } from 'express';
import { type Decision, Limiter, RateLimitError } from 'ratelimit';
import { rateLimit } from 'ratelimit/express';

const searches = new Limiter({ rateLimit: 5, timeWindowMs: 60_000, maxKeys: 100_000 });

const app = express();
app.use(rateLimit({ limits: ['20/s', '1000/hour'], names: ['burst', 'hourly'] }));
app.get(
  '/search',
  rateLimit<Request, Response>({
    limiter: searches,
    key: (req) => req.get('authorization') ?? 'nobody',
    cost: (req) => (req.query.deep === 'yes' ? 3 : 1),
    refundIf: (_req, res) => res.statusCode >= 500,
  }),
  (req, res) => {
    const decision: Decision | undefined = req.rateLimit;
    res.json({ remaining: decision?.remaining });
  },
);

export { app };

/** One that waits for its turn instead of being turned away. */
export async function fetchPolitely(url: URL, signal: AbortSignal): Promise<globalThis.Response | undefined> {
  using limiter = new Limiter('2/s');
  try {
    if (!(await limiter.acquire(url.host, 1, { timeoutMs: 10_000, signal }))) return undefined;
  } catch (error) {
    if (error instanceof RateLimitError && error.code === 'ERR_RATELIMIT_CLOSED') return undefined;
    throw error;
  }
  return fetch(url, { signal });
}

export const flags: boolean[] = searches.allowedMany(['a', 1, Buffer.from('b')]);
export const bytes: Uint8Array = searches.allowedMany(['a'], new Uint8Array(1));
export const denials: number = searches.stats().denied;
// @ts-expect-error There is no such option.
export const misspelt = () => new Limiter({ rateLimt: 5 });
