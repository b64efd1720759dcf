//! What several campaigns need.

use ratelimit_core::snapshot::simulated::SimulatedDisk;
use ratelimit_core::snapshot::{Moment, Snapshot, Which};
use ratelimit_core::{Clock, Config, Engine, Fingerprint, HashKey, ManualClock, Overflow};

/// The figure a campaign reached, or the promise it saw broken.
pub(crate) type Outcome = Result<String, String>;

/// Ends a campaign if a promise is broken.
macro_rules! promise {
    ($holds:expr, $($says:tt)*) => {
        if !$holds {
            return Err(format!($($says)*));
        }
    };
}
pub(crate) use promise;

/// Random numbers that can be repeated: SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Any number of bits is as likely as any other.
    pub(crate) fn magnitude(&mut self) -> u64 {
        let bits = self.below(65);
        if bits == 0 { 0 } else { self.next() >> (64 - bits) }
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// An engine on a clock that is moved by hand.
pub(crate) fn engine(limit: &str) -> Result<(Engine, ManualClock), String> {
    let (clock, hand) = Clock::manual();
    let engine = Engine::new(Config {
        limits: vec![limit.parse().map_err(|error| format!("{error}"))?],
        max_keys: None,
        hash_key: HashKey::new(*b"sixteen secrets!"),
        clock,
        overflow: Overflow::Share,
    });
    Ok((engine.map_err(|error| error.to_string())?, hand))
}

pub(crate) fn client(engine: &Engine, number: u64) -> Fingerprint {
    engine.fingerprint(&number.to_le_bytes())
}

/// An engine with `clients` in debt, each by another amount.
pub(crate) fn some_clients(clients: u64) -> Result<Engine, String> {
    let (engine, _) = engine("100/minute")?;
    for number in 0..clients {
        let allowed = engine.check(client(&engine, number), 1 + number % 100, None).allowed;
        promise!(allowed, "client {number} was denied at once");
    }
    Ok(engine)
}

/// An instant that stands still.
pub(crate) const STILL: Moment = Moment {
    boot_id: 1,
    boot_ns: 1,
    wall_ns: 1,
};

/// The bytes of the snapshot of an engine.
pub(crate) fn bytes_of(engine: &Engine, generation: u64) -> Result<Vec<u8>, String> {
    let mut disk = SimulatedDisk::new();
    let written = engine.write_snapshot(&mut disk, generation, || STILL);
    written.map_err(|error| error.to_string())?;
    disk.content(Which::Newest)
        .ok_or_else(|| "nothing was written".to_owned())
}

/// Whether a file would be taken whole.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    Snapshot::parse(bytes).is_ok_and(|snapshot| snapshot.damage().is_none())
}
