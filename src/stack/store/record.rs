//! [`Record`] and [`FailureRecord`]: what a store holds about a contact, with times on the store's clock.

use std::time::Duration;

use super::time::StoreTime;
use crate::domain::{Finding, LookupError};

/// A stored answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Hypersender's statement.
    pub finding: Finding,
    /// When Hypersender made it.
    pub fetched: StoreTime,
    /// The end of the lifetime.
    pub fresh_until: StoreTime,
    /// A later answer that did not displace `finding`.
    pub since: Option<SinceRecord>,
}

/// A later answer that did not displace the stored link.
#[derive(Clone, Debug, PartialEq)]
pub struct SinceRecord {
    /// Hypersender's statement.
    pub finding: Finding,
    /// When Hypersender made it.
    pub asked: StoreTime,
    /// When Hypersender must be asked again.
    pub due_at: StoreTime,
    /// Whether one of these answers was null.
    pub doubted: bool,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The answer.
    pub record: Record,
    /// The start of the attempt that it came from. The store compares it.
    pub asked_at: StoreTime,
}

/// A cool-down.
#[derive(Clone, Debug, PartialEq)]
pub struct FailureRecord {
    /// Why Hypersender is not asked.
    pub error: LookupError,
    /// When the failure was seen. The store compares it.
    pub began: StoreTime,
    /// The end of the cool-down.
    pub until: StoreTime,
    /// Its length without what Hypersender asked for. The next one is twice as long.
    pub time: Duration,
}
