//! The limiters of one environment, by number.
//!
//! JavaScript names a limiter by a number and not by an object, since that is cheapest: the function that is called is always
//! the same one, which the engine optimises for, and no object has to be opened to find what it stands for.

use std::cell::RefCell;

use ratelimit::{Decision, Error, Limiter};

use crate::values::numbers;

/// The numbers of a decision, in the order in which JavaScript reads them.
pub(crate) const DECISION_NUMBERS: usize = 5;

#[derive(Default)]
struct Slots {
    /// Nothing once a limiter is closed.
    limiters: Vec<Option<Limiter>>,
    /// Numbers that may be given out again.
    free: Vec<u32>,
}

/// The limiters of one environment. One thread uses it.
pub(crate) struct Limiters {
    /// Borrowed only while no JavaScript can run.
    slots: RefCell<Slots>,
    /// Where decisions are written for JavaScript.
    decision: *mut f64,
}

impl Limiters {
    /// `decision` points to room for as many numbers as a decision has, which lives as long as the environment.
    pub(crate) fn new(decision: *mut f64) -> Self {
        Limiters {
            slots: RefCell::default(),
            decision,
        }
    }

    /// Adds one; its number is its own until `remove`.
    pub(crate) fn add(&self, limiter: Limiter) -> Result<u32, Error> {
        let slots = &mut *self.slots.borrow_mut();
        if let Some(number) = slots.free.pop() {
            slots.limiters[number as usize] = Some(limiter);
            return Ok(number);
        }
        let number = u32::try_from(slots.limiters.len())
            .map_err(|_| Error::System("there are too many limiters: close some".to_owned()))?;
        slots.limiters.push(Some(limiter));
        Ok(number)
    }

    /// Takes a limiter out: every later call is told that it is closed.
    pub(crate) fn close(&self, number: u32) -> Option<Limiter> {
        self.slots.borrow_mut().limiters.get_mut(number as usize)?.take()
    }

    /// Handles to all that are open.
    pub(crate) fn all(&self) -> Vec<Limiter> {
        self.slots.borrow().limiters.iter().flatten().cloned().collect()
    }

    /// Gives a number back, once nobody can use it any more.
    pub(crate) fn remove(&self, number: u32) {
        // The limiter is dropped when the slots are borrowed no more: it may have files to close.
        let _closed = self.close(number);
        self.slots.borrow_mut().free.push(number);
    }

    /// Does something with a limiter.
    ///
    /// Errors: it is closed.
    #[inline(always)]
    pub(crate) fn with<R>(&self, number: u32, work: impl FnOnce(&Limiter) -> R) -> Result<R, Error> {
        match self.slots.borrow().limiters.get(number as usize) {
            Some(Some(limiter)) => Ok(work(limiter)),
            _ => Err(Error::Closed),
        }
    }

    /// Tells JavaScript a decision.
    #[inline]
    pub(crate) fn tell(&self, decision: &Decision) {
        // Safety: `decision` points to so many numbers in a buffer that lives as long as the environment. JavaScript does
        // not run meanwhile.
        unsafe { self.decision.cast::<[f64; DECISION_NUMBERS]>().write(numbers(decision)) };
    }
}
