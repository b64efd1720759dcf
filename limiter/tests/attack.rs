//! Sequences of calls that someone might use to get more than his limit, to be locked out, or to be told something untrue.
// A test that cannot go on says so by a panic.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ratelimit::{Clock, Decision, Limit, Limiter, ManualClock};

const SECOND: Duration = Duration::from_secs(1);

fn limiter(limits: &[&str]) -> (Limiter, ManualClock) {
    let (clock, hand) = Clock::manual();
    let mut builder = Limiter::builder().clock(clock).hash_key([7; 16]);
    for limit in limits {
        builder = builder.limit(limit.parse().unwrap());
    }
    (builder.build().unwrap(), hand)
}

fn limit(text: &str) -> Limit {
    text.parse().unwrap()
}

/// Asks until a request is denied: how many were allowed.
fn drain(limiter: &Limiter, key: &str) -> u64 {
    let mut allowed = 0;
    while limiter.is_allowed(key) {
        allowed += 1;
    }
    allowed
}

/// A clock that was set back by a year locks nobody out for longer than his own window, whether there is one limit or
/// several: with several the requests are denied before any cell is written.
#[test]
fn a_clock_set_back_locks_nobody_out_of_several_limits() {
    for limits in [&["10/s"][..], &["10/s", "20/s"], &["20/s", "10/s"]] {
        let (limiter, hand) = limiter(limits);
        hand.set(SECOND * 86_400 * 365);
        assert_eq!(drain(&limiter, "a"), 10);
        hand.set(SECOND);
        assert!(!limiter.is_allowed("a"));
        hand.advance(Duration::from_millis(2_100));
        assert!(limiter.is_allowed("a"), "{limits:?}: locked out");
    }
}

/// After a change from a slow limit to a fast one a denied client waits by the fast one, whether there is one limit or
/// several.
#[test]
fn a_faster_limit_counts_from_the_first_denial_on() {
    let (limiter, hand) = limiter(&["10/day", "1000000/day"]);
    assert_eq!(drain(&limiter, "a"), 10);
    limiter.set_limits(&[limit("10/s"), limit("1000000/day")]).unwrap();
    let denied = limiter.check("a");
    assert_eq!(
        (denied.allowed, denied.retry_after),
        (false, Duration::from_millis(100))
    );
    hand.advance(denied.retry_after);
    assert!(limiter.is_allowed("a"), "{:?}", limiter.peek("a"));
}

/// What a blocked client is told holds: it does not fit before the block is over *and* its debt has gone, and a cost above
/// the burst never fits.
#[test]
fn a_blocked_client_is_told_when_it_will_fit() {
    let (limiter, hand) = limiter(&["1/hour"]);
    assert!(limiter.is_allowed("a"));
    limiter.block("a", SECOND).unwrap();
    let blocked = limiter.check("a");
    assert_eq!((blocked.allowed, blocked.retry_after), (false, SECOND * 3_600));
    assert_eq!(limiter.check_n("a", 2).retry_after, Decision::NEVER);
    assert_eq!(limiter.check_n("b", 2).retry_after, Decision::NEVER);
    hand.advance(blocked.retry_after);
    assert!(limiter.is_allowed("a"));
}

/// Setting and clearing an override gives a client that is decided at given times nothing back.
#[test]
fn an_override_that_goes_gives_nothing_back_at_given_times() {
    let (limiter, _hand) = limiter(&["10/s"]);
    let spend = |now| (0..100).filter(|_| limiter.check_at("a", 1, now).allowed).count();
    limiter.set_override("a", Some(limit("10/2s"))).unwrap();
    assert_eq!(spend(SECOND), 10);
    for second in (100..3_600).step_by(100) {
        assert_eq!(spend(SECOND * second), 10);
        limiter.set_override("a", None).unwrap();
        assert_eq!(spend(SECOND * second), 0, "cleared");
        limiter.set_override("a", Some(limit("10/2s"))).unwrap();
        assert_eq!(spend(SECOND * second), 0, "set");
        limiter.set_override("a", Some(limit("10/3s"))).unwrap();
        assert_eq!(spend(SECOND * second), 0, "changed");
        limiter.set_override("a", Some(limit("10/2s"))).unwrap();
    }
}

/// A batch that takes long does not decide its last keys at a time so late that it looks like a clock set back: that would
/// take away what others have charged since.
#[test]
fn a_long_batch_does_not_turn_back_the_clock() {
    struct Id(u32, Box<dyn Fn() + Send + Sync>);
    impl AsRef<[u8]> for Id {
        fn as_ref(&self) -> &[u8] {
            (self.1)();
            if self.0 == 0 { b"last" } else { b"some" }
        }
    }
    let (limiter, hand) = limiter(&["10/s"]);
    let other = limiter.clone();
    let mut ids: Vec<Id> = (1..200_000).map(|i| Id(i, Box::new(|| {}))).collect();
    // While the batch is under way an hour passes, and another thread spends the last key's burst.
    ids[100].1 = Box::new(move || {
        hand.advance(SECOND * 3_600);
        assert_eq!(drain(&other, "last"), 10);
    });
    ids.push(Id(0, Box::new(|| {})));
    let mut allowed = vec![true; ids.len()];
    limiter.allowed_many(&ids, &mut allowed).unwrap();
    assert!(!allowed[ids.len() - 1]);
    assert_eq!(drain(&limiter, "last"), 0, "the burst was spent twice");
}

/// A client with a slow limit of its own that finds no cell does not get more because others share its cell under a faster
/// limit: what they do would look like a clock that was set back.
#[test]
fn a_slow_client_gains_nothing_from_sharing_a_cell() {
    let (clock, hand) = Clock::manual();
    let builder = Limiter::builder().limit(limit("10/s")).clock(clock).hash_key([1; 16]);
    let limiter = builder.max_keys(0).build().unwrap();
    // A tiny table, full for a month.
    for client in 0..100_u32 {
        let id = client.to_le_bytes();
        limiter.set_override(&id, Some(limit("1/30d"))).unwrap();
        let _ = limiter.is_allowed(&id);
    }
    limiter.set_override("slow", Some(limit("1/day"))).unwrap();
    let mut admitted = 0;
    for hour in 0..24 {
        for client in 1_000..6_000_u32 {
            let _ = limiter.is_allowed(&client.to_le_bytes());
        }
        hand.set(SECOND * 3_600 * hour);
        admitted += u64::from(limiter.is_allowed("slow"));
        for client in 1_000..6_000_u32 {
            let _ = limiter.is_allowed(&client.to_le_bytes());
        }
    }
    assert!(admitted <= 1, "{admitted} in a day");
}

/// More is never given back than was spent, and nothing to a client whose debt has gone by itself.
#[test]
fn refunds_are_bounded_by_what_is_owed() {
    let (limiter, hand) = limiter(&["10/s"]);
    limiter.refund("a", u64::MAX);
    assert_eq!(drain(&limiter, "a"), 10);
    limiter.refund("a", u64::MAX);
    limiter.refund("a", 7);
    assert_eq!(drain(&limiter, "a"), 10);
    hand.advance(SECOND);
    limiter.refund("a", 10);
    assert_eq!(drain(&limiter, "a"), 10);
    assert_eq!(limiter.check("a").retry_after, Duration::from_millis(100));
    // At a time long ago, or far ahead.
    limiter.refund_at("b", 5, SECOND);
    assert!(limiter.check_at("b", 10, SECOND * 1_000).allowed);
    limiter.refund_at("b", 1, SECOND * 2_000);
    assert!(!limiter.check_at("b", 1, SECOND * 1_000).allowed);
    limiter.refund_at("b", 3, SECOND * 1_000);
    assert_eq!(limiter.peek_at("b", 1, SECOND * 1_000).remaining, 3);
}

/// The longest block holds for a late thread, and when the clock is set back: only one that is long over may seem to be
/// longer than any that is made.
#[test]
fn the_longest_block_survives_a_clock_set_back() {
    let (limiter, hand) = limiter(&["10/s"]);
    for back in [Duration::from_nanos(1), SECOND, SECOND * 86_400 * 10] {
        hand.set(SECOND * 86_400 * 400);
        limiter.block("a", Duration::MAX).unwrap();
        hand.set(SECOND * 86_400 * 400 - back);
        assert!(!limiter.is_allowed("a"), "{back:?}");
    }
}
