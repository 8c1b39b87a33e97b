//! [`Horizon`]: how far ahead the turns of an instance are booked, as far as this process knows.

use tokio::time::Instant;

use super::time::StoreTime;

/// The furthest turns of an instance that this process knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// The instant after all booked turns, slack included.
    pub free_at: Instant,
    /// The same without the slack that a pause adds.
    pub spare_at: Instant,
    /// The end of the pause after a 429.
    pub paused_until: Instant,
    /// The number of changes that the record had then. [`UNSHARED`] and more for turns that no record has.
    pub changes: u64,
}

/// The number of changes of a horizon with turns that this process took by itself. It is above that of every
/// record, so the store takes the horizon in.
pub const UNSHARED: u64 = 1 << 52;

/// A [`Horizon`] on the clock of the store, which outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HorizonRecord {
    /// The moment after all booked turns, slack included.
    pub free_at: StoreTime,
    /// The same without the slack that a pause adds.
    pub spare_at: StoreTime,
    /// The end of the pause after a 429.
    pub paused_until: StoreTime,
}

impl Horizon {
    /// The later of each time.
    #[must_use]
    pub fn furthest(self, other: Self) -> Self {
        Self {
            free_at: self.free_at.max(other.free_at),
            spare_at: self.spare_at.max(other.spare_at),
            paused_until: self.paused_until.max(other.paused_until),
            changes: self.changes.max(other.changes),
        }
    }

    /// Whether no time of `other` is later.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.free_at >= other.free_at
            && self.spare_at >= other.spare_at
            && self.paused_until >= other.paused_until
    }

    /// Whether it is no different from no horizon at `now`.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.free_at <= now && self.spare_at <= now && self.paused_until <= now
    }
}
