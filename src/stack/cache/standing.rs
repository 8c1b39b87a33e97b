//! [`Standing`]: the scopes whose token Hypersender rejects, so that the answers stored with it are hidden.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
};

use dashmap::DashMap;

use crate::domain::Scope;

/// The standing of each scope with stored answers. Other scopes need none, so names and tokens that callers
/// invent take no memory: there are never more rows than stored answers.
#[derive(Debug, Default)]
pub struct Standing(DashMap<Scope, Row>);

/// The standing of one scope. Each of its stored answers holds it.
pub type Row = Arc<State>;

#[derive(Debug)]
pub struct State {
    scope: Scope,
    revoked: AtomicBool,
}

impl State {
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Acquire)
    }

    /// Notes that Hypersender answers for the scope.
    pub fn restore(&self) {
        self.revoked.store(false, Release);
    }
}

impl Standing {
    /// An estimate of the memory for a row: its bucket in the map at a load of two thirds, the row itself, a
    /// name of 64 characters, the reference counts, and the overhead of the allocator.
    pub const ROW_BYTES: usize =
        (size_of::<Scope>() + 8 + 1) * 3 / 2 + size_of::<State>() + 16 + (16 + 64) + 2 * 16;

    /// The row of a scope that gets an answer stored, and whether the row is new.
    pub fn of(&self, scope: &Scope) -> (Row, bool) {
        let mut is_new = false;
        let row = self.0.entry(scope.clone()).or_insert_with(|| {
            is_new = true;
            Arc::new(State { scope: scope.clone(), revoked: AtomicBool::new(false) })
        });
        (row.clone(), is_new)
    }

    /// Hides the stored answers of the scope.
    pub fn revoke(&self, scope: &Scope) {
        if let Some(row) = self.0.get(scope) {
            row.revoked.store(true, Release);
        }
    }

    /// Drops the row of an answer that is not stored any more. Returns whether it was the last and the row is
    /// removed.
    pub fn release(&self, row: Row) -> bool {
        let scope = row.scope.clone();
        drop(row);
        // Rows are cloned only under the lock of the map, so a count of one means that only the map holds the
        // row.
        self.0.remove_if(&scope, |_, row| Arc::strong_count(row) == 1).is_some()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
