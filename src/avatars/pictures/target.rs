//! [`Target`]: the contact of a request, with the names that memory knows it by.

use tokio::time::Instant;

use super::{LOOK_UP_TIME, Wanted, images::Broken};
use crate::{
    avatars::{
        backlog::Pending,
        image::Size,
        picture_cache::{NameHash, PictureCache},
    },
    domain::{CacheControl, Credential, Deadline, Key, Lookup, Scope},
    stack::{LookupService, Stack, Trust},
};

/// The contact whose picture is wanted, and in which size. It is made once for a request.
#[derive(Clone, Debug)]
pub struct Target {
    /// The instance, the token's id and the contact.
    pub key: Key,
    /// The token.
    pub credential: Credential,
    /// The size.
    pub size: Size,
    /// The contact in the picture cache.
    pub contact: NameHash,
    /// The trust in the token since before the look-up.
    pub trust: Trust,
}

impl Target {
    pub fn new<F: LookupService>(wanted: Wanted, cache: &PictureCache<Broken>, stack: &Stack<F>) -> Self {
        let Wanted { instance, credential, chat, size } = wanted;
        let key = Key { scope: Scope { instance, credential: credential.id() }, chat };
        let contact = cache.contact(&key);
        let trust = stack.trust(&key.scope);
        Self { key, credential, size, contact, trust }
    }

    /// The look-up of the contact, which begins now.
    pub fn lookup(&self, control: CacheControl) -> Lookup {
        lookup(&self.key, &self.credential, control)
    }

    /// The contact for the backlog, asked for now.
    pub fn pending(&self) -> Pending {
        Pending { key: self.key.clone(), credential: self.credential.clone(), since: Instant::now() }
    }
}

/// The look-up of a contact, which begins now.
pub fn lookup(key: &Key, credential: &Credential, control: CacheControl) -> Lookup {
    let deadline = Deadline::at(Instant::now() + LOOK_UP_TIME);
    Lookup::new(key.scope.instance.clone(), credential.clone(), key.chat.clone(), control, deadline)
}
