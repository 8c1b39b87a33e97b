//! [`Claim`]: a permit that batches and streams wait for while they also wait for other things.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A permit that is not claimed, waited for, or held.
pub enum Claim {
    /// It is not claimed.
    None,
    /// It is waited for. The place among the waiters is kept while the claim is not polled.
    Waiting(BoxFuture<'static, OwnedSemaphorePermit>),
    /// It is held.
    Held(OwnedSemaphorePermit),
}

impl Claim {
    /// Claims a permit of `semaphore`, unless that has been done. Returns whether it is held.
    pub fn is_held(&mut self, semaphore: &Arc<Semaphore>) -> bool {
        if let Self::None = self {
            let semaphore = semaphore.clone();
            *self = match semaphore.clone().try_acquire_owned() {
                Ok(permit) => Self::Held(permit),
                Err(_) => Self::Waiting(Box::pin(async move {
                    semaphore.acquire_owned().await.expect("this semaphore is never closed")
                })),
            };
        }
        matches!(self, Self::Held(_))
    }

    /// Resolves when the permit is granted, if it is waited for.
    pub async fn granted(&mut self) {
        match self {
            Self::Waiting(permit) => *self = Self::Held(permit.await),
            Self::None | Self::Held(_) => std::future::pending().await,
        }
    }

    /// Takes the permit, if it is held. The claim ends in any case.
    pub fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        match std::mem::replace(self, Self::None) {
            Self::Held(permit) => Some(permit),
            Self::None | Self::Waiting(_) => None,
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Waiting(_) => "Waiting",
            Self::Held(_) => "Held",
        })
    }
}
