//! `ratelimit serve` over RESP, with raw sockets and with the clients of Redis that are installed.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use common::node::{Client, Node, PATIENCE, wait};

#[test]
fn the_vector_of_redis_cell_holds() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let mut client = node.connect();
    let first = Instant::now();
    assert_eq!(client.throttle("user123 0 1 2 1"), [0, 1, 0, -1, 2]);
    assert_eq!(client.throttle("user123 0 1 2 1"), [1, 1, 0, 2, 2]);
    let allowed = wait("the two seconds to pass", || {
        let reply = client.throttle("user123 0 1 2 1");
        (reply[0] == 0).then_some(reply)
    });
    assert_eq!(allowed, [0, 1, 0, -1, 2]);
    assert!(
        first.elapsed() >= Duration::from_secs(2),
        "allowed after {:?}",
        first.elapsed()
    );
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let mut client = node.connect();
    let mut requests = Vec::new();
    for number in 0..10_000 {
        requests.extend(format!("*2\r\n$4\r\nECHO\r\n$5\r\n{number:05}\r\n").bytes());
    }
    requests.extend(b"CL.THROTTLE many 9 1 86400 4\r\nCL.THROTTLE many 9 1 86400 4\r\nCL.THROTTLE many 9 1 86400 4\r\nQUIT\r\nPING\r\n");
    client.send(&requests);
    for number in 0..10_000 {
        client.expect(&format!("$5\r\n{number:05}\r\n"));
    }
    assert_eq!(client.five(), [0, 10, 6, -1, 345_600]);
    assert_eq!(client.five(), [0, 10, 2, -1, 691_200]);
    assert_eq!(client.five()[..3], [1, 10, 2]);
    assert_eq!(client.rest(), "+OK\r\n", "nothing is answered after QUIT");
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let mut client = node.connect();
    client.stream.set_nodelay(true).unwrap();
    for byte in b"*6\r\n$11\r\nCL.THROTTLE\r\n$3\r\na\r\n\r\n$1\r\n1\r\n$1\r\n1\r\n$2\r\n60\r\n$1\r\n1\r\n" {
        client.send(&[*byte]);
    }
    assert_eq!(client.five(), [0, 2, 1, -1, 60]);
}

#[test]
fn hostile_clients_are_dropped_and_others_served() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let mut good = node.connect();
    assert_eq!(good.throttle("good 99 1 86400")[2], 99);

    // A declared gigabyte is refused before a byte of it is sent.
    let mut greedy = node.connect();
    greedy.send(b"*2\r\n$4\r\nECHO\r\n$1073741824\r\n");
    assert_eq!(greedy.rest(), "-ERR Protocol error: invalid bulk length\r\n");

    // Half a request, and then nothing.
    let mut half = node.connect();
    half.send(b"*2\r\n$4\r\nECHO\r\n$5\r\nab");

    // Echoes asked for, never read: sending stalls once all buffers are full, and then the node gives up.
    let mut slow = node.connect();
    let request = [
        b"*2\r\n$4\r\nECHO\r\n$60000\r\n".to_vec(),
        vec![b'x'; 60_000],
        b"\r\n".to_vec(),
    ]
    .concat();
    slow.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let before = node.memory_kib();
    let stalled = (0..10_000).find_map(|_| slow.stream.write_all(&request).err());
    let stalled = stalled
        .unwrap_or_else(|| panic!("600 MB of replies were taken in"))
        .kind();
    assert!(
        matches!(stalled, ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{stalled}"
    );
    let grown = node.memory_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "grew by {grown} KiB");

    assert_eq!(good.throttle("good 99 1 86400")[2], 98, "others are served meanwhile");
    wait("all three to be dropped", || {
        (node.metric("ratelimit_connections_dropped_total{listener=\"resp\"}") == 3.0).then_some(())
    });
    assert_eq!(half.rest(), "");
    assert_eq!(good.throttle("good 99 1 86400")[2], 97);
}

#[test]
fn connections_are_bounded_and_keys_may_be_long() {
    let directory = tempfile::tempdir().unwrap();
    let config = common::node::config(directory.path(), "max_connections = 200\n");
    let node = Node::start(directory.path(), &["--config", config.to_str().unwrap()]);
    let mut clients: Vec<Client> = (0..200).map(|_| node.connect()).collect();
    let key = "k".repeat(60_000);
    for client in &mut clients {
        client.send(format!("CL.THROTTLE {key} 99 1 86400\r\n").as_bytes());
    }
    let allowed = clients
        .iter_mut()
        .filter_map(|client| (client.five()[0] == 0).then_some(()))
        .count();
    assert_eq!(allowed, 100, "a long key is one key");
    let before = node.memory_kib();
    assert_eq!(node.connect().rest(), "-ERR max number of clients reached\r\n");
    for client in &mut clients {
        client.send(b"PING\r\n");
        client.expect("+PONG\r\n");
    }
    assert!(node.memory_kib() < before + 8 * 1024);
    assert!(node.memory_kib() < 128 * 1024, "{} KiB", node.memory_kib());
    clients.pop();
    wait("room for another", || {
        let mut client = node.connect();
        client.send(b"PING\r\n");
        let mut reply = [0; 7];
        (client.stream.read_exact(&mut reply).is_ok() && &reply == b"+PONG\r\n").then_some(())
    });
}

#[test]
fn whoever_was_denied_is_denied_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(directory.path(), &["--limit", "2/day"]);
    let mut client = node.connect();
    assert_eq!(client.throttle("a 0 1 86400")[0], 0);
    assert_eq!(client.throttle("a 0 1 86400")[0], 1);
    let ask = r#"{"key": "a", "cost": 2}"#;
    assert!(node.http("POST", "/v1/check", "", ask).1.contains("\"allowed\":true"));
    wait("both snapshots", || {
        let written = |name: &str| directory.path().join(name).exists().then_some(());
        written("default.snapshot").and(written("throttle/0-1-86400.snapshot"))
    });
    node.kill();

    let mut node = Node::start(directory.path(), &["--limit", "2/day"]);
    let mut client = node.connect();
    assert_eq!(client.throttle("a 0 1 86400")[0], 1);
    assert_eq!(client.throttle("b 0 1 86400")[0], 0);
    assert!(node.http("POST", "/v1/check", "", ask).1.contains("\"allowed\":false"));

    // What was charged just before a stop is in the last snapshot.
    assert_eq!(client.throttle("c 0 1 86400")[0], 0);
    assert_eq!(node.stop().code(), Some(0), "{}", node.log());
    assert_eq!(client.rest(), "", "connections end with the node");
    let node = Node::start(directory.path(), &["--limit", "2/day"]);
    let mut client = node.connect();
    assert_eq!(client.throttle("b 0 1 86400")[0], 1);
    assert_eq!(client.throttle("c 0 1 86400")[0], 1);
}

#[test]
fn a_token_from_the_environment_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::run(common::node::serve(directory.path(), &[]).env("RATELIMIT_TOKEN", "0123456789abcdef"));
    let mut client = node.connect();
    client.send(b"PING\r\nAUTH wrong\r\nAUTH 0123456789abcdef\r\nPING\r\n");
    client.expect("-NOAUTH Authentication required.\r\n");
    client.expect("-WRONGPASS invalid username-password pair or user is disabled.\r\n+OK\r\n+PONG\r\n");
}

#[test]
fn the_tools_of_redis_work_unchanged() {
    if Command::new("redis-cli").arg("--version").output().is_err() {
        writeln!(
            std::io::stderr(),
            "skipped: redis-cli is not installed (Debian: redis-tools)"
        )
        .unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(directory.path(), &[]);
    let port = node.resp.rsplit(':').next().unwrap();
    for protocol in ["-2", "-3"] {
        let mut command = Command::new("redis-cli");
        command.args([protocol, "-p", port, "CL.THROTTLE", protocol, "0", "1", "86400"]);
        assert_eq!(common::stdout(&command.output().unwrap()), "0\n1\n0\n-1\n86400\n");
    }
    for pipeline in ["1", "16"] {
        let mut command = Command::new("redis-benchmark");
        command.args([
            "-p",
            port,
            "-n",
            "2000",
            "-c",
            "10",
            "-P",
            pipeline,
            "--csv",
            "CL.THROTTLE",
            "bench",
            "99",
            "1",
            "86400",
        ]);
        let output = command.output().unwrap();
        assert!(
            output.status.success() && !common::stdout(&output).contains("Error"),
            "{output:?}"
        );
    }
    assert_eq!(node.metric("ratelimit_throttle_denied_total"), 3900.0);
}

#[test]
fn redis_py_connects_and_throttles() {
    let python = std::env::var("RATELIMIT_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&python).args(["-c", "import redis"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        writeln!(std::io::stderr(), "skipped: {python} cannot import redis (PyPI: redis)").unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let node = Node::run(common::node::serve(directory.path(), &[]).env("RATELIMIT_TOKEN", "0123456789abcdef"));
    let script = "
import redis, sys
for protocol in (2, 3):
    r = redis.Redis(port=int(sys.argv[1]), protocol=protocol, password='0123456789abcdef', client_name='test')
    assert r.ping() and r.client_getname() in ('test', b'test'), r.client_getname()
    key = f'key-{protocol}'
    assert r.execute_command('CL.THROTTLE', key, 0, 1, 86400) == [0, 1, 0, -1, 86400]
    with r.pipeline(transaction=False) as pipe:
        for _ in range(100):
            pipe.execute_command('CL.THROTTLE', key, 0, 1, 86400)
        assert all(reply[0] == 1 for reply in pipe.execute())
    assert r.info()['redis_version'] == '7.0.0'
print('done')
";
    let output = Command::new(&python)
        .args(["-c", script, node.resp.rsplit(':').next().unwrap()])
        .output()
        .unwrap();
    assert_eq!(common::stdout(&output), "done\n", "{}", common::stderr(&output));
}

#[test]
fn ioredis_connects_and_throttles() {
    // Where the package is installed: a folder with node_modules in it.
    let folder = std::env::var("RATELIMIT_TEST_IOREDIS").unwrap_or_else(|_| ".".to_owned());
    let node_js = |script: &str, port: &str| {
        let mut command = Command::new("node");
        command.current_dir(&folder).args(["-e", script, port]);
        command.output()
    };
    if !node_js("require('ioredis')", "").is_ok_and(|output| output.status.success()) {
        writeln!(
            std::io::stderr(),
            "skipped: node cannot require ioredis (npm: ioredis; RATELIMIT_TEST_IOREDIS names the folder)"
        )
        .unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let node = Node::run(common::node::serve(directory.path(), &[]).env("RATELIMIT_TOKEN", "0123456789abcdef"));
    let script = "
const assert = require('node:assert')
const Redis = require('ioredis')
async function main () {
  const redis = new Redis({ port: Number(process.argv[1]), password: '0123456789abcdef', connectionName: 'test', maxRetriesPerRequest: 1 })
  assert.strictEqual(await redis.ping(), 'PONG')
  assert.deepStrictEqual(await redis.call('CL.THROTTLE', 'a', 0, 1, 86400), [0, 1, 0, -1, 86400])
  const pipeline = redis.pipeline()
  for (let i = 0; i < 100; i++) pipeline.call('CL.THROTTLE', 'a', 0, 1, 86400)
  for (const [error, reply] of await pipeline.exec()) assert(error === null && reply[0] === 1, String(error))
  await assert.rejects(redis.call('CL.THROTTLE', 'a', 0, 0, 1), /Cell error: the rate limit is 0/)
  await redis.quit()
  console.log('done')
}
main().catch((error) => { console.error(error); process.exit(1) })
";
    let output = node_js(script, node.resp.rsplit(':').next().unwrap()).unwrap();
    assert_eq!(common::stdout(&output), "done\n", "{}", common::stderr(&output));
}

#[test]
fn whoever_reads_the_addresses_may_close_the_pipe() {
    let directory = tempfile::tempdir().unwrap();
    // The harness reads two lines and closes the pipe; the node was ended by that once.
    let node = Node::start(directory.path(), &[]);
    for _ in 0..3 {
        let mut stream = TcpStream::connect(&node.http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    }
}
