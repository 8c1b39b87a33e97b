//! [`AvatarAddress`]: makes the address of a contact's image. The room `avatars` provides it as a value.

use std::{fmt, sync::Arc};

use http::Extensions;

use crate::domain::{Caller, ChatId, Instance};

type Make = dyn Fn(&Instance, &ChatId) -> Option<String> + Send + Sync;

/// Makes the address of a contact's image, as it is now. Clones share it.
#[derive(Clone)]
pub struct AvatarAddress(Arc<Make>);

impl AvatarAddress {
    /// Addresses that `make` makes.
    #[must_use]
    pub fn new(make: impl Fn(&Instance, &ChatId) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// The addresses for the caller of `call`, the extensions of a request. `None` if it gets none.
    #[must_use]
    pub fn for_caller(&self, call: &Extensions) -> Option<Self> {
        call.get::<Caller>().is_some_and(Caller::has_avatars).then(|| self.clone())
    }

    /// The address of the image of `chat`, as `instance` sees it.
    #[must_use]
    pub fn of(&self, instance: &Instance, chat: &ChatId) -> Option<String> {
        (self.0)(instance, chat)
    }
}

impl fmt::Debug for AvatarAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AvatarAddress(..)")
    }
}

#[cfg(test)]
mod tests;
