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

/// The tag of `instance`. It does not depend on the token.
pub fn instance_tag(instance: &Instance) -> InstanceTag {
    let mut tag = [0; 8];
    tag.copy_from_slice(&digest(&SHA256, instance.as_str().as_bytes()).as_ref()[..8]);
    tag
}

/// The beginning of all names of an instance. A cluster keeps names with the same text in braces on one node.
pub fn instance_name(prefix: &str, instance: InstanceTag) -> String {
    format!("{{{prefix}:{}}}", hex(&instance))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values were computed with Python's hmac, hashlib and cryptography. Replicas of all versions must
    /// get the same names: a change needs another number in the salt.
    #[test]
    fn the_names_are_those_of_the_format() {
        let instance = Instance::parse("shop").unwrap();
        let keys = ScopeKeys::derive("example-token", &instance);
        let beginning = instance_name("test", instance_tag(&instance));
        let chat = ChatId::parse("+15551230001").unwrap();
        let name = |last: &str| format!("{{test:8d9001d32c6a703d}}:{last}");
        let expected = Names {
            scope: name("s:d3bd77ada1f6c68b769a5b041c03b597"),
            scope_failure: name("f:d3bd77ada1f6c68b769a5b041c03b597"),
            answer: name("a:ed448aa6d697dbddf623ba1fa18f8e39"),
            lease: name("l:ed448aa6d697dbddf623ba1fa18f8e39"),
            failure: name("f:ed448aa6d697dbddf623ba1fa18f8e39"),
        };
        assert_eq!(keys.names(&beginning, &chat), expected);
        assert_eq!(keys.answer(&beginning, &chat), expected.answer);
        assert_eq!(format!("{keys:?}"), "ScopeKeys(..)");
    }

    #[test]
    fn another_token_or_instance_or_contact_has_other_names() {
        let names = |token: &str, instance: &str, chat: &str| {
            let instance = Instance::parse(instance).unwrap();
            let chat = ChatId::parse(chat).unwrap();
            ScopeKeys::derive(token, &instance).names("same", &chat)
        };
        let one = names("a", "shop", "15551230001");
        for other in [names("b", "shop", "15551230001"), names("a", "shop2", "15551230001")] {
            assert_ne!((&one.scope, &one.answer), (&other.scope, &other.answer));
        }
        let other = names("a", "shop", "15551230001@c.us");
        assert_eq!(one.scope, other.scope);
        assert_ne!(one.answer, other.answer);
    }
}
