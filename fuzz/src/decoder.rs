//! Damaged frames into the decoder.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use ratelimit_protocol::message::Message;
use ratelimit_protocol::wire::{FrameReader, MAX_FRAME};

use crate::{corpus, damage, memory};

/// Memory that one byte of a frame may cost: a peer told of in a hello takes 3 bytes there and 48 here, of which there are
/// at most 256; a report's entry takes 9 and 56.
const COST_OF_A_BYTE: usize = 16;

fn check(bytes: &[u8]) -> Result<bool, String> {
    let (decoded, largest) = memory::largest(|| Message::decode(bytes));
    if largest > bytes.len() * COST_OF_A_BYTE + 64 {
        return Err(format!("{} bytes made an allocation of {largest}", bytes.len()));
    }
    let Ok(Some((message, left))) = decoded else {
        return Ok(false);
    };
    let mut again = Vec::new();
    message.encode(&mut again);
    let mut frames = FrameReader::default();
    let mut rest = &again[..];
    match frames.next(&mut rest) {
        Ok(Some(body)) if body == &bytes[..bytes.len() - left] => Ok(true),
        other => Err(format!("{message:?} was understood, but encodes to {other:x?}")),
    }
}

/// A stream of frames, damaged and cut: no more than a frame is ever held.
fn check_stream(rng: &mut Rng, bytes: &[u8]) -> Result<(), String> {
    let mut frames = FrameReader::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut head, tail) = rest.split_at(rng.usize(1..=rest.len()));
        rest = tail;
        loop {
            match frames.next(&mut head) {
                Ok(Some(frame)) => drop(check(frame)?),
                Ok(None) => break,
                Err(_) => return Ok(()),
            }
        }
        if frames.held() > MAX_FRAME {
            return Err(format!("{} bytes are held", frames.held()));
        }
    }
    Ok(())
}

pub(crate) fn campaign(count: u64, seed: u64) -> Result<String, String> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut rng = Rng::with_seed(seed);
    let (mut understood, mut streams) = (0u64, 0u64);
    let mut pool: Vec<Vec<u8>> = Vec::new();
    let mut bytes = Vec::new();
    for execution in 0..count {
        if execution % 1024 == 0 {
            // Fresh messages now and then; making them costs more than decoding.
            pool = (0..64)
                .map(|i| {
                    let message = if i == 0 {
                        corpus::hello(&mut rng, "a", 5)
                    } else {
                        corpus::message(&mut rng)
                    };
                    let mut frame = Vec::new();
                    message.encode(&mut frame);
                    frame
                })
                .collect();
        }
        bytes.clear();
        bytes.extend_from_slice(&pool[rng.usize(0..pool.len())]);
        let other = rng.usize(0..pool.len());
        let stream = rng.u8(..) < 16;
        if stream {
            bytes.extend_from_slice(&pool[other]);
        } else {
            // Without its length, which is one byte for a short frame and two for most others.
            let head = if bytes[0] < 0x80 { 1 } else { 2 };
            bytes.drain(..head);
        }
        damage::damage(&mut rng, &mut bytes, &pool[other]);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if stream {
                check_stream(&mut rng, &bytes).map(|()| false)
            } else {
                check(&bytes)
            }
        }));
        match outcome {
            Ok(Ok(known)) => understood += u64::from(known),
            Ok(Err(text)) => return Err(format!("execution {execution}, bytes {}: {text}", hex(&bytes))),
            Err(_) => return Err(format!("execution {execution}: the decoder panics on {}", hex(&bytes))),
        }
        streams += u64::from(stream);
    }
    Ok(format!(
        "no panic, no large allocation; {understood} understood and said again alike, {streams} streams"
    ))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
