//! A link that the CDN refuses: the contact is looked up again, and the new link is tried once (rule 61).

use std::{sync::Arc, time::Duration};

use futures_util::future::Either;
use tokio::time::timeout;

use super::{Inner, LOOK_UP_TIME, images::Broken, target::Target};
use crate::{
    avatars::picture_cache::Original,
    domain::{Answer, CacheControl, CacheStatus, Finding, LookupError, PictureLink},
    stack::LookupService,
};

/// The outcome of a renewal.
#[derive(Clone, Debug)]
pub enum Renewed {
    /// There is a new answer. With a file, that of its link.
    Answer(Answer, Option<Original>),
    /// The link is so new that Hypersender is not asked again.
    TooSoon,
    /// The look-up failed.
    Failed(LookupError),
    /// There is no image behind the new link either, or no link is renewed now.
    Broken(Broken),
}

impl<F: LookupService> Inner<F> {
    /// The outcome of the renewal of `refused`, which all requests for the contact share.
    pub async fn renewed(self: &Arc<Self>, target: &Target, refused: &PictureLink) -> Renewed {
        let waiter = self.renewing.join(&target.key, || {
            let (inner, target, refused) = (self.clone(), target.clone(), refused.clone());
            Some(async move { inner.renew(&target, &refused).await })
        });
        let Some(waiter) = waiter else {
            return Renewed::Broken(Broken::Busy);
        };
        waiter.landed().await.unwrap_or(Renewed::Failed(LookupError::Internal))
    }

    async fn renew(&self, target: &Target, refused: &PictureLink) -> Renewed {
        // Another request may have renewed it while this one waited for the download.
        if let Either::Left(found) = self.stack.avatar(target.lookup(CacheControl::default()))
            && let Ok(answer) = found.into_inner()
            && link(&answer) != Some(refused)
        {
            return Renewed::Answer(answer, None);
        }
        let Some(images) = &self.images else {
            return Renewed::Broken(Broken::Failed);
        };
        let control = CacheControl { max_age: Some(Duration::ZERO), ..CacheControl::default() };
        if let Some(broken) = self.cache.failure(target.contact) {
            return Renewed::Broken(broken);
        }
        // Within the refresh floor, memory answers, with the same link.
        if let Either::Left(_) = self.stack.avatar(target.lookup(control)) {
            return Renewed::TooSoon;
        }
        let renewal = match timeout(LOOK_UP_TIME, self.renewals.begin()).await {
            Ok(Some(renewal)) => renewal,
            Ok(None) => return Renewed::Broken(Broken::Refused),
            Err(_) => return Renewed::Broken(Broken::Busy),
        };
        // The time of the look-up begins now, after the wait for the other renewals.
        let Either::Right(looking) = self.stack.avatar(target.lookup(control)) else {
            return Renewed::TooSoon;
        };
        self.metrics.renewed();
        self.cache.keep_failure(target.contact, Broken::Refused);
        let answer = match looking.await {
            Ok(answer) => answer,
            Err(error) => return Renewed::Failed(error),
        };
        let Some(new) = link(&answer) else {
            return Renewed::Answer(answer, None);
        };
        if new == refused {
            return match answer.cache.status {
                CacheStatus::Hit | CacheStatus::Stale => Renewed::TooSoon,
                CacheStatus::Miss | CacheStatus::Expired | CacheStatus::Refreshed => {
                    renewal.refused();
                    Renewed::Broken(Broken::Refused)
                }
            };
        }
        match images.original(new).await {
            Ok(original) => {
                renewal.taken();
                Renewed::Answer(answer, Some(original))
            }
            Err(Broken::Refused) => {
                renewal.refused();
                Renewed::Broken(Broken::Refused)
            }
            Err(broken) => Renewed::Broken(broken),
        }
    }
}

fn link(answer: &Answer) -> Option<&PictureLink> {
    match &answer.finding {
        Finding::Picture(link) => Some(link),
        Finding::Absent(_) | Finding::NotFound(_) => None,
    }
}
