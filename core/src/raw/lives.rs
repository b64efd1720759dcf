//! Who is alive. Half-done work carries the *mark* of the process that does it: others undo or finish it only on the proof that
//! this process is gone, never because it takes long. A process that only sleeps would wake up and go on.
//!
//! A mark fits in the bits of a TAT and is never 0.
//!
//! | table | mark | proof of death |
//! |---|---|---|
//! | private | the [generation](crate::process::generation) of the process | another generation: a forked child has a copy of what its parent's threads were doing, and none of these threads |
//! | shared | slot (16 bits) and incarnation (40 bits) | the lock of the slot is free, or the slot has another incarnation |

#[cfg(not(ratelimit_loom))]
use super::table::Table;
#[cfg(all(target_os = "linux", not(ratelimit_loom)))]
use crate::share::Life;
#[cfg(not(ratelimit_loom))]
use crate::sync::Ordering;

pub(crate) enum Lives {
    /// Nobody else sees the table.
    #[cfg(not(ratelimit_loom))]
    Private,
    #[cfg(target_os = "linux")]
    #[cfg(not(ratelimit_loom))]
    Shared(Life),
    /// Process 1 is alive; 2 is until a model says otherwise.
    #[cfg(ratelimit_loom)]
    Modelled(std::sync::atomic::AtomicBool),
}

#[cfg(not(ratelimit_loom))]
impl Lives {
    /// The mark of this process.
    #[inline]
    pub(crate) fn mark(&self) -> u64 {
        match self {
            Lives::Private => crate::process::generation(),
            #[cfg(target_os = "linux")]
            Lives::Shared(life) => life.mark(),
        }
    }

    /// Whether the death of this process could be proven.
    fn is_provable(&self) -> bool {
        match self {
            Lives::Private => true,
            #[cfg(target_os = "linux")]
            Lives::Shared(life) => life.is_provable(),
        }
    }

    /// Whether the process behind a mark is proven to be gone. Cost in a shared table: a system call.
    #[cold]
    pub(crate) fn is_dead(&self, mark: u64) -> bool {
        match self {
            Lives::Private => mark != crate::process::generation(),
            #[cfg(target_os = "linux")]
            Lives::Shared(life) => life.is_dead(mark),
        }
    }
}

#[cfg(not(ratelimit_loom))]
impl Table {
    /// How many are attached to the table, this one among them.
    pub(crate) fn attached(&self) -> usize {
        match &self.lives {
            Lives::Private => 1,
            #[cfg(target_os = "linux")]
            Lives::Shared(life) => life.attached(),
        }
    }

    /// Takes the lead if nobody has it, or if he who has it is proven dead. False if another leads.
    pub(crate) fn try_lead(&self) -> bool {
        let leader = &self.header().cold.leader;
        let own = self.lives.mark();
        if !self.lives.is_provable() {
            // Nobody could ever take the lead from this process.
            return false;
        }
        // Acquire: whoever leads now sees what the leader before did in the table.
        let before = leader.load(Ordering::Acquire);
        if before == own {
            return true;
        }
        if before != 0 && !self.lives.is_dead(before) {
            return false;
        }
        // AcqRel: pairs with the same swap of others, and with the Release of one who resigns.
        leader
            .compare_exchange(before, own, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    pub(crate) fn leads(&self) -> bool {
        self.header().cold.leader.load(Ordering::Acquire) == self.lives.mark()
    }

    /// Gives the lead up, if this one has it, so that another need not prove first that this process is gone.
    pub(crate) fn resign(&self) {
        #[cfg(target_os = "linux")]
        if let Lives::Shared(life) = &self.lives
            && life.is_settled()
        {
            // Release: pairs with the Acquire in `try_lead`.
            let leader = &self.header().cold.leader;
            let _ = leader.compare_exchange(life.mark(), 0, Ordering::Release, Ordering::Relaxed);
        }
    }
}

#[cfg(not(ratelimit_loom))]
impl Drop for Table {
    fn drop(&mut self) {
        self.resign();
    }
}

#[cfg(ratelimit_loom)]
impl Lives {
    /// The process that dies in models.
    pub(crate) const MORTAL: u64 = 2;

    pub(crate) fn mark(&self) -> u64 {
        1
    }

    pub(crate) fn is_dead(&self, mark: u64) -> bool {
        let Lives::Modelled(dead) = self;
        mark == Self::MORTAL && dead.load(std::sync::atomic::Ordering::SeqCst)
    }
}
