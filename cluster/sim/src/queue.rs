//! The one queue of everything that will happen, in the order of true time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::clock::TrueNs;

struct Entry<E> {
    at: TrueNs,
    /// Events of one instant happen in the order in which they were planned; a heap alone would order them by chance.
    number: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The standard heap gives the greatest first; we want the earliest.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Events to come.
pub struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    now: TrueNs,
    next: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue {
            heap: BinaryHeap::new(),
            now: 0,
            next: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Plans `event`; one planned for the past happens now.
    pub fn plan(&mut self, at: TrueNs, event: E) {
        let number = self.next;
        self.next += 1;
        self.heap.push(Entry {
            at: at.max(self.now),
            number,
            event,
        });
    }

    /// Takes the next event and moves the present to it.
    pub fn take(&mut self) -> Option<(TrueNs, E)> {
        let entry = self.heap.pop()?;
        self.now = entry.at;
        Some((entry.at, entry.event))
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> TrueNs {
        self.now
    }

    /// How many events were planned so far.
    #[must_use]
    pub fn planned(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_first_then_order_of_planning() {
        let mut queue = Queue::default();
        for (at, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            queue.plan(at, name);
        }
        let mut seen = String::new();
        while let Some((_, name)) = queue.take() {
            seen.push(name);
            if name == 'b' {
                queue.plan(0, 'x');
            }
        }
        assert_eq!(seen, "abxcd");
    }
}
