//! Damaged requests into a node that speaks the protocol of Redis.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use ratelimit_server::serve::resp::Conversation;

use crate::decoder::hex;
use crate::{damage, memory};

/// The largest allocation that requests may cause, whatever lengths they name: room for replies to requests that were really sent, and
/// for the table of a set of terms that is opened (reserved, not touched).
const MOST_BYTES: usize = 1024 * 1024;

/// Requests of every kind. Terms are few, so that campaigns decide more than they open.
const SEEDS: [&[u8]; 14] = [
    b"*6\r\n$11\r\nCL.THROTTLE\r\n$1\r\na\r\n$1\r\n9\r\n$1\r\n1\r\n$2\r\n60\r\n$1\r\n1\r\n",
    b"*5\r\n$11\r\ncl.throttle\r\n$3\r\nb\r\n\r\n$1\r\n0\r\n$3\r\n100\r\n$1\r\n1\r\n",
    b"*3\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$7\r\nSETNAME\r\n",
    b"*5\r\n$5\r\nHELLO\r\n$1\r\n2\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$1\r\nx\r\n",
    b"*2\r\n$4\r\nECHO\r\n$5\r\na\r\nbc\r\n",
    b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nPING\r\n$0\r\n\r\n",
    b"CL.THROTTLE \"a\\x41\" 9 1 60 1\r\n",
    b"PING 'a\\'b'\r\n\r\n*0\r\n*-1\r\n",
    b"*4\r\n$6\r\nCLIENT\r\n$7\r\nSETINFO\r\n$8\r\nLIB-NAME\r\n$1\r\nx\r\n",
    b"*2\r\n$6\r\nCLIENT\r\n$7\r\nGETNAME\r\n*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$1\r\nn\r\n",
    b"*1\r\n$4\r\nINFO\r\n*2\r\n$7\r\nCOMMAND\r\n$5\r\nCOUNT\r\n*1\r\n$7\r\nCOMMAND\r\n",
    b"*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$4\r\nsave\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n",
    b"*1\r\n$5\r\nRESET\r\n*1\r\n$4\r\nQUIT\r\n",
    b"*2\r\n$4\r\nECHO\r\n$1073741824\r\n",
];

/// The replies in `bytes`, counted; an error if they are not whole ones.
fn replies(mut bytes: &[u8]) -> Result<u64, String> {
    fn one(bytes: &mut &[u8], depth: u32) -> Result<(), String> {
        let end = bytes
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .ok_or("a line without an end")?;
        let (line, rest) = (&bytes[..end], &bytes[end + 2..]);
        *bytes = rest;
        let (kind, text) = line.split_first().ok_or("an empty line")?;
        let number = || -> Result<i64, String> {
            let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
            text.parse().map_err(|error| format!("{text}: {error}"))
        };
        match kind {
            b'+' | b'-' => Ok(()),
            b':' => number().map(|_| ()),
            b'_' if text.is_empty() => Ok(()),
            b'$' => {
                let length = number()?;
                if length == -1 {
                    return Ok(());
                }
                let length = usize::try_from(length).map_err(|_| "a length below zero")?;
                if bytes.get(length..length + 2) != Some(b"\r\n") {
                    return Err("a text without its end".to_owned());
                }
                *bytes = &bytes[length + 2..];
                Ok(())
            }
            b'*' | b'%' if depth < 4 => {
                let elements = number()? * if *kind == b'%' { 2 } else { 1 };
                (0..elements).try_for_each(|_| one(bytes, depth + 1))
            }
            other => Err(format!("a reply of kind {other}")),
        }
    }
    let mut count = 0;
    while !bytes.is_empty() {
        one(&mut bytes, 0)?;
        count += 1;
    }
    Ok(count)
}

fn check(conversation: &mut Conversation, bytes: &[u8], rng: &mut Rng) -> Result<u64, String> {
    let (heard, largest) = memory::largest(|| conversation.hear(bytes));
    if largest > MOST_BYTES {
        return Err(format!("{} bytes made an allocation of {largest}", bytes.len()));
    }
    if heard.taken > bytes.len() {
        return Err("more was understood than was sent".to_owned());
    }
    let answered = replies(&heard.replies)?;
    // What is cut in two is understood as when it comes at once.
    let cut = rng.usize(0..=heard.taken);
    let first = conversation.hear(&bytes[..cut]);
    if first.taken > cut || (!first.ends && first.taken > heard.taken) {
        return Err(format!("cut at {cut}, {} bytes are understood", first.taken));
    }
    Ok(answered)
}

pub(crate) fn campaign(count: u64, seed: u64) -> Result<String, String> {
    std::panic::set_hook(Box::new(|_| {}));
    let directory = std::env::temp_dir().join(format!("ratelimit-fuzz-{}", std::process::id()));
    let outcome = in_directory(&directory, count, seed);
    // It lies where the system clears up anyway.
    let _ = std::fs::remove_dir_all(&directory);
    outcome
}

fn in_directory(directory: &std::path::Path, count: u64, seed: u64) -> Result<String, String> {
    let mut conversation = Conversation::new(directory).map_err(|error| error.to_string())?;
    let mut rng = Rng::with_seed(seed);
    let mut answered = 0;
    let mut bytes = Vec::new();
    for execution in 0..count {
        bytes.clear();
        for _ in 0..rng.usize(1..4) {
            bytes.extend_from_slice(SEEDS[rng.usize(0..SEEDS.len())]);
        }
        let other = SEEDS[rng.usize(0..SEEDS.len())];
        damage::damage(&mut rng, &mut bytes, other);
        match catch_unwind(AssertUnwindSafe(|| check(&mut conversation, &bytes, &mut rng))) {
            Ok(Ok(more)) => answered += more,
            Ok(Err(text)) => return Err(format!("execution {execution}, bytes {}: {text}", hex(&bytes))),
            Err(_) => return Err(format!("execution {execution}: the node panics on {}", hex(&bytes))),
        }
    }
    Ok(format!(
        "no panic, no large allocation, only whole replies; {answered} of them"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_from_what_is_none() {
        assert_eq!(replies(b"+OK\r\n*2\r\n:1\r\n$1\r\na\r\n%1\r\n+a\r\n_\r\n"), Ok(3));
        for wrong in [&b"+OK"[..], b"*2\r\n:1\r\n", b"$3\r\nab\r\n", b":x\r\n", b"?\r\n"] {
            assert!(replies(wrong).is_err(), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn a_short_campaign_finds_nothing() {
        let told = campaign(5_000, 1).expect("nothing is found");
        assert!(told.contains("no panic"), "{told}");
    }
}
