//! [`AddressKey`]: a key of sealed addresses as it is configured; and [`SealingKey`], prepared for use.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey},
    digest::{SHA256, digest},
    hmac,
};

/// The bytes in front of the ciphertext: the version, and the hint, by which the key is found.
pub const HEAD_BYTES: usize = 5;
/// The version of the format.
const VERSION: u8 = 1;

/// The prefix of the purposes of derived keys. The number changes with the meaning of a derived key.
const DERIVED: &[u8] = b"hypersender-grpc/avatars/1/";

/// A key of sealed addresses: 32 secret bytes. `Debug` hides them.
#[derive(Clone)]
pub struct AddressKey([u8; 32]);

impl AddressKey {
    /// Wraps the bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Derives 16 bytes for another use, such as the key of entity tags. `purpose` separates the uses.
    /// Replicas with the same key derive the same bytes.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(DERIVED);
        context.update(purpose.as_bytes());
        let mut derived = [0; 16];
        derived.copy_from_slice(&context.sign().as_ref()[..16]);
        derived
    }
}

impl fmt::Debug for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressKey(..)")
    }
}

/// A key that is ready to seal and to open.
pub struct SealingKey {
    /// The version and the first 4 bytes of SHA-256 of the key. They are the associated data.
    pub head: [u8; HEAD_BYTES],
    key: LessSafeKey,
}

impl SealingKey {
    /// Prepares `key`.
    pub fn new(key: &AddressKey) -> Self {
        let mut head = [VERSION; HEAD_BYTES];
        head[1..].copy_from_slice(&digest(&SHA256, &key.0).as_ref()[..HEAD_BYTES - 1]);
        let unbound = UnboundKey::new(&AES_256_GCM_SIV, &key.0).expect("a key of AES-256 has 32 bytes");
        Self { head, key: LessSafeKey::new(unbound) }
    }

    /// Encrypts `content` in place. Equal contents have equal ciphertexts.
    pub fn seal(&self, content: &mut [u8]) -> Tag {
        self.key
            .seal_in_place_separate_tag(nonce(), Aad::from(self.head), content)
            .expect("AES-GCM-SIV seals a content of this length")
    }

    /// Decrypts `content`, whose end is its tag. `None` if it was not sealed with this key. The head in front
    /// of it is not looked at.
    pub fn open<'a>(&self, content: &'a mut [u8]) -> Option<&'a [u8]> {
        let content = self.key.open_in_place(nonce(), Aad::from(self.head), content).ok()?;
        Some(content)
    }
}

/// The nonce of every message. AES-GCM-SIV allows to use one again.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}
