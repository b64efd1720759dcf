//! What one node saw in one phase, and the sum over nodes.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::plan::SLOT;

/// Latencies above this are counted as this.
const LONGEST_NS: u64 = 60_000_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Calls that were answered.
    pub(crate) answered: u64,
    /// Calls that failed, or were not answered before the phase was over and two seconds more.
    pub(crate) failed: u64,
    /// Calls that were due and not made, since too many before them were still without an answer.
    pub(crate) unasked: u64,
    /// Admitted calls, by the slot in which their answer came.
    pub(crate) admitted: Vec<u64>,
    /// From the call to its answer, ns. Of closed loops nothing.
    pub(crate) call_ns: Histogram<u64>,
    /// From when the call was due to its answer, ns.
    pub(crate) due_ns: Histogram<u64>,
}

impl Outcome {
    pub(crate) fn new(lasts: Duration) -> Outcome {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("constant bounds are in order");
        let slots = lasts.as_nanos().div_ceil(SLOT.as_nanos());
        Outcome {
            answered: 0,
            failed: 0,
            unasked: 0,
            admitted: vec![0; usize::try_from(slots).unwrap_or(0)],
            call_ns: histogram(),
            due_ns: histogram(),
        }
    }

    /// Counts an answer that came `since` the start. An answer after the end counts as answered, and in no slot.
    pub(crate) fn answer(&mut self, admitted: bool, since: Duration) {
        self.answers(1, u64::from(admitted), since);
    }

    /// The same for `answered` calls, of which `admitted` were.
    pub(crate) fn answers(&mut self, answered: u64, admitted: u64, since: Duration) {
        self.answered += answered;
        let slot = usize::try_from(since.as_nanos() / SLOT.as_nanos()).unwrap_or(usize::MAX);
        if let Some(count) = self.admitted.get_mut(slot) {
            *count += admitted;
        }
    }

    pub(crate) fn latency(&mut self, call: Duration, due: Duration) {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.call_ns.saturating_record(ns(call).max(1));
        self.due_ns.saturating_record(ns(due).max(1));
    }

    /// Takes over what another node, or another caller of this one, saw.
    pub(crate) fn add(&mut self, other: &Outcome) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.unasked += other.unasked;
        for (sum, more) in self.admitted.iter_mut().zip(&other.admitted) {
            *sum += more;
        }
        // Cannot fail: all histograms have the same bounds.
        let _ = self.call_ns.add(&other.call_ns);
        let _ = self.due_ns.add(&other.due_ns);
    }

    /// Admitted from `from` to `to` since the start, which lie between slots.
    pub(crate) fn admitted_within(&self, from: Duration, to: Duration) -> u64 {
        let slot = |time: Duration| usize::try_from(time.as_nanos() / SLOT.as_nanos()).unwrap_or(usize::MAX);
        let end = slot(to).min(self.admitted.len());
        self.admitted.get(slot(from)..end).unwrap_or_default().iter().sum()
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "answered": self.answered,
            "failed": self.failed,
            "unasked": self.unasked,
            "admitted": self.admitted,
            "call_ns": pairs(&self.call_ns),
            "due_ns": pairs(&self.due_ns),
        })
    }

    pub(crate) fn from_json(value: &Value, lasts: Duration) -> Option<Outcome> {
        let mut outcome = Outcome::new(lasts);
        outcome.answered = value.get("answered")?.as_u64()?;
        outcome.failed = value.get("failed")?.as_u64()?;
        outcome.unasked = value.get("unasked")?.as_u64()?;
        for (count, told) in outcome.admitted.iter_mut().zip(value.get("admitted")?.as_array()?) {
            *count = told.as_u64()?;
        }
        fill(&mut outcome.call_ns, value.get("call_ns")?)?;
        fill(&mut outcome.due_ns, value.get("due_ns")?)?;
        Some(outcome)
    }
}

fn pairs(histogram: &Histogram<u64>) -> Value {
    histogram
        .iter_recorded()
        .map(|step| json!([step.value_iterated_to(), step.count_at_value()]))
        .collect()
}

fn fill(histogram: &mut Histogram<u64>, told: &Value) -> Option<()> {
    for pair in told.as_array()? {
        histogram.saturating_record_n(pair.get(0)?.as_u64()?, pair.get(1)?.as_u64()?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_reaches_the_one_who_asked_as_it_was_seen() {
        let lasts = Duration::from_secs(1);
        let mut seen = Outcome::new(lasts);
        for ms in [0, 50, 99, 100, 950, 1000] {
            seen.answer(true, Duration::from_millis(ms));
            seen.latency(Duration::from_micros(ms), Duration::from_millis(ms));
        }
        seen.answer(false, Duration::from_millis(10));
        seen.failed = 2;
        seen.unasked = 3;
        let told = Outcome::from_json(&seen.to_json(), lasts).expect("what we wrote");
        assert_eq!((told.answered, told.failed, told.unasked), (7, 2, 3));
        assert_eq!(told.admitted, seen.admitted);
        assert_eq!(told.call_ns, seen.call_ns);
        assert_eq!(told.due_ns, seen.due_ns);

        // The answer at 1 s came too late for every slot.
        assert_eq!(told.admitted_within(Duration::ZERO, lasts), 5);
        assert_eq!(told.admitted_within(Duration::ZERO, Duration::from_millis(100)), 3);
        assert_eq!(
            told.admitted_within(Duration::from_millis(100), Duration::from_secs(5)),
            2
        );

        let mut sum = told.clone();
        sum.add(&told);
        assert_eq!((sum.answered, sum.failed, sum.unasked), (14, 4, 6));
        assert_eq!(sum.admitted_within(Duration::ZERO, lasts), 10);
        assert_eq!(sum.call_ns.len(), 12);
    }
}
