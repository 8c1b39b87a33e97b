//! [`PictureCache`]: images in memory, by picture and size; for a while, files as they were downloaded and
//! failures; and the picture that each contact was last shown with.
//!
//! A picture is named by its fingerprint, so its image never has to be renewed. Names are kept as keyed
//! hashes of 128 bits, which take little memory and reveal no contact and no link.
//!
//! Not here: which picture a contact has now, and whether a token is rejected, which `stack` knows.

use std::{
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use moka::{policy::EvictionPolicy, sync::Cache};
use siphasher::sip128::{Hasher128, SipHasher13};
use tokio::time::Instant;

use super::{fetch::Image, image::Size};
use crate::{
    domain::{Key, PictureLink},
    stack::Trust,
};

/// The memory that an entry takes besides its bytes: moka's bookkeeping. 200,000 entries of one byte take 457
/// bytes each (glibc's allocator, Linux, x86-64), of which the block of that byte has 16.
const ENTRY_BYTES: u32 = 448;
/// The size from which a block takes more memory than its bytes.
const LARGE_BYTES: u32 = 16 * 1024;
/// A file that was downloaded is kept for so long, so that the sizes of a page cost one download.
const ORIGINAL_LIFE: Duration = Duration::from_secs(60);
/// The part of the memory for such files, and its limit: about 100 of WhatsApp's.
const ORIGINALS_PART: u64 = 8;
const ORIGINALS_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The part of the memory for the pictures that contacts were last shown with.
const LATEST_PART: u64 = 16;
/// A picture from before is shown for so long after it was last shown as the present one, which is also how
/// long the look-up gives a stale answer in place of a failure.
const LATEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// A picture that is shown again is noted again after this time.
const LATEST_RENEWED: Duration = Duration::from_secs(60 * 60);
/// A failure is remembered for so long.
const FAILURE_LIFE: Duration = Duration::from_secs(15);
/// Maximum number of failures that are remembered. They take less than 5 MiB.
const FAILURES_MAX: u64 = 10_000;

/// The name of a picture, a contact or a link. Names of different kinds are never the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NameHash(u128);

/// A file as it was downloaded. Clones share it.
#[derive(Clone)]
pub struct Original(Arc<(Image, AtomicBool)>);

impl Original {
    /// Wraps the file.
    #[must_use]
    pub fn new(image: Image) -> Self {
        Self(Arc::new((image, AtomicBool::new(false))))
    }

    /// The file.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.0.0
    }

    /// Whether this is the first decoding of it, with which the download is counted.
    #[must_use]
    pub fn is_first_decoding(&self) -> bool {
        !self.0.1.swap(true, Relaxed)
    }
}

impl fmt::Debug for Original {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Original(..)")
    }
}

/// A picture of a contact, with what is derived from its link: the fingerprint of a link that is not
/// WhatsApp's own is a hash that costs microseconds.
#[derive(Debug)]
struct Noted {
    since: Instant,
    link: NameHash,
    fingerprint: Box<str>,
    picture: NameHash,
    /// The trust in the token since before the look-up.
    trust: Trust,
}

impl Noted {
    /// The same picture, shown now.
    fn again(&self, trust: Trust) -> Self {
        let Self { link, ref fingerprint, picture, .. } = *self;
        Self { since: Instant::now(), link, fingerprint: fingerprint.clone(), picture, trust }
    }
}

/// A picture of a contact. Clones share it.
#[derive(Clone, Debug)]
pub struct Known {
    noted: Arc<Noted>,
    /// Whether it is in memory, as the one that the contact was last shown with.
    is_latest: bool,
}

impl Known {
    /// The fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.noted.fingerprint
    }

    /// The name in the picture cache.
    #[must_use]
    pub fn picture(&self) -> NameHash {
        self.noted.picture
    }
}

/// The images, files, failures and names in memory. `E` is the kind of the failures. Clones share everything.
#[derive(Clone, Debug)]
pub struct PictureCache<E: Copy + Send + Sync + 'static> {
    /// Moka measures time on the system's clock, to free memory. Whether an entry is still valid is decided
    /// here, on tokio's clock.
    images: Cache<(NameHash, Size), Bytes>,
    originals: Cache<NameHash, (Instant, Original)>,
    latest: Cache<NameHash, Arc<Noted>>,
    failures: Cache<NameHash, (Instant, E)>,
    key: SipHasher13,
}

impl<E: Copy + Send + Sync + 'static> PictureCache<E> {
    /// An empty cache that takes `bytes` of memory at most for what is kept longer than a few seconds.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let originals = (bytes / ORIGINALS_PART).min(ORIGINALS_BYTES_MAX);
        let latest = bytes / LATEST_PART;
        // The entries that were used least recently make room. A policy that also counts uses would refuse a
        // new image while memory is full, and the page that shows it would download it again and again.
        let policy = EvictionPolicy::lru;
        let images = Cache::builder()
            .eviction_policy(policy())
            .max_capacity(bytes - originals - latest)
            .weigher(|_, image: &Bytes| weight(image.len()));
        let originals = Cache::builder()
            .eviction_policy(policy())
            .time_to_live(ORIGINAL_LIFE)
            .max_capacity(originals)
            .weigher(|_, (_, original): &(Instant, Original)| weight(original.image().bytes.capacity()));
        let latest = Cache::builder()
            .eviction_policy(policy())
            .time_to_live(LATEST_LIFE)
            .max_capacity(latest)
            .weigher(|_, noted: &Arc<Noted>| weight(size_of::<Noted>() + noted.fingerprint.len()));
        let failures =
            Cache::builder().eviction_policy(policy()).time_to_live(FAILURE_LIFE).max_capacity(FAILURES_MAX);
        Self {
            images: images.build(),
            originals: originals.build(),
            latest: latest.build(),
            failures: failures.build(),
            key: SipHasher13::new_with_keys(rand::random(), rand::random()),
        }
    }

    /// The name of the picture with this fingerprint.
    #[must_use]
    pub fn picture(&self, fingerprint: &str) -> NameHash {
        self.name(("picture", fingerprint))
    }

    /// The name of a contact.
    #[must_use]
    pub fn contact(&self, key: &Key) -> NameHash {
        self.name(("contact", key))
    }

    /// The name of a link.
    #[must_use]
    pub fn link(&self, url: &str) -> NameHash {
        self.name(("link", url))
    }

    fn name(&self, of: impl Hash) -> NameHash {
        let mut hasher = self.key;
        of.hash(&mut hasher);
        NameHash(hasher.finish128().as_u128())
    }

    /// The image of a picture in a size.
    #[must_use]
    pub fn image(&self, picture: NameHash, size: Size) -> Option<Bytes> {
        self.images.get(&(picture, size))
    }

    /// Keeps an image.
    pub fn keep_image(&self, picture: NameHash, size: Size, image: Bytes) {
        self.images.insert((picture, size), image);
        // Otherwise up to 512 images would wait for their eviction. An image is rarer than that by far.
        self.images.run_pending_tasks();
    }

    /// The file of a picture.
    #[must_use]
    pub fn original(&self, picture: NameHash) -> Option<Original> {
        self.originals.get(&picture).and_then(|entry| valid(entry, ORIGINAL_LIFE))
    }

    /// Keeps the file of a picture for a while.
    pub fn keep_original(&self, picture: NameHash, original: Original) {
        self.originals.insert(picture, (Instant::now(), original));
        self.originals.run_pending_tasks();
    }

    /// The picture that a contact was last shown with.
    #[must_use]
    pub fn latest(&self, contact: NameHash) -> Option<Known> {
        let noted = self.latest.get(&contact).filter(|noted| noted.since.elapsed() < LATEST_LIFE)?;
        Some(Known { noted, is_latest: true })
    }

    /// The picture of a contact that `link` leads to, by a look-up with this trust in the token. When the
    /// contact was last shown with the same link, it costs two hashes of a few bytes.
    #[must_use]
    pub fn known(&self, contact: NameHash, link: &PictureLink, trust: &Trust) -> Known {
        let name = self.link(link.url());
        let latest = self.latest(contact).filter(|known| known.noted.link == name);
        if let Some(known) = latest.as_ref().filter(|known| known.noted.trust.holds()) {
            return known.clone();
        }
        let noted = if let Some(Known { noted, .. }) = latest {
            noted.again(trust.clone())
        } else {
            let fingerprint = link.fingerprint();
            let picture = self.picture(&fingerprint);
            let (since, fingerprint) = (Instant::now(), fingerprint.into());
            Noted { since, link: name, fingerprint, picture, trust: trust.clone() }
        };
        Known { noted: Arc::new(noted), is_latest: false }
    }

    /// Notes that a contact is shown with this picture.
    pub fn note_shown(&self, contact: NameHash, known: Known) {
        let Known { noted, is_latest } = known;
        if !is_latest {
            self.latest.insert(contact, noted);
        } else if noted.since.elapsed() >= LATEST_RENEWED {
            self.latest.insert(contact, Arc::new(noted.again(noted.trust.clone())));
        }
    }

    /// Forgets the picture of a contact, which has none now.
    pub fn forget_latest(&self, contact: NameHash) {
        self.latest.invalidate(&contact);
    }

    /// The picture that a contact was last shown with, unless its token was rejected since then.
    #[must_use]
    pub fn shown_before(&self, contact: NameHash) -> Option<Known> {
        self.latest(contact).filter(|known| known.noted.trust.holds())
    }

    /// The failure that has happened with a link or a contact a short time ago.
    #[must_use]
    pub fn failure(&self, of: NameHash) -> Option<E> {
        self.failures.get(&of).and_then(|entry| valid(entry, FAILURE_LIFE))
    }

    /// Remembers a failure for a short time.
    pub fn keep_failure(&self, of: NameHash, failure: E) {
        self.failures.insert(of, (Instant::now(), failure));
    }

    /// The number of bytes in memory, as far as they are counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.images.weighted_size() + self.originals.weighted_size() + self.latest.weighted_size()
    }
}

/// The memory for so many bytes. The allocator rounds up blocks above [`LARGE_BYTES`] by up to an eighth, and
/// those that were freed leave gaps, which the next images do not fill exactly. With images of 100 KB, the
/// process grows by somewhat more than twice their bytes.
fn weight(bytes: usize) -> u32 {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let gaps = if bytes > LARGE_BYTES { bytes.saturating_add(bytes / 4) } else { 0 };
    bytes.saturating_add(gaps).saturating_add(ENTRY_BYTES)
}

fn valid<T>((since, value): (Instant, T), life: Duration) -> Option<T> {
    (since.elapsed() < life).then_some(value)
}

#[cfg(test)]
mod tests;
