//! [`Asking`]: whether a look-up asks the store for its turn.

use crate::domain::Lookup;

/// Whether a look-up still asks the store. It stops when the store does not answer, so that it waits in vain
/// only once.
#[derive(Debug)]
pub struct Asking(bool);

impl Asking {
    /// A look-up that goes on without the store does not ask it.
    pub fn of(lookup: &Lookup) -> Self {
        Self(!lookup.without_store)
    }

    pub fn goes_on(&self) -> bool {
        self.0
    }

    /// The store did not answer.
    pub fn give_up(&mut self) {
        self.0 = false;
    }
}
