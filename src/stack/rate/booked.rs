//! [`Booked`]: a reserved turn, and where it was reserved.

use tokio::time::Instant;

/// A turn that a look-up waits for. It is given back if the look-up leaves before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Booked {
    /// When it comes.
    pub at: Instant,
    /// The turn of the store.
    pub shared: Option<Instant>,
    /// The turn of this process.
    pub own: Option<Instant>,
}

impl Booked {
    /// A turn of the store.
    pub fn shared(at: Instant) -> Self {
        Self { at, shared: Some(at), own: None }
    }

    /// A turn of this process.
    pub fn own(at: Instant) -> Self {
        Self { at, shared: None, own: Some(at) }
    }
}
