//! Switches that break the protocol on purpose.
//!
//! A rule that no test notices missing has no test. With the feature `mutants` a simulator can leave a rule out and show
//! that it fails; without the feature [`Mutants`] is a constant of `false`, and the compiler removes the branches.

/// Rules to leave out. All are in force by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(feature = "mutants"), allow(unreachable_pub))]
pub struct Mutants {
    /// A share grows before the others' shrinking is confirmed.
    pub grow_before_shrink: bool,
    /// A shrink counts from when it is sent, not from when its acknowledgement arrives.
    pub ignore_acknowledgements: bool,
    /// Batches are told apart by their number alone, whichever life of the sender they come from.
    pub skip_incarnation: bool,
}

/// What a node holds: the switches, or nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Switches {
    #[cfg(feature = "mutants")]
    mutants: Mutants,
}

#[cfg(feature = "mutants")]
impl Switches {
    pub(crate) const fn new(mutants: Mutants) -> Self {
        Switches { mutants }
    }

    pub(crate) const fn get(self) -> Mutants {
        self.mutants
    }
}

#[cfg(not(feature = "mutants"))]
impl Switches {
    pub(crate) const fn get(self) -> Mutants {
        Mutants {
            grow_before_shrink: false,
            ignore_acknowledgements: false,
            skip_incarnation: false,
        }
    }
}
