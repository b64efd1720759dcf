//! Decisions as HTTP header fields and as a problem details body: texts only, for every framework and language.
//!
//! ```
//! use std::time::Duration;
//! use ratelimit::{Limiter, headers::{Headers, Policy}};
//!
//! let limiter = Limiter::builder().limit("10/s".parse()?).limit("1000/day".parse()?).build()?;
//! let limits = limiter.limits();
//! let headers = Headers::new([Policy::new("burst", limits[0])?, Policy::new("daily", limits[1])?])?;
//!
//! let decision = limiter.check_at("client-7", 4, Duration::ZERO);
//! let fields: Vec<_> = headers.headers(&decision).collect();
//! assert_eq!(fields[0], ("ratelimit-policy", String::from(r#""burst";q=10;w=1, "daily";q=1000;w=86400"#)));
//! assert_eq!(fields[1], ("ratelimit", String::from(r#""burst";r=6;t=1"#)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which fields
//!
//! | decision | `ratelimit` | `retry-after` |
//! |---|---|---|
//! | allowed | `r` = remaining, `t` = `reset_after` | none |
//! | denied | `r=0`, `t` = `retry_after`, at least 1 | the same number |
//! | denied for ever ([`Decision::NEVER`]) | `r=0`, `t` = `reset_after`, at least 1 | none: waiting does not help |
//!
//! `ratelimit-policy` comes with all of them and lists every limit; `ratelimit` speaks of the limit that binds. Seconds are
//! always rounded up, so that a client that waits as it is told never comes too early. For an allowed request `t` is the
//! time until the full burst is there, which is later than the next request could be sent: a client that heeds it paces
//! itself instead of running into its limit.
//!
//! Field names are in lower case: HTTP/2, HTTP/3 and ASGI demand it, and HTTP/1 does not mind.
//!
//! **What is not sent.** `pk`, the partition key, would tell who shares a budget; an unkeyed hash of an address there gives
//! the address away. `qu`, the unit, is left at its default, requests.
//!
//! Source: draft-ietf-httpapi-ratelimit-headers-10; RFC 9110 section 10.2.3 (Retry-After); RFC 9457 (problem details);
//! RFC 9651 (structured fields).

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ratelimit_model::{Decision, Gcra, Limit, LimitError};

/// The largest integer of a structured field (RFC 9651, 3.3.1). Larger numbers would make the whole field invalid.
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// Names are sent with every response, eight at most: this bounds what they add to a kilobyte.
const MAX_NAME_BYTES: usize = 128;

/// What the limit of a client with a limit of its own is called, see [`Headers::binding`].
pub const OVERRIDE_NAME: &str = "override";

/// The type of the problem details of a denial.
pub const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// The media type of [`Headers::problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A limit and the name that clients know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    name: String,
    limit: Limit,
    /// The time an empty bucket takes to fill.
    refill_ns: u64,
}

impl Policy {
    /// Names a limit.
    ///
    /// Sizes: 1 to 128 bytes of visible ASCII and spaces; quotes and backslashes are escaped where they are written.
    ///
    /// Errors: another name (a line break in a name would let whoever chose it add header fields of his own), the name
    /// [`OVERRIDE_NAME`], or a limit that makes no sense.
    pub fn new(name: impl Into<String>, limit: Limit) -> Result<Self, PolicyError> {
        let name = name.into();
        let refused = if name.is_empty() {
            Some("it is empty")
        } else if name.len() > MAX_NAME_BYTES {
            Some("it is longer than 128 bytes")
        } else if !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            Some("only visible ASCII and spaces can be sent in a header field")
        } else if name == OVERRIDE_NAME {
            Some("clients with a limit of their own are shown this name")
        } else {
            None
        };
        match refused {
            Some(reason) => Err(PolicyError::Name { name, reason }),
            None => Ok(Policy {
                name,
                limit,
                refill_ns: Gcra::new(&limit)?.tolerance_ns(),
            }),
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The limit.
    #[must_use]
    pub const fn limit(&self) -> Limit {
        self.limit
    }
}

/// As an item of `ratelimit-policy`.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};q={}", Quoted(&self.name), integer(self.limit.rate_limit()))?;
        let window = self.limit.window();
        // The window is sent in whole seconds and at least one. Rounded up to one, a window of 10 ms would be a hundred
        // times too long, so that it is better left out. A longer one is rounded up: the client then takes its rate for
        // lower than it is (by half at most), never for higher.
        if window >= Duration::from_secs(1) {
            write!(f, ";w={}", seconds(window))?;
        }
        Ok(())
    }
}

/// What a `-reset` field of the older kinds means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reset {
    /// Seconds from now, as fastify and NestJS send it. Needs no agreement about the time of day.
    Delta,
    /// Seconds since 1970, as express and koa send it. A client whose clock is wrong waits too long or too short.
    Epoch,
}

/// Which header fields are sent. `Retry-After` always is, where it applies.
///
/// ```
/// use ratelimit::headers::{HeaderStyle, Reset};
///
/// // For clients that know only the older fields:
/// let style = HeaderStyle::new().ratelimit(false).x_ratelimit(Reset::Epoch);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a style does nothing until headers are given it"]
pub struct HeaderStyle {
    ratelimit: bool,
    x_ratelimit: Option<Reset>,
    draft_6: bool,
    most_remaining: u64,
}

impl HeaderStyle {
    /// `ratelimit-policy` and `ratelimit`, as in draft 10, and nothing older.
    pub const fn new() -> Self {
        HeaderStyle {
            ratelimit: true,
            x_ratelimit: None,
            draft_6: false,
            most_remaining: MAX_INTEGER,
        }
    }

    /// Whether `ratelimit-policy` and `ratelimit` are sent.
    pub const fn ratelimit(mut self, sent: bool) -> Self {
        self.ratelimit = sent;
        self
    }

    /// Also sends `x-ratelimit-limit`, `x-ratelimit-remaining` and `x-ratelimit-reset`.
    pub const fn x_ratelimit(mut self, reset: Reset) -> Self {
        self.x_ratelimit = Some(reset);
        self
    }

    /// Also sends `ratelimit-limit`, `ratelimit-remaining` and `ratelimit-reset` (seconds from now), the fields of
    /// draft 6.
    pub const fn draft_6(mut self) -> Self {
        self.draft_6 = true;
        self
    }

    /// Never tells a client that more than so many requests remain. A large number beside a short time invites a flood.
    pub const fn cap_remaining(mut self, most: u64) -> Self {
        self.most_remaining = integer(most);
        self
    }
}

impl Default for HeaderStyle {
    fn default() -> Self {
        HeaderStyle::new()
    }
}

/// Turns the decisions of one limiter into header fields.
///
/// Holds the names and limits as they were when it was made: after [`Limiter::set_limit`](crate::Limiter::set_limit) make
/// it anew.
#[derive(Clone, Debug)]
pub struct Headers {
    policies: Vec<Policy>,
    style: HeaderStyle,
    /// `ratelimit-policy`, the same for all clients without a limit of their own.
    policy_field: String,
}

impl Headers {
    /// For named limits: all that the limiter has, in any order.
    ///
    /// Errors: there is none, or two have one name.
    pub fn new(policies: impl IntoIterator<Item = Policy>) -> Result<Self, PolicyError> {
        let policies: Vec<Policy> = policies.into_iter().collect();
        if policies.is_empty() {
            return Err(PolicyError::NoPolicy);
        }
        for (i, policy) in policies.iter().enumerate() {
            if policies[..i].iter().any(|earlier| earlier.name == policy.name) {
                return Err(PolicyError::Repeated {
                    name: policy.name.clone(),
                });
            }
        }
        let items: Vec<String> = policies.iter().map(Policy::to_string).collect();
        Ok(Headers {
            policies,
            style: HeaderStyle::new(),
            policy_field: items.join(", "),
        })
    }

    /// For limits without names. One alone is called `default`; several are called by their text, like `10/second`.
    ///
    /// Errors: there is none, or one makes no sense.
    pub fn unnamed(limits: &[Limit]) -> Result<Self, PolicyError> {
        if let [limit] = limits {
            return Headers::new([Policy::new("default", *limit)?]);
        }
        let mut policies: Vec<Policy> = Vec::with_capacity(limits.len());
        for limit in limits {
            // The same limit twice is one policy.
            if policies.iter().all(|policy| policy.limit != *limit) {
                policies.push(Policy::new(limit.to_string(), *limit)?);
            }
        }
        Headers::new(policies)
    }

    /// For limits and as many names, in the same order.
    ///
    /// Errors: as [`Policy::new`] and [`Headers::new`], or there are more of the one than of the other.
    pub fn named<N: Into<String>>(names: impl IntoIterator<Item = N>, limits: &[Limit]) -> Result<Self, PolicyError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.len() != limits.len() {
            return Err(PolicyError::NameCount {
                names: names.len(),
                limits: limits.len(),
            });
        }
        let policies = names
            .into_iter()
            .zip(limits)
            .map(|(name, limit)| Policy::new(name, *limit));
        Headers::new(policies.collect::<Result<Vec<_>, _>>()?)
    }

    /// The same with other fields.
    #[must_use]
    pub fn with_style(mut self, style: HeaderStyle) -> Self {
        self.style = style;
        self
    }

    /// The policies, in order.
    #[must_use]
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// The policy that a decision speaks of. `None` for a client with a limit of its own, which is shown as one policy
    /// called [`OVERRIDE_NAME`] whose quota is the burst.
    ///
    /// It is found by its burst, the `limit` of the decision. Of several with one burst it is the one that takes longest
    /// to refill: each request takes as much from all, so this one never holds more than the others, and at a tie it is
    /// the one with the longer wait. A limit of a client's own with the same burst cannot be told apart and is shown
    /// under the name of that policy.
    #[must_use]
    pub fn binding(&self, decision: &Decision) -> Option<&Policy> {
        let same_burst = |policy: &&Policy| policy.limit.capacity() == decision.limit;
        // `max_by_key` would take the last of equal ones; order says that the first counts.
        self.policies
            .iter()
            .rev()
            .filter(same_burst)
            .max_by_key(|policy| policy.refill_ns)
    }

    /// The header fields of a decision: name and value, each to be set once.
    ///
    /// Cost: a few small allocations. The time of day is read only for [`Reset::Epoch`].
    pub fn headers(&self, decision: &Decision) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let since_1970 = match self.style.x_ratelimit {
            // A time of day before 1970 is nobody's to serve well.
            Some(Reset::Epoch) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        self.headers_at(decision, since_1970)
    }

    /// As [`headers`](Headers::headers), at a given time of day: the time since 1970, which only [`Reset::Epoch`] uses.
    pub fn headers_at(
        &self,
        decision: &Decision,
        since_1970: Duration,
    ) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let style = &self.style;
        let told = Told::of(decision, style.most_remaining);
        let (policy, item) = match self.binding(decision) {
            Some(policy) => (self.policy_field.clone(), Quoted(&policy.name)),
            None => {
                let name = Quoted(OVERRIDE_NAME);
                (format!("{name};q={}", told.limit), name)
            }
        };
        let state = format!("{item};r={};t={}", told.remaining, told.wait_s);
        let reset = match style.x_ratelimit {
            Some(Reset::Epoch) => seconds(since_1970.saturating_add(told.wait)),
            _ => told.wait_s,
        };
        let (new, x, six) = (style.ratelimit, style.x_ratelimit.is_some(), style.draft_6);
        [
            new.then_some(("ratelimit-policy", policy)),
            new.then_some(("ratelimit", state)),
            retry_after(decision).map(|seconds| ("retry-after", seconds.to_string())),
            x.then(|| ("x-ratelimit-limit", told.limit.to_string())),
            x.then(|| ("x-ratelimit-remaining", told.remaining.to_string())),
            x.then(|| ("x-ratelimit-reset", reset.to_string())),
            six.then(|| ("ratelimit-limit", told.limit.to_string())),
            six.then(|| ("ratelimit-remaining", told.remaining.to_string())),
            six.then(|| ("ratelimit-reset", told.wait_s.to_string())),
        ]
        .into_iter()
        .flatten()
    }

    /// The body of a denial, as JSON of type [`PROBLEM_JSON`], to be sent with status 429.
    ///
    /// ```
    /// # use ratelimit::{Limiter, headers::Headers};
    /// # let limiter = Limiter::builder().limit("1/s".parse()?).build()?;
    /// # let headers = Headers::unnamed(&limiter.limits())?;
    /// assert_eq!(
    ///     headers.problem(&limiter.check_n("client-7", 2)),
    ///     r#"{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","#.to_owned()
    ///         + r#""title":"Request cannot be satisfied as assigned quota has been exceeded","#
    ///         + r#""status":429,"detail":"This request costs more than is ever allowed at once.","#
    ///         + r#""violated-policies":["default"]}"#,
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn problem(&self, decision: &Decision) -> String {
        let name = self.binding(decision).map_or(OVERRIDE_NAME, Policy::name);
        let detail = match retry_after(decision) {
            Some(1) => String::from("Try again in 1 second."),
            Some(seconds) => format!("Try again in {seconds} seconds."),
            None => String::from("This request costs more than is ever allowed at once."),
        };
        // Of visible ASCII a JSON string escapes what a structured field's string does.
        format!(
            "{{\"type\":\"{QUOTA_EXCEEDED}\",\
             \"title\":\"Request cannot be satisfied as assigned quota has been exceeded\",\
             \"status\":429,\"detail\":\"{detail}\",\"violated-policies\":[{}]}}",
            Quoted(name)
        )
    }
}

/// The value of `Retry-After`: whole seconds, at least 1. `None` if the request was allowed or never will be.
#[must_use]
pub fn retry_after(decision: &Decision) -> Option<u64> {
    if decision.allowed || decision.retry_after == Decision::NEVER {
        return None;
    }
    Some(seconds(decision.retry_after).max(1))
}

/// What a client is told, whatever the fields are called.
struct Told {
    limit: u64,
    remaining: u64,
    /// The wait before it is rounded.
    wait: Duration,
    wait_s: u64,
}

impl Told {
    fn of(decision: &Decision, most_remaining: u64) -> Self {
        let wait = if decision.allowed || decision.retry_after == Decision::NEVER {
            decision.reset_after
        } else {
            decision.retry_after
        };
        let (remaining, wait) = if decision.allowed {
            (decision.remaining.min(most_remaining), wait)
        } else {
            // A cost above 1 is denied while cheaper requests would pass; told so, clients would send them at once.
            // A denial that is over at once would make them try again without end, hence the one second.
            (0, wait.max(Duration::from_secs(1)))
        };
        Told {
            limit: integer(decision.limit),
            remaining,
            wait,
            wait_s: seconds(wait),
        }
    }
}

const fn integer(number: u64) -> u64 {
    if number < MAX_INTEGER { number } else { MAX_INTEGER }
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    integer(
        duration
            .as_secs()
            .saturating_add(u64::from(duration.subsec_nanos() > 0)),
    )
}

/// A string of a structured field (RFC 9651, 3.3.3). The content is visible ASCII, see [`Policy::new`].
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for character in self.0.chars() {
            if matches!(character, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(character)?;
        }
        f.write_char('"')
    }
}

/// Why limits cannot be shown to clients. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// A name that cannot be sent.
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two policies have one name.
    Repeated {
        /// The name.
        name: String,
    },
    /// There is no policy.
    NoPolicy,
    /// There are more names than limits, or fewer.
    NameCount {
        /// How many names were given.
        names: usize,
        /// How many limits there are.
        limits: usize,
    },
    /// The limit makes no sense.
    Limit(LimitError),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::Name { name, reason } => {
                // Escaped and shortened: an error text ends up in logs.
                let shown: String = name.escape_default().take(60).collect();
                write!(
                    f,
                    "\"{shown}\" is not a name for a policy: {reason}; use one like \"default\" or \"daily\""
                )
            }
            PolicyError::Repeated { name } => {
                write!(
                    f,
                    "two policies have the name \"{name}\": give each its own, or clients cannot tell them apart"
                )
            }
            PolicyError::NoPolicy => f.write_str("there is no policy: give the limits that the limiter has"),
            PolicyError::NameCount { names, limits } => {
                write!(
                    f,
                    "{names} names were given for {limits} limits: give one for each, in the same order"
                )
            }
            PolicyError::Limit(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PolicyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PolicyError::Limit(error) => Some(error),
            _ => None,
        }
    }
}

impl From<LimitError> for PolicyError {
    fn from(error: LimitError) -> Self {
        PolicyError::Limit(error)
    }
}
