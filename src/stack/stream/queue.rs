//! [`Queue`]: the contacts of a stream that wait for a turn.

use std::collections::VecDeque;

use tokio::time::Instant;

/// A look-up that failed this often is the result of its contact.
const FAILURES_MAX: u8 = 2;
/// A contact that met this many cool-downs gets the error of the last one as its result.
const COOL_DOWNS_MAX: u8 = 3;

/// A contact that waits. A stream may have 10,000 of them, so it is small.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The index of the contact.
    pub contact: u32,
    failures: u8,
    cool_downs: u8,
    /// The end of the cool-down of this contact that is already counted.
    pub cools_until: Option<Instant>,
}

impl Pending {
    /// A contact that was not looked up yet.
    pub fn new(contact: u32) -> Self {
        Self { contact, failures: 0, cool_downs: 0, cools_until: None }
    }

    /// Counts a look-up that failed. Returns whether it was the last one.
    pub fn fail(&mut self) -> bool {
        self.failures += 1;
        self.failures >= FAILURES_MAX
    }

    /// Counts a cool-down. Returns whether the contact waits for no further one.
    pub fn cool_down(&mut self) -> bool {
        self.cool_downs += 1;
        self.cool_downs >= COOL_DOWNS_MAX
    }
}

/// The contacts that wait, in order.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Pending>,
    /// The number of contacts, from the first one on, that were not looked at during the present obstacle;
    /// `None` when there is no obstacle.
    unswept: Option<usize>,
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn clear(&mut self) {
        self.waiting = VecDeque::new();
        self.unswept = None;
    }

    pub fn push_back(&mut self, pending: Pending) {
        self.waiting.push_back(pending);
    }

    pub fn push_front(&mut self, pending: Pending) {
        self.waiting.push_front(pending);
        self.unswept = self.unswept.map(|unswept| unswept + 1);
    }

    pub fn pop_front(&mut self) -> Option<Pending> {
        self.unswept = self.unswept.map(|unswept| unswept.saturating_sub(1));
        self.waiting.pop_front()
    }

    /// Takes a contact that was not looked at during the present obstacle; `None` when all of them were.
    pub fn pop_unswept(&mut self) -> Option<Pending> {
        let unswept = *self.unswept.get_or_insert(self.waiting.len());
        if unswept == 0 { None } else { self.pop_front() }
    }

    /// Ends the obstacle. The next one concerns every contact again.
    pub fn end_obstacle(&mut self) {
        self.unswept = None;
    }

    /// Brings a contact to the front that does not cool down at `now`, as far as it is known, and puts those
    /// before it at the end.
    ///
    /// # Errors
    ///
    /// The end of the first cool-down, when all contacts cool down.
    pub fn bring_ready(&mut self, now: Instant) -> Result<(), Option<Instant>> {
        let cools = |pending: &Pending| pending.cools_until.is_some_and(|until| until > now);
        match self.waiting.iter().position(|pending| !cools(pending)) {
            Some(ready) => {
                self.waiting.rotate_left(ready);
                Ok(())
            }
            None => Err(self.waiting.iter().filter_map(|pending| pending.cools_until).min()),
        }
    }

    /// When the first contact can be looked up, as far as its own cool-down is concerned.
    pub fn ready_at(&self, now: Instant) -> Option<Instant> {
        self.waiting.iter().map(|pending| pending.cools_until.unwrap_or(now).max(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_contacts_that_wait_take_less_than_half_a_mebibyte() {
        let mut queue = Queue::default();
        (0..10_000).for_each(|contact| queue.push_back(Pending::new(contact)));
        assert!(queue.waiting.capacity() * size_of::<Pending>() < 512 << 10);
    }
}
