//! [`Horizon`]: how far ahead the turns of an instance are booked, as far as this process knows.

use tokio::time::Instant;

/// The furthest turns of an instance that this process knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// The instant after all booked turns, slack included.
    pub free_at: Instant,
    /// The same without the slack that a pause adds.
    pub spare_at: Instant,
    /// The end of the pause after a 429.
    pub paused_until: Instant,
    /// The number of changes that the record had then. [`Self::UNSHARED`] for turns that no record
    /// has.
    pub changes: u64,
}

impl Horizon {
    /// The number of changes of a horizon with turns that this process took by itself. It is above that of
    /// every record, so the store takes the horizon in.
    pub const UNSHARED: u64 = 1 << 52;
}
