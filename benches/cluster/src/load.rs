//! The load of one node, for a limiter in this process and for one that is asked by messages.
//!
//! Open loop: calls are due at fixed times from the start on. A thread sleeps until the next is due and makes all that
//! are. A call that is late since the machine was busy is made later and never left out, so a slow answer delays no
//! other's clock. Closed loop: every caller asks again as soon as it was answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use crate::outcome::Outcome;
use crate::plan::{Pace, Work};
use crate::subject::{Embedded, Remote};

/// Calls of one node that may be without an answer at once in an open loop; more are counted as not asked.
const MOST_WAITING: usize = 4096;

/// How long answers are waited for after the end.
const LATE: Duration = Duration::from_secs(2);

/// Calls of a closed loop between two looks at the clock.
const BETWEEN_CLOCKS: usize = 256;

/// The times at which calls are due.
struct Due {
    start: Instant,
    end: Instant,
    per_second: f64,
    made: u64,
}

impl Due {
    fn new(start: Instant, lasts: Duration, per_second: f64) -> Due {
        Due {
            start,
            end: start + lasts,
            per_second,
            made: 0,
        }
    }

    /// When the next call is due; nothing after the end.
    fn next(&mut self) -> Option<Instant> {
        let due = self.start + Duration::from_secs_f64(self.made as f64 / self.per_second);
        self.made += 1;
        (due < self.end).then_some(due)
    }
}

fn sleep_until(time: Instant) {
    let now = Instant::now();
    if time > now {
        std::thread::sleep(time - now);
    }
}

/// A walk over `keys` keys that touches all of them, in an order that repeats only after all.
struct Walk {
    keys: usize,
    place: usize,
}

impl Walk {
    /// 7919 is a prime and divides none of our numbers of keys.
    const STEP: usize = 7919;

    fn next(&mut self) -> usize {
        self.place = (self.place + Walk::STEP) % self.keys;
        self.place
    }
}

/// Drives a limiter in this process from one thread.
pub(crate) fn embedded(limiter: &dyn Embedded, ids: &[String], work: &Work, start: Instant) -> Outcome {
    let mut outcome = Outcome::new(work.lasts);
    let mut walk = Walk {
        keys: ids.len(),
        place: 0,
    };
    sleep_until(start);
    match work.pace {
        Pace::Open { per_second } => {
            let mut times = Due::new(start, work.lasts, per_second);
            while let Some(due) = times.next() {
                sleep_until(due);
                let id = &ids[walk.next()];
                let before = Instant::now();
                let admitted = limiter.ask(id);
                let after = Instant::now();
                outcome.answer(admitted, after.saturating_duration_since(start));
                outcome.latency(after - before, after.saturating_duration_since(due));
            }
        }
        Pace::Closed { .. } => loop {
            let since = start.elapsed();
            if since >= work.lasts {
                break;
            }
            let admitted = (0..BETWEEN_CLOCKS).filter(|_| limiter.ask(&ids[walk.next()])).count();
            outcome.answers(BETWEEN_CLOCKS as u64, admitted as u64, since);
        },
    }
    outcome
}

/// Drives a limiter that is asked by messages, in a runtime of one thread and, for open loops, a thread for the time.
pub(crate) async fn remote(limiter: Arc<dyn Remote>, ids: Arc<[String]>, work: &Work, start: Instant) -> Outcome {
    match work.pace {
        Pace::Open { per_second } => open(limiter, ids, work.lasts, per_second, start).await,
        Pace::Closed { callers } => closed(limiter, ids, work.lasts, callers, start).await,
    }
}

async fn open(
    limiter: Arc<dyn Remote>,
    ids: Arc<[String]>,
    lasts: Duration,
    per_second: f64,
    start: Instant,
) -> Outcome {
    let (send, mut receive) = mpsc::channel::<Instant>(MOST_WAITING);
    let clock = std::thread::spawn(move || {
        let mut unasked = 0;
        let mut times = Due::new(start, lasts, per_second);
        while let Some(due) = times.next() {
            sleep_until(due);
            match send.try_send(due) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => unasked += 1,
                Err(mpsc::error::TrySendError::Closed(_)) => break,
            }
        }
        unasked
    });
    let waiting = Arc::new(Semaphore::new(MOST_WAITING));
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut outcome = Outcome::new(lasts);
    let mut walk = Walk {
        keys: ids.len(),
        place: 0,
    };
    let mut asked = 0u64;
    let mut known = 0u64;
    loop {
        tokio::select! {
            biased;
            answer = told.recv(), if known < asked => {
                known += 1;
                note(&mut outcome, start, answer);
            }
            due = receive.recv() => {
                let Some(due) = due else { break };
                let Ok(permit) = Arc::clone(&waiting).try_acquire_owned() else {
                    outcome.unasked += 1;
                    continue;
                };
                asked += 1;
                let (limiter, ids, tell) = (Arc::clone(&limiter), Arc::clone(&ids), tell.clone());
                let place = walk.next();
                tokio::spawn(async move {
                    let before = Instant::now();
                    let answer = limiter.ask(&ids[place]).await;
                    let _ = tell.send((answer, due, before, Instant::now()));
                    drop(permit);
                });
            }
        }
    }
    let until = tokio::time::Instant::now() + LATE;
    while known < asked {
        match tokio::time::timeout_at(until, told.recv()).await {
            Ok(answer) => {
                known += 1;
                note(&mut outcome, start, answer);
            }
            Err(_) => {
                outcome.failed += asked - known;
                break;
            }
        }
    }
    outcome.unasked += clock.join().unwrap_or(0);
    outcome
}

type Answer = (Result<bool, String>, Instant, Instant, Instant);

fn note(outcome: &mut Outcome, start: Instant, answer: Option<Answer>) {
    match answer {
        Some((Ok(admitted), due, before, after)) => {
            outcome.answer(admitted, after.saturating_duration_since(start));
            outcome.latency(after - before, after.saturating_duration_since(due));
        }
        Some((Err(_), ..)) | None => outcome.failed += 1,
    }
}

async fn closed(
    limiter: Arc<dyn Remote>,
    ids: Arc<[String]>,
    lasts: Duration,
    callers: usize,
    start: Instant,
) -> Outcome {
    let over = Arc::new(AtomicBool::new(false));
    tokio::time::sleep_until(start.into()).await;
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (limiter, ids, over) = (Arc::clone(&limiter), Arc::clone(&ids), Arc::clone(&over));
            tokio::spawn(async move {
                let mut outcome = Outcome::new(lasts);
                let mut walk = Walk {
                    keys: ids.len(),
                    place: caller * ids.len() / callers,
                };
                // Relaxed: the flag guards nothing; one call more or less changes no result.
                while !over.load(Ordering::Relaxed) {
                    match limiter.ask(&ids[walk.next()]).await {
                        Ok(admitted) => outcome.answer(admitted, start.elapsed()),
                        Err(_) => outcome.failed += 1,
                    }
                }
                outcome
            })
        })
        .collect();
    tokio::time::sleep_until((start + lasts).into()).await;
    over.store(true, Ordering::Relaxed);
    let mut sum = Outcome::new(lasts);
    for task in tasks {
        match tokio::time::timeout(LATE, task).await {
            Ok(Ok(outcome)) => sum.add(&outcome),
            _ => sum.failed += 1,
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_due_at_fixed_times_until_the_end() {
        let start = Instant::now();
        let mut times = Due::new(start, Duration::from_millis(10), 1000.0);
        let due: Vec<_> = std::iter::from_fn(|| times.next()).collect();
        assert_eq!(due.len(), 10);
        assert_eq!(due[0], start);
        assert!(
            due.windows(2)
                .all(|pair| pair[1] - pair[0] > Duration::from_micros(990))
        );
    }

    #[test]
    fn a_walk_comes_by_every_key() {
        let mut walk = Walk { keys: 1000, place: 0 };
        let mut seen: Vec<_> = (0..1000).map(|_| walk.next()).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..1000));
        let mut one = Walk { keys: 1, place: 0 };
        assert_eq!((one.next(), one.next()), (0, 0));
    }
}
