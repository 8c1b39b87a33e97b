//! [`Leases`]: the leases of the fetches of this process. They end with it and need no file.

use std::collections::HashMap;

use tokio::time::Instant;

use super::super::engine::{LEASE_TIME, LeaseId};

/// The leases by name. At most one for each look-up in flight, and those of the last seconds.
#[derive(Debug, Default)]
pub struct Leases(HashMap<String, (LeaseId, Instant)>);

impl Leases {
    /// Takes or renews a lease unless another caller has it.
    pub fn take(&mut self, name: &str, id: LeaseId, now: Instant) -> bool {
        let is_held = self.0.get(name).is_some_and(|(holder, until)| *holder != id && *until > now);
        if !is_held {
            self.0.insert(name.to_owned(), (id, now + LEASE_TIME));
        }
        !is_held
    }

    /// Lengthens a lease that the caller has.
    pub fn renew(&mut self, name: &str, id: LeaseId, now: Instant) -> bool {
        match self.0.get_mut(name) {
            Some((holder, until)) if *holder == id && *until > now => {
                *until = now + LEASE_TIME;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Ends a lease if the caller has it.
    pub fn release(&mut self, name: &str, id: LeaseId) {
        if self.0.get(name).is_some_and(|(holder, _)| *holder == id) {
            self.0.remove(name);
        }
    }

    /// Forgets the leases that have ended.
    pub fn expire(&mut self, now: Instant) {
        self.0.retain(|_, (_, until)| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lease_has_one_holder_until_it_ends() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        assert!(leases.take("a", [1; 16], now));
        assert!(leases.take("a", [1; 16], now));
        assert!(!leases.take("a", [2; 16], now));
        assert!(leases.take("b", [2; 16], now));
        assert!(!leases.renew("a", [2; 16], now));
        let later = now + LEASE_TIME - Duration::from_millis(1);
        assert!(leases.renew("a", [1; 16], later));
        assert!(!leases.take("a", [2; 16], now + LEASE_TIME));
        let end = later + LEASE_TIME;
        assert!(!leases.renew("a", [1; 16], end));
        assert!(leases.take("a", [2; 16], end));
        leases.release("a", [1; 16]);
        assert!(!leases.take("a", [1; 16], end));
        leases.release("a", [2; 16]);
        assert!(leases.take("a", [1; 16], end));
        leases.expire(end + LEASE_TIME);
        assert!(leases.0.is_empty());
    }
}
