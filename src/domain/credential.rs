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
    owner: TokenOwner,
}

/// Whose token Hypersender is asked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenOwner {
    /// This server's own.
    #[default]
    Server,
    /// That of whoever calls, which came with the call.
    Caller,
}

/// Tells credentials apart without holding one: a keyed hash, valid within this process alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CredentialId(u64);

impl Credential {
    /// Wraps a token of this server; `hasher` is the key of its [`CredentialId`] and must be the same for all credentials compared.
    #[must_use]
    pub fn new(token: SecretString, hasher: &RandomState) -> Self {
        let id = CredentialId(hasher.hash_one(token.expose_secret()));
        Self { id, token: Arc::new(token), owner: TokenOwner::Server }
    }

    /// Wraps a token that came with a call; see [`Credential::new`].
    #[must_use]
    pub fn of_caller(token: SecretString, hasher: &RandomState) -> Self {
        Self { owner: TokenOwner::Caller, ..Self::new(token, hasher) }
    }

    /// The number that stands for the token.
    #[must_use]
    pub fn id(&self) -> CredentialId {
        self.id
    }

    /// Whose token it is.
    #[must_use]
    pub fn owner(&self) -> TokenOwner {
        self.owner
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
