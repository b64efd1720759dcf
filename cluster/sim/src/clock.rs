//! The clocks of one machine as the simulated truth moves them: offset, drift, steps of the wall clock, and stops.

/// Nanoseconds of true time since the start of the run. Only the simulator knows it.
pub type TrueNs = u64;

/// The monotonic and the wall clock of one machine.
///
/// The monotonic clock starts anywhere, runs fast or slow by `drift_ppm`, and can stand still with the machine. The wall
/// clock can be set; nothing but an incarnation is made from it.
#[derive(Clone, Debug)]
pub struct Clock {
    /// What the monotonic clock shows at `since`.
    shown_ns: u64,
    since: TrueNs,
    drift_ppm: i64,
    stopped: bool,
    wall_offset_ms: i64,
}

/// What the wall clock of an exact machine shows when a run begins.
const RUN_STARTS_AT_WALL_MS: i64 = 1_790_000_000_000;
const MILLION: i128 = 1_000_000;

impl Clock {
    /// A clock that shows `shown_ns` when the run begins.
    #[must_use]
    pub fn new(shown_ns: u64, drift_ppm: i64) -> Self {
        Clock {
            shown_ns,
            since: 0,
            drift_ppm,
            stopped: false,
            wall_offset_ms: 0,
        }
    }

    /// What the monotonic clock shows at a true time not before the last change of this clock.
    #[must_use]
    pub fn now(&self, at: TrueNs) -> u64 {
        if self.stopped {
            return self.shown_ns;
        }
        let passed = i128::from(at.saturating_sub(self.since));
        self.shown_ns + (passed * (MILLION + i128::from(self.drift_ppm)) / MILLION) as u64
    }

    /// The first true time at which the clock shows at least `shown_ns`, as long as nobody touches it; never before `at`.
    #[must_use]
    pub fn when(&self, shown_ns: u64, at: TrueNs) -> TrueNs {
        let rate = (MILLION + i128::from(self.drift_ppm)) as u128;
        let ahead = u128::from(shown_ns.saturating_sub(self.shown_ns));
        let passed = (ahead * MILLION as u128).div_ceil(rate);
        at.max(self.since.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    /// The wall clock, in milliseconds since 1970.
    #[must_use]
    pub fn wall_ms(&self, at: TrueNs) -> u64 {
        (RUN_STARTS_AT_WALL_MS + (at / 1_000_000) as i64 + self.wall_offset_ms).max(0) as u64
    }

    /// Sets the wall clock forward or back. The monotonic clock does not notice.
    pub fn step_wall(&mut self, by_ms: i64) {
        self.wall_offset_ms += by_ms;
    }

    /// From now on the clock runs fast by so many millionths.
    pub fn set_drift(&mut self, drift_ppm: i64, at: TrueNs) {
        self.shown_ns = self.now(at);
        self.since = at;
        self.drift_ppm = drift_ppm;
    }

    /// The clock stands still until [`start`](Clock::start), as on a machine whose host suspends it and hides that.
    pub fn stop(&mut self, at: TrueNs) {
        self.shown_ns = self.now(at);
        self.since = at;
        self.stopped = true;
    }

    /// The clock goes on from what it shows.
    pub fn start(&mut self, at: TrueNs) {
        if self.stopped {
            self.since = at;
            self.stopped = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_counts_and_when_is_the_inverse_of_now() {
        for ppm in [-200, 0, 200, 7] {
            let clock = Clock::new(12_345, ppm);
            for at in [0, 1, 999_999, 86_400_000_000_000] {
                let shown = clock.now(at);
                assert!(clock.when(shown, 0) <= at);
                assert!(clock.now(clock.when(shown + 5, 0)) >= shown + 5);
            }
        }
        assert_eq!(Clock::new(0, 200).now(1_000_000_000_000), 1_000_200_000_000);
    }

    #[test]
    fn a_stopped_clock_loses_the_time_it_stood() {
        let mut clock = Clock::new(100, 0);
        clock.stop(50);
        assert_eq!(clock.now(90), 150);
        clock.start(1050);
        assert_eq!(clock.now(1060), 160);
    }

    #[test]
    fn a_step_moves_only_the_wall() {
        let mut clock = Clock::new(0, 0);
        let before = (clock.now(5), clock.wall_ms(5));
        clock.step_wall(-3_600_000);
        assert_eq!(clock.now(5), before.0);
        assert_eq!(clock.wall_ms(5), before.1 - 3_600_000);
    }
}
