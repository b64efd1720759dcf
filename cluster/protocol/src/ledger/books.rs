//! All accounts of an owner: which there are, who opened them, which are closed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use super::{Account, Booked, Desk, Offer, Reporter, Terms};
use crate::id::{Cell, LimitId, NodeId};
use crate::limits::LimitNumbers;
use crate::message::{Entry, LeaseAck};

/// All accounts of an owner. At most `cap`.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(super) accounts: BTreeMap<Cell, Account>,
    cap: usize,
    pub(super) opened: BTreeMap<NodeId, usize>,
    next_seq: u64,
    swept_to: Option<Cell>,
    /// Soft accounts that are contended: what a newcomer is told. Never more than there are accounts.
    contended: BTreeSet<Cell>,
}

impl Ledger {
    pub(crate) fn new(cap: usize) -> Self {
        Ledger {
            accounts: BTreeMap::new(),
            cap,
            opened: BTreeMap::new(),
            next_seq: 1,
            swept_to: None,
            contended: BTreeSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.accounts.len()
    }

    pub(crate) fn holders(&self) -> usize {
        self.accounts.values().map(|account| account.holders.len()).sum()
    }

    /// Each key's debt, in units, in the order of their limits.
    pub(crate) fn debts(&self, now_ns: u64) -> impl Iterator<Item = (LimitId, u64)> + '_ {
        self.accounts
            .iter()
            .map(move |(cell, account)| (cell.limit, account.debt(now_ns)))
    }

    pub(crate) fn get(&self, cell: Cell) -> Option<&Account> {
        self.accounts.get(&cell)
    }

    /// One node may open three quarters of all accounts and no more, so that a flood through one leaves room for others.
    fn account(
        &mut self,
        cell: Cell,
        reporter: &Reporter,
        limit: &LimitNumbers,
        terms: &Terms,
    ) -> Option<&mut Account> {
        if !self.accounts.contains_key(&cell) {
            let opened = self.opened.entry(reporter.node).or_insert(0);
            if self.accounts.len() >= self.cap || *opened >= self.cap - self.cap / 4 {
                return None;
            }
            *opened += 1;
            self.accounts.insert(cell, Account::open(reporter, limit, terms));
        }
        let account = self.accounts.get_mut(&cell)?;
        account.follow(limit, terms);
        Some(account)
    }

    /// Books one entry of a report, and answers it.
    pub(crate) fn book(&mut self, entry: &Entry, reporter: &Reporter, limit: &LimitNumbers, terms: &Terms) -> Booked {
        let mut next_seq = self.next_seq;
        let Some(account) = self.account(entry.cell, reporter, limit, terms) else {
            return Booked {
                dropped: entry.used,
                ..Booked::default()
            };
        };
        let mut desk = Desk {
            terms,
            next_seq: &mut next_seq,
            offers: Vec::new(),
        };
        let mut booked = account.book(entry, reporter, &mut desk);
        booked.offers = desk.offers;
        let contended = account.contended && !account.mode.is_hard();
        self.next_seq = next_seq;
        if contended {
            self.contended.insert(entry.cell);
        } else {
            self.contended.remove(&entry.cell);
        }
        booked
    }

    /// A holder says what it did with a grant; others may be given what it set free.
    ///
    /// `linked_ns`: since when the link exists that it came over.
    pub(crate) fn acknowledged(&mut self, node: NodeId, ack: &LeaseAck, linked_ns: u64, terms: &Terms) -> Vec<Offer> {
        let Some(account) = self.accounts.get_mut(&ack.cell) else {
            return Vec::new();
        };
        let mut desk = Desk {
            terms,
            next_seq: &mut self.next_seq,
            offers: Vec::new(),
        };
        if account.mode.is_hard() {
            account.acknowledged_hard(node, ack, linked_ns, &mut desk);
        } else if ack.ended
            && let Some(holder) = account.holder_mut(node)
        {
            (holder.offered, holder.left) = (0, 0);
            holder.demand.over();
        }
        desk.offers
    }

    /// Whether overdraft of this cell left a debt that is not paid yet.
    pub(crate) fn is_in_debt(&mut self, cell: Cell, terms: &Terms) -> bool {
        self.accounts.get_mut(&cell).is_some_and(|account| {
            if account.mode.is_hard() {
                account.settle(terms);
            }
            account.debt(terms.now_ns) > 0
        })
    }

    /// Merges a debt that another owner hands over.
    pub(crate) fn inherit(&mut self, cell: Cell, reporter: &Reporter, units: u64, limit: &LimitNumbers, terms: &Terms) {
        if limit.spec.mode.is_hard() {
            // Hard limits have one owner for ever: nobody hands them over.
            return;
        }
        if let Some(account) = self.account(cell, reporter, limit, terms) {
            account.inherit(units, terms);
        }
    }

    /// Closes accounts that say nothing: at most `budget` are looked at, from where the last sweep ended.
    pub(crate) fn sweep(&mut self, budget: usize, terms: &Terms) {
        let from = self.swept_to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut over = Vec::new();
        let mut last = None;
        let mut looked = 0;
        for (cell, account) in self.accounts.range_mut((from, Bound::Unbounded)).take(budget) {
            looked += 1;
            last = Some(*cell);
            if account.is_over(terms) {
                over.push(*cell);
            }
        }
        self.swept_to = if looked < budget { None } else { last };
        for cell in over {
            self.remove(cell);
        }
    }

    /// What a node that joins is told: a share of each of the first `most` contended keys.
    pub(crate) fn welcome(&mut self, node: NodeId, most: usize, terms: &Terms) -> Vec<(Cell, Offer)> {
        let mut told = Vec::new();
        for cell in self.contended.iter().take(most) {
            if let Some(account) = self.accounts.get_mut(cell) {
                let mut desk = Desk {
                    terms,
                    next_seq: &mut self.next_seq,
                    offers: Vec::new(),
                };
                account.welcome_soft(node, &mut desk);
                told.extend(desk.offers.into_iter().map(|offer| (*cell, offer)));
            }
        }
        told
    }

    fn remove(&mut self, cell: Cell) -> Option<Account> {
        self.contended.remove(&cell);
        let account = self.accounts.remove(&cell)?;
        if let Some(opened) = self.opened.get_mut(&account.opened_by) {
            *opened -= 1;
            if *opened == 0 {
                self.opened.remove(&account.opened_by);
            }
        }
        Some(account)
    }

    /// Takes out up to `budget` soft accounts that `elsewhere` says belong to another node, with their debts in units. The
    /// second value is where to go on; `None` at the end.
    pub(crate) fn hand_over(
        &mut self,
        from: Option<Cell>,
        budget: usize,
        now_ns: u64,
        mut elsewhere: impl FnMut(Cell) -> Option<NodeId>,
    ) -> (Vec<(NodeId, Cell, u64)>, Option<Cell>) {
        let from = from.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut moved, mut last, mut looked) = (Vec::new(), None, 0);
        for (cell, account) in self.accounts.range((from, Bound::Unbounded)).take(budget) {
            looked += 1;
            last = Some(*cell);
            if !account.mode.is_hard()
                && let Some(owner) = elsewhere(*cell)
            {
                moved.push((owner, *cell, account.owed(now_ns)));
            }
        }
        for (_, cell, _) in &moved {
            self.remove(*cell);
        }
        (moved, if looked < budget { None } else { last })
    }
}
