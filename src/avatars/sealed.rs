//! [`Addresses`]: makes and opens sealed addresses (design section 1).

use std::{fmt, time::SystemTime};

use crate::{
    avatars::settings::Settings,
    domain::{ChatId, Instance},
};

/// A key of sealed addresses: 32 secret bytes.
#[derive(Clone)]
pub struct AddressKey([u8; 32]);

impl AddressKey {
    /// Wraps the bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Derives 16 bytes for another use, such as the key of entity tags. `purpose` separates the uses.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 16] {
        let _ = (self.0, purpose);
        unimplemented!("skeleton")
    }
}

impl fmt::Debug for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressKey(..)")
    }
}

/// Why a sealed address shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It was not sealed with a known key, or was altered. The reason is not told (rule 9 of the design).
    Unknown,
    /// Its life is over.
    Ended,
}

/// Makes and opens sealed addresses. Clones share the keys.
#[derive(Clone, Debug)]
pub struct Addresses;

impl Addresses {
    /// Prepares the keys of `settings`.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let _ = settings;
        unimplemented!("skeleton")
    }

    /// The URL of the contact at `now`, or `None` without a root.
    #[must_use]
    pub fn url(&self, instance: &Instance, chat: &ChatId, now: SystemTime) -> Option<String> {
        let _ = (instance, chat, now);
        unimplemented!("skeleton")
    }

    /// The contact of the sealed part of an address.
    ///
    /// # Errors
    ///
    /// See [`Unopened`].
    pub fn open(&self, sealed: &str, now: SystemTime) -> Result<(Instance, ChatId), Unopened> {
        let _ = (sealed, now);
        unimplemented!("skeleton")
    }
}
