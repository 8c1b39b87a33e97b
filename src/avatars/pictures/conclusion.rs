//! From the answer of a look-up to the outcome for a request.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Found, Inner, Shown, images::Broken, renewal::Renewed, target::Target};
use crate::{
    avatars::{etag::Seen, image::Size},
    domain::{Answer, CacheInfo, CacheStatus, Finding, LookupError, NotFound, PictureLink, Ttl},
    stack::LookupService,
};

/// A redirect is not cached in the last minutes of the link's life.
const LINK_MARGIN: Duration = Duration::from_secs(10 * 60);

impl<F: LookupService> Inner<F> {
    /// The outcome that needs no work; `None` when the image is not in memory.
    pub fn at_once(&self, target: &Target, found: &Found, seen: &Seen) -> Option<Shown> {
        let answer = match found {
            Ok(answer) => answer,
            Err(error) => return Some(self.failed(target, error.clone())),
        };
        let Finding::Picture(link) = &answer.finding else {
            return Some(self.without_picture(target, answer));
        };
        if !target.trust.holds() {
            return Some(self.not_yet(target));
        }
        if self.images.is_none() {
            return Some(self.redirect(link, answer.cache));
        }
        let known = self.cache.known(target.contact, link, &target.trust);
        let tag = self.tagger.picture(known.fingerprint(), target.size);
        let has_it = seen.has(&tag);
        let bytes = if has_it { None } else { Some(self.cache.image(known.picture(), target.size)?) };
        self.cache.note_shown(target.contact, known);
        let (fresh_for, is_stale) = freshness(answer.cache);
        Some(match bytes {
            None => Shown::Unchanged { tag, fresh_for, is_stale },
            Some(bytes) => Shown::Picture { bytes, tag, fresh_for, is_stale },
        })
    }

    /// The outcome after all the work that is needed.
    pub async fn conclusion(self: &Arc<Self>, target: &Target, found: Found) -> Shown {
        if let Some(shown) = self.at_once(target, &found, &Seen::default()) {
            return shown;
        }
        let answer = match found {
            Ok(answer) => answer,
            Err(error) => return self.failed(target, error),
        };
        let Finding::Picture(link) = &answer.finding else {
            return self.without_picture(target, &answer);
        };
        match self.image(link, target.size).await {
            Ok(bytes) => self.picture(target, link, answer.cache, bytes),
            Err(Broken::Refused) => self.with_new_link(target, link).await,
            Err(broken) => self.without_image(target, broken),
        }
    }

    /// The outcome for a link that the CDN refuses.
    async fn with_new_link(self: &Arc<Self>, target: &Target, refused: &PictureLink) -> Shown {
        let (answer, original) = match self.renewed(target, refused).await {
            Renewed::Answer(answer, original) => (answer, original),
            Renewed::TooSoon => return self.not_yet(target),
            Renewed::Failed(error) => return self.failed(target, error),
            Renewed::Broken(broken) => return self.without_image(target, broken),
        };
        let Finding::Picture(link) = &answer.finding else {
            return self.without_picture(target, &answer);
        };
        let image = match (&self.images, original) {
            (Some(images), Some(original)) => images.resized(link, target.size, original).await,
            (_, _) => self.image(link, target.size).await,
        };
        match image {
            Ok(bytes) => self.picture(target, link, answer.cache, bytes),
            Err(broken) => self.without_image(target, broken),
        }
    }

    async fn image(&self, link: &PictureLink, size: Size) -> Result<Bytes, Broken> {
        match &self.images {
            Some(images) => images.image(link, size).await,
            None => Err(Broken::Failed),
        }
    }

    /// The outcome with the image. The token may have been rejected during the download.
    fn picture(&self, target: &Target, link: &PictureLink, cache: CacheInfo, bytes: Bytes) -> Shown {
        if !target.trust.holds() {
            return self.not_yet(target);
        }
        let known = self.cache.known(target.contact, link, &target.trust);
        let tag = self.tagger.picture(known.fingerprint(), target.size);
        self.cache.note_shown(target.contact, known);
        let (fresh_for, is_stale) = freshness(cache);
        Shown::Picture { bytes, tag, fresh_for, is_stale }
    }

    fn redirect(&self, link: &PictureLink, cache: CacheInfo) -> Shown {
        let (fresh_for, is_stale) = freshness(cache);
        let now = self.clock.now().wall;
        let left = link.expires_at().map(|end| end.duration_since(now).unwrap_or_default());
        let fresh_for = left.map_or(fresh_for, |left| fresh_for.min(left.saturating_sub(LINK_MARGIN)));
        Shown::Link { link: link.clone(), fresh_for, is_stale }
    }

    /// The outcome for a contact that has no picture now, so none from before is shown later. Hypersender may
    /// not know a contact or an instance because of a mistake in the settings, so that is a failure.
    fn without_picture(&self, target: &Target, answer: &Answer) -> Shown {
        self.cache.forget_latest(target.contact);
        match answer.finding {
            Finding::NotFound(why @ NotFound::Upstream) => Shown::Failed(LookupError::NotFound(why)),
            Finding::Picture(_) | Finding::Absent(_) | Finding::NotFound(NotFound::NotOnWhatsApp) => {
                Shown::Absent { fresh_for: freshness(answer.cache).0 }
            }
        }
    }

    /// The outcome of a look-up that failed: an image from before, unless the failure says something about
    /// the contact or the token.
    fn failed(&self, target: &Target, error: LookupError) -> Shown {
        if let LookupError::NoTurnYet { .. } = error {
            return self.not_yet(target);
        }
        let shown = error.handling().yields_to_stored_answer.then(|| self.before(target));
        shown.flatten().unwrap_or(Shown::Failed(error))
    }

    /// The outcome without an image of the present picture.
    fn without_image(&self, target: &Target, broken: Broken) -> Shown {
        match broken {
            Broken::Busy => self.not_yet(target),
            Broken::Refused | Broken::Failed => self.before(target).unwrap_or(Shown::NoImage),
        }
    }

    /// The outcome for a request that cannot wait, or that waited in vain.
    pub fn not_yet(&self, target: &Target) -> Shown {
        self.before(target).unwrap_or(Shown::NotYet)
    }

    /// The image that the contact was last shown with, in the best size that memory has. There is none when
    /// the token was rejected since then.
    fn before(&self, target: &Target) -> Option<Shown> {
        let known = self.cache.shown_before(target.contact)?;
        let larger = Size::ALL.into_iter().filter(|size| *size >= target.size);
        let smaller = Size::ALL.into_iter().rev().filter(|size| *size < target.size);
        let find = |size| Some((size, self.cache.image(known.picture(), size)?));
        let (size, bytes) = larger.chain(smaller).find_map(find)?;
        let tag = self.tagger.picture(known.fingerprint(), size);
        Some(Shown::Picture { bytes, tag, fresh_for: Duration::ZERO, is_stale: true })
    }
}

/// The rest of an answer's freshness, and whether it is past it.
fn freshness(cache: CacheInfo) -> (Duration, bool) {
    let left = match cache.ttl {
        Ttl::Left(left) => left,
        Ttl::Past(_) => Duration::ZERO,
    };
    match cache.status {
        CacheStatus::Stale => (Duration::ZERO, true),
        CacheStatus::Hit | CacheStatus::Miss | CacheStatus::Expired | CacheStatus::Refreshed => (left, false),
    }
}
