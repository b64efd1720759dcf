//! Where and when a report was made: what its numbers hang on besides the engines.

use std::time::SystemTime;

use crate::cases::Plan;
use crate::engines::RateguardMode;
use crate::work::Layout;

fn first_line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

/// Of the last 1, 5 and 15 minutes. Above 1 on one thread, something else was running.
pub(crate) fn load() -> String {
    let line = first_line("/proc/loadavg");
    let load = line.map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" "));
    load.unwrap_or_else(|| "unknown".to_owned())
}

/// Everything a reader needs to judge the numbers; what the system does not tell is called unknown.
pub(crate) fn place(plan: &Plan) -> Vec<(&'static str, String)> {
    let unknown = || "unknown".to_owned();
    let cpu = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            line.split_once(':').map(|(_, model)| model.trim().to_owned())
        })
        .unwrap_or_else(unknown);
    let cores = std::thread::available_parallelism().map_or_else(|_| unknown(), |cores| cores.to_string());
    let rustc = match env!("COMPARE_RUSTC") {
        "" => unknown(),
        version => version.to_owned(),
    };
    let layout = match plan.layout {
        Layout::Streamed => "in call order",
        Layout::Scattered => "in a table read at random",
    };
    let task = match plan.rateguard {
        RateguardMode::Still => "still",
        RateguardMode::Live => "running",
    };
    vec![
        ("date", date()),
        ("CPU", format!("{cpu}, {cores} cores")),
        (
            "kernel",
            format!(
                "{} {}, {}",
                std::env::consts::OS,
                first_line("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
                std::env::consts::ARCH
            ),
        ),
        (
            "clock source of the kernel",
            first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap_or_else(unknown),
        ),
        (
            "transparent huge pages",
            first_line("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_else(unknown),
        ),
        ("load average at the start", load()),
        ("compiler", rustc),
        (
            "engines",
            format!(
                "ratelimit {}, governor {}, rateguard {} (keyed salt on, background task {task})",
                env!("CARGO_PKG_VERSION"),
                pinned("governor"),
                pinned("rateguard")
            ),
        ),
        (
            "measured",
            format!(
                "{} rounds{}, medians (of a ratio: median of the rounds' ratios); ids of {} bytes, those of 1m and 8m {layout}",
                plan.rounds,
                if plan.quick { " of a quick run" } else { "" },
                crate::work::ID_BYTES
            ),
        ),
    ]
}

/// The version of a dependency, from the exact requirement in this crate's manifest.
fn pinned(name: &str) -> &'static str {
    include_str!("../Cargo.toml")
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))
        .find_map(|rest| rest.split('"').nth(1)?.strip_prefix('='))
        .unwrap_or("unknown")
}

/// Today in UTC, from days since 1970 by the usual civil-calendar arithmetic (years that begin in March).
fn date() -> String {
    let Ok(since) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) else {
        return "unknown".to_owned();
    };
    civil(since.as_secs() / 86_400)
}

fn civil(days: u64) -> String {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(civil(0), "1970-01-01");
        assert_eq!(civil(11_016), "2000-02-29");
        assert_eq!(civil(20_454), "2026-01-01");
    }

    #[test]
    fn pinned_versions_are_found() {
        assert!(pinned("governor").starts_with("0.10"));
        assert!(pinned("rateguard").starts_with("0.7"));
    }
}
