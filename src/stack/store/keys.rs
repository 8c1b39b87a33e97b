//! [`ScopeKeys`]: the keys of one scope, and the names of its records.
//!
//! The keys come from the token, so the answers of one token can neither be read nor forged with another. The
//! derivation and the names are part of the format: replicas of different versions share them.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, RandomizedNonceKey},
    digest::{SHA256, digest},
    hkdf, hmac,
};

use super::engine::Names;
use crate::domain::{ChatId, Instance};

/// The number at the end changes with the format of names or values.
const SALT: &[u8] = b"hypersender-grpc/store/1";
const KEY_BYTES: usize = 32;

/// The keys of one scope. `Debug` hides them.
pub struct ScopeKeys {
    names: hmac::Key,
    /// Seals what is stored.
    pub value: RandomizedNonceKey,
    /// Seals what is announced.
    pub news: RandomizedNonceKey,
}

/// The tag of a scope: its HMAC, which stands for it in names and messages.
pub type Tag = [u8; 16];

/// The tag of an instance. It does not depend on a token.
pub type InstanceTag = [u8; 8];

impl ScopeKeys {
    /// The keys of `token` for `instance`.
    pub fn derive(token: &str, instance: &Instance) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(token.as_bytes());
        let key = |purpose: &[u8]| {
            let info = [purpose, b"\0", instance.as_str().as_bytes()];
            let mut key = [0; KEY_BYTES];
            secret
                .expand(&info, hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(&mut key))
                .expect("32 bytes are the length of one block of HKDF-SHA-256");
            key
        };
        let sealing = |purpose| {
            RandomizedNonceKey::new(&AES_256_GCM, &key(purpose)).expect("a key of AES-256 has 32 bytes")
        };
        Self {
            names: hmac::Key::new(hmac::HMAC_SHA256, &key(b"key")),
            value: sealing(b"value"),
            news: sealing(b"news"),
        }
    }

    /// The tag of the scope.
    pub fn tag(&self) -> Tag {
        self.name(b"scope\0", b"")
    }

    fn chat(&self, chat: &ChatId) -> Tag {
        self.name(b"chat\0", chat.as_str().as_bytes())
    }

    fn name(&self, kind: &[u8], text: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.names);
        context.update(kind);
        context.update(text);
        let mut tag = [0; 16];
        tag.copy_from_slice(&context.sign().as_ref()[..16]);
        tag
    }

    /// The name of the answer for `chat`. `instance` is the beginning that all names of the instance have.
    pub fn answer(&self, instance: &str, chat: &ChatId) -> String {
        format!("{instance}:a:{}", hex(&self.chat(chat)))
    }

    /// The names of the records of `chat`.
    pub fn names(&self, instance: &str, chat: &ChatId) -> Names {
        let (scope, chat) = (hex(&self.tag()), hex(&self.chat(chat)));
        Names {
            scope: scope_name(instance, &self.tag()),
            scope_failure: format!("{instance}:f:{scope}"),
            answer: format!("{instance}:a:{chat}"),
            lease: format!("{instance}:l:{chat}"),
            failure: format!("{instance}:f:{chat}"),
        }
    }
}

impl fmt::Debug for ScopeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeKeys(..)")
    }
}

/// The name of the record of a scope.
pub fn scope_name(instance: &str, scope: &Tag) -> String {
    format!("{instance}:s:{}", hex(scope))
}

/// The tag of `instance`, in which no token has a part.
pub fn instance_tag(instance: &Instance) -> InstanceTag {
    let mut tag = [0; 8];
    tag.copy_from_slice(&digest(&SHA256, instance.as_str().as_bytes()).as_ref()[..8]);
    tag
}

/// The beginning of all names of an instance. A cluster keeps names with the same text in braces on one node.
pub fn instance_name(prefix: &str, instance: &InstanceTag) -> String {
    format!("{{{prefix}:{}}}", hex(instance))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}
