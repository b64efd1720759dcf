//! What goes wrong, and when.

use crate::subject::Rule;

/// One thing that happens to the cluster at an instant. Nodes are named by their index.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The process starts, or starts again, with what its last snapshot holds, if it writes any.
    Start(usize),
    /// The process ends without a word.
    Crash(usize),
    /// The process says goodbye and ends.
    Leave(usize),
    /// The machine sleeps. Its requests wait; its clock goes on.
    Pause(usize),
    /// The machine sleeps, and its clock with it.
    Stop(usize),
    /// Only the thread that speaks to other nodes sleeps; requests are decided as ever.
    Freeze(usize),
    /// Whatever slept wakes.
    Wake(usize),
    /// Nodes hear only those of their own group.
    Groups(Vec<u8>),
    /// The second no longer hears the first.
    Cut(usize, usize),
    /// The second hears the first again.
    Mend(usize, usize),
    /// So many of 1,000 packets have to be repeated from now on.
    Loss(u32),
    /// The node reads nothing, so that its peers' windows close.
    StopReading(usize),
    /// The node reads again.
    Read(usize),
    /// The wall clock is set by so many milliseconds.
    StepWall(usize, i64),
    /// The monotonic clock runs fast by so many millionths.
    Drift(usize, i64),
    /// The operator changes the first limit at one node.
    SetLimit(usize, Rule),
    /// The node sends so many random bytes to each peer on both streams, from a broken build.
    Garbage(usize, usize),
    /// From its next start on the node is of a version that does not exist yet.
    Upgrade(usize),
    /// The node reports use multiplied by this, from now on.
    Lie(usize, u64),
}
