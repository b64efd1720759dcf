//! What nobody calls for: looks at the limiters now and then and tells what has changed, and tells systemd that the node is alive.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ratelimit::Stats;
use sd_notify::NotifyState;
use tokio::sync::watch;

use super::node::Node;
use crate::events::{tell, tell_paced};

/// How often to look. Statistics cost microseconds, whatever the size of a table.
const EVERY: Duration = Duration::from_secs(2);

/// What was told of a limiter.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    near: bool,
    clock: bool,
    overflowed: u64,
}

/// What is to be told of a limiter.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Near,
    Free,
    Overflowed(u64),
    ClockFellBack,
}

impl Told {
    /// What is new since the last look.
    fn look(&mut self, stats: &Stats) -> Vec<News> {
        let mut news = Vec::new();
        let (live, cells) = (stats.table.live, stats.table.cells_at_most);
        // Apart, so that a table around a bound is not told every time.
        if !self.near && live.saturating_mul(5) > cells.saturating_mul(4) {
            self.near = true;
            news.push(News::Near);
        } else if self.near && live.saturating_mul(10) < cells.saturating_mul(7) {
            self.near = false;
            news.push(News::Free);
        }
        if stats.overflowed > self.overflowed {
            news.push(News::Overflowed(stats.overflowed - self.overflowed));
            self.overflowed = stats.overflowed;
        }
        if stats.clock_fell_back && !self.clock {
            self.clock = true;
            news.push(News::ClockFellBack);
        }
        news
    }
}

/// Looks until `stopping` turns true.
pub(crate) async fn run(node: Arc<Node>, mut stopping: watch::Receiver<bool>) {
    let mut told: HashMap<String, Told> = HashMap::new();
    // Half of what systemd waits for.
    let every = sd_notify::watchdog_enabled().map_or(EVERY, |watchdog| EVERY.min(watchdog / 2));
    let mut ticks = tokio::time::interval(every);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        look(&node, &mut told);
        // Nobody may be listening, which is no fault.
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

fn look(node: &Node, told: &mut HashMap<String, Told>) {
    let limiters = node.limiters();
    told.retain(|name, _| limiters.contains_key(name));
    for (limit, named) in limiters.iter() {
        named.follow();
        let stats = named.limiter.stats();
        let (live, cells) = (stats.table.live, stats.table.cells_at_most);
        for news in told.entry(limit.clone()).or_default().look(&stats) {
            match news {
                News::Near => tell!(CAPACITY_NEAR, limit, live, cells),
                News::Free => tell!(CAPACITY_FREE, limit, live, cells),
                News::Overflowed(decisions) => tell_paced!(OVERFLOWED, limit, decisions),
                News::ClockFellBack => tell!(CLOCK_FELL_BACK, limit),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ratelimit::Limiter;

    use super::*;

    #[test]
    fn each_change_is_told_once() {
        let limiter = Limiter::builder().limit("1/day".parse().unwrap()).build().unwrap();
        let mut stats = limiter.stats();
        let mut told = Told::default();
        stats.table.cells_at_most = 100;
        for (live, news) in [
            (80, None),
            (81, Some(News::Near)),
            (99, None),
            (75, None),
            (81, None),
            (69, Some(News::Free)),
            (81, Some(News::Near)),
        ] {
            stats.table.live = live;
            assert_eq!(told.look(&stats).pop(), news, "{live}");
        }
        stats.overflowed = 7;
        assert_eq!(told.look(&stats), [News::Overflowed(7)]);
        stats.overflowed = 9;
        stats.clock_fell_back = true;
        assert_eq!(told.look(&stats), [News::Overflowed(2), News::ClockFellBack]);
        assert_eq!(told.look(&stats), []);
    }
}
