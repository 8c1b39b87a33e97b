//! From the answer of a look-up to the outcome for a request.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Found, Inner, Shown, Wanted, healing::Renewed, images::Broken};
use crate::{
    avatars::{etag::Seen, image::Size},
    domain::{Answer, CacheControl, CacheInfo, CacheStatus, Finding, LookupError, PictureLink, Ttl},
    stack::LookupService,
};

/// A redirect is not cached in the last minutes of the link's life.
const LINK_MARGIN: Duration = Duration::from_secs(10 * 60);

impl<F: LookupService> Inner<F> {
    /// The outcome that needs no work; `None` when the image is not in memory.
    pub fn at_once(&self, wanted: &Wanted, found: &Found, seen: &Seen) -> Option<Shown> {
        let answer = match found {
            Ok(answer) => answer,
            Err(error) => return Some(self.failed(wanted, error.clone())),
        };
        let Finding::Picture(link) = &answer.finding else {
            return Some(self.absent(wanted, answer.cache));
        };
        if self.images.is_none() {
            return Some(self.redirect(link, answer.cache));
        }
        let fingerprint = link.fingerprint();
        let tag = self.tagger.picture(&fingerprint, wanted.size);
        if seen.has(&tag) {
            let (fresh_for, is_stale) = freshness(answer.cache);
            return Some(Shown::Unchanged { tag, fresh_for, is_stale });
        }
        let bytes = self.cache.image(self.cache.picture(&fingerprint), wanted.size)?;
        Some(self.picture(wanted, &fingerprint, answer.cache, bytes))
    }

    /// The outcome after all the work that is needed.
    pub async fn conclusion(self: &Arc<Self>, wanted: &Wanted, found: Found) -> Shown {
        if let Some(shown) = self.at_once(wanted, &found, &Seen::default()) {
            return shown;
        }
        match found {
            Ok(Answer { finding: Finding::Picture(link), cache, .. }) => {
                match self.image(&link, wanted.size).await {
                    Ok(bytes) => self.picture(wanted, &link.fingerprint(), cache, bytes),
                    Err(Broken::Refused) => self.healed(wanted, &link).await,
                    Err(broken) => self.without_image(wanted, broken),
                }
            }
            Ok(Answer { cache, .. }) => self.absent(wanted, cache),
            Err(error) => self.failed(wanted, error),
        }
    }

    /// The outcome for a link that the CDN refuses.
    async fn healed(self: &Arc<Self>, wanted: &Wanted, refused: &PictureLink) -> Shown {
        let (answer, original) = match self.renewed(wanted, refused).await {
            Renewed::Answer(answer, original) => (answer, original),
            Renewed::TooSoon => return self.not_yet(wanted),
            Renewed::Failed(error) => return self.failed(wanted, error),
            Renewed::Broken(broken) => return self.without_image(wanted, broken),
        };
        let Finding::Picture(link) = &answer.finding else {
            return self.absent(wanted, answer.cache);
        };
        let image = match (&self.images, original) {
            (Some(images), Some(original)) => images.resized(link, wanted.size, original).await,
            (_, _) => self.image(link, wanted.size).await,
        };
        match image {
            Ok(bytes) => self.picture(wanted, &link.fingerprint(), answer.cache, bytes),
            Err(broken) => self.without_image(wanted, broken),
        }
    }

    async fn image(&self, link: &PictureLink, size: Size) -> Result<Bytes, Broken> {
        match &self.images {
            Some(images) => images.image(link, size).await,
            None => Err(Broken::Failed),
        }
    }

    fn picture(&self, wanted: &Wanted, fingerprint: &str, cache: CacheInfo, bytes: Bytes) -> Shown {
        let contact = self.cache.contact(&wanted.lookup(CacheControl::default()).key);
        self.cache.note_latest(contact, fingerprint);
        let (fresh_for, is_stale) = freshness(cache);
        Shown::Picture { bytes, tag: self.tagger.picture(fingerprint, wanted.size), fresh_for, is_stale }
    }

    fn redirect(&self, link: &PictureLink, cache: CacheInfo) -> Shown {
        let (fresh_for, is_stale) = freshness(cache);
        let now = self.clock.now().wall;
        let left = link.expires_at().map(|end| end.duration_since(now).unwrap_or_default());
        let fresh_for = left.map_or(fresh_for, |left| fresh_for.min(left.saturating_sub(LINK_MARGIN)));
        Shown::Link { url: link.url().to_owned(), fresh_for, is_stale }
    }

    /// The contact has no picture now, so none from before is shown later.
    fn absent(&self, wanted: &Wanted, cache: CacheInfo) -> Shown {
        self.cache.forget_latest(self.cache.contact(&wanted.lookup(CacheControl::default()).key));
        Shown::Absent { fresh_for: freshness(cache).0 }
    }

    /// The outcome of a look-up that failed: an image from before, unless the failure says something about
    /// the contact or the token.
    fn failed(&self, wanted: &Wanted, error: LookupError) -> Shown {
        if let LookupError::NotFound(_) = error {
            return self.absent(wanted, CacheInfo::FETCHED);
        }
        if let LookupError::NoTurnYet { .. } = error {
            return self.not_yet(wanted);
        }
        let handling = error.handling();
        if handling.revokes_stored_answers {
            self.cache.forget_latest(self.cache.contact(&wanted.lookup(CacheControl::default()).key));
        }
        let shown = handling.yields_to_stored_answer.then(|| self.before(wanted));
        shown.flatten().unwrap_or(Shown::Failed(error))
    }

    /// The outcome without an image of the present picture.
    fn without_image(&self, wanted: &Wanted, broken: Broken) -> Shown {
        match broken {
            Broken::Busy => self.not_yet(wanted),
            Broken::Refused | Broken::Failed => self.before(wanted).unwrap_or(Shown::NoImage),
        }
    }

    /// The outcome for a request that cannot wait, or that waited in vain.
    pub fn not_yet(&self, wanted: &Wanted) -> Shown {
        self.before(wanted).unwrap_or(Shown::NotYet)
    }

    /// The image that the contact was last shown with, in the best size that memory has.
    fn before(&self, wanted: &Wanted) -> Option<Shown> {
        let contact = self.cache.contact(&wanted.lookup(CacheControl::default()).key);
        let fingerprint = self.cache.latest(contact)?;
        let picture = self.cache.picture(&fingerprint);
        let larger = Size::ALL.into_iter().filter(|size| *size >= wanted.size);
        let smaller = Size::ALL.into_iter().rev().filter(|size| *size < wanted.size);
        let find = |size| Some((size, self.cache.image(picture, size)?));
        let (size, bytes) = larger.chain(smaller).find_map(find)?;
        let tag = self.tagger.picture(&fingerprint, size);
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
