//! Who lives: from links, heartbeats, and what others say they hear.
//!
//! A node that is not heard for 1.5 s is *suspect*, for 3 s *dead*. Neither moves an owner: a node stays in view as long
//! as anyone heard says that he hears it, and for a hold-down of 10 s after. So a cut between two nodes makes no second
//! ledger while a third hears both, and a node that flaps does not move its keys twice. A goodbye moves them at once.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use crate::id::NodeId;

/// Time between heartbeats on a link of a node that has few.
pub const HEARTBEAT_NS: u64 = 500_000_000;
/// And at most, however many links it has.
pub const MOST_HEARTBEAT_NS: u64 = 5_000_000_000;
/// Up to so many links each gets a heartbeat every [`HEARTBEAT_NS`]; a node with more sends as many in all.
const FEW_LINKS: u64 = 32;
/// Unheard for this long: suspect. Three heartbeats of a node that sends them less often.
pub const SUSPECT_NS: u64 = 1_500_000_000;
/// Unheard for this long: dead. Six heartbeats of a node that sends them less often.
pub const DEAD_NS: u64 = 3_000_000_000;
/// Out of everybody's hearing for this long: its keys move.
pub const HOLD_DOWN_NS: u64 = 10_000_000_000;
/// Dead for this long: forgotten, also by the policy `share`, which counts the absent.
pub const FORGET_NS: u64 = 3_600_000_000_000;

/// Time between heartbeats on each of so many links.
pub(crate) fn heartbeat_of(links: usize) -> u64 {
    (HEARTBEAT_NS * (links as u64) / FEW_LINKS).clamp(HEARTBEAT_NS, MOST_HEARTBEAT_NS)
}

/// One that promised a heartbeat every `beat_ns` is suspect after this long.
pub(crate) fn suspect_after(beat_ns: u64) -> u64 {
    SUSPECT_NS.max(3 * beat_ns)
}

/// And dead after this long.
pub(crate) fn dead_after(beat_ns: u64) -> u64 {
    DEAD_NS.max(6 * beat_ns)
}

/// How a peer stands, as this node hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Never heard, only heard of.
    Unheard,
    /// Heard within 1.5 s.
    Alive,
    /// Unheard for 1.5 s.
    Suspect,
    /// Unheard for 3 s.
    Dead,
    /// Said goodbye.
    Left,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) standing: Standing,
    last_heard_ns: Option<u64>,
    /// The last time that this node or one that it hears heard it.
    last_seen_ns: Option<u64>,
    /// In order, so that it can be compared with all members in one go.
    heard: Vec<NodeId>,
    members_told: u64,
    /// When its next heartbeat comes at the latest.
    beat_ns: u64,
    /// Until then it may own nothing: its name was used by two processes.
    barred_until_ns: u64,
}

/// Everyone this node knows of. At most `cap` members.
#[derive(Debug)]
pub(crate) struct Membership {
    me: NodeId,
    /// If not empty, only these may own keys.
    owners: BTreeSet<NodeId>,
    members: BTreeMap<NodeId, Member>,
    cap: usize,
    version: u64,
    leaving: bool,
    /// Until then this node owns nothing that moves: another process uses its name.
    barred_until_ns: u64,
}

impl Membership {
    pub(crate) fn new(me: NodeId, owners: BTreeSet<NodeId>, cap: usize) -> Self {
        Membership {
            me,
            owners,
            members: BTreeMap::new(),
            cap,
            version: 0,
            leaving: false,
            barred_until_ns: 0,
        }
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&Member> {
        self.members.get(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member))
    }

    /// Makes a node known. False if there is no room, or another name has the same identity.
    pub(crate) fn introduce(&mut self, id: NodeId, name: &str, address: &str) -> bool {
        if id == self.me {
            return false;
        }
        if let Some(member) = self.members.get_mut(&id) {
            if !address.is_empty() && member.address != address {
                member.address = address.into();
            }
            return member.name == name;
        }
        if self.members.len() >= self.cap {
            return false;
        }
        self.members.insert(
            id,
            Member {
                name: name.into(),
                address: address.into(),
                standing: Standing::Unheard,
                last_heard_ns: None,
                last_seen_ns: None,
                heard: Vec::new(),
                members_told: 0,
                beat_ns: HEARTBEAT_NS,
                barred_until_ns: 0,
            },
        );
        true
    }

    /// A peer said hello: also one that had left is back.
    pub(crate) fn arrived(&mut self, id: NodeId, now_ns: u64) {
        self.changed(id);
        if let Some(member) = self.members.get_mut(&id) {
            member.standing = Standing::Alive;
            member.beat_ns = HEARTBEAT_NS;
            member.heard.clear();
            member.last_heard_ns = Some(now_ns);
            member.last_seen_ns = Some(now_ns);
        }
    }

    /// A peer's heartbeat came.
    pub(crate) fn heard(&mut self, id: NodeId, members: u64, beat_ns: u64, heard: Option<&[NodeId]>, now_ns: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if member.standing == Standing::Left {
            return;
        }
        member.last_heard_ns = Some(now_ns);
        member.last_seen_ns = Some(now_ns);
        member.members_told = members;
        member.beat_ns = beat_ns;
        if let Some(heard) = heard {
            member.heard = heard.iter().take(self.cap).copied().collect();
            member.heard.sort_unstable();
            member.heard.dedup();
        }
        let heard = core::mem::take(&mut member.heard);
        let see = |other: &mut Member| {
            // One that said goodbye to this node may not have said so to all yet.
            if other.standing != Standing::Left {
                other.last_seen_ns = Some(now_ns);
            }
        };
        if heard.len() < self.members.len() / 8 {
            for other in &heard {
                if let Some(other) = self.members.get_mut(other) {
                    see(other);
                }
            }
        } else {
            // Both are in order. With a thousand nodes this is a look-up each spared, a hundred thousand times a second.
            let mut names = heard.iter().peekable();
            for (id, other) in &mut self.members {
                while names.next_if(|name| *name < id).is_some() {}
                if names.peek() == Some(&id) {
                    see(other);
                }
            }
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.heard = heard;
        }
    }

    /// For how long this node has not heard `id`; 0 if it never did.
    pub(crate) fn unseen_ns(&self, id: NodeId, now_ns: u64) -> u64 {
        let heard_ns = self.members.get(&id).and_then(|member| member.last_heard_ns);
        heard_ns.map_or(0, |at| now_ns.saturating_sub(at))
    }

    /// For how long it may be silent until it is suspect.
    pub(crate) fn patience_ns(&self, id: NodeId) -> u64 {
        let beat_ns = self.members.get(&id).map_or(HEARTBEAT_NS, |member| member.beat_ns);
        suspect_after(beat_ns)
    }

    pub(crate) fn said_goodbye(&mut self, id: NodeId) {
        self.changed(id);
        if let Some(member) = self.members.get_mut(&id) {
            member.standing = Standing::Left;
            (member.last_heard_ns, member.last_seen_ns) = (None, None);
            member.heard.clear();
        }
    }

    pub(crate) fn leave(&mut self) {
        self.leaving = true;
    }

    pub(crate) fn bar(&mut self, id: NodeId, until_ns: u64) {
        if id == self.me {
            self.barred_until_ns = until_ns;
        } else if let Some(member) = self.members.get_mut(&id) {
            member.barred_until_ns = until_ns;
        }
    }

    pub(crate) fn is_barred(&self, id: NodeId, now_ns: u64) -> bool {
        let until_ns = if id == self.me {
            self.barred_until_ns
        } else {
            self.members.get(&id).map_or(0, |member| member.barred_until_ns)
        };
        now_ns < until_ns
    }

    /// Brings every standing up to date; returns those that changed.
    pub(crate) fn refresh(&mut self, now_ns: u64) -> Vec<(NodeId, Standing)> {
        let mut changed = Vec::new();
        self.members.retain(|_, member| {
            let absent = |since: Option<u64>| since.is_some_and(|at| now_ns.saturating_sub(at) >= FORGET_NS);
            !(member.standing == Standing::Dead && absent(member.last_heard_ns) && absent(member.last_seen_ns))
        });
        for (id, member) in &mut self.members {
            let Some(heard_ns) = member.last_heard_ns else {
                continue;
            };
            let standing = match now_ns.saturating_sub(heard_ns) {
                age if age >= dead_after(member.beat_ns) => Standing::Dead,
                age if age >= suspect_after(member.beat_ns) => Standing::Suspect,
                _ => Standing::Alive,
            };
            if standing != member.standing {
                member.standing = standing;
                changed.push((*id, standing));
            }
        }
        for (id, _) in &changed {
            self.changed(*id);
        }
        changed
    }

    /// The link to a peer is down. One that sends its heartbeats less often lived until then, as the transport knows.
    pub(crate) fn unlinked(&mut self, id: NodeId, now_ns: u64) {
        if let Some(member) = self.members.get_mut(&id)
            && member.standing != Standing::Left
            && member.beat_ns > HEARTBEAT_NS
        {
            member.beat_ns = HEARTBEAT_NS;
            member.last_heard_ns = member.last_heard_ns.map(|_| now_ns);
            member.last_seen_ns = member.last_seen_ns.map(|_| now_ns);
        }
    }

    /// Others want to know only of those that may own keys.
    fn matters(&self, id: NodeId) -> bool {
        self.owners.is_empty() || self.owners.contains(&id)
    }

    fn changed(&mut self, id: NodeId) {
        self.version += u64::from(self.matters(id));
    }

    /// Rises whenever another list may come from [`hearing`](Membership::hearing).
    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// Whether this node itself hears `id`.
    pub(crate) fn hears(&self, id: NodeId) -> bool {
        let heard = |member: &Member| matches!(member.standing, Standing::Alive | Standing::Suspect);
        id == self.me || self.members.get(&id).is_some_and(heard)
    }

    /// The peers this node hears, for its heartbeats.
    pub(crate) fn hearing(&self) -> Vec<NodeId> {
        let told = |id: &NodeId| self.matters(*id) && self.hears(*id);
        self.members.keys().copied().filter(told).collect()
    }

    fn in_view(&self, member: &Member, now_ns: u64) -> bool {
        member
            .last_seen_ns
            .is_some_and(|at| now_ns.saturating_sub(at) < HOLD_DOWN_NS)
    }

    /// The nodes that may own keys of `Eventual` limits now, in order. `closed` keeps also those that are gone.
    pub(crate) fn candidates(&self, closed: bool, now_ns: u64) -> Vec<NodeId> {
        let allowed =
            |id: &NodeId| (self.owners.is_empty() || self.owners.contains(id)) && !self.is_barred(*id, now_ns);
        let stays = |member: &Member| match member.standing {
            Standing::Left | Standing::Unheard => false,
            _ => closed || self.in_view(member, now_ns),
        };
        let others = self
            .members
            .iter()
            .filter(|(_, member)| stays(member))
            .map(|(id, _)| *id);
        let mut all: Vec<NodeId> = others
            .chain((!self.leaving).then_some(self.me))
            .filter(allowed)
            .collect();
        all.sort_unstable();
        all
    }

    /// What this node itself sees, with itself: what it tells others. Told counts are left out, or a count once told
    /// would go round for ever.
    pub(crate) fn sees(&self, now_ns: u64) -> u64 {
        let seen = self
            .members
            .values()
            .filter(|m| !matches!(m.standing, Standing::Left | Standing::Unheard));
        1 + seen.filter(|member| self.in_view(member, now_ns)).count() as u64
    }

    /// Names that two processes use: one process too many each, which decides by itself.
    pub(crate) fn duplicates(&self, now_ns: u64) -> u64 {
        let others = self.members.values().filter(|member| now_ns < member.barred_until_ns);
        others.count() as u64 + u64::from(now_ns < self.barred_until_ns)
    }

    /// Nodes that this one itself hears, and all that are known and did not say goodbye; both with this one. What another
    /// hears does not count: a node that cannot report here spends unseen, though a third sees both.
    pub(crate) fn present(&self) -> (u64, u64) {
        self.count_if(|member| member.standing == Standing::Alive)
    }

    /// Nodes in view, and all that are known and did not say goodbye; both with this one, and as others told.
    pub(crate) fn counts(&self, now_ns: u64) -> (u64, u64) {
        let (visible, known) = self.count_if(|member| self.in_view(member, now_ns));
        // A node that links only to owners is told the count by them.
        let heard = self.members.iter().filter(|(id, _)| self.hears(**id));
        let told = heard
            .map(|(_, member)| member.members_told.min(self.cap as u64 + 1))
            .max()
            .unwrap_or(0);
        if self.is_barred(self.me, now_ns) {
            // It must not take itself for the only one, and the others reckon with one more for its name.
            let all = known.max(told) + 1;
            return (all, all);
        }
        (visible.max(told), known.max(told))
    }

    fn count_if(&self, visible_if: impl Fn(&Member) -> bool) -> (u64, u64) {
        let known = || {
            let gone = |member: &Member| matches!(member.standing, Standing::Left | Standing::Unheard);
            self.members.values().filter(move |member| !gone(member))
        };
        let visible = known().filter(|member| visible_if(member)).count() as u64;
        (1 + visible, 1 + known().count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn three() -> (Membership, NodeId, NodeId) {
        let (b, c) = (NodeId::of("b"), NodeId::of("c"));
        let mut members = Membership::new(NodeId::of("a"), BTreeSet::new(), 8);
        for (id, name) in [(b, "b"), (c, "c")] {
            assert!(members.introduce(id, name, ""));
            members.arrived(id, 0);
        }
        (members, b, c)
    }

    #[test]
    fn silence_makes_suspect_then_dead_then_moves_the_keys() {
        let (mut members, b, c) = three();
        let mut at = 0;
        let mut seen = Vec::new();
        while at < 12 * SECOND {
            at += SECOND / 4;
            members.heard(c, 2, HEARTBEAT_NS, Some(&[]), at);
            for change in members.refresh(at) {
                seen.push((at, change));
            }
            assert_eq!(members.candidates(false, at).contains(&b), at < HOLD_DOWN_NS, "at {at}");
            assert!(members.candidates(true, at).contains(&b), "closed keeps the dead");
        }
        assert_eq!(
            seen,
            [(SUSPECT_NS, (b, Standing::Suspect)), (DEAD_NS, (b, Standing::Dead))]
        );
        assert_eq!(members.counts(at), (2, 3));
    }

    #[test]
    fn one_that_promised_to_be_heard_less_often_has_more_time_while_its_link_stands() {
        assert_eq!((heartbeat_of(31), heartbeat_of(64)), (HEARTBEAT_NS, SECOND));
        assert_eq!(heartbeat_of(1000), MOST_HEARTBEAT_NS);
        let (mut members, b, c) = three();
        members.heard(b, 3, 2 * SECOND, None, 0);
        let standing = |members: &mut Membership, at: u64, id: NodeId| {
            members.refresh(at);
            members.get(id).map(|member| member.standing)
        };
        assert_eq!(standing(&mut members, 5 * SECOND, b), Some(Standing::Alive));
        assert_eq!(standing(&mut members, 5 * SECOND, c), Some(Standing::Dead));
        assert_eq!(standing(&mut members, 7 * SECOND, b), Some(Standing::Suspect));
        // The transport says that it is gone: from then on it is missed like any other.
        members.unlinked(b, 8 * SECOND);
        assert_eq!(standing(&mut members, 9 * SECOND, b), Some(Standing::Alive));
        assert_eq!(standing(&mut members, 11 * SECOND, b), Some(Standing::Dead));
        assert!(
            members.candidates(false, 17 * SECOND).contains(&b),
            "its keys stay for a while"
        );
        assert!(!members.candidates(false, 18 * SECOND).contains(&b));
    }

    #[test]
    fn what_another_hears_stays_in_view() {
        let (mut members, b, c) = three();
        for step in 1..100 {
            members.heard(c, 3, HEARTBEAT_NS, (step == 1).then_some(&[b]), step * SECOND / 2);
            members.refresh(step * SECOND / 2);
        }
        assert!(!members.hears(b));
        assert!(members.candidates(false, 50 * SECOND).contains(&b));
    }

    #[test]
    fn goodbye_moves_at_once_and_others_cannot_undo_it() {
        let (mut members, b, c) = three();
        members.said_goodbye(b);
        members.heard(c, 3, HEARTBEAT_NS, Some(&[b]), SECOND);
        members.refresh(SECOND);
        assert!(!members.candidates(true, SECOND).contains(&b));
        members.heard(c, 2, HEARTBEAT_NS, None, SECOND);
        assert_eq!(members.counts(SECOND), (2, 2), "one that left is no longer counted");
        members.arrived(b, 2 * SECOND);
        assert!(members.candidates(false, 2 * SECOND).contains(&b));
    }

    #[test]
    fn only_owners_own_and_a_leaf_believes_their_count() {
        let (b, c) = (NodeId::of("b"), NodeId::of("c"));
        let mut members = Membership::new(NodeId::of("a"), BTreeSet::from([b]), 1000);
        for (id, name) in [(b, "b"), (c, "c")] {
            members.introduce(id, name, "");
            members.arrived(id, 0);
        }
        members.heard(b, 700, HEARTBEAT_NS, None, SECOND);
        assert_eq!(members.candidates(false, SECOND), [b]);
        assert_eq!(members.counts(SECOND).0, 700);
    }

    #[test]
    fn two_processes_with_one_name_lose_ownership() {
        let (mut members, b, _) = three();
        members.bar(b, 5 * SECOND);
        assert!(!members.candidates(false, SECOND).contains(&b));
        assert_eq!(members.duplicates(SECOND), 1, "a process more than there are names");
        assert!(members.candidates(false, 6 * SECOND).contains(&b));
        assert_eq!(members.duplicates(6 * SECOND), 0);
        members.bar(NodeId::of("a"), 8 * SECOND);
        assert_eq!(
            members.counts(7 * SECOND),
            (4, 4),
            "what it decides by itself is one part of four"
        );
    }

    #[test]
    fn memory_is_bounded_and_the_dead_are_forgotten() {
        let mut members = Membership::new(NodeId::of("a"), BTreeSet::new(), 3);
        let mut known = 0;
        for name in ["b", "c", "d", "e", "f"] {
            known += usize::from(members.introduce(NodeId::of(name), name, ""));
        }
        assert_eq!((known, members.len()), (3, 3));
        members.arrived(NodeId::of("b"), 0);
        members.refresh(DEAD_NS);
        members.refresh(FORGET_NS + DEAD_NS);
        assert_eq!(members.len(), 2);
        assert!(!members.introduce(NodeId::of("a"), "a", ""), "not itself");
    }
}
