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
}

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
