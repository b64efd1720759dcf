/// <reference types="node" />
import type { ClusterOptions, ErrorCode, LimiterOptions, Stats } from './generated';

export type { ClusterOptions, ErrorCode, LimiterOptions, Stats };

/**
 * What a client is known by. A string is its UTF-8 bytes, a number (a safe integer) its decimal digits: `'1'`, `1` and
 * `Buffer.from('1')` are one key. Any length, zero bytes too.
 */
export type Key = string | number | Uint8Array;

/** The answer to a request. Durations are milliseconds. */
export interface Decision {
  /** Whether the request may go on. If so it was charged. */
  allowed: boolean;
  /** The most requests at one instant: the burst. */
  limit: number;
  /** How many requests would be allowed now. */
  remaining: number;
  /** How long to wait until this cost fits: 0 if it was allowed, `Infinity` if it is above the burst and never will be. */
  retryAfterMs: number;
  /** How long until the client has its full burst again. */
  resetAfterMs: number;
}

/** A time of the caller's, on an axis of the caller's choice, in place of the limiter's clock. 0 is a legal time. */
export interface At {
  nowMs?: number | undefined;
}

export interface AcquireOptions {
  /** The longest time to wait. If the request cannot be allowed within it, the answer comes at once. */
  timeoutMs?: number | undefined;
  /** Ends the waiting: the promise then rejects with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

/** A node of the cluster as this one sees it. */
export interface Peer {
  /** Its name, as its certificate says. */
  name: string;
  /** Where its link goes, or went last; empty if it was only heard of. */
  address: string;
  /** `'linked'`: there is a link. `'left'`: it said goodbye. */
  state: 'linked' | 'unheard' | 'alive' | 'suspect' | 'dead' | 'left';
  /** The round-trip time of its link; `null` without one. */
  rttMs: number | null;
  /** How long the oldest report to it has waited for its acknowledgement. */
  lagMs: number;
  /** Units in reports that it has not acknowledged. */
  unackedUnits: number;
  sentBytes: number;
  receivedBytes: number;
}

/**
 * Decides whether a client's request may go on.
 *
 * `100/minute` holds on average: an idle client may spend 100 at once and the refill after it, up to 200 within one minute.
 * `100/minute strict` allows at most 100 in any minute.
 *
 * A denial is an answer and never an error. Misuse throws a {@link RateLimitError} at once, and changes nothing.
 */
export class Limiter {
  /** From options, a text like `'100/minute burst 20'`, or several such texts, of which each must allow a request. */
  constructor(options: LimiterOptions | string | readonly string[]);

  /** Whether one request is allowed now; if so it is charged. The fastest call: nothing is allocated. */
  isAllowed(key: Key): boolean;

  /**
   * Decides a request that costs as much as `cost` ordinary ones. 0 is always allowed; above the burst is never allowed,
   * and `retryAfterMs` is then `Infinity`.
   */
  check(key: Key, cost?: number, at?: At): Decision;

  /** What `check` would say, without charging anything. */
  peek(key: Key, cost?: number, at?: At): Decision;

  /** One decision for each key, in order, with one reading of the clock. `costs` are as many as keys, each 1 if left out. */
  checkMany(keys: readonly Key[], costs?: readonly number[] | Float64Array | null): Decision[];

  /** As `isAllowed` for each key, in order: about half the price per key if all keys are strings. */
  allowedMany(keys: readonly Key[]): boolean[];

  /** The same, with a 1 or a 0 for each key in an array of the caller's, which is returned. */
  allowedMany<Out extends Uint8Array>(keys: readonly Key[], out: Out): Out;

  /**
   * Waits until a request is allowed, and charges it. False, at once, if it cannot be within `timeoutMs`, or ever.
   *
   * Those who wait for one key go on in the order in which they came. Nothing keeps the process alive but those who wait.
   * Rejects only for misuse, with an `AbortError`, or if the limiter is closed meanwhile.
   */
  acquire(key: Key, cost?: number, options?: AcquireOptions): Promise<boolean>;

  /** Gives `cost` requests back, for instance because what they asked for failed. */
  refund(key: Key, cost?: number, at?: At): void;

  /** Forgets what the client has spent, and lifts its block. A limit of its own stays. */
  reset(key: Key, at?: At): void;

  /** Denies every request of the client for so many milliseconds (at most 208 days). 0 lifts the block. */
  block(key: Key, ms: number): void;

  /** The limits in force, as texts. */
  get limits(): string[];

  /** Puts another limit in force. Each client keeps the share of its burst that it has spent. */
  setLimit(limit: string): void;

  /** Puts other limits in force: one for each that the limiter has, in the same order. */
  setLimits(limits: readonly string[]): void;

  /** Gives a client a limit of its own, in place of all others; `null` takes it away. */
  setOverride(key: Key, limit: string | null): void;

  /** Takes all clients' own limits away. */
  clearOverrides(): void;

  /** What was done and how full the table is. */
  stats(): Stats;

  /** The same as text for Prometheus. */
  prometheus(): string;

  /** The other nodes of the cluster; empty without one. */
  peers(): Peer[];

  /**
   * Resolves to true as soon as every seed of the cluster is linked, to false if that takes longer than `timeoutMs`. To true at once without a
   * cluster.
   */
  ready(timeoutMs?: number): Promise<boolean>;

  /** Writes the snapshot file now, and returns when it is durable: this thread waits for the disk. Needs the option `path`. */
  snapshot(): void;

  /**
   * Writes a last snapshot, if there is a `path`, and gives memory and files back. Later calls throw, and those who wait are rejected, with the code
   * `ERR_RATELIMIT_CLOSED`; to close twice is no mistake. Also happens when the limiter is collected. With a Node.js that has
   * `Symbol.dispose`, `using limiter = new Limiter(…)` calls it at the end of the block.
   */
  close(): void;

  [Symbol.dispose](): void;

  /**
   * Removes the table that limiters with `share: name` have used, and with it what their clients have spent. False if there
   * is none. Throws while a limiter of any process still uses it: close those first.
   */
  static unshare(name: string): boolean;
}

/** What a request says of itself: by name, a text, bytes or a number each. What is undefined or null is not there. */
export type Attributes = Readonly<Record<string, Key | null | undefined>>;

/** What rules say of a request. `limit` and `remaining` are `Infinity` if no rule applies. */
export interface RuleDecision extends Decision {
  /** The rule that binds; null if none applies. */
  rule: string | null;
  /** The first rule that only watches and would have denied the request. */
  shadow: string | null;
}

/** What a rule has done. */
export interface RuleStats {
  shadow: boolean;
  allowed: number;
  denied: number;
  wouldDeny: number;
}

/** Decides requests by rules, from TOML: when each applies, by which attributes it counts, and its limits. */
export class Rules {
  /** Options are those of a limiter that say no limit. */
  constructor(
    text: string,
    options?: Omit<LimiterOptions, 'limits' | 'rateLimit' | 'timeWindowMs' | 'burst' | 'strict'>,
  );
  /** Decides a request: every rule that applies allows it and is charged, or none is. */
  check(attributes: Attributes, cost?: number, options?: { nowMs?: number | undefined }): RuleDecision;
  isAllowed(attributes: Attributes): boolean;
  /** What `check` would say. Charges and counts nothing. */
  peek(attributes: Attributes, cost?: number): RuleDecision;
  /** Gives requests back to every rule that applies. */
  refund(attributes: Attributes, cost?: number): void;
  /** Forgets what was spent under every rule that applies. */
  reset(attributes: Attributes): void;
  /** Puts other rules in force, all at once. Rules whose name and `by` stay keep their counts. */
  replace(text: string): void;
  /** Gives a client of a rule limits of its own, by the value that the rule counts by; null takes them away. */
  setOverride(rule: string, value: string, limits: string | readonly string[] | null): void;
  stats(): Record<string, RuleStats>;
  prometheus(): string;
  snapshot(): void;
  /** Writes a last snapshot. Later calls throw. */
  close(): void;
}

/** Proxies that are trusted: their networks or addresses (`loopback`, `private` and `unix` stand for what they say), or how many a request passes. */
export type Trusted = number | string | readonly string[];

export interface TrustedProxiesOptions {
  /** The one field that the proxies extend or replace; `forwarded` is read by RFC 7239. Default: `x-forwarded-for`. */
  header?: string | undefined;
  /** How many bits of an IPv6 address count: 32 to 128. Default: 64. */
  ipv6Prefix?: number | undefined;
}

/** Which proxies are believed, and in which header field they say whom they speak for. */
export class TrustedProxies {
  constructor(trustedProxies: Trusted, options?: TrustedProxiesOptions);
  /** The name of the field that is read, in lower case. */
  readonly header: string;
  /** As the function `clientIp`. */
  clientIp(
    peer: string | null | undefined,
    headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  ): string | null;
}

/**
 * The key of the client that a request comes from, behind proxies: an IPv4 address, or an IPv6 network like
 * `2001:db8:1:2::/64`. `peer` is `req.socket.remoteAddress`, `headers` are `req.headers`.
 *
 * Entries are believed from the right for as long as a trusted proxy wrote them; what is no address is never believed, and the
 * answer is then the peer's own. Null if that is not known either. For many requests, make `TrustedProxies` once.
 */
export function clientIp(
  peer: string | null | undefined,
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  trustedProxies: Trusted | TrustedProxies,
  options?: TrustedProxiesOptions,
): string | null;

/** What is thrown for misuse. Its sentence says what to do. */
export class RateLimitError extends Error {
  private constructor();
  readonly name: 'RateLimitError';
  /** Stable, see {@link errorCodes}. */
  readonly code: ErrorCode;
  /** The same number in every language. */
  readonly number: number;
}

/** Every error that there is. */
export const errorCodes: ReadonlyArray<{
  readonly number: number;
  readonly name: string;
  readonly code: ErrorCode;
  readonly meaning: string;
}>;

/** The version of the package. */
export const version: string;
