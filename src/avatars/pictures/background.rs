//! Look-ups in the background: the backlog of an instance is worked off through the same look-ups in progress
//! as those of requests (rule 60).
//!
//! Nothing is downloaded here. An image that no browser asks for again would be loaded in vain, and the one
//! that is asked for costs one quick download.

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::Either;
use tokio::{sync::OwnedSemaphorePermit, time::sleep_until};

use super::{
    Found, Inner,
    flights::Waiter,
    target::{Target, lookup},
};
use crate::{
    avatars::{
        backlog::{Pending, Step},
        patience::Share,
    },
    domain::{CacheControl, LookupError},
    stack::LookupService,
};

/// The shortest and the longest pause of a backlog after a failure that concerns all its contacts.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The pause when the failure says no time.
const PAUSE: Duration = Duration::from_secs(15);

/// The consequence of a failed look-up for the contact and for those that wait behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consequence {
    /// Another look-up of the contact soon would fail, too. The others go on.
    Drop,
    /// The contact waits again, at the end, and all wait for this time.
    Pause(Duration),
    /// No look-up of the instance can succeed before somebody does something.
    Empty,
}

impl<F: LookupService> Inner<F> {
    /// Joins or starts the look-up of a contact. `looking` is its work, if it is known to be needed. `None`
    /// when the contact has to wait in the backlog.
    pub fn look_up<L>(
        self: &Arc<Self>,
        target: &Target,
        share: &Arc<Share>,
        looking: Option<L>,
    ) -> Option<Waiter<Found>>
    where
        L: Future<Output = Found> + Send + 'static,
    {
        let waiter = self.look_ups.join(&target.key, || {
            let permit = share.look_up().filter(|_| !share.backlog().has(&target.key))?;
            let looking = looking.map_or_else(
                || Either::Right(self.stack.avatar(target.lookup(CacheControl::default()))),
                Either::Left,
            );
            Some(self.settled(target.pending(), share, looking, permit))
        });
        if waiter.is_none() {
            self.postpone(target.pending(), share);
        }
        waiter
    }

    /// The look-up of a contact, which has a permit, and its consequences.
    fn settled<L: Future<Output = Found> + Send + 'static>(
        self: &Arc<Self>,
        pending: Pending,
        share: &Arc<Share>,
        looking: L,
        permit: OwnedSemaphorePermit,
    ) -> impl Future<Output = Found> + Send + use<F, L> {
        let (inner, share) = (Arc::downgrade(self), share.clone());
        async move {
            let found = looking.await;
            drop(permit);
            if let (Err(error), Some(inner)) = (&found, inner.upgrade()) {
                match consequence(error) {
                    Consequence::Drop => {}
                    Consequence::Pause(time) => {
                        share.backlog().pause(time);
                        inner.postpone(pending, &share);
                    }
                    Consequence::Empty => share.backlog().clear(),
                }
            }
            found
        }
    }

    /// Puts a contact into the backlog, and starts the worker that it needs.
    fn postpone(self: &Arc<Self>, pending: Pending, share: &Arc<Share>) {
        if share.backlog().add(pending) {
            tokio::spawn(work_off(Arc::downgrade(self), share.clone()));
        }
    }

    /// Looks up a contact of the backlog, unless it is in memory or in progress by now.
    fn look_up_later(self: &Arc<Self>, pending: Pending, share: &Arc<Share>, permit: OwnedSemaphorePermit) {
        let lookup = lookup(&pending.key, &pending.credential, CacheControl::default());
        if let Either::Right(looking) = self.stack.avatar(lookup) {
            let key = pending.key.clone();
            self.look_ups.join(&key, || Some(self.settled(pending, share, looking, permit)));
        }
    }
}

/// Looks up the contacts of a backlog until there is none. It keeps nothing alive: when the pictures are
/// gone, it ends.
async fn work_off<F: LookupService>(pictures: Weak<Inner<F>>, share: Arc<Share>) {
    let Some(mut worker) = share.backlog().worker() else {
        return;
    };
    loop {
        let permit = share.look_up_later().await;
        match worker.step() {
            Step::LookUp(pending) => match pictures.upgrade() {
                Some(pictures) => pictures.look_up_later(pending, &share, permit),
                None => return,
            },
            Step::PauseUntil(until) => {
                drop(permit);
                sleep_until(until).await;
            }
            Step::End => return,
        }
    }
}

/// The consequence of each error. None of them leads to another look-up at once.
fn consequence(error: &LookupError) -> Consequence {
    match error {
        // There was no turn in time, or Hypersender must not be asked for a while.
        LookupError::RateLimited { .. }
        | LookupError::NoTurnYet { .. }
        | LookupError::UpstreamRateLimited { .. }
        | LookupError::CircuitOpen { .. }
        | LookupError::Blocked { .. }
        | LookupError::InstanceStarting => {
            Consequence::Pause(error.retry_after().unwrap_or(PAUSE).clamp(PAUSE_MIN, PAUSE_MAX))
        }
        LookupError::DeadlineExceeded | LookupError::Overloaded => Consequence::Pause(PAUSE_MIN),
        LookupError::CredentialsRejected(_) | LookupError::InstanceNotConnected => Consequence::Empty,
        // Those that show a failing instance open its breaker soon.
        LookupError::NotCached
        | LookupError::Internal
        | LookupError::RequestRejected
        | LookupError::NotFound(_)
        | LookupError::Unavailable { .. }
        | LookupError::SentAway
        | LookupError::TimedOut { .. }
        | LookupError::Queued
        | LookupError::ResponseInvalid => Consequence::Drop,
    }
}
