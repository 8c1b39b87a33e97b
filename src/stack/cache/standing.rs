//! [`Standing`]: which scopes Hypersender has turned away, so that what they stored is out of reach.

use std::sync::{
    Arc,
    atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
};

use dashmap::DashMap;

use crate::domain::Scope;

/// The standing of each scope that has something stored. What has nothing stored has nothing to be put out of reach, so
/// names and tokens that callers make up take no room here: there are never more rows than stored answers.
#[derive(Debug, Default)]
pub struct Standing(DashMap<Scope, Row>);

/// The standing of one scope, held by each of its stored answers.
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

    /// Notes that Hypersender answers the scope.
    pub fn restore(&self) {
        self.revoked.store(false, Release);
    }
}

impl Standing {
    /// What a row takes of memory: its place in the map at a load of two thirds, itself and a name of 64
    /// characters with their counts, and what the allocator adds to both.
    pub const ROW_BYTES: usize =
        (size_of::<Scope>() + 8 + 1) * 3 / 2 + size_of::<State>() + 16 + (16 + 64) + 2 * 16;

    /// The row of a scope that gets something stored, and whether it is new.
    pub fn of(&self, scope: &Scope) -> (Row, bool) {
        let mut is_new = false;
        let row = self.0.entry(scope.clone()).or_insert_with(|| {
            is_new = true;
            Arc::new(State { scope: scope.clone(), revoked: AtomicBool::new(false) })
        });
        (row.clone(), is_new)
    }

    /// Puts what the scope has stored out of reach.
    pub fn revoke(&self, scope: &Scope) {
        if let Some(row) = self.0.get(scope) {
            row.revoked.store(true, Release);
        }
    }

    /// Gives back the hold of an answer that is no longer stored; true when it was the last and the row is gone.
    pub fn release(&self, row: Row) -> bool {
        let scope = row.scope.clone();
        drop(row);
        // Under the lock of the map, where alone a row is handed out, one hold is that of the map itself.
        self.0.remove_if(&scope, |_, row| Arc::strong_count(row) == 1).is_some()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
