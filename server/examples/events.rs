//! Prints `docs/events.md`.

fn main() {
    print!("{}", ratelimit_server::events::document());
}
