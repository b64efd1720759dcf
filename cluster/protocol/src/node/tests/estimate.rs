//! What a node says of how far the books of a limit are behind: it rises while a peer is cut off, and falls once it is healed.

use super::*;
use crate::stats::LimitStats;

impl Net {
    fn figures(&self, i: usize) -> LimitStats {
        self.places[i].node.stats().by_limit[&LIMIT]
    }
}

/// Two nodes that both spend, and which of them does not own the key.
fn pair(mode: Mode) -> (Net, usize, usize) {
    let mut net = Net::new(2, spec(limit(1000, 100), mode), |_| {});
    net.run(2 * SECOND, flood(MS));
    let owner = net.owner();
    (net, owner, 1 - owner)
}

#[test]
fn over_admission_and_staleness_rise_while_a_peer_is_cut_off_and_fall_once_it_is_healed() {
    let (mut net, owner, other) = pair(Mode::Eventual);
    let whole = net.figures(other);
    assert!(whole.staleness_ns <= 10 * MS, "{whole:?}");
    assert!(net.figures(owner).staleness_ns <= 100 * MS, "it is its own owner");

    net.cut_between(owner, other);
    let mut last = whole;
    for _ in 0..5 {
        net.run(200 * MS, flood(MS));
        let cut = net.figures(other);
        assert!(cut.staleness_ns >= last.staleness_ns + 150 * MS, "{last:?}, {cut:?}");
        assert!(cut.unconfirmed_units > last.unconfirmed_units, "{last:?}, {cut:?}");
        assert!(
            cut.over_admission_units() > last.over_admission_units(),
            "{last:?}, {cut:?}"
        );
        last = cut;
    }
    // The estimate covers what the two really admitted too much: it is high rather than low.
    let excess = net.oracle.excess();
    let told: u64 = [owner, other]
        .iter()
        .map(|i| net.figures(*i).over_admission_units())
        .sum();
    assert!(i128::from(told) >= excess, "{told} of {excess}");

    net.link(owner, other);
    net.run(100 * MS, |_, _| {});
    let healed = net.figures(other);
    assert_eq!(
        (healed.unconfirmed_units, healed.staleness_ns),
        (0, 0),
        "all is confirmed"
    );
    assert!(net.figures(owner).excess_units > 0, "and known to be too much");
    net.run(5 * SECOND, |_, _| {});
    for i in [owner, other] {
        let quiet = LimitStats {
            owners: 2,
            ..LimitStats::default()
        };
        assert_eq!(net.figures(i), quiet, "and in time paid back");
    }
}

#[test]
fn what_a_strict_limit_leaves_unconfirmed_is_old_and_not_too_much() {
    let (mut net, owner, other) = pair(Mode::Strict { floor_ppm: 0 });
    net.cut_between(owner, other);
    net.run(300 * MS, flood(MS));
    let cut = net.figures(other);
    assert_eq!((cut.owners, cut.owners_unheard), (2, 0), "{cut:?}");
    assert!(cut.unconfirmed_units > 0 && cut.staleness_ns >= 200 * MS, "{cut:?}");
    assert_eq!(cut.over_admission_units(), 0, "all of it was granted before");
    assert!(net.oracle.excess() <= 0);
    // Owners of a strict limit are configured: nobody takes over from one that is dead.
    net.run(4 * SECOND, |_, _| {});
    let dead = net.figures(other);
    assert_eq!((dead.owners, dead.owners_unheard), (2, 1), "{dead:?}");
}

#[test]
fn what_is_on_its_way_is_counted_and_grows_old() {
    let mut net = Net::new(2, spec(limit(1000, 100), Mode::Eventual), |_| {});
    let owner = net.owner();
    let other = 1 - owner;
    net.cut_way(other, owner);
    for _ in 0..5 {
        assert!(net.ask(other, KEY, 1));
    }
    net.run(300 * MS, |_, _| {});
    assert_eq!(net.places[other].store.unreported(), 0, "all of it was sent");
    let sent = net.figures(other);
    assert_eq!(
        (sent.unconfirmed_units, sent.over_admission_units()),
        (5, 5),
        "{sent:?}"
    );
    assert!(sent.staleness_ns >= 200 * MS, "{sent:?}");
    net.mend();
    net.run(100 * MS, |_, _| {});
    let known = net.figures(other);
    assert_eq!((known.over_admission_units(), known.staleness_ns), (0, 0), "{known:?}");
}
