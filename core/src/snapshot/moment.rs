//! When a snapshot was made, and how long ago that is.
//!
//! On the same boot of the same machine the boot clock says so exactly: it counts suspend and cannot be set. After a reboot, or
//! on another machine, there is only the wall clock; set back, it counts as no time at all.

use std::time::{SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::xxh3_128;

/// An instant, told so that another process can say how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Which boot of which machine, and which time namespace; 0 if that is not known.
    pub boot_id: u128,
    /// Nanoseconds since that boot, suspend included.
    pub boot_ns: u64,
    /// Nanoseconds since the Unix epoch, by the wall clock.
    pub wall_ns: u64,
}

impl Moment {
    /// This instant.
    #[must_use]
    pub fn now() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment {
            boot_id: boot_id(),
            boot_ns: boot_ns(),
            wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// How long before this instant `earlier` was, in nanoseconds. What seems to be in the future is now.
    #[must_use]
    pub fn since(&self, earlier: &Moment) -> u64 {
        if self.is_same_boot(earlier) {
            self.boot_ns.saturating_sub(earlier.boot_ns)
        } else {
            self.wall_ns.saturating_sub(earlier.wall_ns)
        }
    }

    /// Whether the time between two instants is known exactly.
    #[must_use]
    pub fn is_same_boot(&self, other: &Moment) -> bool {
        self.boot_id != 0 && self.boot_id == other.boot_id
    }
}

#[cfg(target_os = "linux")]
fn boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    (now.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(now.tv_nsec as u64)
}

/// Read once: a process does not outlive its boot.
#[cfg(target_os = "linux")]
fn boot_id() -> u128 {
    static BOOT_ID: std::sync::OnceLock<u128> = std::sync::OnceLock::new();
    *BOOT_ID.get_or_init(read_boot_id)
}

#[cfg(target_os = "linux")]
fn read_boot_id() -> u128 {
    let Ok(mut id) = std::fs::read("/proc/sys/kernel/random/boot_id") else {
        return 0;
    };
    // A time namespace may shift the boot clock: in another one it is another clock.
    id.extend(std::fs::read("/proc/self/timens_offsets").unwrap_or_default());
    xxh3_128(&id)
}

#[cfg(not(target_os = "linux"))]
fn boot_ns() -> u64 {
    0
}

#[cfg(not(target_os = "linux"))]
fn boot_id() -> u128 {
    0
}

#[cfg(test)]
mod tests {
    use super::Moment;

    const HOUR: u64 = 3_600_000_000_000;

    #[test]
    fn the_boot_clock_counts_on_one_boot_and_the_wall_clock_otherwise() {
        let made = Moment {
            boot_id: 7,
            boot_ns: 100 * HOUR,
            wall_ns: 500 * HOUR,
        };
        let later = |boot_id, boot_ns, wall_ns| Moment {
            boot_id,
            boot_ns,
            wall_ns,
        };
        assert_eq!(
            later(7, 101 * HOUR, 900 * HOUR).since(&made),
            HOUR,
            "a wall clock that was moved"
        );
        assert_eq!(later(8, HOUR, 502 * HOUR).since(&made), 2 * HOUR, "another boot");
        assert_eq!(
            later(8, HOUR, 400 * HOUR).since(&made),
            0,
            "a wall clock that was set back"
        );
        assert_eq!(
            later(7, 99 * HOUR, 900 * HOUR).since(&made),
            0,
            "a boot clock cannot go back"
        );
        let unknown = Moment { boot_id: 0, ..made };
        assert_eq!(
            later(0, 101 * HOUR, 503 * HOUR).since(&unknown),
            3 * HOUR,
            "two unknown boots are not the same"
        );
    }

    #[test]
    fn now_moves_on() {
        let one = Moment::now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let two = Moment::now();
        assert!((1_000_000..10_000_000_000).contains(&two.since(&one)));
        assert!(!cfg!(target_os = "linux") || two.is_same_boot(&one));
    }
}
