//! [`Credential`]: a Hypersender token, and the id that stands for it in keys.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString};

/// The token of a request to Hypersender. `Debug` hides it.
#[derive(Clone)]
pub struct Credential {
    id: CredentialId,
    token: Arc<SecretString>,
    owner: TokenOwner,
}

/// The owner of the token of a request to Hypersender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenOwner {
    /// This server.
    #[default]
    Server,
    /// The caller, who sent the token with the call.
    Caller,
}

/// Identifies a credential without holding its token: a keyed hash, valid within this process only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CredentialId(u64);

impl Credential {
    /// Wraps a token of this server. `hasher` is the key of the [`CredentialId`]; credentials can be compared
    /// only if they were made with the same one.
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

    /// The id that stands for the token.
    #[must_use]
    pub fn id(&self) -> CredentialId {
        self.id
    }

    /// The owner of the token.
    #[must_use]
    pub fn owner(&self) -> TokenOwner {
        self.owner
    }

    /// The token itself. Only the `Authorization` header may hold it.
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
