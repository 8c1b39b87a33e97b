//! [`Purpose`]: the side that a look-up is for.

/// The side that a look-up is for, the lowest first. The highest purpose of the present waiters of a flight
/// decides how the flight gets its turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The cache, which renews a stored answer in the background on behalf of a batch, an avatar or a
    /// stream. It works like `Refresh`, and takes spare turns only.
    SpareRefresh,
    /// The cache, which renews a stored answer in the background. No caller waits for this fetch, so it makes
    /// one attempt and never waits for a turn or a permit.
    Refresh,
    /// A stream, which takes spare turns only: turns that no other call needs.
    Stream,
    /// An image for a browser. It takes spare turns only, and comes before all streams.
    Avatar,
    /// A batch, which has few turns booked ahead at a time.
    Batch,
    /// A caller, who waits for this one answer.
    Caller,
}

impl Purpose {
    /// All of them, in their order, so that `purpose as usize` is an index.
    pub const ALL: [Self; Self::Caller as usize + 1] =
        [Self::SpareRefresh, Self::Refresh, Self::Stream, Self::Avatar, Self::Batch, Self::Caller];

    /// Whether no caller waits, so that there is one attempt, which waits for nothing.
    #[must_use]
    pub fn is_refresh(self) -> bool {
        match self {
            Self::SpareRefresh | Self::Refresh => true,
            Self::Stream | Self::Avatar | Self::Batch | Self::Caller => false,
        }
    }
}
