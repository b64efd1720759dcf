//! Criterion benches of the parts of a decision: `cargo bench -p ratelimit-benches`.
//!
//! Comparisons with others are made by `ratelimit-compare`, in one run, since numbers of different runs do not compare.
