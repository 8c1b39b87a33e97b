//! [`Periods`]: when the address of a contact ends.

use std::{hash::Hasher, time::Duration};

use siphasher::sip::SipHasher13;

use super::AddressKey;
use crate::domain::{ChatId, Instance};

/// The periods of addresses. All have the same length. The boundaries of each contact are its own, so that
/// the addresses of a page do not change all at once and browsers do not load all its images again.
pub struct Periods {
    /// The length in whole seconds, at least 1.
    seconds: u64,
    /// Draws the boundaries of a contact. Its key comes from the first key, so that replicas agree.
    hasher: SipHasher13,
}

impl Periods {
    /// Periods of the length `period`, which counts in whole seconds.
    pub fn new(period: Duration, first_key: Option<&AddressKey>) -> Self {
        let key = first_key.map(|key| key.derive("periods")).unwrap_or_default();
        Self { seconds: period.as_secs().max(1), hasher: SipHasher13::new_with_key(&key) }
    }

    /// The end of an address that is made at `now`: the end of the period after the current one. Both are in
    /// Unix seconds.
    pub fn end(&self, instance: &Instance, chat: &ChatId, now: u64) -> u64 {
        let first = self.first_boundary(instance, chat);
        // It is less than one period, so that the difference is not negative.
        let into_period = (now + self.seconds - first) % self.seconds;
        (now + 2 * self.seconds).saturating_sub(into_period)
    }

    /// The first boundary of the contact since 1970. All others are whole periods later.
    fn first_boundary(&self, instance: &Instance, chat: &ChatId) -> u64 {
        let mut hasher = self.hasher;
        // No name contains the separator.
        for part in [instance.as_str(), "\0", chat.as_str()] {
            hasher.write(part.as_bytes());
        }
        hasher.finish() % self.seconds
    }
}
