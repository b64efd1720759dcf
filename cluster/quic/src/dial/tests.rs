use super::*;

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

fn book(seeds: &[&str], now: Instant) -> Book {
    let seeds: Vec<String> = seeds.iter().map(|seed| (*seed).to_owned()).collect();
    Book::new(&seeds, at("10.0.0.1:7001"), 4, &Tuning::default(), 7, now)
}

fn resolve(book: &mut Book, now: Instant, addresses: &[&str]) {
    for (number, _) in book.due_places(now) {
        let found = addresses.iter().map(|address| at(address)).collect();
        assert_eq!(book.resolved(number, Ok(found), now), Resolution::Quiet);
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn all_addresses_of_a_name_are_called_but_the_own() {
    let now = Instant::now();
    let mut book = book(&["rl.default.svc:7001"], now);
    assert!(!book.is_ready(|_| true), "it is not resolved yet");
    resolve(
        &mut book,
        now,
        &["10.0.0.1:7001", "10.0.0.2:7001", "10.0.0.3:7001", "[fd00::1]:7001"],
    );
    assert_eq!(
        book.due_calls(now, |_| false),
        [at("10.0.0.2:7001"), at("10.0.0.3:7001")]
    );
    assert!(book.due_calls(now, |_| false).is_empty(), "each is called once");
    book.answered(at("10.0.0.2:7001"), "b", LinkId(1), now);
    assert!(!book.is_ready(|name| name == "b"), "one is still being called");
    book.failed(at("10.0.0.3:7001"), now);
    assert!(!book.is_ready(|name| name == "b"), "once is not enough");
    assert_eq!(book.due_calls(now + SECOND, |_| false), [at("10.0.0.3:7001")]);
    book.failed(at("10.0.0.3:7001"), now + SECOND);
    assert!(book.is_ready(|name| name == "b"));
    assert!(!book.is_ready(|_| false));
}

#[test]
fn a_name_is_resolved_again_and_what_it_no_longer_names_is_dropped() {
    let now = Instant::now();
    let mut book = book(&["rl:7001"], now);
    resolve(&mut book, now, &["10.0.0.2:7001", "10.0.0.3:7001"]);
    book.due_calls(now, |_| false);
    book.answered(at("10.0.0.2:7001"), "b", LinkId(1), now);
    book.failed(at("10.0.0.3:7001"), now);
    assert!(book.due_places(now + 29 * SECOND).is_empty());
    let later = now + 30 * SECOND;
    resolve(&mut book, later, &["10.0.0.4:7001"]);
    assert_eq!(book.due_calls(later, |_| false), [at("10.0.0.4:7001")]);
    assert_eq!(book.sizes(), (1, 2), "a link stays, a failed address goes");
    book.down(LinkId(1), "b", later);
    assert_eq!(book.sizes(), (1, 1));
}

#[test]
fn a_seed_without_an_address_is_told_once_and_tried_soon() {
    let now = Instant::now();
    let mut book = book(&["nobody:7001"], now);
    let (number, _) = book.due_places(now)[0];
    let told = book.resolved(number, Err("no such name".to_owned()), now);
    assert_eq!(
        told,
        Resolution::SeedFailed {
            seed: "nobody:7001".to_owned(),
            reason: "no such name".to_owned()
        }
    );
    let again = book.due_places(now + 5 * SECOND);
    assert_eq!(again.len(), 1, "before the regular time");
    assert_eq!(
        book.resolved(number, Err("no such name".to_owned()), now + 5 * SECOND),
        Resolution::Quiet
    );
    assert!(!book.is_ready(|_| true));
}

#[test]
fn pauses_grow_to_their_longest_and_shrink_after_a_good_link() {
    let mut now = Instant::now();
    let mut book = book(&["10.0.0.2:7001"], now);
    resolve(&mut book, now, &["10.0.0.2:7001"]);
    let target = at("10.0.0.2:7001");
    let mut pauses = Vec::new();
    for _ in 0..12 {
        assert_eq!(book.due_calls(now, |_| false), [target]);
        book.failed(target, now);
        let due = book.targets[&target].due;
        pauses.push(due - now);
        now = due;
    }
    assert!(
        pauses[0] >= Duration::from_millis(50) && pauses[0] <= Duration::from_millis(100),
        "{pauses:?}"
    );
    assert!(
        pauses[11] >= Duration::from_millis(2500) && pauses[11] <= 5 * SECOND,
        "{pauses:?}"
    );
    book.due_calls(now, |_| false);
    book.answered(target, "b", LinkId(1), now);
    book.down(LinkId(1), "b", now + SECOND);
    assert!(
        book.targets[&target].failures > 0,
        "a link that is refused at once is no good one"
    );
    now += 20 * SECOND;
    book.due_calls(now, |_| false);
    book.answered(target, "b", LinkId(2), now);
    book.down(LinkId(2), "b", now + 10 * SECOND);
    assert_eq!(book.targets[&target].failures, 0);
}

#[test]
fn nobody_is_called_who_is_linked_already() {
    let now = Instant::now();
    let mut book = book(&[], now);
    assert!(book.is_ready(|_| false), "without seeds there is nobody to wait for");
    book.tell("b", "10.0.0.2:7001", now);
    resolve(&mut book, now, &["10.0.0.2:7001"]);
    assert!(book.due_calls(now, |name| name == "b").is_empty());
    book.down(LinkId(9), "b", now + SECOND);
    let soon = now + 2 * SECOND;
    assert_eq!(
        book.due_calls(soon, |_| false),
        [at("10.0.0.2:7001")],
        "its other link is gone"
    );
    book.failed(at("10.0.0.2:7001"), soon);
    book.forget("b");
    assert_eq!(book.sizes(), (0, 0));
}

#[test]
fn what_peers_tell_is_bounded_and_forgotten() {
    let now = Instant::now();
    let mut book = book(&["10.0.0.2:7001"], now);
    for n in 0..1000 {
        book.tell(&format!("n{n}"), &format!("10.1.{}.{}:7001", n / 250, n % 250), now);
        book.tell("bad", "no port", now);
    }
    assert_eq!(book.sizes().0, 16);
    for (number, text) in book.due_places(now) {
        book.resolved(number, Ok(vec![at(&text)]), now);
    }
    assert!(book.sizes().1 <= 64);
    book.tell("n1", "10.9.9.9:7001", now);
    let changed = book.due_places(now);
    assert_eq!(
        changed.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(),
        ["10.9.9.9:7001"]
    );
    book.due_places(now + FORGET);
    assert_eq!(book.sizes(), (1, 1), "seeds stay");
}
