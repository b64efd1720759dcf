//! Absurd inputs and long lives: nothing panics, leaks, locks a client out or tells a secret.
// A test that cannot go on says so by a panic.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use ratelimit::{Builder, ClientKey, Clock, Decision, Error, Limit, Limiter, ManualClock, Overflow, Stats, Survey};
use support::{Random, rounds};

const SECOND: Duration = Duration::from_secs(1);

fn limit(text: &str) -> Limit {
    text.parse().unwrap()
}

fn manual(text: &str) -> (Limiter, ManualClock) {
    let (clock, hand) = Clock::manual();
    let limiter = Limiter::builder().limit(limit(text)).clock(clock).build().unwrap();
    (limiter, hand)
}

/// Any size works, or is refused with a sentence; the smallest tables keep limits for far more clients than they hold.
#[test]
fn any_max_keys_works_or_is_refused() {
    for max_keys in [0, 1, 2, 3, 7, 100] {
        let (clock, _hand) = Clock::manual();
        let builder = Limiter::builder().limit(limit("2/hour")).clock(clock);
        let limiter = builder.max_keys(max_keys).build().unwrap();
        for client in 0..5_000_u32 {
            let id = client.to_le_bytes();
            let admitted = (0..4).filter(|_| limiter.is_allowed(&id)).count();
            assert!(admitted <= 2, "max_keys {max_keys}");
        }
        // With one collective cell for every 1,024 ids a client shares with a few others.
        assert!(
            limiter.stats().allowed >= 16 + 2 * 900,
            "max_keys {max_keys}: {:?}",
            limiter.stats()
        );
    }
    for max_keys in [usize::MAX, usize::MAX / 2, 1 << 34, (1 << 33) + 1] {
        let error = Limiter::builder()
            .limit(limit("1/s"))
            .max_keys(max_keys)
            .build()
            .unwrap_err();
        assert_eq!((error.code(), error.name()), (3, "max_keys"));
        assert!(error.to_string().contains("use at most"), "{error}");
    }
    // Each of several limits has cells of its own: the bound counts them all.
    let eight = || (0..8).fold(Limiter::builder(), |builder, _| builder.limit(limit("1/s")));
    assert_eq!(eight().max_keys((1 << 30) + 1).build().unwrap_err().code(), 3);
    assert_eq!(eight().limit(limit("1/s")).build().unwrap_err().code(), 2);
    assert_eq!(Limiter::builder().build().unwrap_err().code(), 2);
}

/// With eight limits and a bound, as many clients as were promised have all their cells; beyond it nobody gets too much.
#[test]
fn eight_limits_have_room_for_all_clients() {
    let (clock, _hand) = Clock::manual();
    let builder = (0..8).fold(Limiter::builder(), |builder, i| {
        builder.limit(limit("5/hour").burst(5 + i))
    });
    let limiter = builder.clock(clock).max_keys(1_000).build().unwrap();
    let admitted = |client: u32| (0..8).filter(|_| limiter.is_allowed(&client.to_le_bytes())).count();
    for client in 0..1_000 {
        assert_eq!(admitted(client), 5);
    }
    assert_eq!(limiter.stats().overflowed, 0);
    for client in 1_000..5_000 {
        assert!(admitted(client) <= 5);
    }
    assert!(limiter.stats().overflowed > 0);
    for client in 0..5_000 {
        assert_eq!(admitted(client), 0);
    }
}

/// Ids of no bytes and of ten million, ids that differ in one bit, ids with zero bytes: all are different clients.
#[test]
fn any_bytes_are_an_id() {
    let (limiter, _hand) = manual("1/hour");
    let long = vec![7_u8; 10_000_000];
    let mut other = long.clone();
    other[9_999_999] ^= 1;
    let ids: [&[u8]; 7] = [b"", b"\0", b"\0\0", &long, &other, &long[1..], "ключ".as_bytes()];
    for id in ids {
        assert!(limiter.is_allowed(id));
        assert!(!limiter.is_allowed(id));
        assert!(!limiter.is_allowed(&limiter.key(id)));
    }
    // As text, bytes or hashed, a client is the same.
    assert!(limiter.is_allowed("same") && !limiter.is_allowed(b"same") && !limiter.is_allowed(&"same".to_owned()));
}

/// Every limit that is accepted decides without a panic at its edges; every other is refused.
#[test]
fn limits_of_every_edge() {
    let numbers = [
        0,
        1,
        2,
        3,
        10,
        1 << 20,
        1 << 32,
        (1 << 54) - 1,
        1 << 54,
        u64::MAX - 1,
        u64::MAX,
    ];
    let windows = [
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_nanos(10),
        Duration::from_nanos(1 << 20),
        SECOND,
        Duration::from_secs(86_400 * 30),
        Duration::from_nanos((1 << 54) - 1),
        Duration::from_nanos(1 << 54),
        Duration::MAX,
    ];
    let (mut made, mut refused) = (0, 0);
    for (rate, window) in numbers.iter().flat_map(|rate| windows.map(|window| (*rate, window))) {
        let Ok(plain) = Limit::new(rate, window) else {
            refused += 1;
            continue;
        };
        let bursts = numbers.map(|burst| plain.burst(burst));
        for limit in bursts
            .into_iter()
            .flat_map(|limit| [limit, limit.strict()])
            .chain([plain, plain.strict()])
        {
            let (clock, hand) = Clock::manual();
            let Ok(limiter) = Limiter::builder().limit(limit).clock(clock).build() else {
                assert!(limit.validate().is_err());
                refused += 1;
                continue;
            };
            made += 1;
            let burst = limit.capacity();
            for (step, cost) in numbers.into_iter().enumerate() {
                assert_eq!(limiter.check_n("a", cost).limit, burst);
                let _ = limiter.peek_n("a", cost);
                let now = windows[step % windows.len()];
                limiter.check_at("b", cost, now);
                limiter.refund("a", cost);
                limiter.refund_at("b", cost, now);
                hand.advance(now);
            }
            limiter.reset("a");
            assert!(limiter.check_n("a", burst).allowed, "{limit}");
            let denied = limiter.check("a");
            assert!(!denied.allowed && denied.remaining == 0, "{limit}: {denied:?}");
            hand.advance(denied.retry_after);
            assert!(limiter.is_allowed("a"), "{limit}: {denied:?}");
        }
    }
    assert!(made > 100 && refused > 30, "{made} {refused}");
}

/// The largest times: as now, and as the length of a block.
#[test]
fn the_largest_durations() {
    let (limiter, hand) = manual("1/hour");
    for now in [
        Duration::ZERO,
        Duration::MAX,
        Duration::from_nanos(u64::MAX),
        Duration::from_secs(u64::MAX),
    ] {
        let key = format!("{now:?}");
        assert!(limiter.check_at(&key, 1, now).allowed);
        let denied = limiter.check_at(&key, 1, now);
        assert_eq!((denied.allowed, denied.retry_after), (false, SECOND * 3_600));
        assert_eq!(limiter.peek_at(&key, 1, now), denied);
    }
    limiter.block("a", Duration::MAX).unwrap();
    let blocked = limiter.check("a");
    let longest = Duration::from_nanos((1 << 54) - 1);
    assert_eq!(
        (blocked.allowed, blocked.retry_after, blocked.remaining),
        (false, longest, 0)
    );
    assert!(limiter.check_n("a", 0).allowed, "a cost of 0 is always allowed");
    hand.advance(longest - Duration::from_nanos(1));
    assert!(!limiter.is_allowed("a"));
    hand.advance(Duration::from_nanos(1));
    assert!(limiter.is_allowed("a"));
    // A reset lifts a block, and so does one of no length.
    limiter.block("b", SECOND).unwrap();
    limiter.reset("b");
    assert!(limiter.is_allowed("b"));
    limiter.block("c", SECOND).unwrap();
    limiter.block("c", Duration::ZERO).unwrap();
    assert!(limiter.is_allowed("c"));
    // One that is over is over, and its place is used again.
    for client in 0..100_000_u32 {
        limiter.block(&client.to_le_bytes(), Duration::from_nanos(1)).unwrap();
        hand.advance(Duration::from_nanos(1));
    }
    assert!(limiter.is_allowed(&7_u32.to_le_bytes()));
}

/// Clocks that step by years in both directions, by the limiter's clock and by given times, with one limit and with
/// several: each step gives at most one burst, and nobody waits longer than his own window, `T` and a second.
#[test]
fn steps_of_the_clock_lock_nobody_out() {
    const YEAR: u64 = 365 * 86_400 * 1_000_000_000;
    for schedule in 0..rounds(10_000, 10) {
        let mut random = Random(schedule);
        let burst = random.below(5) + 1;
        let window = random.magnitude(1_000_000, 3_600_000_000_000) / 60 * 60;
        let limit = Limit::new(burst, Duration::from_nanos(window)).unwrap();
        let (clock, hand) = Clock::manual();
        let mut builder = Limiter::builder().limit(limit).clock(clock);
        if random.one_in(2) {
            builder = builder.limit(limit.burst(burst * 2));
        }
        if random.one_in(2) {
            builder = builder.max_keys(4);
        }
        let limiter = builder.build().unwrap();
        let given = random.one_in(2);
        let at = |now: u64| {
            hand.set(Duration::from_nanos(now));
            let now = Duration::from_nanos(now);
            if given {
                limiter.check_at("a", 1, now)
            } else {
                limiter.check("a")
            }
        };
        let mut now = 5 * YEAR;
        for _ in 0..20 {
            // A step, by years or by little, then requests at one instant.
            let by = match random.below(3) {
                0 => random.below(2 * YEAR),
                1 => random.magnitude(1, 3 * window),
                _ => random.magnitude(1, YEAR),
            };
            now = if random.one_in(2) {
                now + by
            } else {
                now.saturating_sub(by)
            };
            let admitted = (0..burst + 3).filter(|_| at(now).allowed).count() as u64;
            assert!(admitted <= burst, "schedule {schedule}: {admitted} of {burst} at once");
            let interval = window / burst;
            let longest = Duration::from_nanos(window + interval) + SECOND;
            let told = at(now).retry_after;
            assert!(told <= longest, "schedule {schedule}: told to wait for {told:?}");
            if random.one_in(2) {
                now += longest.as_nanos() as u64;
                assert!(at(now).allowed, "schedule {schedule}: locked out at {now}");
            }
            if random.one_in(4) {
                let other = [random.next(), random.next()].map(u64::to_le_bytes).concat();
                let _ = if given {
                    limiter.check_at(&other, 1, Duration::from_nanos(now))
                } else {
                    limiter.check(&other)
                };
            }
        }
    }
}

/// A client that is decided by the limiter's clock and by given times in turn gets no more than a burst for each time that
/// it is taken from one to the other with a clock that moved, and none if neither moves.
#[test]
fn to_mix_both_kinds_of_time_gives_nothing_at_one_instant() {
    let (limiter, hand) = manual("10/s");
    let origin = SECOND * 1_795_000_000;
    let mut admitted = 0;
    for call in 0..10_000 {
        let allowed = match call % 3 {
            0 => limiter.is_allowed("a"),
            1 => limiter.check_at("a", 1, origin).allowed,
            _ => limiter.peek("a").allowed && limiter.is_allowed("a"),
        };
        admitted += u64::from(allowed);
    }
    assert_eq!(admitted, 10);
    // Both move together: the rate is kept, whichever is asked. A change of kind may cost waiting time, since the time on
    // the other side is only known from the last insert or change.
    let mut random = Random(1);
    for step in 1..=10_000_u32 {
        hand.advance(Duration::from_millis(10));
        let now = origin + Duration::from_millis(10) * step;
        let own = random.one_in(2);
        let allowed = if own {
            limiter.is_allowed("a")
        } else {
            limiter.check_at("a", 1, now).allowed
        };
        admitted += u64::from(allowed);
    }
    assert!(
        (300..=1_010).contains(&admitted),
        "{admitted} in 100 s at 10 per second"
    );
}

/// More different limits in overrides than there is room for is an error that says so, and changes nothing; as many clients
/// as one likes may share a limit.
#[test]
fn overrides_have_a_bound_that_is_told() {
    let (limiter, _hand) = manual("1/hour");
    for number in 0..4_096_u64 {
        let own = Limit::new(number + 1, SECOND * 3_600).unwrap();
        limiter.set_override(&number.to_le_bytes(), Some(own)).unwrap();
    }
    let error = limiter.set_override("one more", Some(limit("9/day"))).unwrap_err();
    assert_eq!((error.code(), error.name()), (5, "full"));
    assert!(error.to_string().contains("limits that others have too"), "{error}");
    assert_eq!(limiter.check("one more").limit, 1);
    for number in (0..4_096_u64).step_by(97) {
        assert_eq!(limiter.peek(&number.to_le_bytes()).limit, number + 1);
    }
    for client in 0..20_000_u32 {
        limiter
            .set_override(&client.to_le_bytes(), Some(limit("5/hour")))
            .unwrap();
    }
    assert_eq!(limiter.peek(&19_999_u32.to_le_bytes()).limit, 5);
    limiter.clear_overrides();
    assert_eq!(limiter.peek(&19_999_u32.to_le_bytes()).limit, 1);
    // Misuse changes nothing either.
    let twice = |limiter: &Limiter| limiter.set_limits(&[limit("1/s"), limit("2/s")]).unwrap_err().code();
    assert_eq!(twice(&limiter), 2);
    assert_eq!(limiter.set_limit(limit("5/s").burst(0)).unwrap_err().code(), 1);
    assert_eq!(
        limiter
            .set_override("a", Some(limit("5/s").burst(0)))
            .unwrap_err()
            .code(),
        1
    );
    assert_eq!(limiter.limits(), [limit("1/hour")]);
    assert!(matches!(
        limiter.check_many(&["a", "b"], &mut [Decision::default()]),
        Err(Error::Lengths(_))
    ));
    let mut two = [Decision::default(); 2];
    assert_eq!(limiter.check_many_n(&["a", "b"], &[1], &mut two).unwrap_err().code(), 6);
    assert_eq!(limiter.allowed_many(&["a"], &mut []).unwrap_err().code(), 6);
    assert!(
        limiter.is_allowed("a") && limiter.is_allowed("b"),
        "nothing was charged"
    );
}

/// Overrides that come and go 100,000 times take no more room, and lose nothing of what was spent.
#[test]
fn overrides_that_come_and_go_leave_nothing_behind() {
    let (limiter, _hand) = manual("10/hour");
    assert!(limiter.check_n("a", 10).allowed);
    for round in 0..rounds(100_000, 1) {
        let own = if round % 2 == 0 {
            limit("10/day")
        } else {
            limit("10/2h")
        };
        limiter.set_override("a", Some(own)).unwrap();
        limiter.set_override(&round.to_le_bytes(), Some(own)).unwrap();
        assert!(round % 3 != 0 || !limiter.is_allowed("a"));
        limiter.set_override(&round.to_le_bytes(), None).unwrap();
        limiter.set_override("a", None).unwrap();
        assert!(round % 5 != 0 || !limiter.is_allowed("a"));
    }
    let denied = limiter.check("a");
    assert_eq!((denied.allowed, denied.limit, denied.remaining), (false, 10, 0));
}

/// Four and more changes of limit while a client was not looked at: however they are mixed up, it never gets more than one
/// burst of the limit in force, and never waits longer than its window, `T` and a second.
#[test]
fn many_changes_of_limit_unseen() {
    for seed in 0..rounds(20_000, 10) {
        let mut random = Random(seed);
        let (limiter, hand) = manual("10/s");
        hand.set(SECOND * 1_000_000);
        assert!(limiter.check_n("a", random.below(10) + 1).allowed);
        let mut last = limit("10/s");
        for _ in 0..random.below(12) {
            let rate = random.magnitude(1, 100_000);
            last = Limit::new(rate, Duration::from_nanos(rate * random.magnitude(1_000, 1 << 36))).unwrap();
            limiter.set_limit(last).unwrap();
            hand.advance(Duration::from_nanos(random.magnitude(1, 1 << 30)));
        }
        let denied = limiter.check_n("a", last.capacity());
        if !denied.allowed {
            let longest = last.window() + last.window() / last.rate_limit() as u32 + SECOND;
            assert!(denied.retry_after <= longest, "seed {seed}: {denied:?}");
            hand.advance(denied.retry_after);
            assert!(limiter.check_n("a", last.capacity()).allowed, "seed {seed}: {denied:?}");
        }
        assert!(!limiter.check_n("a", last.capacity()).allowed);
    }
}

/// Ten thousand limiters that come and go leave no address space behind.
#[test]
#[cfg(target_os = "linux")]
fn limiters_that_go_leave_no_address_space() {
    let make = |round: u32| {
        let mut builder = Limiter::builder().limit(limit("10/s"));
        if round.is_multiple_of(2) {
            builder = builder.max_keys(1_000_000);
        }
        let limiter = builder.build().unwrap();
        assert!(limiter.clone().is_allowed(&round.to_le_bytes()));
    };
    (0..100).for_each(make);
    let before = support::status_kib("VmSize");
    (0..10_000).for_each(make);
    let after = support::status_kib("VmSize");
    // One growing table alone has more than 600 MiB of addresses. Other tests of this process run meanwhile, a few at a time.
    assert!(after < before + 32 * 1_048_576, "{before} KiB became {after} KiB");
}

/// What threads and futures need of the types.
#[test]
fn handles_can_be_sent_shared_and_cloned() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    fn value<T: Copy + Send + Sync + 'static>() {}
    shared::<Limiter>();
    shared::<Builder>();
    shared::<Clock>();
    shared::<ManualClock>();
    shared::<Limit>();
    value::<ClientKey>();
    value::<Decision>();
    value::<Stats>();
    value::<Survey>();
    value::<Overflow>();
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    error::<Error>();
    assert_eq!(Decision::default(), Decision::default());
    // A clone is the same limiter, and outlives the one it came from.
    let (limiter, _hand) = manual("1/hour");
    let clone = limiter.clone();
    assert!(limiter.is_allowed("a"));
    drop(limiter);
    assert!(!clone.is_allowed("a"));
}

/// What is printed for debugging shows no id and no secret.
#[test]
fn nothing_printed_shows_an_id_or_a_secret() {
    let secret = *b"0123456789abcdef";
    let (clock, _hand) = Clock::manual();
    let builder = Limiter::builder().limit(limit("1/s")).hash_key(secret).clock(clock);
    let made = format!("{builder:?}");
    let limiter = builder.build().unwrap();
    let key = limiter.key("client-7");
    limiter.set_override("client-7", Some(limit("2/s"))).unwrap();
    limiter.block("client-7", SECOND).unwrap();
    assert!(!limiter.is_allowed("client-7"));
    let printed = [
        made,
        format!("{limiter:?} {limiter:#?}"),
        format!("{key:?}"),
        format!("{:?}", limiter.stats()),
        limiter.prometheus(),
        limiter.set_limits(&[]).unwrap_err().to_string(),
    ];
    for text in &printed {
        for hidden in [
            "client-7",
            "0123456789",
            "abcdef",
            "48, 49, 50",
            "30313233",
            "3736353433323130",
            "client_7",
        ] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
    // Enough of a hash to tell clients apart, not enough to stand for one.
    assert_eq!(printed[2].len(), "ClientKey(01234567)".len());
}
