//! [`Pace`]: all that the streams and avatars of this process share.

use super::{lane::Lanes, obstacle::Obstacles};

/// The states that all streams and avatars read, and the bounds that they keep together.
#[derive(Debug)]
pub struct Pace {
    /// The states of the layers that may refuse a look-up.
    pub obstacles: Obstacles,
    /// The bounds on all streams and avatars together.
    pub lanes: Lanes,
}
