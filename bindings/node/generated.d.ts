// Written by scripts/types.mjs from the tables in Rust. Do not edit.

/** What a limiter is made from. Durations are milliseconds. */
export interface LimiterOptions {
  /** The most requests per timeWindowMs; or complete limits as text, of which each must allow a request. Takes a whole number from 1, or a limit as text like "100/minute", or a list of such texts. */
  rateLimit?: number | string | readonly string[] | null | undefined;
  /** The window that rateLimit counts in. Takes a duration above 0. */
  timeWindowMs?: number | null | undefined;
  /** The most requests at one instant. Default: rateLimit, or a tenth of it (at least 1) if strict. Takes a whole number from 1. */
  burst?: number | null | undefined;
  /** At most rateLimit requests in any window, not only on average. Default: false. Takes true or false. */
  strict?: boolean | null | undefined;
  /** Complete limits as text, in place of rateLimit, timeWindowMs, burst and strict. Takes a limit as text like "100/minute", or a list of such texts. */
  limits?: string | readonly string[] | null | undefined;
  /** How many clients with debt to have room for; bounds the memory. Default: grows on its own to 40 million cells; 250,000 clients if shared. Takes a whole number from 1. */
  maxKeys?: number | null | undefined;
  /** The snapshot file that lets counts survive a restart. Default: none, counts live in memory alone. Takes the name of a file. */
  path?: string | null | undefined;
  /** How often the snapshot is written, if there is a path. Default: 1 second. Takes a duration above 0. */
  snapshotEveryMs?: number | null | undefined;
  /** What to do with a damaged snapshot: start with the previous one or empty, save what is intact, or refuse to start. Default: auto. Takes "auto", "salvage" or "required". */
  restore?: 'auto' | 'salvage' | 'required' | null | undefined;
  /** One table for all processes of this user on this host that give the same name; true: for this process and those it forks. Default: none. Takes a name, or true. */
  share?: string | true | null | undefined;
  /** Whether the limits given here replace those that a shared table has, in place of an error. Default: false. Takes true or false. */
  replaceLimits?: boolean | null | undefined;
  /** Makes the limiter one node of several that keep one limit. Default: none. Takes a table of cluster options, or true for those of the environment (RATELIMIT_CLUSTER_NODE and so on). */
  cluster?: ClusterOptions | true | null | undefined;
  /** The clock that decides: the fastest that can be trusted, the system's, or one that is faster and up to 4 ms late. Default: precise. Takes "precise", "os" or "coarse". */
  clock?: 'precise' | 'os' | 'coarse' | null | undefined;
  /** What clients get that find the table full: a shared cell, a denial, or no limit. Default: share. Takes "share", "deny" or "allow". */
  overflow?: 'share' | 'deny' | 'allow' | null | undefined;
  /** The secret that keys the hash of ids. Default: a random one, kept beside the snapshot or inside the shared table. Takes 32 hexadecimal digits. */
  hashKey?: string | null | undefined;
}

/** One node of several that keep one limit. Durations are milliseconds. */
export interface ClusterOptions {
  /** This node's name, as in its certificate. Takes a name of 1 to 64 bytes. */
  node?: string | null | undefined;
  /** Where this node listens, UDP. Takes an address and port like "127.0.0.1:7001". */
  listen?: string | null | undefined;
  /** What other nodes are told to dial. Default: listen, unless that is a wildcard. Takes an address or DNS name with port. */
  advertise?: string | null | undefined;
  /** Nodes to dial first; the others are learnt from them. Default: none, others dial this one. Takes a list of addresses or DNS names with port. */
  seeds?: string | readonly string[] | null | undefined;
  /** The directory that `ratelimit certs` made: ca, cert, key and secret are found there unless they are given. Takes the name of a directory. */
  certs?: string | null | undefined;
  /** The certificate of the authority that all nodes trust. Takes PEM text, or the name of a file. */
  ca?: string | null | undefined;
  /** This node's certificate. Takes PEM text, or the name of a file. */
  cert?: string | null | undefined;
  /** The private key of this node's certificate. Takes PEM text, or the name of a file. */
  key?: string | null | undefined;
  /** What keys the hash of ids: equal on all nodes. Takes 32 hexadecimal digits, or the name of a file with them. */
  secret?: string | null | undefined;
  /** What a node may spend on a key that it has no lease for: all, so many units, nothing. Default: eventual. Takes "eventual", "bounded:20", "strict" or "strict:10%", or a list of them, one for each limit. */
  mode?: string | readonly string[] | null | undefined;
  /** The nodes that own keys, the same on all nodes; needed for bounded and strict. Default, for eventual: all nodes. Takes a list of node names. */
  owners?: string | readonly string[] | null | undefined;
  /** What nodes do about keys whose owner they do not hear: each side takes over, takes its part of the rate, or nobody takes over. Default: open. Takes "open", "share" or "closed". */
  onPartition?: 'open' | 'share' | 'closed' | null | undefined;
  /** Time between two reports of a key in steady use. Default: 50 ms. Takes a duration from 1 ms to 10 s. */
  intervalMs?: number | null | undefined;
  /** The most nodes there will be. Default: 256. Takes a whole number from 1 to 65535. */
  maxNodes?: number | null | undefined;
}

/** What `RateLimitError.code` can be. */
export type ErrorCode =
  /** 1: a limit makes no sense, or its text is not a limit */
  | 'ERR_RATELIMIT_INVALID_LIMIT'
  /** 2: no limit, too many, or another number than are in force */
  | 'ERR_RATELIMIT_LIMIT_COUNT'
  /** 3: max_keys is more than a table can address */
  | 'ERR_RATELIMIT_MAX_KEYS'
  /** 4: the system gave no memory, or no randomness */
  | 'ERR_RATELIMIT_SYSTEM'
  /** 5: no room for another override or block */
  | 'ERR_RATELIMIT_FULL'
  /** 6: lists that belong together differ in length */
  | 'ERR_RATELIMIT_LENGTHS'
  /** 7: policies for header fields do not fit */
  | 'ERR_RATELIMIT_POLICY'
  /** 8: an option that does not exist, has a wrong value, or contradicts another */
  | 'ERR_RATELIMIT_OPTION'
  /** 9: something that this version or build cannot do */
  | 'ERR_RATELIMIT_UNSUPPORTED'
  /** 10: an argument of the wrong kind, or out of its range */
  | 'ERR_RATELIMIT_ARGUMENT'
  /** 11: the limiter was closed */
  | 'ERR_RATELIMIT_CLOSED'
  /** 12: a bug of this library, contained */
  | 'ERR_RATELIMIT_INTERNAL'
  /** 20: no snapshot can be kept there, or that often */
  | 'ERR_RATELIMIT_PERSIST'
  /** 21: another limiter keeps its snapshot there */
  | 'ERR_RATELIMIT_SNAPSHOT_BUSY'
  /** 22: a snapshot could not be written; the one before is as it was */
  | 'ERR_RATELIMIT_SNAPSHOT_WRITE'
  /** 23: a whole snapshot was required, and there was none */
  | 'ERR_RATELIMIT_RESTORE_REQUIRED'
  /** 24: a snapshot was asked of a limiter that keeps none */
  | 'ERR_RATELIMIT_NOT_PERSISTENT'
  /** 25: a forked child was asked for what only its parent may do */
  | 'ERR_RATELIMIT_FORKED_CHILD'
  /** 30: a name that a shared table cannot have */
  | 'ERR_RATELIMIT_SHARE_NAME'
  /** 31: the shared table has other limits, size, hash key or clock */
  | 'ERR_RATELIMIT_SHARE_MISMATCH'
  /** 32: too many limiters are attached to the shared table */
  | 'ERR_RATELIMIT_SHARE_FULL'
  /** 33: the shared table cannot be made, opened or removed */
  | 'ERR_RATELIMIT_SHARE_UNAVAILABLE'
  /** 40: a cluster's name, address, owner, certificate or secret cannot be */
  | 'ERR_RATELIMIT_CLUSTER_CONFIG'
  /** 41: a cluster's node cannot be started */
  | 'ERR_RATELIMIT_CLUSTER_START';

/** What was done and how full the table is; see `prometheus()` for what each means. */
export interface Stats {
  /** Requests allowed. */
  readonly allowed: number;
  /** Requests denied. */
  readonly denied: number;
  /** Decisions on clients that found the table full. */
  readonly overflowed: number;
  /** Clients that got a cell. */
  readonly inserted: number;
  /** Expired cells that were taken over by other clients. */
  readonly recycled: number;
  /** Cells brought along after a change of limit. */
  readonly translated: number;
  /** Clients brought back because a clock was set back. */
  readonly stepped: number;
  /** Clients with debt, estimated from a sample. */
  readonly liveKeys: number;
  /** Cells in open tiers. */
  readonly cells: number;
  /** Cells in all tiers, open or not. */
  readonly cellsMax: number;
  /** Open tiers. */
  readonly tiers: number;
  /** Bytes of the open tiers. */
  readonly tableBytes: number;
  /** 1 if the processor's counter was found wrong. */
  readonly clockFellBack: number;
  /** 1 if the processor's counter is the clock. */
  readonly clockIsTsc: number;
  /** 1 if other processes may use the table too. */
  readonly tableIsShared: number;
  /** Limiters attached to the table, this one among them. */
  readonly attached: number;
}
