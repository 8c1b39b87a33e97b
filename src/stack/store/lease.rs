//! [`Lease`]: the right of one replica to fetch a contact while the others wait.

use std::time::Duration;

use super::{FailureRecord, Record, StoreTime};
use crate::domain::Reach;

/// A lease of 3 s, which [`Lease::keep`] renews. A lease that is dropped is released in the background.
#[derive(Debug)]
pub struct Lease {}

impl Lease {
    /// Runs `fetch`, and renews the lease each second meanwhile. The fetch goes on when the lease is lost.
    pub async fn keep<T>(&self, fetch: impl Future<Output = T>) -> T {
        fetch.await
    }

    /// Stores an answer in the background for `ttl`, ends the cool-downs, and releases the lease. `asked_at` is
    /// the start of the attempt. With `is_change` the other replicas drop what they have of the contact.
    pub fn store(self, _record: Record, _asked_at: StoreTime, _ttl: Duration, _is_change: bool) {
        unimplemented!()
    }

    /// Shares a cool-down in the background, and releases the lease.
    pub fn fail(self, _failure: FailureRecord, _reach: Reach) {
        unimplemented!()
    }
}
