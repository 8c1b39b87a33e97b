//! [`Pictures`]: from a contact to the bytes that show it. It looks up, downloads and resizes, keeps what it
//! has, and never lets a request wait for long (rule 60).
//!
//! A request is answered from memory if possible. Otherwise it waits for a job, which all requests for the
//! same contact and size share, and which goes on when they have left: `conclusion` says how a job uses the
//! outcome of the look-up, `images` downloads and resizes, `renewal` renews a link that is refused, and
//! `background` looks up the contacts for which there was no room.

mod background;
mod conclusion;
mod flights;
mod images;
mod renewal;
mod target;

use std::{
    future::{Future, Ready, ready},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::Either;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use self::{
    flights::{Flights, Waiter},
    images::{Broken, Download, Images},
    renewal::Renewed,
    target::Target,
};
use super::{
    etag::{EntityTag, Seen, Tagger},
    fetch::Fetcher,
    image::Size,
    patience::{Patience, Share, Wait},
    picture_cache::PictureCache,
    renewals::Renewals,
    settings::{Mode, Settings},
};
use crate::{
    domain::{Answer, CacheControl, ChatId, Credential, Instance, Key, LookupError, PictureLink},
    stack::{Clock, LookupService, Stack},
    telemetry::AvatarMetrics,
};

/// The longest wait of a request, for look-up, download and resizing together.
const REQUEST_WAIT: Duration = Duration::from_secs(2);
/// The longest look-up, which may go on when the requests for it have left.
const LOOK_UP_TIME: Duration = Duration::from_secs(10);

/// The result of a look-up.
type Found = Result<Answer, LookupError>;

/// The contact whose picture is wanted, and in which size.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The instance that is asked.
    pub instance: Instance,
    /// The token for it.
    pub credential: Credential,
    /// The contact.
    pub chat: ChatId,
    /// The size.
    pub size: Size,
}

/// The outcome for one request.
#[derive(Clone, Debug)]
pub enum Shown {
    /// The image.
    Picture {
        /// The JPEG.
        bytes: Bytes,
        /// Its tag.
        tag: EntityTag,
        /// The rest of the answer's freshness; zero for an image of a picture that may have changed.
        fresh_for: Duration,
        /// Whether it is an image from before, because the present one is not available.
        is_stale: bool,
    },
    /// The browser has the image already. Nothing was downloaded.
    Unchanged {
        /// Its tag.
        tag: EntityTag,
        /// The rest of the answer's freshness.
        fresh_for: Duration,
        /// As in `Picture`.
        is_stale: bool,
    },
    /// In redirect mode, the link of the CDN. It is a secret.
    Link {
        /// The link.
        link: PictureLink,
        /// The rest of the answer's freshness, at most until 10 minutes before the end of the link.
        fresh_for: Duration,
        /// Whether the answer is older than its freshness.
        is_stale: bool,
    },
    /// The contact has no picture, or is not on WhatsApp.
    Absent {
        /// The rest of the answer's freshness.
        fresh_for: Duration,
    },
    /// The picture is not here in time. The work goes on, or may begin with a later request.
    NotYet,
    /// The look-up failed.
    Failed(LookupError),
    /// The image is not available: refused by the CDN, not an image, too large and so on.
    NoImage,
}

/// Finds the images of contacts. Clones share everything.
pub struct Pictures<F>(Arc<Inner<F>>);

struct Inner<F> {
    stack: Stack<F>,
    clock: Clock,
    tagger: Tagger,
    cache: PictureCache<Broken>,
    /// Without it, the answer is a link.
    images: Option<Images>,
    patience: Patience,
    renewals: Renewals,
    metrics: Arc<AvatarMetrics>,
    look_ups: Flights<Key, Found>,
    renewing: Flights<Key, Renewed>,
    jobs: Flights<(Key, Size), Shown>,
}

impl<F> Clone for Pictures<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F: LookupService> Pictures<F> {
    /// Looks up through `stack`. In redirect mode, nothing is downloaded, and `fetcher` is `None`.
    #[must_use]
    pub fn new(
        settings: &Settings,
        stack: Stack<F>,
        clock: Clock,
        fetcher: Option<Fetcher>,
        metrics: Arc<AvatarMetrics>,
    ) -> Self {
        let source = fetcher.filter(|_| settings.mode == Mode::Bytes);
        let source = source.map(|fetcher| Arc::new(fetcher) as Arc<dyn Download>);
        Self::from_source(settings, stack, clock, source, metrics)
    }

    /// The same with another source of downloads.
    fn from_source(
        settings: &Settings,
        stack: Stack<F>,
        clock: Clock,
        source: Option<Arc<dyn Download>>,
        metrics: Arc<AvatarMetrics>,
    ) -> Self {
        let cache = PictureCache::new(settings.bytes);
        let tag_key = settings.keys.first().map_or_else(rand::random, |key| key.derive("entity tags"));
        Self(Arc::new(Inner {
            stack,
            clock,
            tagger: Tagger::new(tag_key),
            images: source.map(|source| Images::new(cache.clone(), source, metrics.clone())),
            cache,
            patience: Patience::new(),
            renewals: Renewals::new(metrics.clone()),
            metrics,
            look_ups: Flights::new(),
            renewing: Flights::new(),
            jobs: Flights::new(),
        }))
    }

    /// The look-ups.
    #[must_use]
    pub fn stack(&self) -> &Stack<F> {
        &self.0.stack
    }

    /// The tags of this server's representations.
    #[must_use]
    pub fn tagger(&self) -> &Tagger {
        &self.0.tagger
    }

    /// The outcome for one request. It takes 2 s at most.
    pub async fn show(&self, wanted: Wanted, seen: &Seen) -> Shown {
        let target = Target::new(wanted, &self.0.cache, &self.0.stack);
        let found = match self.0.stack.avatar(target.lookup(CacheControl::default())) {
            Either::Left(found) => {
                let found = found.into_inner();
                if let Some(shown) = self.0.at_once(&target, &found, seen) {
                    return shown;
                }
                Either::Left(found)
            }
            Either::Right(looking) => Either::Right(looking),
        };
        let end = Instant::now() + REQUEST_WAIT;
        let shown = match self.0.patience.share(&target.key.scope.instance) {
            Some(share) => self.later(&target, found, seen, &share, end).await,
            None => self.0.not_yet(&target),
        };
        shown.unless_seen(seen)
    }

    /// The outcome for a request that memory cannot answer. `found` is the answer, or the work of its
    /// look-up.
    async fn later<L: Future<Output = Found> + Send + 'static>(
        &self,
        target: &Target,
        found: Either<Found, L>,
        seen: &Seen,
        share: &Arc<Share>,
        end: Instant,
    ) -> Shown {
        let mut wait = share.wait();
        let found = match found {
            Either::Left(found) => found,
            Either::Right(looking) => {
                let Some(found) = self.looked_up(target, looking, share, wait.as_mut(), end).await else {
                    return self.0.not_yet(target);
                };
                // Nothing is downloaded before the answer is known, because the browser may have the image.
                if let Some(shown) = self.0.at_once(target, &found, seen) {
                    return shown;
                }
                found
            }
        };
        let job = self.job(target, Some(found), share);
        let (Some(job), Some(wait)) = (job, wait) else {
            return self.0.not_yet(target);
        };
        let Ok(shown) = timeout_at(end, job.landed()).await else {
            return self.0.not_yet(target);
        };
        let shown = shown.unwrap_or(Shown::Failed(LookupError::Internal));
        if let Shown::Picture { is_stale: false, .. } = shown {
            wait.end_free();
        }
        shown
    }

    /// The result of the look-up, which goes on without the request; `None` when it does not come in time.
    async fn looked_up(
        &self,
        target: &Target,
        looking: impl Future<Output = Found> + Send + 'static,
        share: &Arc<Share>,
        wait: Option<&mut Wait<'_>>,
        end: Instant,
    ) -> Option<Found> {
        let looking = self.0.look_up(target, share, Some(looking))?;
        let mut handover = Handover { pictures: self, target, share, is_over: false };
        let wait = wait?;
        let found = timeout_at(end, looking.landed()).await.ok()?;
        handover.is_over = true;
        wait.charge();
        Some(found.unwrap_or(Err(LookupError::Internal)))
    }

    /// Joins or starts the job for a contact and a size. `None` when there is too much work in progress.
    fn job(&self, target: &Target, found: Option<Found>, share: &Arc<Share>) -> Option<Waiter<Shown>> {
        self.0.jobs.join(&(target.key.clone(), target.size), || {
            let found = match found {
                Some(found) => Either::Left(ready(Some(found))),
                None => Either::Right(self.0.look_up::<Ready<Found>>(target, share, None)?.landed()),
            };
            let (inner, target) = (self.0.clone(), target.clone());
            Some(async move {
                let found = found.await.unwrap_or(Err(LookupError::Internal));
                inner.conclusion(&target, found).await
            })
        })
    }
}

/// A request that waits for a look-up. When it leaves before the end, a job takes over, so that the image
/// is there when the browser asks again.
struct Handover<'a, F: LookupService> {
    pictures: &'a Pictures<F>,
    target: &'a Target,
    share: &'a Arc<Share>,
    is_over: bool,
}

impl<F: LookupService> Drop for Handover<'_, F> {
    fn drop(&mut self) {
        // Without a runtime, the process is about to end.
        if !self.is_over && Handle::try_current().is_ok() {
            self.pictures.job(self.target, None, self.share);
        }
    }
}

impl Shown {
    /// The same for a browser that may have the image already.
    fn unless_seen(self, seen: &Seen) -> Self {
        match self {
            Self::Picture { tag, fresh_for, is_stale, .. } if seen.has(&tag) => {
                Self::Unchanged { tag, fresh_for, is_stale }
            }
            Self::Picture { .. }
            | Self::Unchanged { .. }
            | Self::Link { .. }
            | Self::Absent { .. }
            | Self::NotYet
            | Self::Failed(_)
            | Self::NoImage => self,
        }
    }
}

#[cfg(test)]
mod tests;
