//! The operations of an engine, on names and sealed values. An engine does not know the meaning of a value.
//!
//! The two engines are `valkey` and `file`, and `backend` chooses between them. Every operation is atomic,
//! and none of them is bounded in time by the engine. `attachment` bounds them.

use std::time::Duration;

use super::time::StoreTime;

/// Time of a lease, unless it is renewed. When its owner has died, another replica
/// takes over after it.
pub const LEASE_TIME: Duration = Duration::from_secs(3);

/// Time to live of the record of a scope since its last write.
pub const SCOPE_TIME: Duration = Duration::from_hours(40 * 24);

/// The most records that one operation reads or writes, and the most operations on scopes at a time.
pub const GROUP_MAX: usize = 64;

/// The most instances whose horizons are remembered. A further one is not remembered, and its turns start
/// without a burst.
pub const INSTANCES_MAX: usize = 10_000;

/// Why an operation has no result. `Display` is for the log and holds no name and no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Failed {
    /// The cause, such as "connection refused" or "READONLY".
    pub cause: String,
}

/// The random name of a scope's present period: answers of another epoch count as absent.
pub type Epoch = [u8; 16];

/// The random name of a lease.
pub type LeaseId = [u8; 16];

/// The time in the header of a sealed value of any version, whether it can be read or not: the bytes after
/// the version, in milliseconds, big-endian.
pub fn header(value: &[u8]) -> Option<StoreTime> {
    let (_, rest) = value.split_first()?;
    Some(StoreTime::from_millis(u64::from_be_bytes(*rest.first_chunk()?)))
}

/// The names of the records of one contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The record of the scope.
    pub scope: String,
    /// The cool-down of the scope.
    pub scope_failure: String,
    /// The answer.
    pub answer: String,
    /// The lease of the fetch.
    pub lease: String,
    /// The cool-down of the contact.
    pub failure: String,
}

/// A message of the subscription to the news of other replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The subscription has begun, or has begun again. Messages before it may be lost.
    Subscribed,
    /// An attempt to subscribe has failed.
    NotSubscribed(Failed),
    /// The bytes that a replica published.
    Message(Vec<u8>),
}

/// The record of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeState {
    pub epoch: Epoch,
    /// When Hypersender last rejected the token, unless an attempt that began later was answered.
    pub rejected_at: Option<StoreTime>,
}

/// What a caller knows and does not accept: the first 8 bytes after the version of these values, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub answer: Option<StoreTime>,
    pub failure: Option<StoreTime>,
    pub scope_failure: Option<StoreTime>,
}

/// The records of one contact at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawReading {
    /// The moment, by the clock of the store.
    pub now: StoreTime,
    pub scope: Option<ScopeState>,
    pub answer: Option<Vec<u8>>,
    pub failure: Option<Vec<u8>>,
    pub scope_failure: Option<Vec<u8>>,
    pub lease: Leased,
}

/// What came of a wish for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leased {
    /// None was wished for, or something is stored that the caller has not seen.
    No,
    /// This caller has the lease.
    Taken,
    /// Another one has it.
    Held,
}

/// An answer to store.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    pub names: &'a Names,
    /// The sealed answer; its header holds the start of the attempt (`asked_at`).
    pub value: &'a [u8],
    pub ttl: Duration,
    /// The epoch that `value` is sealed with.
    pub epoch: Epoch,
    /// Whether the epoch was made now, because the scope had no record.
    pub is_new_epoch: bool,
    /// The start of the attempt of a stored answer that cannot be read and is overwritten in any case.
    pub unreadable: Option<StoreTime>,
    /// The lease to release.
    pub lease: LeaseId,
}

/// What came of an answer to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is stored, the cool-downs of the contact and of the scope are over, and the lease is released.
    Stored,
    /// It is not stored, because a newer answer is, or because the token was rejected after the attempt
    /// began. The lease is released.
    Outdated,
    /// The scope has another epoch now. Nothing is changed.
    OtherEpoch(Epoch),
    /// The scope has no record any more. Nothing is changed.
    NoScope,
}

/// A turn to take.
#[derive(Clone, Copy, Debug)]
pub struct TurnRequest {
    pub mode: TurnMode,
    /// The distance of two turns once the burst is used up; zero when there is no limit.
    pub interval: Duration,
    /// How far ahead of an even spacing turns may be taken.
    pub slack: Duration,
    /// How long the caller can wait. Only `Book` reads it.
    pub patience: Duration,
    /// The furthest booked turn that this process knows (`free_at`, slack included), from now on.
    pub known_free_in: Duration,
    /// The rest of the pause that this process knows.
    pub known_pause: Duration,
    /// The number of changes of the record that this process knows. A record with fewer has lost some; only
    /// then the two times above hold, because they are inexact, and turns may have been given back.
    pub known_changes: u64,
}

/// How a turn is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnMode {
    /// The next turn, if it comes in time.
    Book,
    /// A turn that no call needs, if there is one now.
    Spare,
    /// None: only the reply is wanted.
    Look,
}

/// The turns of an instance after an operation. All times count from the moment of the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnReply {
    pub now: StoreTime,
    /// The wait until the turn that was taken, or until one would come; for `Look`, that until the next turn.
    pub turn: Result<Duration, Duration>,
    pub free_in: Duration,
    pub spare_in: Duration,
    pub pause: Duration,
    /// The number of changes of the record.
    pub changes: u64,
}
