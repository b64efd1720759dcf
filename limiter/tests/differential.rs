//! Random sequences of every call, against a model that shares nothing with the limiter: absolute times on a line instead
//! of a circle, a map instead of a table, no atomics.
//!
//! Proves that decisions are the same in all five fields, whatever the order of calls. Limits whose interval is no whole
//! number of nanoseconds may differ by the few nanoseconds that `Gcra` documents; the model then keeps an error bar, which
//! is zero for all others.
//!
//! A failure prints its seed: `RATELIMIT_SEED=n cargo test --test differential` runs that one again and prints its calls.
// A test that cannot go on says so by a panic.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ratelimit::{Clock, Decision, Limit, Limiter, ManualClock};
use support::{Random, rounds};

/// Fraction bits of the model's nanoseconds.
const FRACTION: u32 = 24;
const NS: i128 = 1 << FRACTION;
/// How late a thread may be before its time counts as a clock that was set back.
const LATE: i128 = 1_000_000_000 * NS;
/// How far a limit with fractional intervals may be off, documented with `Gcra`: less than 3 ns, and as much again where
/// the circle of times closes.
const LATTICE_ERROR: i128 = 6 * NS;
/// 208 days.
const LONGEST_BLOCK_NS: i128 = (1 << 54) - 1;
/// What one sequence may move the clock in all, so that no idle client leaves the circle of times.
const TRAVEL_NS: u64 = 1 << 53;

// --- The model ---------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq)]
struct Numbers {
    interval: i128,
    tolerance: i128,
    burst: u64,
    lattice: bool,
}

impl Numbers {
    /// By the words of the documentation.
    fn new(rate: u64, window_ns: u64, burst: Option<u64>, strict: bool) -> Numbers {
        let burst = burst.unwrap_or(if strict { (rate / 10).max(1) } else { rate });
        let spread = i128::from(if strict && rate > 1 { rate - burst } else { rate });
        let window = i128::from(window_ns);
        let lattice = window % spread != 0 && window / spread < 1 << 20;
        let interval = if lattice {
            ((window << FRACTION) + spread / 2) / spread
        } else if strict && window % spread != 0 {
            (window / spread + 1) * NS
        } else {
            window / spread * NS
        };
        let tolerance = if lattice {
            ((window << FRACTION) * i128::from(burst)) / spread
        } else {
            interval * i128::from(burst)
        };
        Numbers {
            interval,
            tolerance,
            burst,
            lattice,
        }
    }

    fn error(&self) -> i128 {
        if self.lattice { LATTICE_ERROR } else { 0 }
    }

    fn stepped(&self, tat: i128, now: i128) -> bool {
        tat - now > self.tolerance + LATE
    }

    fn backlog(&self, tat: i128, now: i128) -> i128 {
        if self.stepped(tat, now) {
            self.tolerance
        } else {
            (tat - now).max(0)
        }
    }
}

/// Under what a cell was charged.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tag {
    /// This generation of the limit for all. Cells remember it modulo 4.
    Base(u64),
    /// The client's own limit.
    Own(Numbers),
}

impl Tag {
    fn same(&self, other: &Tag) -> bool {
        match (self, other) {
            (Tag::Base(a), Tag::Base(b)) => a % 4 == b % 4,
            (Tag::Own(_), Tag::Own(_)) => true,
            _ => false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct State {
    tat: i128,
    error: i128,
    tag: Tag,
}

/// What a model decision says, and by how much the times in it may be off.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// `None`: within the error either is right.
    allowed: Option<bool>,
    limit: u64,
    remaining: (u64, u64),
    /// `None` is never.
    retry: Option<i128>,
    reset: i128,
    error: i128,
}

/// One limit's look at one client.
struct Eval {
    numbers: Numbers,
    tag: Tag,
    state: Option<State>,
}

#[derive(Default)]
struct Model {
    /// All generations of each limit.
    limits: Vec<Vec<(Limit, Numbers)>>,
    states: HashMap<(usize, usize), State>,
    overrides: HashMap<usize, Numbers>,
    blocks: HashMap<usize, i128>,
    has_records: bool,
    /// A state with an error bar lay at the border of what counts as a clock that was set back.
    unsure: bool,
    /// The latest given time known: what a change of override measures clients with given times by.
    given_now: Option<i128>,
}

impl Model {
    fn terms(&self, key: usize, limit: usize) -> (Numbers, Tag) {
        match self.overrides.get(&key) {
            Some(&own) if limit == 0 => (own, Tag::Own(own)),
            _ => {
                let generation = self.limits[limit].len() - 1;
                (self.limits[limit][generation].1, Tag::Base(generation as u64))
            }
        }
    }

    fn limits_of(&self, key: usize) -> usize {
        if self.overrides.contains_key(&key) {
            1
        } else {
            self.limits.len()
        }
    }

    fn raise_given(&mut self, key: usize, now: i128) {
        if is_given(key) {
            self.given_now = Some(self.given_now.map_or(now, |known| known.max(now)));
        }
    }

    fn converted(&self, limit: usize, state: State, now: i128, numbers: &Numbers, tag: Tag) -> State {
        let old = match (state.tag, self.limits[limit].len() as u64 - 1) {
            (Tag::Own(old), _) => Some(old),
            (Tag::Base(generation), current) => match (current - generation) % 4 {
                3 => None,
                back => Some(self.limits[limit][(current - back) as usize].1),
            },
        };
        let Some(old) = old else {
            // Too many changes ago: the time left to wait is kept, up to the whole burst.
            let left = (state.tat - now).max(0).min(numbers.tolerance);
            let error = state.error.max(numbers.error());
            return State {
                tat: now + left,
                error,
                tag,
            };
        };
        let backlog = old.backlog(state.tat, now);
        let spent = backlog.min(old.tolerance);
        let whole = |fixed: i128| (fixed + NS - 1) >> FRACTION;
        let share = (whole(spent) * whole(numbers.tolerance) + whole(old.tolerance) - 1) / whole(old.tolerance);
        let error = if old.lattice || numbers.lattice || state.error > 0 {
            let ratio = whole(numbers.tolerance) / whole(old.tolerance) + 1;
            (state.error + 2 * NS) * ratio + state.error + LATTICE_ERROR
        } else {
            0
        };
        State {
            tat: now + share * NS + (backlog - spent),
            error,
            tag,
        }
    }

    /// The client's state under the terms in force, brought there for good if `write`.
    fn touch(&mut self, key: usize, limit: usize, now: i128, write: bool) -> Eval {
        let (numbers, tag) = self.terms(key, limit);
        let mut state = self.states.get(&(key, limit)).copied();
        if let Some(old) = state {
            self.unsure |= border(&old, &numbers, now);
            if let (Tag::Own(own), false) = (old.tag, old.tag.same(&tag)) {
                self.unsure |= border(&old, &own, now);
            }
            for (_, earlier) in &self.limits[limit] {
                self.unsure |= border(&old, earlier, now);
            }
            let new = if old.tag.same(&tag) {
                State {
                    error: old.error.max(numbers.error()),
                    ..old
                }
            } else {
                if write {
                    self.raise_given(key, now);
                }
                self.converted(limit, old, now, &numbers, tag)
            };
            if write {
                self.states.insert((key, limit), new);
            }
            self.unsure |= border(&new, &numbers, now);
            state = Some(new);
        }
        Eval { numbers, tag, state }
    }

    fn blocked(&self, key: usize, cost: u64, own_now: i128) -> Option<i128> {
        let until = *self.blocks.get(&key)?;
        let left = until - own_now;
        // One that seems to be 13 days longer than any that is made is over.
        (cost != 0 && left > 0 && left <= (LONGEST_BLOCK_NS + LONGEST_BLOCK_NS / 16) * NS).then_some(left)
    }

    fn peek(&mut self, key: usize, cost: u64, now: i128, own_now: i128) -> Vec<Answer> {
        let left = self.blocked(key, cost, own_now);
        let looks: Vec<Answer> = (0..self.limits_of(key))
            .map(|limit| answer(&self.touch(key, limit, now, false), now, cost))
            .collect();
        match left {
            None => binding(looks),
            Some(left) => binding(looks).into_iter().map(|shown| block_of(shown, left)).collect(),
        }
    }

    /// `told` is what the limiter said: where the model cannot know, it goes by that.
    fn check(&mut self, key: usize, cost: u64, now: i128, own_now: i128, told: bool) -> Vec<Answer> {
        if self.blocked(key, cost, own_now).is_some() {
            return self.peek(key, cost, now, own_now);
        }
        let limits = self.limits_of(key);
        let mut answers = Vec::with_capacity(limits);
        for limit in 0..limits {
            let eval = self.touch(key, limit, now, true);
            let asked = answer(&eval, now, cost);
            if let Some(state) = eval.state
                && asked.allowed != Some(true)
                && eval.numbers.stepped(state.tat, now)
            {
                let tat = now + eval.numbers.tolerance;
                self.states.insert((key, limit), State { tat, ..state });
            }
            answers.push(asked);
        }
        let allowed = if answers.iter().any(|answer| answer.allowed == Some(false)) {
            false
        } else {
            told || answers.iter().all(|answer| answer.allowed == Some(true))
        };
        if !allowed {
            for answer in &mut answers {
                answer.allowed = answer.allowed.or(Some(false));
            }
            return binding(answers);
        }
        if self.has_records {
            self.raise_given(key, now);
        }
        let after = (0..limits).map(|limit| {
            let eval = self.touch(key, limit, now, true);
            if cost > 0 {
                let error = eval.numbers.error();
                let (from, error) = match eval.state {
                    Some(state) if state.tat + state.error > now => (state.tat.max(now), state.error),
                    Some(_) => (now, error),
                    None => {
                        self.raise_given(key, now);
                        (now, error)
                    }
                };
                let tat = from + i128::from(cost) * eval.numbers.interval;
                let state = State {
                    tat,
                    error,
                    tag: eval.tag,
                };
                self.states.insert((key, limit), state);
            }
            let after = answer(&self.touch(key, limit, now, false), now, 0);
            Answer {
                allowed: Some(true),
                ..after
            }
        });
        binding(after.collect())
    }

    fn lower(&mut self, key: usize, limit: usize, now: i128, to: impl Fn(&Numbers, State) -> i128) {
        let eval = self.touch(key, limit, now, true);
        if let Some(state) = eval.state
            && state.tat + state.error > now
        {
            let tat = to(&eval.numbers, state);
            self.states.insert((key, limit), State { tat, ..state });
        }
    }

    fn refund(&mut self, key: usize, cost: u64, now: i128) {
        for limit in 0..self.limits_of(key) {
            self.lower(key, limit, now, |numbers, state| {
                let back = numbers.interval.saturating_mul(i128::from(cost));
                let left = numbers.backlog(state.tat, now).saturating_sub(back);
                if state.tat <= now { state.tat } else { now + left.max(0) }
            });
        }
    }

    fn reset(&mut self, key: usize, now: i128) {
        for limit in 0..self.limits.len() {
            self.lower(key, limit, now, |_, state| state.tat.min(now));
        }
        self.blocks.remove(&key);
    }

    fn block(&mut self, key: usize, ns: u64, own_now: i128) {
        if ns == 0 {
            self.blocks.remove(&key);
        } else {
            self.has_records = true;
            self.blocks
                .insert(key, own_now + i128::from(ns).min(LONGEST_BLOCK_NS) * NS);
        }
    }

    fn set_limits(&mut self, limits: &[(Limit, Numbers)]) {
        for (generations, limit) in self.limits.iter_mut().zip(limits) {
            if generations.last().is_some_and(|(last, _)| *last != limit.0) {
                generations.push(*limit);
            }
        }
    }

    /// A client's own limit goes: what it has spent is measured now, on the kind of time that it is decided by.
    fn end_override(&mut self, key: usize, own_now: i128) {
        if self.overrides.remove(&key).is_none() {
            return;
        }
        let now = if is_given(key) { self.given_now } else { Some(own_now) };
        let (numbers, tag) = self.terms(key, 0);
        let Some(&state) = self.states.get(&(key, 0)) else {
            return;
        };
        let ended = match (state.tag, now) {
            (Tag::Own(own), Some(now)) => {
                self.unsure |= border(&state, &own, now);
                self.converted(0, state, now, &numbers, tag)
            }
            // Not yet brought under the override: its word is changed all the same, by a nanosecond.
            _ => State {
                error: state.error.max(numbers.error()) + NS,
                ..state
            },
        };
        self.states.insert((key, 0), ended);
    }

    fn set_override(&mut self, key: usize, own: Option<Numbers>, own_now: i128) {
        self.has_records |= own.is_some();
        if own.is_some() && self.overrides.get(&key) == own.as_ref() {
            return;
        }
        self.end_override(key, own_now);
        if let Some(own) = own {
            self.overrides.insert(key, own);
        }
    }

    fn clear_overrides(&mut self, own_now: i128) {
        for key in 0..KEYS {
            self.end_override(key, own_now);
        }
    }
}

fn border(state: &State, numbers: &Numbers, now: i128) -> bool {
    let beyond = state.tat - now - numbers.tolerance - LATE;
    state.error > 0 && beyond.abs() <= state.error + NS
}

fn answer(eval: &Eval, now: i128, cost: u64) -> Answer {
    let numbers = &eval.numbers;
    let (backlog, error) = match eval.state {
        Some(state) if state.tat + state.error > now => (numbers.backlog(state.tat, now), state.error),
        _ => (0, numbers.error()),
    };
    let spent = backlog.saturating_add(numbers.interval.saturating_mul(i128::from(cost)));
    let allowed = match cost {
        0 => Some(true),
        _ if cost > numbers.burst => Some(false),
        _ if spent <= numbers.tolerance - error => Some(true),
        _ if spent > numbers.tolerance + error => Some(false),
        _ if error == 0 => unreachable!("without an error bar one of the two holds"),
        _ => None,
    };
    let fit = |free: i128| (free.max(0) / numbers.interval).min(i128::from(numbers.burst)) as u64;
    let free = numbers.tolerance - backlog;
    Answer {
        allowed,
        limit: numbers.burst,
        remaining: (fit(free - error), fit(free + error)),
        retry: match cost {
            _ if allowed == Some(true) => Some(0),
            _ if cost > numbers.burst => None,
            _ => Some(spent - numbers.tolerance),
        },
        reset: backlog,
        error,
    }
}

/// The answer that is told of several, or all that may be if they are not known exactly.
fn binding(answers: Vec<Answer>) -> Vec<Answer> {
    if answers.iter().any(|answer| answer.error > 0) {
        return answers;
    }
    let never = |answer: &Answer| (answer.retry.is_none(), answer.retry, answer.reset);
    let all_allow = answers.iter().all(|answer| answer.allowed == Some(true));
    let mut told: Option<Answer> = None;
    for answer in answers {
        let binds = match told {
            None => true,
            _ if !all_allow && answer.allowed == Some(true) => false,
            Some(told) if !all_allow && told.allowed == Some(true) => true,
            Some(told) if !all_allow => never(&answer) > never(&told),
            Some(told) => (answer.remaining.0, -answer.reset) < (told.remaining.0, -told.reset),
        };
        if binds {
            told = Some(answer);
        }
    }
    told.into_iter().collect()
}

fn block_of(shown: Answer, left: i128) -> Answer {
    Answer {
        allowed: Some(false),
        remaining: (0, 0),
        retry: shown.retry.map(|retry| retry.max(left)),
        reset: shown.reset.max(left),
        ..shown
    }
}

/// Whether the limiter's decision is one of the model's.
fn agrees(decision: &Decision, answers: &[Answer]) -> bool {
    // Where several answers have error bars it is not known which of them binds.
    let any_denies = answers.iter().any(|answer| answer.allowed == Some(false));
    answers.iter().any(|answer| {
        let slack = answer.error + NS - 1;
        let near = |told: Duration, model: i128| {
            let told = told.as_nanos() as i128 * NS;
            if answer.error == 0 {
                told == model
            } else {
                (told - model).abs() <= slack
            }
        };
        let allowed = match answer.allowed {
            Some(allowed) => decision.allowed == allowed && (!allowed || !any_denies),
            None => !decision.allowed || !any_denies,
        };
        let retry = match answer.retry {
            _ if decision.allowed => decision.retry_after.is_zero(),
            None => decision.retry_after == Decision::NEVER,
            Some(retry) => near(decision.retry_after, retry.max(NS)),
        };
        allowed
            && retry
            && decision.limit == answer.limit
            && (answer.remaining.0..=answer.remaining.1).contains(&decision.remaining)
            && near(decision.reset_after, answer.reset)
    })
}

// --- Random calls ------------------------------------------------------------------------------------------------

const KEYS: usize = 6;
/// Sequences with one limiter and one seed.
const GROUP: u64 = 10;

/// Clients with odd numbers are decided at given times, the others by the limiter's clock.
fn is_given(key: usize) -> bool {
    key % 2 == 1
}

fn random_limit(random: &mut Random, fractions: bool) -> (Limit, Numbers) {
    loop {
        let (rate, window_ns) = match random.below(if fractions { 3 } else { 4 }) {
            // Seconds, as people write them.
            0 if !fractions => (random.below(100) + 1, (random.below(100) + 1) * 1_000_000_000),
            // A whole interval from 10 ns to days.
            1 if !fractions => {
                let rate = random.magnitude(1, 1 << 20);
                let interval = random.magnitude(10, 1 << 50);
                match rate.checked_mul(interval) {
                    Some(window) => (rate, window),
                    None => continue,
                }
            }
            // Rounded to whole nanoseconds.
            2 if !fractions => {
                let rate = random.magnitude(2, 1 << 16);
                (
                    rate,
                    rate.saturating_mul(random.magnitude(1 << 20, 1 << 36)) + random.below(rate),
                )
            }
            3 => (1, random.magnitude(10, 1 << 54)),
            _ => {
                let rate = random.magnitude(2, 1 << 24);
                (rate, rate * random.magnitude(10, (1 << 20) - 2) + random.below(rate))
            }
        };
        let strict = random.one_in(4);
        let burst = random
            .one_in(2)
            .then(|| random.magnitude(1, if strict { rate } else { 2 * rate }));
        let Ok(mut limit) = Limit::new(rate, Duration::from_nanos(window_ns)) else {
            continue;
        };
        if let Some(burst) = burst {
            limit = limit.burst(burst);
        }
        if strict {
            limit = limit.strict();
        }
        if limit.validate().is_ok() {
            return (limit, Numbers::new(rate, window_ns, burst, strict));
        }
    }
}

fn time(ns: i128) -> Duration {
    Duration::new((ns / 1_000_000_000) as u64, (ns % 1_000_000_000) as u32)
}

/// One limiter and its model, side by side.
struct Pair {
    random: Random,
    limiter: Limiter,
    hand: ManualClock,
    model: Model,
    keys: usize,
    /// Time may go backwards. Only with one client: of several, one may lose an expired cell to another, and what is then
    /// known of the past is less exact (never in the client's favour: see the stress tests).
    wanders: bool,
    fractions: bool,
    own_ns: i128,
    given_ns: i128,
    travelled: u64,
    ids: Vec<String>,
    log: bool,
}

impl Pair {
    fn new(seed: u64, log: bool) -> Pair {
        let mut random = Random(seed);
        let wanders = random.one_in(4);
        let fractions = random.one_in(5);
        let (clock, hand) = Clock::manual();
        let mut builder = Limiter::builder()
            .clock(clock)
            .hash_key(random.next().to_le_bytes().repeat(2).try_into().unwrap());
        if !wanders && random.one_in(2) {
            builder = builder.max_keys(random.magnitude(50, 200) as usize);
        }
        let mut model = Model::default();
        for _ in 0..random.pick(&[1, 1, 1, 2, 3]) {
            let limit = random_limit(&mut random, fractions);
            builder = builder.limit(limit.0);
            model.limits.push(vec![limit]);
        }
        let limiter = builder.build().unwrap();
        // Generation 0 is the empty slab.
        for generations in &mut model.limits {
            generations.insert(0, generations[0]);
        }
        let origins = [
            0,
            1,
            86_400_000_000_000,
            1_795_000_000_000_000_000,
            (1 << 56) - 2_000_000_000,
        ];
        let (own_ns, given_ns) = (random.pick(&origins), random.pick(&origins));
        // Room to wander backwards in.
        let room = if wanders { i128::from(TRAVEL_NS) * 2 } else { 0 };
        let (own_ns, given_ns) = (own_ns + room, given_ns + room);
        hand.set(time(own_ns));
        let keys = if wanders {
            1 + random.below(2) as usize
        } else {
            1 + random.below(KEYS as u64) as usize
        };
        let ids = (0..KEYS).map(|key| format!("client-{key}")).collect();
        let pair = Pair {
            random,
            limiter,
            hand,
            model,
            keys,
            wanders,
            fractions,
            own_ns,
            given_ns,
            travelled: 0,
            ids,
            log,
        };
        pair.note(|| format!("wanders {wanders}, limits {:?}", pair.model.limits));
        pair
    }

    fn note(&self, text: impl FnOnce() -> String) {
        if self.log {
            println!("[own {} given {}] {}", self.own_ns, self.given_ns, text());
        }
    }

    fn key(&mut self) -> usize {
        if self.wanders {
            // The same one always; which of the two decides the kind of time.
            return self.keys - 1;
        }
        self.random.below(self.keys as u64) as usize
    }

    fn now(&self, key: usize) -> i128 {
        NS * if is_given(key) { self.given_ns } else { self.own_ns }
    }

    fn cost(&mut self, key: usize) -> u64 {
        let burst = self.model.terms(key, 0).0.burst;
        match self.random.below(16) {
            0 => 0,
            1 => burst,
            2 => burst.saturating_add(1),
            3 => self.random.pick(&[u64::MAX, u64::MAX - 1, 1 << 63, 1 << 40]),
            4 | 5 => self.random.magnitude(1, burst),
            6 => {
                let fits = self.model.peek(key, 0, self.now(key), self.own_ns * NS)[0].remaining.0;
                fits + self.random.below(2)
            }
            _ => 1,
        }
    }

    fn travel(&mut self) {
        let key = self.key();
        let numbers = self.model.terms(key, 0).0;
        let (interval, tolerance) = (
            (numbers.interval >> FRACTION) as u64,
            (numbers.tolerance >> FRACTION) as u64,
        );
        let reset = (self.model.peek(key, 0, self.now(key), self.own_ns * NS)[0].reset >> FRACTION) as u64;
        let times = 1 + self.random.below(5);
        let by = match self.random.below(10) {
            0 => 1,
            1 => interval.saturating_sub(1),
            2 => interval,
            3 => interval + 1,
            4 => interval * times,
            5 => reset,
            6 => reset.saturating_sub(1),
            7 => self.random.magnitude(1, tolerance.max(2)),
            8 => tolerance,
            _ => tolerance.saturating_add(self.random.magnitude(1, 4_000_000_000)),
        };
        let by = by.min(TRAVEL_NS);
        if self.travelled + by > TRAVEL_NS {
            return;
        }
        self.travelled += by;
        let mut moved = i128::from(by);
        if self.wanders && self.random.one_in(2) {
            // A late thread, or a clock that was set back; also exactly at the border between the two.
            let late = LATE >> FRACTION;
            moved = -match self.random.below(6) {
                0 if !self.fractions => late,
                1 => i128::from(self.random.below(late as u64)),
                2 if !self.fractions => {
                    i128::from(reset) + late - i128::from(tolerance) + i128::from(self.random.below(3))
                }
                3 if !self.fractions => late + i128::from(tolerance),
                _ => moved,
            };
            moved = moved.max(-i128::from(TRAVEL_NS - self.travelled));
            self.travelled += moved.unsigned_abs() as u64;
        }
        if self.random.one_in(2) || self.wanders {
            self.own_ns += moved;
            if moved < 0 || self.random.one_in(2) {
                self.hand.set(time(self.own_ns));
            } else {
                self.hand.advance(time(moved));
            }
        }
        if self.random.one_in(2) || self.wanders {
            self.given_ns += moved;
        }
        self.note(|| format!("moved by {moved}"));
    }

    fn expect(&self, what: &str, key: usize, cost: u64, decision: &Decision, answers: &[Answer]) -> Result<(), String> {
        self.note(|| format!("{what} client {key} cost {cost}: {decision:?}"));
        if agrees(decision, answers) {
            return Ok(());
        }
        Err(format!(
            "{what} of client {key} at cost {cost}: {decision:?}, by the model {answers:?} in units of 2^-24 ns"
        ))
    }

    fn check(&mut self) -> Result<(), String> {
        let key = self.key();
        let cost = self.cost(key);
        let (now, own) = (self.now(key), self.own_ns * NS);
        let id = self.ids[key].as_str();
        let hashed = self.random.one_in(3).then(|| self.limiter.key(id));
        let decision = match (is_given(key), hashed) {
            (true, None) => self.limiter.check_at(id, cost, time(self.given_ns)),
            (true, Some(hashed)) => self.limiter.check_at(&hashed, cost, time(self.given_ns)),
            (false, None) if cost == 1 => self.limiter.check(id),
            (false, None) => self.limiter.check_n(id.as_bytes(), cost),
            (false, Some(hashed)) => self.limiter.check_n(&hashed, cost),
        };
        let answers = self.model.check(key, cost, now, own, decision.allowed);
        self.expect("check", key, cost, &decision, &answers)
    }

    fn peek(&mut self) -> Result<(), String> {
        let key = self.key();
        let cost = self.cost(key);
        let id = &self.ids[key];
        let decision = match is_given(key) {
            true => self.limiter.peek_at(id, cost, time(self.given_ns)),
            false if cost == 1 => self.limiter.peek(id),
            false => self.limiter.peek_n(id, cost),
        };
        let answers = self.model.peek(key, cost, self.now(key), self.own_ns * NS);
        self.expect("peek", key, cost, &decision, &answers)
    }

    fn only_whether(&mut self, what: &str, key: usize, allowed: bool) -> Result<(), String> {
        let own = self.own_ns * NS;
        let answers = self.model.check(key, 1, own, own, allowed);
        self.note(|| format!("{what} client {key}: {allowed}"));
        let possible = if allowed {
            answers.iter().all(|answer| answer.allowed != Some(false))
        } else {
            answers.iter().any(|answer| answer.allowed != Some(true))
        };
        if possible {
            Ok(())
        } else {
            Err(format!("{what} of client {key}: {allowed}, by the model {answers:?}"))
        }
    }

    /// One of the calls that decide by the limiter's clock and say no more than whether, or many at once.
    fn others(&mut self) -> Result<(), String> {
        let own: Vec<usize> = (0..1 + self.random.below(40)).map(|_| self.key()).collect();
        if own.iter().any(|key| is_given(*key)) {
            return self.check();
        }
        let ids: Vec<&str> = own.iter().map(|key| self.ids[*key].as_str()).collect();
        match self.random.below(4) {
            0 => {
                let allowed = self.limiter.is_allowed(self.ids[own[0]].as_str());
                self.only_whether("is_allowed", own[0], allowed)
            }
            1 => {
                let mut allowed = vec![false; ids.len()];
                self.limiter.allowed_many(&ids, &mut allowed).unwrap();
                let all = own.iter().zip(allowed);
                all.into_iter()
                    .try_for_each(|(key, allowed)| self.only_whether("allowed_many", *key, allowed))
            }
            costs => {
                let costs: Vec<u64> = own
                    .iter()
                    .map(|key| {
                        if costs == 2 {
                            1
                        } else {
                            self.random.pick(&[0, 1, 2, 3, *key as u64, u64::MAX])
                        }
                    })
                    .collect();
                let mut decisions = vec![Decision::default(); ids.len()];
                if costs.iter().all(|cost| *cost == 1) {
                    self.limiter.check_many(&ids, &mut decisions).unwrap();
                } else {
                    self.limiter.check_many_n(&ids, &costs, &mut decisions).unwrap();
                }
                for ((key, cost), decision) in own.iter().zip(costs).zip(decisions) {
                    let now = self.own_ns * NS;
                    let answers = self.model.check(*key, cost, now, now, decision.allowed);
                    self.expect("check_many", *key, cost, &decision, &answers)?;
                }
                Ok(())
            }
        }
    }

    fn lower(&mut self) {
        let key = self.key();
        let id = self.ids[key].as_str();
        let now = self.now(key);
        if self.random.one_in(3) {
            match is_given(key) {
                true => self.limiter.reset_at(id, time(self.given_ns)),
                false => self.limiter.reset(id),
            }
            self.model.reset(key, now);
            self.note(|| format!("reset client {key}"));
            return;
        }
        let cost = self.cost(key);
        let id = self.ids[key].as_str();
        match is_given(key) {
            true => self.limiter.refund_at(id, cost, time(self.given_ns)),
            false => self.limiter.refund(id, cost),
        }
        self.model.refund(key, cost, now);
        self.note(|| format!("refund client {key} cost {cost}"));
    }

    fn change(&mut self) {
        let key = self.key();
        let own = self.own_ns * NS;
        match self.random.below(8) {
            0 => {
                let ns = self.random.pick(&[0, 1, 1_000_000_000, 1 << 40, u64::MAX]);
                self.limiter
                    .block(
                        &self.ids[key],
                        if ns == u64::MAX {
                            Duration::MAX
                        } else {
                            Duration::from_nanos(ns)
                        },
                    )
                    .unwrap();
                self.model.block(key, ns, own);
                self.note(|| format!("block client {key} for {ns}"));
            }
            1 => {
                self.limiter.clear_overrides();
                self.model.clear_overrides(own);
                self.note(|| "clear_overrides".to_owned());
            }
            2 | 3 => {
                let limit = (!self.random.one_in(3)).then(|| random_limit(&mut self.random, self.fractions));
                self.limiter
                    .set_override(&self.ids[key], limit.map(|limit| limit.0))
                    .unwrap();
                self.model.set_override(key, limit.map(|limit| limit.1), own);
                self.note(|| format!("set_override client {key} {limit:?}"));
            }
            _ => {
                let limits: Vec<(Limit, Numbers)> = self
                    .model
                    .limits
                    .iter()
                    .map(|generations| match self.random.below(3) {
                        0 => generations[generations.len() - 1],
                        1 => generations[0],
                        _ => random_limit(&mut self.random, self.fractions),
                    })
                    .collect();
                if let [limit] = limits[..] {
                    self.limiter.set_limit(limit.0).unwrap();
                } else {
                    let limits: Vec<Limit> = limits.iter().map(|limit| limit.0).collect();
                    self.limiter.set_limits(&limits).unwrap();
                }
                self.model.set_limits(&limits);
                self.note(|| format!("set_limits {limits:?}"));
            }
        }
    }

    fn sequence(&mut self) -> Result<(), String> {
        // Some sequences never use what makes decisions take the long way.
        let changes = self.random.one_in(2);
        for _ in 0..4 + self.random.below(40) {
            match self.random.below(20) {
                0..=4 => self.travel(),
                5..=11 => self.check()?,
                12..=14 => self.others()?,
                15 | 16 => self.peek()?,
                17 | 18 => self.lower(),
                _ if changes => self.change(),
                _ => self.check()?,
            }
        }
        Ok(())
    }

    /// Some sequences with one limiter, each with clients of its own.
    fn run(&mut self) -> Result<(), String> {
        self.sequence()?;
        for round in 1..GROUP {
            if self.wanders {
                // Clients of earlier sequences would lose expired cells to later ones.
                *self = Pair::new(self.random.next(), self.log);
            } else {
                self.ids = (0..KEYS).map(|key| format!("client-{round}-{key}")).collect();
                self.model.states.clear();
                self.model.overrides.clear();
                self.model.blocks.clear();
                self.note(|| "new clients".to_owned());
            }
            self.sequence()?;
        }
        Ok(())
    }
}

/// Runs a group of sequences. `Ok(false)`: it says nothing, because the table did what the model does not know of.
fn run(seed: u64, log: bool) -> Result<bool, String> {
    let mut pair = Pair::new(seed, log);
    let Err(difference) = pair.run() else {
        return Ok(true);
    };
    let stats = pair.limiter.stats();
    if pair.model.unsure {
        return Ok(false);
    }
    if stats.overflowed > 0 || pair.wanders && stats.recycled > 0 {
        return Ok(false);
    }
    Err(difference)
}

/// Says which sequence a panic inside the limiter came from.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the sequence was RATELIMIT_SEED={}", self.0);
        }
    }
}

/// A million random sequences of all calls give what the model gives.
#[test]
fn every_call_answers_as_the_model_does() {
    if let Ok(seed) = std::env::var("RATELIMIT_SEED") {
        let seed = seed.parse().expect("RATELIMIT_SEED is a number");
        run(seed, true).unwrap();
        return;
    }
    let groups = rounds(1_000_000, 10) / GROUP;
    let (next, skipped) = (AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= groups {
                        return;
                    }
                    let at = Seed(seed);
                    match run(seed, false) {
                        Ok(true) => {}
                        Ok(false) => {
                            skipped.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(difference) => panic!("RATELIMIT_SEED={seed}: {difference}"),
                    }
                    drop(at);
                }
            });
        }
    });
    let skipped = skipped.load(Ordering::Relaxed);
    println!(
        "{} sequences; {skipped} of {groups} groups without a verdict",
        groups * GROUP
    );
    assert!(skipped <= groups / 200, "{skipped} of {groups} groups said nothing");
}
