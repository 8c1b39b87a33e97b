//! [`Addresses`]: makes and opens sealed addresses, which show the image of a contact to everyone who has
//! them, and neither the contact nor its instance.
//!
//! A sealed address is base64url without padding of
//!
//! ```text
//! 0x01 ‖ first 4 bytes of SHA-256(key) ‖ AES-256-GCM-SIV(
//!     key, nonce: zeros, associated data: the 5 bytes before,
//!     plaintext: end in Unix seconds, u64 big-endian ‖ u8 length ‖ instance ‖ u8 length ‖ chat id
//!         ‖ zeros, up to a multiple of 32)
//! ```
//!
//! It needs no record, so every replica with the key makes the same address and opens it. The nonce is
//! constant because one contact must have one address. AES-GCM-SIV stays secure with it: an attacker learns
//! that two texts are equal, and nothing else. The text that opens to a contact and an end is unique, too.
//!
//! `key` has the keys, `content` the plaintext, and `periods` the end of an address. Not here: how the keys
//! are read, which is a matter of `config`, and the response to an address that does not open, which is one
//! of `routes`.

mod content;
mod key;
mod periods;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use url::Url;

pub use self::key::AddressKey;
use self::{
    content::{CONTENT_BYTES_MAX, Content},
    key::{HEAD_BYTES, SealingKey},
    periods::Periods,
};
use crate::domain::{ChatId, Instance};

/// The path of sealed addresses below the root.
const PATH: &str = "/avatars/";
/// The bytes of the tag of AES-GCM-SIV.
const TAG_BYTES: usize = 16;
/// The bytes of the longest address, and its characters.
const SEALED_BYTES_MAX: usize = HEAD_BYTES + CONTENT_BYTES_MAX + TAG_BYTES;
const SEALED_CHARS_MAX: usize = chars(SEALED_BYTES_MAX);

/// The characters of `bytes` bytes in base64 without padding.
const fn chars(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Why a sealed address shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It was not sealed with a known key, or was altered. The reason is not given (rule 67).
    Unknown,
    /// It is authentic, and its life is over.
    Ended,
}

/// Makes and opens sealed addresses. Clones share the keys. `Debug` hides them.
#[derive(Clone)]
pub struct Addresses(Arc<Shared>);

struct Shared {
    /// The first one seals.
    keys: Vec<SealingKey>,
    /// The root and the path; `None` without a root.
    prefix: Option<String>,
    periods: Periods,
}

impl Addresses {
    /// Addresses below `root`, which must have no query and no fragment; its path may end in a slash or not.
    /// The first key seals, and all open.
    #[must_use]
    pub fn new(root: Option<&Url>, keys: &[AddressKey], period: Duration) -> Self {
        let prefix = root.map(|root| format!("{}{PATH}", root.as_str().trim_end_matches('/')));
        let periods = Periods::new(period, keys.first());
        Self(Arc::new(Shared { keys: keys.iter().map(SealingKey::new).collect(), prefix, periods }))
    }

    /// The URL of the contact at `now`, or `None` without a root. It stays the same for a period, on every
    /// replica with the same first key, and ends at the end of the next period.
    #[must_use]
    pub fn url(&self, instance: &Instance, chat: &ChatId, now: SystemTime) -> Option<String> {
        let Shared { keys, prefix, periods } = &*self.0;
        let (prefix, key) = (prefix.as_deref()?, keys.first()?);
        let end = periods.end(instance, chat, unix_seconds(now));
        let mut sealed = [0; SEALED_BYTES_MAX];
        sealed[..HEAD_BYTES].copy_from_slice(&key.head);
        let content = Content { end, instance, chat }.write(&mut sealed[HEAD_BYTES..]);
        let tag_at = HEAD_BYTES + content;
        let tag = key.seal(&mut sealed[HEAD_BYTES..tag_at]);
        let sealed_bytes = tag_at + TAG_BYTES;
        sealed[tag_at..sealed_bytes].copy_from_slice(tag.as_ref());
        let mut url = String::with_capacity(prefix.len() + chars(sealed_bytes));
        url.push_str(prefix);
        BASE64_URL_SAFE_NO_PAD.encode_string(&sealed[..sealed_bytes], &mut url);
        Some(url)
    }

    /// The contact of the sealed part of an address.
    ///
    /// Every text costs one decryption, whatever is wrong with it, so that the time to a refusal gives no
    /// reason either; only where keys have the same hint, it costs one for each of them. The text is bounded
    /// before anything else.
    ///
    /// # Errors
    ///
    /// See [`Unopened`].
    pub fn open(&self, sealed: &str, now: SystemTime) -> Result<(Instance, ChatId), Unopened> {
        let keys = &self.0.keys;
        // A text that no address has is decrypted all the same, as zeros, and one without a known key with
        // the first one. Neither can open.
        let (mut bytes, length) = decode(sealed).unwrap_or(([0; SEALED_BYTES_MAX], SEALED_BYTES_MAX));
        let mut is_known = false;
        for key in keys.iter().filter(|key| bytes.starts_with(&key.head)) {
            is_known = true;
            // Decryption works in place, and leaves garbage if the key does not fit: each key gets a copy.
            let mut bytes = bytes;
            if let Some(content) = key.open(&mut bytes[HEAD_BYTES..length]) {
                return read(content, now);
            }
        }
        if let Some(key) = keys.first().filter(|_| !is_known) {
            let _ = key.open(&mut bytes[HEAD_BYTES..length]);
        }
        Err(Unopened::Unknown)
    }
}

/// The contact of a decrypted content.
fn read(content: &[u8], now: SystemTime) -> Result<(Instance, ChatId), Unopened> {
    let (end, instance, chat) = content::read(content).ok_or(Unopened::Unknown)?;
    if end <= unix_seconds(now) {
        return Err(Unopened::Ended);
    }
    Ok((instance, chat))
}

/// The bytes of a text, and their number. `None` for a text that no address has, which includes every text
/// but one for the same bytes.
fn decode(sealed: &str) -> Option<([u8; SEALED_BYTES_MAX], usize)> {
    let mut bytes = [0; SEALED_BYTES_MAX];
    if sealed.len() > SEALED_CHARS_MAX {
        return None;
    }
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(sealed, &mut bytes).ok()?;
    (length >= HEAD_BYTES + TAG_BYTES).then_some((bytes, length))
}

/// Whole seconds since 1970.
fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Addresses(..)")
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
