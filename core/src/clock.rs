//! The clock that decides, in nanoseconds since the clock was made.
//!
//! | source | cost here | chosen |
//! |---|---|---|
//! | time stamp counter through quanta | about 10 ns | by [`Clock::precise`], if the kernel itself trusts the counter |
//! | the operating system's monotonic clock | about 25 ns | by [`Clock::precise`] otherwise, and by [`Clock::os`] |
//! | the operating system's coarse monotonic clock | about 5 ns, 1 to 4 ms late | by [`Clock::coarse`] |
//! | set by hand | none | by [`Clock::manual`], for tests |
//!
//! No clock has a thread, so all of them work in a forked child.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ratelimit_model::time;

use crate::raw::Held;

/// A clock; cheap to clone, all clones agree.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    Tsc(Tsc),
    Os(u64),
    #[cfg(target_os = "linux")]
    Coarse(u64),
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The fastest clock that can be trusted: the processor's time stamp counter if the kernel keeps time by it too,
    /// otherwise the operating system's.
    ///
    /// Cost: the first call in a process may take some milliseconds, to calibrate the counter.
    #[must_use]
    pub fn precise() -> Self {
        if counter_is_trusted() {
            Clock(Source::Tsc(Tsc::new()))
        } else {
            Self::os()
        }
    }

    /// The operating system's monotonic clock.
    #[must_use]
    pub fn os() -> Self {
        Clock(Source::Os(os_ns()))
    }

    /// A clock that is read faster and lags by up to 4 ms (one tick of the kernel). Where there is none: [`Clock::os`].
    ///
    /// A limit is kept as well as with any other clock, since this one never runs ahead; a client may be told to wait up to
    /// a tick longer than needed.
    #[must_use]
    pub fn coarse() -> Self {
        #[cfg(target_os = "linux")]
        return Clock(Source::Coarse(coarse_ns()));
        #[cfg(not(target_os = "linux"))]
        Self::os()
    }

    /// A clock that stands still until it is moved, and the hand that moves it.
    #[must_use]
    pub fn manual() -> (Self, ManualClock) {
        let now = Arc::new(AtomicU64::new(0));
        (Clock(Source::Manual(now.clone())), ManualClock(now))
    }

    /// Nanoseconds since the clock was made, on the circle of [`ratelimit_model::time`].
    #[inline]
    #[must_use]
    pub fn now(&self) -> u64 {
        let ns = match &self.0 {
            Source::Tsc(tsc) => tsc.now(),
            #[cfg(target_os = "linux")]
            Source::Coarse(origin) => coarse_ns().wrapping_sub(*origin),
            slow => slow.now(),
        };
        ns & time::MASK
    }

    /// What the clock reads now: `tsc`, `os`, `coarse` or `manual`.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match &self.0 {
            Source::Tsc(tsc) if tsc.is_distrusted() => "os",
            Source::Tsc(_) => "tsc",
            Source::Os(_) => "os",
            #[cfg(target_os = "linux")]
            Source::Coarse(_) => "coarse",
            Source::Manual(_) => "manual",
        }
    }

    /// Whether the counter was found wrong after it had been trusted.
    #[must_use]
    pub fn fell_back(&self) -> bool {
        matches!(&self.0, Source::Tsc(tsc) if tsc.is_distrusted())
    }

    /// What another process needs to make a clock that agrees with this one. `None` for one that is set by hand.
    pub(crate) fn base(&self) -> Option<TimeBase> {
        let (source, origin) = match &self.0 {
            Source::Tsc(tsc) => return Some(tsc.base),
            Source::Os(origin) => (TimeBase::OS, *origin),
            #[cfg(target_os = "linux")]
            Source::Coarse(origin) => (TimeBase::COARSE, *origin),
            Source::Manual(_) => return None,
        };
        Some(TimeBase {
            source,
            origin,
            scale: 0,
            os_origin: 0,
        })
    }

    /// The clock of a time base. `distrusted` and `compared` are what all who use this base share. `None` if the base is of no
    /// kind that is known.
    pub(crate) fn on(base: TimeBase, distrusted: Held<AtomicU64>, compared: Held<[AtomicU64; 2]>) -> Option<Self> {
        Some(Clock(match base.source {
            TimeBase::TSC => Source::Tsc(Tsc {
                counter: quanta::Clock::new(),
                base,
                distrusted,
                compared,
            }),
            TimeBase::OS => Source::Os(base.origin),
            #[cfg(target_os = "linux")]
            TimeBase::COARSE => Source::Coarse(base.origin),
            _ => return None,
        }))
    }
}

/// What makes the times of two clocks the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeBase {
    /// One of the constants.
    pub(crate) source: u64,
    /// The source's reading at time zero.
    pub(crate) origin: u64,
    /// Nanoseconds per tick of a counter, with 32 fraction bits.
    pub(crate) scale: u64,
    /// The operating system's clock at time zero, for one that falls back on it.
    pub(crate) os_origin: u64,
}

impl TimeBase {
    pub(crate) const TSC: u64 = 1;
    pub(crate) const OS: u64 = 2;
    pub(crate) const COARSE: u64 = 3;
}

impl Source {
    /// Kept out of the way of the fast sources: with all of them in line a decision needs more registers than there are.
    #[inline(never)]
    fn now(&self) -> u64 {
        match self {
            #[cfg(target_os = "linux")]
            Source::Coarse(origin) => coarse_ns().wrapping_sub(*origin),
            Source::Tsc(tsc) => tsc.now(),
            Source::Os(origin) => os_ns().wrapping_sub(*origin),
            // Relaxed: a time carries no other data.
            Source::Manual(now) => now.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.source())
    }
}

/// Moves a [`Clock::manual`]. Clones move the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(time::wrap(by), Ordering::Relaxed);
    }

    /// Sets the clock to any time, also an earlier one.
    pub fn set(&self, since_origin: Duration) {
        self.0.store(time::wrap(since_origin), Ordering::Relaxed);
    }
}

#[cfg(unix)]
fn os_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

#[cfg(not(unix))]
fn os_ns() -> u64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A clock of the system, through the C library: that one also works where the kernel's fast path is hidden, as under
/// Valgrind.
#[cfg(unix)]
#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Safety: `time` is a place for a time. It cannot fail for a clock that exists.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    (time.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(time.tv_nsec as u64)
}

#[cfg(target_os = "linux")]
#[inline]
fn coarse_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

/// On Linux: whether the kernel keeps its own time by the counter. It has then checked that the counter is invariant and
/// the same on all cores, and watches it. Elsewhere nobody tells us, and the operating system's clock is used.
fn counter_is_trusted() -> bool {
    const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    cfg!(target_os = "linux")
        && std::fs::read_to_string(CLOCK_SOURCE).is_ok_and(|source| matches!(source.trim(), "tsc" | "arch_sys_counter"))
}

/// The counter with a scale of our own: quanta's absolute times are private to a process and depend on its calibration,
/// so only its raw reading and its measured frequency are used.
#[derive(Clone)]
struct Tsc {
    counter: quanta::Clock,
    base: TimeBase,
    /// Set for good once the counter disagrees with the operating system.
    distrusted: Held<AtomicU64>,
    /// The last comparison: time by the counter and by the operating system.
    compared: Held<[AtomicU64; 2]>,
}

/// One reading in about a million, by bits of the counter, is compared with the operating system's clock.
const COMPARE_MASK: u64 = (1 << 20) - 1;

impl Tsc {
    fn new() -> Self {
        let counter = quanta::Clock::new();
        let base = TimeBase {
            source: TimeBase::TSC,
            scale: counter.delta_as_nanos(0, 1 << 32),
            origin: counter.raw(),
            os_origin: os_ns(),
        };
        Tsc {
            counter,
            base,
            distrusted: Held::new(AtomicU64::new(0)),
            compared: Held::new([AtomicU64::new(0), AtomicU64::new(0)]),
        }
    }

    fn is_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Relaxed) != 0
    }

    #[inline]
    fn now(&self) -> u64 {
        let ticks = self.counter.raw().wrapping_sub(self.base.origin);
        let ns = ((u128::from(ticks) * u128::from(self.base.scale)) >> 32) as u64;
        // Relaxed: a thread that still trusts the counter for one more reading is off by what the comparison allows.
        if ticks & COMPARE_MASK == 0 || self.distrusted.load(Ordering::Relaxed) != 0 {
            self.checked(ns)
        } else {
            ns
        }
    }

    /// Falls back for good if the counter went astray since the last comparison: by more than a hundredth, as after a
    /// migration or a suspend that reset it.
    #[cold]
    fn checked(&self, ns: u64) -> u64 {
        let os = os_ns().wrapping_sub(self.base.os_origin);
        if self.is_distrusted() {
            return os;
        }
        // Relaxed: two threads that compare at once mix two comparisons of nearly the same time; the slack covers that.
        let last_ns = self.compared[0].load(Ordering::Relaxed);
        let last_os = self.compared[1].load(Ordering::Relaxed);
        let by_os = os.wrapping_sub(last_os);
        if by_os < 1_000_000_000 || by_os > i64::MAX as u64 {
            return ns;
        }
        self.compared[0].store(ns, Ordering::Relaxed);
        self.compared[1].store(os, Ordering::Relaxed);
        if went_astray(ns.wrapping_sub(last_ns), by_os) {
            self.distrusted.store(1, Ordering::Relaxed);
            return os;
        }
        ns
    }
}

/// Whether the counter's time over an interval disagrees with the operating system's by more than a hundredth and 20 ms
/// (a thread may be put to sleep between the two readings).
fn went_astray(by_counter: u64, by_os: u64) -> bool {
    by_counter.abs_diff(by_os) > by_os / 100 + 20_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clock_agrees_with_the_operating_system() {
        for clock in [Clock::precise(), Clock::os(), Clock::coarse()] {
            let start = os_ns();
            let from = clock.now();
            while os_ns() - start < 30_000_000 {
                let now = clock.now();
                assert!(time::ahead(from, now) == 0, "{clock:?} went back");
            }
            let (by_clock, by_os) = (time::ahead(clock.now(), from), os_ns() - start);
            assert!(
                by_clock.abs_diff(by_os) < 12_000_000,
                "{clock:?}: {by_clock} against {by_os} ns"
            );
        }
    }

    #[test]
    fn a_manual_clock_stands_until_moved() {
        let (clock, hand) = Clock::manual();
        assert_eq!((clock.now(), clock.source()), (0, "manual"));
        hand.advance(Duration::from_secs(2));
        assert_eq!(clock.clone().now(), 2_000_000_000);
        hand.set(Duration::from_nanos(5));
        assert_eq!(clock.now(), 5);
    }

    #[test]
    fn a_counter_that_goes_astray_is_noticed() {
        let second = 1_000_000_000;
        assert!(!went_astray(second, second));
        assert!(!went_astray(second + second / 200, second));
        assert!(went_astray(second + second / 20, second));
        assert!(went_astray(0, second), "stopped");
        assert!(went_astray(u64::MAX - 5, second), "went back");
    }

    #[test]
    fn a_distrusted_counter_is_not_read_again() {
        let tsc = Tsc::new();
        tsc.distrusted.store(1, Ordering::Relaxed);
        let (os, now) = (os_ns() - tsc.base.os_origin, tsc.now());
        assert!(now >= os && now - os < 1_000_000_000);
        let clock = Clock(Source::Tsc(tsc));
        assert!(clock.fell_back());
        assert_eq!(clock.source(), "os");
    }
    #[test]
    fn clocks_of_one_base_agree_and_fall_back_together() {
        for first in [Clock::precise(), Clock::os(), Clock::coarse()] {
            let base = first.base().unwrap();
            let (distrusted, compared) = match &first.0 {
                Source::Tsc(tsc) => (tsc.distrusted.clone(), tsc.compared.clone()),
                _ => (
                    Held::new(AtomicU64::new(0)),
                    Held::new([AtomicU64::new(0), AtomicU64::new(0)]),
                ),
            };
            let second = Clock::on(base, distrusted, compared).unwrap();
            let differ = |what: &str| {
                let (a, b, c) = (first.now(), second.now(), first.now());
                // The processor may have been taken away between two readings: what they have between them is what counts.
                assert!(
                    time::ahead(a, b) == 0 && time::ahead(b, c) == 0,
                    "{first:?} {what}: {a} {b} {c}"
                );
            };
            differ("at first");
            if let Source::Tsc(tsc) = &first.0 {
                tsc.distrusted.store(1, Ordering::Relaxed);
                assert!(second.fell_back());
                differ("after the fall");
            }
        }
        assert!(Clock::manual().0.base().is_none());
    }
}
