//! [`Credential`]: a Hypersender token and the number that stands for it wherever things are told apart.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString};

/// The token one instance is asked with. `Debug` hides it.
#[derive(Clone)]
pub struct Credential {
    id: CredentialId,
    token: Arc<SecretString>,
}

/// Tells credentials apart without holding one: a keyed hash, valid within this process alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CredentialId(u64);

impl Credential {
    /// Wraps a token; `hasher` is the key of its [`CredentialId`] and must be the same for all credentials compared.
    #[must_use]
    pub fn new(token: SecretString, hasher: &RandomState) -> Self {
        Self { id: CredentialId(hasher.hash_one(token.expose_secret())), token: Arc::new(token) }
    }

    /// The number that stands for the token.
    #[must_use]
    pub fn id(&self) -> CredentialId {
        self.id
    }

    /// The token itself, for the `Authorization` header alone.
    #[must_use]
    pub fn expose_token(&self) -> &str {
        self.token.expose_secret()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}
