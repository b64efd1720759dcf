//! What a table knows beside its cells. It lies in the same memory, in atomics only and without pointers, so that
//! processes which share the memory share this too.

// What is read and written under the lock of those who administer, or before anybody else sees the table, is no part of the
// protocol: it stays out of models.
use std::sync::atomic::AtomicU64 as Plain;

use crate::sync::AtomicU64;

use super::geometry::MAX_TIERS;

/// The most limits that can be asked at once.
#[cfg(not(ratelimit_loom))]
pub const MAX_LIMITS: usize = 8;
/// Models have one limit, and perhaps another.
#[cfg(ratelimit_loom)]
pub const MAX_LIMITS: usize = 2;

/// The most different limits that overrides can have.
#[cfg(not(ratelimit_loom))]
pub(crate) const OVERRIDE_LIMITS: usize = 4_096;
#[cfg(ratelimit_loom)]
pub(crate) const OVERRIDE_LIMITS: usize = 2;

/// Collective cells for each limit and axis.
#[cfg(not(ratelimit_loom))]
pub(crate) const COLLECTIVE: usize = 1_024;
#[cfg(ratelimit_loom)]
pub(crate) const COLLECTIVE: usize = 1;

/// The most processes that can be attached to a table at the same time.
#[cfg(not(ratelimit_loom))]
pub(crate) const SLOTS: usize = 256;
#[cfg(ratelimit_loom)]
pub(crate) const SLOTS: usize = 1;

/// The numbers of a limit: the words of [`ratelimit_model::Gcra`].
#[repr(C)]
pub(crate) struct Numbers {
    pub(crate) words: [AtomicU64; 4],
}

/// A limit that can be changed while decisions run: its generation, and the numbers of that generation, of the two before
/// (to bring cells along that were charged under them), and of the next while it is being written.
#[repr(C, align(64))]
pub(crate) struct LimitSlot {
    pub(crate) generation: AtomicU64,
    pub(crate) numbers: [Numbers; 4],
}

/// The bits of `top` that count the open tiers.
pub(crate) const TOP_TIERS: u64 = 0xff;
/// Collective cells are in use, or were.
pub(crate) const TOP_COLLECTIVE: u64 = 1 << 8;
/// The newest tier holds less than the one before it: look there first.
pub(crate) const TOP_OLDER_FIRST: u64 = 1 << 9;
/// Which tier is looked in first, so that a decision need not work it out.
pub(crate) const TOP_FIRST_SHIFT: u32 = 16;
/// Which tier is looked in second, plus 1; 0 if a key is hardly ever there.
pub(crate) const TOP_SECOND_SHIFT: u32 = 24;

/// There are several limits.
pub(crate) const DETOUR_LIMITS: u64 = 1;
/// Some client has a limit of its own or is blocked, or was.
pub(crate) const DETOUR_RECORDS: u64 = 2;
/// The table is clustered: decisions count what they charge.
pub(crate) const DETOUR_CLUSTER: u64 = 4;
/// The owners of some partitions of a clustered table are not heard, and other numbers hold there.
pub(crate) const DETOUR_CUT: u64 = 8;

/// A time word that was ever set. A time alone could not say so, since every time is legal.
pub(crate) const TIME_SET: u64 = 1 << 63;

#[repr(C, align(64))]
pub(crate) struct Hot {
    /// Open tiers, the order to look in them, and flags. Changes a handful of times in the life of a table.
    pub(crate) top: AtomicU64,
    /// Why decisions have to go the long way: [`DETOUR_LIMITS`], [`DETOUR_RECORDS`], or 0 if there is no reason.
    pub(crate) detours: AtomicU64,
    /// Open tiers of the overrides.
    pub(crate) records_top: AtomicU64,
    /// 1 once the processor's counter was found wrong: all who share the table then use the operating system's clock, for
    /// good. Here since a decision reads this line anyway.
    pub(crate) distrusted: Plain,
}

#[repr(C, align(64))]
pub(crate) struct Cold {
    /// For each axis a time that no insert decides before.
    pub(crate) floor: [AtomicU64; 2],
    /// The latest time given by a caller at an insert: what cells on that axis are compared with by those who are on the
    /// other.
    pub(crate) given_now: AtomicU64,
    /// Every 64th insert into each tier, by bits of the fingerprint.
    pub(crate) sampled_inserts: [AtomicU64; MAX_TIERS],
    /// The mark of the process that administers the table now, or 0. Whatever follows in this struct, and every record and limit, is
    /// written by its holder only.
    pub(crate) admin: AtomicU64,
    /// The mark of the process that was elected to do what one is enough for, or 0.
    pub(crate) leader: AtomicU64,
    /// Overrides ever set.
    pub(crate) records_made: Plain,
    /// The limits as people write them: the words of [`ratelimit_model::Limit`].
    pub(crate) in_force: [[Plain; 4]; MAX_LIMITS],
    /// Those that are being put in force, while `changing` is 1: whoever takes over from a dead process finishes that.
    pub(crate) wanted: [[Plain; 4]; MAX_LIMITS],
    pub(crate) changing: Plain,
}

/// What a shared table says about itself, so that another process can tell whether it is the one that it wants. Written
/// before anybody else sees the table, and not changed after, but for `compared`.
#[repr(C, align(64))]
pub(crate) struct About {
    pub(crate) magic: Plain,
    pub(crate) layout: Plain,
    pub(crate) boot_id: [Plain; 2],
    /// The inode of the creator's time namespace.
    pub(crate) time_namespace: Plain,
    /// Seconds since the Unix epoch.
    pub(crate) created_s: Plain,
    /// For how many clients there is room.
    pub(crate) max_keys: Plain,
    /// How many limits there are.
    pub(crate) limits: Plain,
    /// The secret of the fingerprints.
    pub(crate) hash_key: [Plain; 2],
    /// The time base: see `clock`.
    pub(crate) time_source: Plain,
    pub(crate) time_origin: Plain,
    pub(crate) time_scale: Plain,
    pub(crate) os_origin: Plain,
    /// The last comparison of the counter with the operating system's clock.
    pub(crate) compared: [Plain; 2],
}

/// One process that has the table open.
#[repr(C)]
pub(crate) struct Slot {
    /// How often the slot was taken.
    pub(crate) incarnation: Plain,
    /// Who took it last, for people who look.
    pub(crate) pid: Plain,
}

#[repr(C)]
pub(crate) struct Header {
    pub(crate) hot: Hot,
    pub(crate) limits: [LimitSlot; MAX_LIMITS],
    pub(crate) cold: Cold,
    pub(crate) about: About,
    pub(crate) slots: [Slot; SLOTS],
    pub(crate) override_limits: [Numbers; OVERRIDE_LIMITS],
    /// How many clients have each of these limits.
    pub(crate) override_uses: [Plain; OVERRIDE_LIMITS],
    pub(crate) collective: [[[AtomicU64; COLLECTIVE]; MAX_LIMITS]; 2],
}

#[cfg(ratelimit_loom)]
impl Header {
    /// loom's atomics have to be made one by one.
    pub(crate) fn for_models() -> Self {
        use std::array::from_fn;
        let zero = || AtomicU64::new(0);
        let plain = || Plain::new(0);
        let numbers = || Numbers {
            words: from_fn(|_| zero()),
        };
        Header {
            hot: Hot {
                top: zero(),
                detours: zero(),
                records_top: zero(),
                distrusted: plain(),
            },
            limits: from_fn(|_| LimitSlot {
                generation: zero(),
                numbers: from_fn(|_| numbers()),
            }),
            cold: Cold {
                floor: from_fn(|_| zero()),
                given_now: zero(),
                sampled_inserts: from_fn(|_| zero()),
                admin: zero(),
                leader: zero(),
                records_made: plain(),
                in_force: from_fn(|_| from_fn(|_| plain())),
                wanted: from_fn(|_| from_fn(|_| plain())),
                changing: plain(),
            },
            about: About {
                magic: plain(),
                layout: plain(),
                boot_id: from_fn(|_| plain()),
                time_namespace: plain(),
                created_s: plain(),
                max_keys: plain(),
                limits: plain(),
                hash_key: from_fn(|_| plain()),
                time_source: plain(),
                time_origin: plain(),
                time_scale: plain(),
                os_origin: plain(),
                compared: from_fn(|_| plain()),
            },
            slots: from_fn(|_| Slot {
                incarnation: plain(),
                pid: plain(),
            }),
            override_limits: from_fn(|_| numbers()),
            override_uses: from_fn(|_| plain()),
            collective: from_fn(|_| from_fn(|_| from_fn(|_| zero()))),
        }
    }
}
