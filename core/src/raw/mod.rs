//! The table: all that is lock-free, and the only place with unsafe table code.
//!
//! | file | subject |
//! |---|---|
//! | [`word`] | the word of a cell: its states, bit by bit |
//! | [`line`] | four cells in 64 bytes |
//! | [`geometry`] | which two lines of which tiers a key can be in |
//! | [`header`] | what a table knows beside its cells |
//! | [`memory`] | one mapping for all of it |
//! | [`terms`] | limits and overrides, as deciders read them |
//! | [`table`] | the table: its parts, and how it is made |
//! | [`asked`] | a request as the table is asked, and what is said to it |
//! | [`find`] | looking a key up |
//! | [`decide`] | deciding on its cell |
//! | [`give_back`] | looking without touching, giving back, forgetting |
//! | [`insert`] | claim, publish, settle: how a key gets its one cell |
//! | [`settle`] | of several cells of one key exactly one stays |
//! | [`tiers`] | which tiers are open |
//! | [`lives`] | which process is alive, and how that is proven |
//! | [`admin`] | one administrator at a time, and what becomes of the work of a dead one |
//! | [`held`] | a reference that keeps the memory |
//! | [`collective`] | what happens to keys that find no cell |
//! | [`records`] | overrides and blocks: the writer's side |
//! | [`export`] | what snapshots are made of: all debts out, and back in |
//! | [`survey`] | how full the table is |
//! | [`side`] | clustered tables: use counted and not reported yet |
//! | [`denied`] | clustered tables: what was denied and not reported yet |
//! | [`rules`] | clustered tables: what holds for a key without a lease |
//! | [`counted`] | clustered tables: deciding on a cell |
//! | [`lease`] | clustered tables: what a node may spend by an owner's leave |
//! | [`drain`] | clustered tables: the one who takes use out to report it |
//! | [`switch`] | clustered tables: the same one puts leases in force and ends them |
//!
//! The protocol, rule by rule, with the interleaving that breaks without it: `docs/memory-ordering.md`.

mod admin;
mod asked;
#[cfg(not(ratelimit_loom))]
mod audit;
mod collective;
mod counted;
mod decide;
mod denied;
mod drain;
#[cfg(not(ratelimit_loom))]
mod export;
mod find;
mod geometry;
mod give_back;
mod header;
mod held;
mod insert;
mod lease;
mod line;
mod lives;
mod memory;
#[cfg(ratelimit_loom)]
mod models;
mod records;
mod rules;
mod settle;
mod side;
mod survey;
mod switch;
mod table;
mod terms;
mod tiers;
mod word;

pub(crate) use admin::NoRoom;
pub(crate) use asked::{Asked, Ruling};
pub use asked::{Events, Overflow};
#[cfg(not(ratelimit_loom))]
pub use audit::Audit;
pub use drain::Report;
pub(crate) use drain::Syncer;
#[cfg(not(ratelimit_loom))]
pub(crate) use export::{Debt, Told};
pub(crate) use find::Place;
pub(crate) use geometry::Geometry;
pub use header::MAX_LIMITS;
pub(crate) use header::{About, Header, OVERRIDE_LIMITS, SLOTS, Slot};
pub(crate) use held::Held;
pub(crate) use line::CELLS;
pub(crate) use lives::Lives;
#[cfg(not(ratelimit_loom))]
pub(crate) use memory::{Layout, Memory};
#[cfg(ratelimit_loom)]
pub use models::Stop;
pub use rules::{LimitRule, Unleased};
pub(crate) use side::Map;
pub(crate) use side::PARTITIONS;
pub use survey::Survey;
pub use switch::{Before, Grant, Outcome, Switched};
pub(crate) use table::Table;
pub(crate) use terms::Record;
pub(crate) use word::Axis;

/// Bytes of a line of cells.
pub(crate) const LINE_BYTES: usize = size_of::<line::Line>();
