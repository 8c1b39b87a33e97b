//! [`Asking`]: whether a look-up asks the store for its turn.

use crate::domain::{Lookup, StoreLoss};

/// Whether a look-up still asks the store. It stops when the store does not answer, so that all attempts of a
/// fetch together lose one time-out at most.
#[derive(Debug)]
pub struct Asking {
    goes_on: bool,
    loss: Option<StoreLoss>,
}

impl Asking {
    /// A look-up that goes on without the store does not ask it.
    pub fn of(lookup: &Lookup) -> Self {
        let loss = lookup.store_loss.clone();
        let has_lost = loss.as_ref().is_some_and(StoreLoss::is_noted);
        Self { goes_on: !lookup.without_store && !has_lost, loss }
    }

    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// The store did not answer.
    pub fn give_up(&mut self) {
        self.goes_on = false;
        if let Some(loss) = &self.loss {
            loss.note();
        }
    }
}
