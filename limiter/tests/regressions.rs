//! Faults that a review found, each by the sequence of calls that showed it.

use std::time::Duration;

use ratelimit::{ClientKey, Clock, Decision, Limit, Limiter, Overflow};

fn limit(text: &str) -> Limit {
    text.parse().expect("a limit of this test")
}

/// A table that was full once gave no new client a cell of its own as long as new ones kept coming: the shared cells that the
/// flood had used were charged by everybody and never drained.
#[test]
fn after_a_flood_new_clients_have_cells_of_their_own() {
    let (clock, hand) = Clock::manual();
    let limiter = Limiter::builder()
        .limit(limit("2/hour"))
        .max_keys(2_000)
        .clock(clock)
        .hash_key([3; 16])
        .build()
        .expect("a limiter");
    for id in 0..20_000u32 {
        let _ = limiter.is_allowed(&id.to_le_bytes());
    }
    assert!(limiter.stats().overflowed > 0, "the flood was not large enough");
    limiter
        .set_override("vip", Some(limit("3/hour")))
        .expect("room for an override");
    // One window later the flood owes nothing, and only one new client comes every ten seconds.
    hand.advance(Duration::from_secs(3_600));
    let before = limiter.stats().overflowed;
    for id in 0..720u32 {
        hand.advance(Duration::from_secs(10));
        let id = id.wrapping_add(1 << 30).to_le_bytes();
        assert!(
            limiter.is_allowed(&id) && limiter.is_allowed(&id),
            "a new client has a burst of two"
        );
        assert!(!limiter.is_allowed(&id));
    }
    assert!(limiter.is_allowed("vip"));
    assert_eq!(limiter.stats().overflowed, before);
}

/// A client that finds a cell takes along what it owes in the shared cell: it cannot spend its burst twice.
#[test]
fn who_leaves_a_shared_cell_takes_its_debt_along() {
    let (clock, hand) = Clock::manual();
    let limiter = Limiter::builder()
        .limit(limit("10/hour"))
        .max_keys(8)
        .clock(clock)
        .hash_key([4; 16])
        .build()
        .expect("a limiter");
    // Cells that live for one interval, six minutes.
    let mut id = 0u64;
    while limiter.stats().overflowed < 50 {
        id += 1;
        let _ = limiter.is_allowed(&id.to_le_bytes());
    }
    let shared = (1u64 << 40..)
        .map(u64::to_le_bytes)
        .find(|id| {
            let before = limiter.stats().overflowed;
            limiter.is_allowed(id) && limiter.stats().overflowed > before
        })
        .expect("one that finds no cell");
    let mut admitted = 1;
    while limiter.is_allowed(&shared) {
        admitted += 1;
    }
    assert!(admitted <= 10);
    // Some cells have expired, and the client gets one. One request has come back, not ten.
    hand.advance(Duration::from_secs(361));
    assert!(limiter.is_allowed(&shared));
    assert!(!limiter.is_allowed(&shared));
}

/// A thread that took its time and was then put to sleep for longer than the window found a state far ahead of it, and took
/// that for a clock that was set back.
#[test]
fn a_thread_that_slept_gives_no_burst_back() {
    // The id is read after the clock in a batch: reading it takes long.
    struct Slow;
    impl AsRef<[u8]> for Slow {
        fn as_ref(&self) -> &[u8] {
            // Others spend the burst while this thread sleeps, a second and a half after it read the clock.
            std::thread::sleep(Duration::from_millis(1_500));
            let limiter = LIMITER.get().expect("the limiter of this test");
            while limiter.is_allowed("client") {}
            b"client"
        }
    }
    static LIMITER: std::sync::OnceLock<Limiter> = std::sync::OnceLock::new();
    let limiter = LIMITER.get_or_init(|| {
        Limiter::builder()
            .limit(limit("10/s burst 2"))
            .build()
            .expect("a limiter")
    });
    let mut decisions = [Decision::default()];
    limiter
        .check_many(&[Slow], &mut decisions)
        .expect("slices of one length");
    assert!(!decisions[0].allowed);
    assert_eq!(limiter.stats().stepped, 0, "no clock was set back");
}

/// A block that was long over came back when times had gone round their circle.
#[test]
fn a_block_does_not_come_back() {
    let (clock, hand) = Clock::manual();
    let limiter = Limiter::builder()
        .limit(limit("10/s"))
        .clock(clock)
        .build()
        .expect("a limiter");
    limiter
        .block("client", Duration::from_secs(1))
        .expect("room for a block");
    assert!(!limiter.is_allowed("client"));
    for _ in 0..600 {
        hand.advance(Duration::from_secs(86_400));
        assert!(limiter.is_allowed("client"));
    }
}

/// Limits of overrides that no client had any more were counted for ever.
#[test]
fn limits_of_overrides_that_are_gone_leave_room() {
    let limiter = Limiter::builder().limit(limit("10/s")).build().expect("a limiter");
    for rate in 1..10_000 {
        let own = Limit::new(rate, Duration::from_secs(3_600)).expect("a limit");
        limiter.set_override("client", Some(own)).expect("room for an override");
        assert_eq!(limiter.peek("client").limit, rate);
    }
    limiter.clear_overrides();
    assert_eq!(limiter.peek("client").limit, 10);
    limiter
        .set_override("client", Some(limit("7/s")))
        .expect("room for an override");
}

/// References to keys are keys, as references to ids are ids.
#[test]
fn references_to_keys_are_keys() {
    let limiter = Limiter::builder().limit(limit("2/hour")).build().expect("a limiter");
    let keys: Vec<ClientKey> = ["a", "b"].iter().map(|id| limiter.key(id)).collect();
    assert_eq!(keys.iter().filter(|key| limiter.is_allowed(key)).count(), 2);
    let references: Vec<&ClientKey> = keys.iter().collect();
    let mut decisions = [Decision::default(); 2];
    limiter
        .check_many(&references, &mut decisions)
        .expect("slices of one length");
    assert!(
        decisions
            .iter()
            .all(|decision| decision.allowed && decision.remaining == 0)
    );
}

/// A peek at a full table said what an empty one would say.
#[test]
fn a_peek_at_a_full_table_says_what_a_decision_would() {
    for overflow in [Overflow::Deny, Overflow::Allow, Overflow::Share] {
        let (clock, _hand) = Clock::manual();
        let limiter = Limiter::builder()
            .limit(limit("2/hour"))
            .max_keys(8)
            .overflow(overflow)
            .clock(clock)
            .build()
            .expect("a limiter");
        for id in 0..1_000u32 {
            let peeked = limiter.peek(&id.to_le_bytes()).allowed;
            assert_eq!(limiter.is_allowed(&id.to_le_bytes()), peeked, "{overflow:?}, id {id}");
        }
        assert!(limiter.stats().overflowed > 0);
    }
}

/// Busy clients whose small debts are over between any two of their requests took each other's cells for ever: more than half of
/// all requests had to insert their client again.
#[test]
fn clients_whose_debt_is_over_keep_their_cells_while_there_is_room() {
    let (clock, hand) = Clock::manual();
    let limiter = Limiter::builder()
        .limit(limit("1000000/s"))
        .max_keys(1_000)
        .clock(clock)
        .hash_key([5; 16])
        .build()
        .expect("a limiter");
    for _ in 0..20 {
        for id in 0..1_000u32 {
            hand.advance(Duration::from_micros(2));
            assert!(limiter.is_allowed(&id.to_le_bytes()));
        }
    }
    let stats = limiter.stats();
    assert!(
        stats.inserted < 1_100,
        "{} of 20,000 requests had to insert their client",
        stats.inserted
    );
}
