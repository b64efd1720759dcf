import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Decision, Key, Limiter, LimiterOptions, Trusted, TrustedProxies } from './index';

declare module 'node:http' {
  interface IncomingMessage {
    /** The last decision about this request. */
    rateLimit?: Decision;
  }
}

type Awaitable<T> = T | PromiseLike<T>;

/** How requests are limited. Limits are given as for `Limiter`, or as a `limiter` that exists. */
export interface RateLimitOptions<
  Req extends IncomingMessage = IncomingMessage,
  Res extends ServerResponse = ServerResponse,
> extends LimiterOptions {
  /** A limiter to ask, in place of options for a new one. */
  limiter?: Limiter;
  /**
   * What a client is known by. Default: the address at the other end of the connection, IPv4 inside IPv6 as IPv4, IPv6 cut
   * to `ipv6Prefix`. Never a header field: its sender chooses that.
   */
  key?: (req: Req, res: Res) => Awaitable<Key>;
  /** What a request costs. Default: 1. */
  cost?: number | ((req: Req, res: Res) => Awaitable<number>);
  /** Requests for which this is true are not limited. */
  skip?: (req: Req, res: Res) => Awaitable<boolean>;
  /** Asked when the response is done or its client gone: true gives the request back. */
  refundIf?: (req: Req, res: Res) => boolean;
  /** Answers denied requests, in place of a 429 with problem details. The header fields are set before. */
  handler?: (req: Req, res: Res, next: (error?: unknown) => void, decision: Decision) => unknown;
  /** Names by which clients know the limits, in their order. Default: `default`, or several limits' texts. */
  names?: readonly string[];
  /** Whether `RateLimit-Policy` and `RateLimit` are sent. Default: true. */
  standardHeaders?: boolean;
  /** Also `X-RateLimit-Limit`, `-Remaining` and `-Reset`; the last as seconds since 1970 (`epoch`, `true`) or from now. Default: false. */
  legacyHeaders?: boolean | 'epoch' | 'delta';
  /** Also `RateLimit-Limit`, `-Remaining` and `-Reset`, as in draft 6. Default: false. */
  draft6Headers?: boolean;
  /** The most that a client is told to have left. */
  capRemaining?: number;
  /** Use `req.ip`, as express finds it under its setting `trust proxy`, for the default key. Default: false. */
  trustProxy?: boolean;
  /**
   * The proxies in front, by their networks or their number: the default key is then the client that they speak for in
   * `X-Forwarded-For`, or in the field of a `TrustedProxies`. Default: none.
   */
  trustedProxies?: Trusted | TrustedProxies;
  /** How many bits of an IPv6 address count for the default key: 32 to 128. Default: 64. */
  ipv6Prefix?: number;
}

export interface RateLimitMiddleware<
  Req extends IncomingMessage = IncomingMessage,
  Res extends ServerResponse = ServerResponse,
> {
  (req: Req, res: Res, next: (error?: unknown) => void): void;
  /** The limiter that is asked. */
  readonly limiter: Limiter;
}

/** Middleware for express, connect, and whatever calls its handlers with `(req, res, next)`. */
export function rateLimit<Req extends IncomingMessage = IncomingMessage, Res extends ServerResponse = ServerResponse>(
  options: RateLimitOptions<Req, Res> | string | readonly string[],
): RateLimitMiddleware<Req, Res>;
