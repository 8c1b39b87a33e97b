//! [`Standing`]: which scopes Hypersender has turned away, so that what they stored is out of reach.

use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Release},
};

use dashmap::DashMap;

use crate::domain::Scope;

/// The standing of each scope that Hypersender has ever given a contact of. Others have nothing stored but that there is
/// no such contact, for a minute, and so names that callers make up take no room here.
#[derive(Debug, Default)]
pub struct Standing {
    revoked: DashMap<Scope, AtomicBool>,
    /// How many are revoked: as a rule none, and then a hit needs no look at the map.
    count: AtomicUsize,
}

impl Standing {
    pub fn is_revoked(&self, scope: &Scope) -> bool {
        self.count.load(Acquire) > 0 && self.revoked.get(scope).is_some_and(|revoked| revoked.load(Acquire))
    }

    /// Puts what the scope has stored out of reach.
    pub fn revoke(&self, scope: &Scope) {
        if let Some(revoked) = self.revoked.get(scope) {
            // Counted first: no reader may find the mark and not look for it.
            self.count.fetch_add(1, Release);
            if revoked.swap(true, Release) {
                self.count.fetch_sub(1, Release);
            }
        }
    }

    /// Notes that Hypersender answers the scope; `remember`, that something is stored which could have to be revoked.
    pub fn restore(&self, scope: &Scope, remember: bool) {
        if let Some(revoked) = self.revoked.get(scope) {
            if revoked.swap(false, Release) {
                self.count.fetch_sub(1, Release);
            }
            return;
        }
        if remember {
            self.revoked.entry(scope.clone()).or_default();
        }
    }
}
