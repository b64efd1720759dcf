//! This project's limiter, in the forms its users can choose: by id or by a key hashed once, single calls or batches,
//! the precise or the coarse clock, sized beforehand or grown on its own.

use std::collections::HashMap;
use std::hint::black_box;
use std::ops::Range;

use ratelimit::{ClientKey, Clock, Decision, Limit, Limiter};

use super::{Engine, Entrant, Setup, count_admitted, name};
use crate::work::Workload;

/// The batch of the batch calls. The calls of a round are a multiple of it.
pub(crate) const BATCH: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Time {
    Precise,
    Coarse,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Size {
    /// Told how many keys to expect.
    Known,
    Grown,
}

/// The calls, each a type of its own so that each has a loop of its own.
trait Call: Copy + Send + Sync + 'static {
    const NEEDS_KEYS: bool = false;
    fn run(limiter: &Limiter, keys: &[ClientKey], work: &Workload, range: Range<usize>) -> Result<u64, String>;
}

#[derive(Clone, Copy)]
struct ById;
#[derive(Clone, Copy)]
struct Check;
#[derive(Clone, Copy)]
struct ByKey;
#[derive(Clone, Copy)]
struct BatchById;
#[derive(Clone, Copy)]
struct BatchCheck;
#[derive(Clone, Copy)]
struct BatchByKey;

impl Call for ById {
    fn run(limiter: &Limiter, _: &[ClientKey], work: &Workload, range: Range<usize>) -> Result<u64, String> {
        Ok(count_admitted(&work.order[range], |place| {
            limiter.is_allowed(work.ids[place].as_str())
        }))
    }
}

impl Call for Check {
    fn run(limiter: &Limiter, _: &[ClientKey], work: &Workload, range: Range<usize>) -> Result<u64, String> {
        Ok(count_admitted(&work.order[range], |place| {
            black_box(limiter.check(work.ids[place].as_str())).allowed
        }))
    }
}

impl Call for ByKey {
    const NEEDS_KEYS: bool = true;
    fn run(limiter: &Limiter, keys: &[ClientKey], work: &Workload, range: Range<usize>) -> Result<u64, String> {
        Ok(count_admitted(&work.order[range], |place| {
            limiter.is_allowed(&keys[place])
        }))
    }
}

/// The loop of the batch calls: gathers what a batch asks for, as a caller must, and counts its answers.
#[inline(always)]
fn count_batches<K>(
    order: &[u32],
    id: impl Fn(u32) -> K,
    mut call: impl FnMut(&[K; BATCH], &mut u64) -> Result<(), ratelimit::Error>,
) -> Result<u64, String> {
    let mut admitted = 0;
    for batch in order.as_chunks::<BATCH>().0 {
        let ids = batch.map(&id);
        call(&ids, &mut admitted).map_err(|error| format!("A batch of ratelimit failed: {error}."))?;
    }
    Ok(admitted)
}

fn admitted_of(answers: &[bool]) -> u64 {
    black_box(answers).iter().map(|&answer| u64::from(answer)).sum()
}

impl Call for BatchById {
    fn run(limiter: &Limiter, _: &[ClientKey], work: &Workload, range: Range<usize>) -> Result<u64, String> {
        let mut answers = [false; BATCH];
        count_batches(
            &work.order[range],
            |place| work.ids[place as usize].as_str(),
            |ids, admitted| {
                limiter.allowed_many(ids, &mut answers)?;
                *admitted += admitted_of(&answers);
                Ok(())
            },
        )
    }
}

impl Call for BatchByKey {
    const NEEDS_KEYS: bool = true;
    fn run(limiter: &Limiter, keys: &[ClientKey], work: &Workload, range: Range<usize>) -> Result<u64, String> {
        let mut answers = [false; BATCH];
        count_batches(
            &work.order[range],
            |place| keys[place as usize],
            |ids, admitted| {
                limiter.allowed_many(ids, &mut answers)?;
                *admitted += admitted_of(&answers);
                Ok(())
            },
        )
    }
}

impl Call for BatchCheck {
    fn run(limiter: &Limiter, _: &[ClientKey], work: &Workload, range: Range<usize>) -> Result<u64, String> {
        let mut answers = [Decision::default(); BATCH];
        count_batches(
            &work.order[range],
            |place| work.ids[place as usize].as_str(),
            |ids, admitted| {
                limiter.check_many(ids, &mut answers)?;
                let answers = black_box(&answers);
                *admitted += answers.iter().map(|answer| u64::from(answer.allowed)).sum::<u64>();
                Ok(())
            },
        )
    }
}

struct Ours<C> {
    limiter: Limiter,
    /// The key of each of the workload's ids, for the calls that take one.
    keys: Vec<ClientKey>,
    call: C,
}

impl<C: Call> Engine for Ours<C> {
    fn touch(&self, id: &String) -> bool {
        self.limiter.is_allowed(id.as_str())
    }

    fn handle(&self) -> Box<dyn Engine> {
        Box::new(Ours {
            limiter: self.limiter.clone(),
            keys: Vec::new(),
            call: self.call,
        })
    }

    fn prepare(&mut self, work: &Workload) {
        if C::NEEDS_KEYS {
            let Ours { limiter, keys, .. } = self;
            keys.clear();
            keys.extend(work.ids.iter().map(|id| limiter.key(id.as_str())));
        }
    }

    fn run(&self, work: &Workload, range: Range<usize>) -> Result<u64, String> {
        C::run(&self.limiter, &self.keys, work, range)
    }
}

fn limiter(setup: &Setup, time: Time, size: Size) -> Result<Limiter, String> {
    let limit = Limit::new(1, setup.quota.period)
        .map_err(|error| format!("ratelimit does not take the limit: {error}."))?
        .burst(u64::from(setup.quota.burst));
    let builder = Limiter::builder().limit(limit).clock(match time {
        Time::Precise => Clock::precise(),
        Time::Coarse => Clock::coarse(),
    });
    let builder = match size {
        Size::Known => builder.max_keys(setup.sized_for()),
        Size::Grown => builder,
    };
    builder
        .build()
        .map_err(|error| format!("ratelimit could not be built: {error}."))
}

/// A limiter for the memory cases, where only its state matters.
pub(crate) fn engine(setup: &Setup, grown: bool) -> Result<Box<dyn Engine>, String> {
    let size = if grown { Size::Grown } else { Size::Known };
    Ok(Box::new(Ours {
        limiter: limiter(setup, Time::Precise, size)?,
        keys: Vec::new(),
        call: ById,
    }))
}

/// Builds the entrants, with one limiter for all that differ only in the call if the setup lets them share it.
struct Gathering<'a> {
    setup: &'a Setup,
    limiters: HashMap<(Time, Size), Limiter>,
    entrants: Vec<Entrant>,
}

impl Gathering<'_> {
    fn add<C: Call>(&mut self, name: &'static str, call: C, time: Time, size: Size) -> Result<(), String> {
        let known = self.limiters.get(&(time, size)).filter(|_| self.setup.share_state);
        let (limiter, fill) = match known {
            Some(limiter) => (limiter.clone(), false),
            None => (limiter(self.setup, time, size)?, true),
        };
        self.limiters.insert((time, size), limiter.clone());
        let keys = Vec::new();
        self.entrants.push(Entrant {
            name,
            engine: Box::new(Ours { limiter, keys, call }),
            fill,
        });
        Ok(())
    }
}

pub(crate) fn entrants(setup: &Setup) -> Result<Vec<Entrant>, String> {
    use {Size::*, Time::*};
    let mut all = Gathering {
        setup,
        limiters: HashMap::new(),
        entrants: Vec::new(),
    };
    all.add(name::ID, ById, Precise, Known)?;
    all.add(name::CHECK, Check, Precise, Known)?;
    all.add(name::ID_COARSE, ById, Coarse, Known)?;
    all.add(name::ID_GROWN, ById, Precise, Grown)?;
    all.add(name::KEY, ByKey, Precise, Known)?;
    all.add(name::KEY_COARSE, ByKey, Coarse, Known)?;
    all.add(name::BATCH_ID, BatchById, Precise, Known)?;
    all.add(name::BATCH_ID_GROWN, BatchById, Precise, Grown)?;
    all.add(name::BATCH_CHECK, BatchCheck, Precise, Known)?;
    all.add(name::BATCH_KEY, BatchByKey, Precise, Known)?;
    Ok(all.entrants)
}
