//! Every bit of a 64 KiB snapshot flipped, every length cut, then random damage of one to eight bits, and moved sectors: never
//! believed unless identical, and never a panic.

use ratelimit_core::snapshot::{CHUNK_BYTES, HEADER_BYTES, Snapshot};

use crate::support::{Outcome, Random, bytes_of, is_whole, promise, some_clients};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Cases of random damage, after all single bits and all lengths
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// Where the random numbers begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Outcome {
    // As many as one chunk holds.
    let good = bytes_of(&some_clients(4_000)?, 7)?;
    let mut bytes = good.clone();
    let chunk = HEADER_BYTES..HEADER_BYTES + CHUNK_BYTES;
    // What salvage would take from a damaged file is what was written, or nothing.
    let salvages_truly = |bytes: &[u8]| {
        let taken = Snapshot::parse(bytes).map_or(0, |snapshot| snapshot.entries().count());
        taken == 0 || bytes.get(chunk.clone()) == good.get(chunk.clone())
    };
    let bits = bytes.len() * 8;
    for bit in 0..bits {
        bytes[bit / 8] ^= 1 << (bit % 8);
        promise!(!is_whole(&bytes), "bit {bit} is believed");
        promise!(salvages_truly(&bytes), "bit {bit} is salvaged");
        let in_header = bit < HEADER_BYTES * 8;
        promise!(
            !in_header || Snapshot::parse(&bytes).is_err(),
            "bit {bit} of the header is believed"
        );
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for length in 0..bytes.len() {
        promise!(!is_whole(&bytes[..length]), "length {length} is believed");
        promise!(salvages_truly(&bytes[..length]), "length {length} is salvaged");
    }
    let mut random = Random(args.seed);
    for case in 0..args.count {
        bytes.copy_from_slice(&good);
        if random.one_in(4) {
            let size = random.pick(&[512, 4_096]);
            let sectors = (bytes.len() / size) as u64;
            let (from, to) = (random.below(sectors) as usize, random.below(sectors) as usize);
            bytes.copy_within(from * size..(from + 1) * size, to * size);
        } else {
            for _ in 0..=random.below(8) {
                let bit = random.below(bits as u64) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        promise!(
            is_whole(&bytes) == (bytes == good),
            "random case {case} of seed {} is believed",
            args.seed
        );
        promise!(
            salvages_truly(&bytes),
            "random case {case} of seed {} is salvaged",
            args.seed
        );
    }
    let lengths = good.len();
    Ok(format!(
        "bits: {bits} single bits, {lengths} lengths and {} random cases, none believed",
        args.count
    ))
}
