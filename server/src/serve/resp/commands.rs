//! The commands: what each replies. Texts of errors are those of Redis and of redis-cell, which clients know.

use std::time::Duration;

use ratelimit::Decision;

use super::reply::Replies;
use super::request::Request;
use crate::serve::node::Node;
use crate::serve::throttle::Terms;

/// The version of Redis whose protocol this is, for clients that ask before they speak.
const REDIS_VERSION: &str = "7.0.0";

/// The longest name that a connection can give itself.
const MAX_NAME_BYTES: usize = 128;

/// What a connection has told about itself.
#[derive(Debug)]
pub(crate) struct Session {
    /// The number of the connection.
    pub(crate) id: i64,
    /// The version of the protocol, 2 or 3.
    protocol: u8,
    authenticated: bool,
    name: Vec<u8>,
    /// Whether the connection is to be closed once the replies are sent.
    pub(crate) ends: bool,
}

/// Name, arity as Redis counts it (the name included; negative: at least), and what a command does.
type Command = (&'static str, i64, fn(&mut Session, &Node, Request<'_>, &mut Replies));

const COMMANDS: [Command; 12] = [
    ("cl.throttle", -1, throttle),
    ("ping", -1, ping),
    ("echo", 2, echo),
    ("hello", -1, hello),
    ("auth", -2, auth),
    ("client", -2, client),
    ("command", -1, command),
    ("info", -1, info),
    ("select", 2, select),
    ("config", -2, config),
    ("reset", 1, reset),
    ("quit", -1, quit),
];

impl Session {
    /// Of a connection that has said nothing yet.
    pub(crate) fn new(id: i64) -> Self {
        Session {
            id,
            protocol: 2,
            authenticated: false,
            name: Vec::new(),
            ends: false,
        }
    }

    /// Replies to one request.
    pub(crate) fn execute(&mut self, node: &Node, request: Request<'_>, replies: &mut Replies) {
        let name = request.get(0).unwrap_or_default();
        let found = COMMANDS
            .iter()
            .find(|(known, ..)| name.eq_ignore_ascii_case(known.as_bytes()));
        let Some((known, arity, run)) = found else {
            return unknown(request, replies);
        };
        let arguments = request.len() as i64;
        if (*arity >= 0 && arguments != *arity) || arguments < -arity {
            return wrong_number(known, replies);
        }
        if !self.authenticated && node.needs_token() && !matches!(*known, "auth" | "hello" | "quit" | "reset") {
            return replies.error("NOAUTH Authentication required.");
        }
        run(self, node, request, replies);
    }

    /// Whether the token is right. It then stays so until the connection is reset.
    fn authenticate(&mut self, node: &Node, user: &[u8], token: &[u8]) -> Result<(), &'static str> {
        if user == b"default" && node.is_token(token) {
            self.authenticated = true;
            return Ok(());
        }
        Err("WRONGPASS invalid username-password pair or user is disabled.")
    }

    fn set_name(&mut self, name: &[u8]) -> Result<(), &'static str> {
        if name.len() > MAX_NAME_BYTES || !name.iter().all(|byte| matches!(byte, b'!'..=b'~')) {
            return Err(
                "ERR Client names cannot contain spaces, newlines or special characters, nor more than 128 bytes.",
            );
        }
        self.name = name.to_vec();
        Ok(())
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned()
}

fn unknown(request: Request<'_>, replies: &mut Replies) {
    let mut arguments = String::new();
    for argument in request.iter().skip(1) {
        if arguments.len() >= 128 {
            break;
        }
        arguments.push_str(&format!("'{}' ", shown(argument)));
    }
    let name = shown(request.get(0).unwrap_or_default());
    replies.error(&format!(
        "ERR unknown command '{name}', with args beginning with: {arguments}"
    ));
}

fn wrong_number(name: &str, replies: &mut Replies) {
    replies.error(&format!("ERR wrong number of arguments for '{name}' command"));
}

fn done(outcome: Result<(), &'static str>, replies: &mut Replies) {
    match outcome {
        Ok(()) => replies.simple("OK"),
        Err(text) => replies.error(text),
    }
}

fn throttle(_: &mut Session, node: &Node, request: Request<'_>, replies: &mut Replies) {
    match decide(node, request) {
        Ok(decision) => write_decision(&decision, replies),
        Err(text) => replies.error(&format!("Cell error: {text}")),
    }
}

fn decide(node: &Node, request: Request<'_>) -> Result<Decision, String> {
    if !matches!(request.len(), 5 | 6) {
        return Err("Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]".to_owned());
    }
    let number = |index: usize| match request.get(index) {
        Some(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or_else(|| format!("Couldn't parse as integer: {}", shown(text))),
        None => Ok(1),
    };
    let at_least_zero = |index: usize, name: &str| {
        u64::try_from(number(index)?).map_err(|_| format!("{name} is below 0: use 0 or more"))
    };
    let terms = Terms {
        max_burst: at_least_zero(2, "max_burst")?,
        count: at_least_zero(3, "count per period")?,
        period_s: at_least_zero(4, "period")?,
    };
    let quantity = at_least_zero(5, "quantity")?;
    let key = request.get(1).unwrap_or_default();
    let check = || node.throttle.check(key, terms, quantity);
    if node.throttle.is_open(terms) {
        node.figures.latency.of(check)
    } else {
        // Restores a snapshot: other connections of this thread are served by another one meanwhile.
        tokio::task::block_in_place(check)
    }
}

/// The five numbers of redis-cell.
fn write_decision(decision: &Decision, replies: &mut Replies) {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    replies.array(5);
    replies.integer(i64::from(!decision.allowed));
    replies.integer(count(decision.limit));
    replies.integer(count(decision.remaining));
    replies.integer(if decision.allowed || decision.retry_after == Decision::NEVER {
        -1
    } else {
        seconds(decision.retry_after)
    });
    replies.integer(seconds(decision.reset_after));
}

/// Whole seconds, rounded up: who waits as he is told does not come too early.
fn seconds(duration: Duration) -> i64 {
    let whole = duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0));
    i64::try_from(whole).unwrap_or(i64::MAX)
}

fn ping(_: &mut Session, _: &Node, request: Request<'_>, replies: &mut Replies) {
    match (request.len(), request.get(1)) {
        (1, _) => replies.simple("PONG"),
        (2, Some(text)) => replies.bulk(text),
        _ => wrong_number("ping", replies),
    }
}

fn echo(_: &mut Session, _: &Node, request: Request<'_>, replies: &mut Replies) {
    replies.bulk(request.get(1).unwrap_or_default());
}

fn hello(session: &mut Session, node: &Node, request: Request<'_>, replies: &mut Replies) {
    let mut arguments = request.iter().skip(1);
    let mut protocol = session.protocol;
    if let Some(version) = arguments.next() {
        protocol = match version {
            b"2" => 2,
            b"3" => 3,
            other if other.iter().all(u8::is_ascii_digit) => {
                return replies.error("NOPROTO unsupported protocol version");
            }
            _ => return replies.error("ERR Protocol version is not an integer or out of range"),
        };
    }
    while let Some(option) = arguments.next() {
        let outcome = if option.eq_ignore_ascii_case(b"auth") {
            match (arguments.next(), arguments.next()) {
                (Some(user), Some(token)) => session.authenticate(node, user, token),
                _ => Err("ERR Syntax error in HELLO option 'auth'"),
            }
        } else if option.eq_ignore_ascii_case(b"setname") {
            arguments
                .next()
                .map_or(Err("ERR Syntax error in HELLO option 'setname'"), |name| {
                    session.set_name(name)
                })
        } else {
            return replies.error(&format!("ERR Syntax error in HELLO option '{}'", shown(option)));
        };
        if let Err(text) = outcome {
            return replies.error(text);
        }
    }
    if !session.authenticated && node.needs_token() {
        return replies.error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time",
        );
    }
    session.protocol = protocol;
    replies.map(protocol, 7);
    for (name, value) in [("server", "ratelimit"), ("version", REDIS_VERSION)] {
        replies.bulk(name.as_bytes());
        replies.bulk(value.as_bytes());
    }
    replies.bulk(b"proto");
    replies.integer(i64::from(protocol));
    replies.bulk(b"id");
    replies.integer(session.id);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        replies.bulk(name.as_bytes());
        replies.bulk(value.as_bytes());
    }
    replies.bulk(b"modules");
    replies.array(0);
}

fn auth(session: &mut Session, node: &Node, request: Request<'_>, replies: &mut Replies) {
    let (user, token) = match (request.len(), request.get(1), request.get(2)) {
        (2, Some(token), _) => (&b"default"[..], token),
        (3, Some(user), Some(token)) => (user, token),
        _ => return replies.error("ERR syntax error"),
    };
    if !node.needs_token() {
        return replies.error(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is \
             correct?",
        );
    }
    done(session.authenticate(node, user, token), replies);
}

fn client(session: &mut Session, _: &Node, request: Request<'_>, replies: &mut Replies) {
    let name = request.get(1).unwrap_or_default();
    let is = |known: &str, arguments: usize| name.eq_ignore_ascii_case(known.as_bytes()) && request.len() == arguments;
    if is("id", 2) {
        replies.integer(session.id);
    } else if is("getname", 2) {
        if session.name.is_empty() {
            replies.null(session.protocol);
        } else {
            replies.bulk(&session.name);
        }
    } else if is("setname", 3) {
        done(session.set_name(request.get(2).unwrap_or_default()), replies);
    } else if is("setinfo", 4) {
        // The name and version of the client's library, which nothing here shows to anybody.
        let known = |wanted: &str| {
            request
                .get(2)
                .is_some_and(|name| name.eq_ignore_ascii_case(wanted.as_bytes()))
        };
        if known("lib-name") || known("lib-ver") {
            replies.simple("OK");
        } else {
            replies.error(&format!(
                "ERR Unrecognized option '{}'",
                shown(request.get(2).unwrap_or_default())
            ));
        }
    } else {
        unknown_subcommand("CLIENT", name, replies);
    }
}

fn unknown_subcommand(command: &str, name: &[u8], replies: &mut Replies) {
    let name = shown(name);
    replies.error(&format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try {command} HELP."
    ));
}

fn command(_: &mut Session, _: &Node, request: Request<'_>, replies: &mut Replies) {
    let Some(name) = request.get(1) else {
        replies.array(COMMANDS.len());
        for (name, arity, _) in COMMANDS {
            let is_keyed = name == "cl.throttle";
            replies.array(6);
            replies.bulk(name.as_bytes());
            replies.integer(arity);
            replies.array(1);
            replies.simple(if is_keyed { "write" } else { "fast" });
            for _ in ["first key", "last key", "step"] {
                replies.integer(i64::from(is_keyed));
            }
        }
        return;
    };
    if name.eq_ignore_ascii_case(b"count") {
        replies.integer(COMMANDS.len() as i64);
    } else if name.eq_ignore_ascii_case(b"docs")
        || name.eq_ignore_ascii_case(b"info")
        || name.eq_ignore_ascii_case(b"list")
    {
        // Clients ask for hints to show while people type, and do without.
        replies.array(0);
    } else {
        unknown_subcommand("COMMAND", name, replies);
    }
}

fn info(_: &mut Session, node: &Node, _: Request<'_>, replies: &mut Replies) {
    let [allowed, denied, refused] = node.throttle.counts();
    let text = format!(
        "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nratelimit_version:{}\r\nprocess_id:{}\r\n\
         uptime_in_seconds:{}\r\n\r\n# Clients\r\nconnected_clients:{}\r\n\r\n# Persistence\r\nloading:0\r\n\r\n\
         # Replication\r\nrole:master\r\n\r\n\
         # Throttle\r\nlimits:{}\r\nallowed:{allowed}\r\ndenied:{denied}\r\nrefused:{refused}\r\n",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        node.started.elapsed().as_secs(),
        node.figures.resp.open(),
        node.throttle.len(),
    );
    replies.bulk(text.as_bytes());
}

fn select(_: &mut Session, _: &Node, request: Request<'_>, replies: &mut Replies) {
    match request.get(1) {
        Some(b"0") => replies.simple("OK"),
        Some(other) if !other.is_empty() && other.iter().all(u8::is_ascii_digit) => {
            replies.error("ERR DB index is out of range");
        }
        _ => replies.error("ERR value is not an integer or out of range"),
    }
}

fn config(session: &mut Session, _: &Node, request: Request<'_>, replies: &mut Replies) {
    let name = request.get(1).unwrap_or_default();
    if name.eq_ignore_ascii_case(b"get") && request.len() >= 3 {
        // None of Redis's settings exists here.
        replies.map(session.protocol, 0);
    } else {
        unknown_subcommand("CONFIG", name, replies);
    }
}

fn reset(session: &mut Session, _: &Node, _: Request<'_>, replies: &mut Replies) {
    *session = Session::new(session.id);
    replies.simple("RESET");
}

fn quit(session: &mut Session, _: &Node, _: Request<'_>, replies: &mut Replies) {
    session.ends = true;
    replies.simple("OK");
}
