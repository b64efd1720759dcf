//! The commands as a client sees them, and what comes of input that is no command.

use super::request::{MAX_REQUEST_BYTES, ProtocolError};
use super::*;

struct Bench {
    node: Node,
    session: Session,
    _directory: tempfile::TempDir,
}

fn bench(token: Option<&str>) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let args = ServeArgs {
        state: Some(directory.path().into()),
        token: token.map(str::to_owned),
        ..ServeArgs::default()
    };
    Bench {
        node: Node::new(Config::load(&args).unwrap()).unwrap(),
        session: Session::new(7),
        _directory: directory,
    }
}

impl Bench {
    /// What a typed line is answered.
    fn say(&mut self, line: &str) -> String {
        let line = format!("{line}\r\n");
        let mut reader = Reader::default();
        let mut replies = Replies::default();
        match reader.find(line.as_bytes()).unwrap() {
            Found::Request(request, _) => self.session.execute(&self.node, request, &mut replies),
            other => panic!("{other:?}"),
        }
        String::from_utf8(replies.bytes).unwrap()
    }
}

// As in the node: opening a set of terms moves other work of the thread away, which only this kind of runtime can.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn throttle_replies_as_redis_cell_does() {
    let mut bench = bench(None);
    assert_eq!(
        bench.say("CL.THROTTLE user123 0 1 2 1"),
        "*5\r\n:0\r\n:1\r\n:0\r\n:-1\r\n:2\r\n"
    );
    assert_eq!(
        bench.say("cl.throttle user123 0 1 2"),
        "*5\r\n:1\r\n:1\r\n:0\r\n:2\r\n:2\r\n"
    );
    // A quantity of 0 looks and is never denied; one above the burst is denied for ever.
    assert_eq!(
        bench.say("CL.THROTTLE a 4 1 3600 0"),
        "*5\r\n:0\r\n:5\r\n:5\r\n:-1\r\n:0\r\n"
    );
    assert_eq!(
        bench.say("CL.THROTTLE a 4 1 3600 6"),
        "*5\r\n:1\r\n:5\r\n:5\r\n:-1\r\n:0\r\n"
    );
    assert_eq!(
        bench.say("CL.THROTTLE a 4 1 3600 3"),
        "*5\r\n:0\r\n:5\r\n:2\r\n:-1\r\n:10800\r\n"
    );
    assert_eq!(
        bench.say("CL.THROTTLE a 4 1 3600 3"),
        "*5\r\n:1\r\n:5\r\n:2\r\n:3600\r\n:10800\r\n"
    );
    // 2,000 a second: parts of a second are rounded up.
    assert_eq!(
        bench.say("CL.THROTTLE b 1999 2000 1 2000"),
        "*5\r\n:0\r\n:2000\r\n:0\r\n:-1\r\n:1\r\n"
    );
    for (line, reply) in [
        (
            "CL.THROTTLE",
            "-Cell error: Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]\r\n",
        ),
        (
            "CL.THROTTLE a 1 1",
            "-Cell error: Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]\r\n",
        ),
        ("CL.THROTTLE a x 1 1", "-Cell error: Couldn't parse as integer: x\r\n"),
        (
            "CL.THROTTLE a 1 1 1.5",
            "-Cell error: Couldn't parse as integer: 1.5\r\n",
        ),
        (
            "CL.THROTTLE a 1 1 1 -1",
            "-Cell error: quantity is below 0: use 0 or more\r\n",
        ),
        (
            "CL.THROTTLE a -1 1 1",
            "-Cell error: max_burst is below 0: use 0 or more\r\n",
        ),
    ] {
        assert_eq!(bench.say(line), reply);
    }
    assert!(
        bench
            .say("CL.THROTTLE a 1 0 1")
            .starts_with("-Cell error: the rate limit is 0")
    );
    assert!(
        bench
            .say("CL.THROTTLE a 1 1 0")
            .starts_with("-Cell error: the time window is 0")
    );
}

#[test]
fn what_clients_say_first_is_understood() {
    let mut bench = bench(None);
    for (line, reply) in [
        ("PING", "+PONG\r\n"),
        ("PING hello", "$5\r\nhello\r\n"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n"),
        ("ECHO a", "$1\r\na\r\n"),
        ("ECHO", "-ERR wrong number of arguments for 'echo' command\r\n"),
        ("CLIENT ID", ":7\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETNAME me", "+OK\r\n"),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        ("CLIENT SETINFO LIB-NAME redis-py", "+OK\r\n"),
        ("CLIENT SETINFO lib-ver 5.0", "+OK\r\n"),
        ("CLIENT SETINFO x y", "-ERR Unrecognized option 'x'\r\n"),
        (
            "CLIENT KILL",
            "-ERR unknown subcommand or wrong number of arguments for 'KILL'. Try CLIENT HELP.\r\n",
        ),
        ("COMMAND COUNT", ":12\r\n"),
        ("COMMAND DOCS", "*0\r\n"),
        ("CONFIG GET save", "*0\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("SELECT 1", "-ERR DB index is out of range\r\n"),
        ("SELECT x", "-ERR value is not an integer or out of range\r\n"),
        (
            "AUTH x",
            "-ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                    configuration is correct?\r\n",
        ),
        (
            "GET a \"b\\r\\n\"",
            "-ERR unknown command 'GET', with args beginning with: 'a' 'b  ' \r\n",
        ),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 3 nonsense", "-ERR Syntax error in HELLO option 'nonsense'\r\n"),
    ] {
        assert_eq!(bench.say(line), reply, "{line}");
    }
    assert!(
        bench
            .say("HELLO")
            .starts_with("*14\r\n$6\r\nserver\r\n$9\r\nratelimit\r\n")
    );
    assert!(bench.say("HELLO 3 SETNAME you").starts_with("%7\r\n"));
    assert_eq!(bench.say("CONFIG GET save"), "%0\r\n");
    assert_eq!(bench.say("CLIENT GETNAME"), "$3\r\nyou\r\n");
    assert_eq!(bench.say("RESET"), "+RESET\r\n");
    assert_eq!(bench.say("CLIENT GETNAME"), "$-1\r\n");
    assert!(bench.say("INFO").contains("redis_version:7.0.0\r\n"));
    assert!(
        bench
            .say("COMMAND")
            .starts_with("*12\r\n*6\r\n$11\r\ncl.throttle\r\n:-1\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n")
    );
    assert_eq!(bench.say("QUIT"), "+OK\r\n");
    assert!(bench.session.ends);
}

#[test]
fn a_token_is_asked_for() {
    let mut bench = bench(Some("0123456789abcdef"));
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    for line in ["PING", "CL.THROTTLE a 1 1 1", "CLIENT ID", "INFO"] {
        assert_eq!(bench.say(line), "-NOAUTH Authentication required.\r\n");
    }
    assert!(bench.say("HELLO 3").starts_with("-NOAUTH HELLO must be called"));
    assert_eq!(bench.say("AUTH 0123456789abcdeX"), wrong);
    assert_eq!(bench.say("AUTH other 0123456789abcdef"), wrong);
    assert_eq!(bench.say("HELLO 3 AUTH default wrong"), wrong);
    assert_eq!(bench.say("PING"), "-NOAUTH Authentication required.\r\n");
    assert_eq!(bench.say("AUTH 0123456789abcdef"), "+OK\r\n");
    assert_eq!(bench.say("PING"), "+PONG\r\n");
    bench.say("RESET");
    assert_eq!(bench.say("PING"), "-NOAUTH Authentication required.\r\n");
    assert!(bench.say("HELLO 2 AUTH default 0123456789abcdef").starts_with("*14"));
    assert_eq!(bench.say("PING"), "+PONG\r\n");
}

/// A small generator with a seed, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // xorshift64*, of Vigna.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn mutated_bytes_neither_panic_nor_pile_up() {
    let mut bench = bench(None);
    let seeds: [&[u8]; 6] = [
        b"*5\r\n$11\r\nCL.THROTTLE\r\n$1\r\na\r\n$1\r\n0\r\n$1\r\n1\r\n$2\r\n60\r\n",
        b"*3\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$7\r\nSETNAME\r\n",
        b"*2\r\n$4\r\nECHO\r\n$5\r\na\r\nbc\r\n",
        b"CL.THROTTLE \"a\\x41\" 1 1 60 1\r\n",
        b"PING 'a\\'b'\r\n\r\n*0\r\n*-1\r\n",
        b"*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$8\r\nLIB-NAME\r\n$1\r\nx\r\n",
    ];
    let mut answered = 0;
    let mut refused = 0;
    for seed in 1..=20_000u64 {
        let mut dice = Dice(seed);
        let mut input = Vec::new();
        for _ in 0..=dice.roll(4) {
            input.extend_from_slice(seeds[dice.roll(seeds.len())]);
        }
        for _ in 0..dice.roll(6) {
            let at = dice.roll(input.len());
            match dice.roll(4) {
                0 => input[at] = dice.roll(256) as u8,
                1 => input.insert(at, b"\r\n$*\"'\\0-9"[dice.roll(10)]),
                2 if input.len() > 1 => {
                    input.remove(at);
                }
                _ => input.truncate(at.max(1)),
            }
        }
        let mut reader = Reader::default();
        let mut replies = Replies::default();
        let mut at = 0;
        loop {
            match reader.find(&input[at..]) {
                Ok(Found::Request(request, taken)) => {
                    assert!(taken > 0 && at + taken <= input.len(), "seed {seed}");
                    bench.session.execute(&bench.node, request, &mut replies);
                    at += taken;
                    answered += 1;
                }
                Ok(Found::Nothing(taken)) => {
                    assert!(taken > 0, "seed {seed}");
                    at += taken;
                }
                Ok(Found::Unfinished) => break,
                Err(ProtocolError(text)) => {
                    assert!(text.starts_with("Protocol error: "), "seed {seed}: {text}");
                    refused += 1;
                    break;
                }
            }
        }
        // The longest reply to so short an input is that to COMMAND or INFO.
        assert!(
            replies.bytes.len() < 64 * 1024,
            "seed {seed}: {} bytes",
            replies.bytes.len()
        );
        assert!(input.len() < MAX_REQUEST_BYTES);
    }
    assert!(
        answered > 10_000 && refused > 1_000,
        "{answered} answered, {refused} refused: the mutations are not good ones"
    );
    assert!(bench.node.throttle.len() <= 256);
}
