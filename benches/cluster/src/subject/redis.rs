//! One Redis for all nodes, asked with the GCRA script that limiters over Redis have in common (redis_rate,
//! `redis-gcra`): the clock is the server's, the state one number that holds the TAT, and one script call decides.
//! The calls of a node share one connection, as the multiplexed client of the `redis` crate has it, so calls that wait
//! at the same time travel together.

use std::process::Command;
use std::time::Duration;

use redis::Script;
use redis::aio::MultiplexedConnection;

use super::{Asked, Node, READY_WITHIN, Remote, Servers};
use crate::plan::{NODES, Quota};
use crate::process::{Place, Process, free_address, on_path};

/// `allowed, remaining, retry after, reset after` for one request of cost 1, times in seconds.
const GCRA: &str = r"
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local interval = 1 / rate
local time = redis.call('TIME')
-- Seconds since 2017, so that microseconds fit into a double.
local now = (tonumber(time[1]) - 1483228800) + tonumber(time[2]) / 1000000
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local new_tat = tat + interval
local room = now - (new_tat - interval * burst)
if room < 0 then
  return {0, 0, tostring(-room), tostring(tat - now)}
end
redis.call('SET', KEYS[1], string.format('%.17g', new_tat), 'EX', math.max(1, math.ceil(new_tat - now)))
return {1, math.floor(room / interval), '-1', tostring(new_tat - now)}
";

pub(crate) fn servers(place: &Place) -> Result<Servers, String> {
    let address = free_address()?;
    let (host, port) = address.split_once(':').ok_or("an address has a port")?;
    let mut command = Command::new("redis-server");
    command
        .args([
            "--bind",
            host,
            "--port",
            port,
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
        ])
        .arg(place.temporary());
    let mut server = Process::start("redis-server", command, place)?;
    server.listens(&address, READY_WITHIN, place)?;
    Ok(Servers {
        processes: vec![server],
        addresses: vec![address; NODES],
    })
}

/// Why it cannot be measured here, or its version.
pub(crate) fn version() -> Result<String, String> {
    if !on_path("redis-server") {
        return Err("install redis-server (Debian: apt-get install redis-server)".to_owned());
    }
    let output = Command::new("redis-server")
        .arg("--version")
        .output()
        .map_err(|error| format!("redis-server does not run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
    Ok(version.unwrap_or("of an unknown version").to_owned())
}

struct Redis {
    connection: MultiplexedConnection,
    script: Script,
    quota: Quota,
}

impl Remote for Redis {
    fn ask<'a>(&'a self, id: &'a str) -> Asked<'a> {
        Box::pin(async move {
            let mut connection = self.connection.clone();
            // EVALSHA; the whole script only if the server does not know it yet.
            let (allowed, _remaining, _retry, _reset): (u8, u64, String, String) = self
                .script
                .key(id)
                .arg(self.quota.rate)
                .arg(self.quota.burst)
                .invoke_async(&mut connection)
                .await
                .map_err(|error| error.to_string())?;
            Ok(allowed == 1)
        })
    }
}

pub(crate) async fn connect(node: &Node) -> Result<Box<dyn Remote>, String> {
    let client = redis::Client::open(format!("redis://{}/", node.address())).map_err(|error| error.to_string())?;
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
    let connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(|error| format!("no connection to Redis: {error}"))?;
    let script = Script::new(GCRA);
    script
        .prepare_invoke()
        .load_async(&mut connection.clone())
        .await
        .map_err(|error| format!("Redis does not take the script: {error}"))?;
    Ok(Box::new(Redis {
        connection,
        script,
        quota: node.quota,
    }))
}
