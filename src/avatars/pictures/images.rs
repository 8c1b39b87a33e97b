//! [`Images`]: from a link to the image in a size. It downloads and resizes, each once for all that ask at
//! the same time, and remembers failures for a short time.
//!
//! Not here: the renewal of a link that the CDN refuses.

use std::{num::NonZero, sync::Arc, thread::available_parallelism, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::flights::Flights;
use crate::{
    avatars::{
        fetch::{FetchError, Fetcher, Image},
        image::{Size, resize},
        picture_cache::{NameHash, Original, PictureCache},
    },
    domain::PictureLink,
    telemetry::{AvatarMetrics, DownloadOutcome},
};

/// Maximum size of a download, in bytes. WhatsApp's pictures have about 70 KB.
const DOWNLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Maximum number of images that are made at a time, each of which holds a download in memory.
const WORK_MAX: usize = 32;
/// An image that could not be begun after this time is given up. A later request begins again.
const WORK_WAIT_MAX: Duration = Duration::from_secs(10);

/// Downloads the file of a link.
pub trait Download: Send + Sync {
    /// The file. The link is a secret.
    fn download(&self, link: String) -> BoxFuture<'static, Result<Image, FetchError>>;
}

impl Download for Fetcher {
    fn download(&self, link: String) -> BoxFuture<'static, Result<Image, FetchError>> {
        let fetcher = self.clone();
        Box::pin(async move { fetcher.fetch(&link, DOWNLOAD_BYTES_MAX).await })
    }
}

/// Why there is no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The CDN refuses the link.
    Refused,
    /// There is none behind the link, or it is not available now.
    Failed,
    /// There is too much work.
    Busy,
}

/// Makes images. Clones share everything.
#[derive(Clone)]
pub struct Images(Arc<Parts>);

struct Parts {
    cache: PictureCache<Broken>,
    source: Arc<dyn Download>,
    downloads: Flights<NameHash, Result<Original, Broken>>,
    resizings: Flights<(NameHash, Size), Result<Bytes, Broken>>,
    work: Semaphore,
    /// As many permits as there are cores.
    cores: Semaphore,
    metrics: Arc<AvatarMetrics>,
}

impl Images {
    pub fn new(cache: PictureCache<Broken>, source: Arc<dyn Download>, metrics: Arc<AvatarMetrics>) -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Parts {
            cache,
            source,
            downloads: Flights::new(),
            resizings: Flights::new(),
            work: Semaphore::new(WORK_MAX),
            cores: Semaphore::new(cores),
            metrics,
        }))
    }

    /// The image of the picture at `link`.
    ///
    /// # Errors
    ///
    /// See [`Broken`].
    pub async fn image(&self, link: &PictureLink, size: Size) -> Result<Bytes, Broken> {
        let Parts { cache, work, .. } = &*self.0;
        if let Some(broken) = cache.failure(cache.link(link.url())) {
            return Err(broken);
        }
        let permit = timeout(WORK_WAIT_MAX, work.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            return Err(Broken::Busy);
        };
        if let Some(image) = cache.image(cache.picture(&link.fingerprint()), size) {
            return Ok(image);
        }
        let original = self.original(link).await?;
        self.resized(link, size, original).await
    }

    /// The file at `link`.
    ///
    /// # Errors
    ///
    /// See [`Broken`].
    pub async fn original(&self, link: &PictureLink) -> Result<Original, Broken> {
        let name = self.0.cache.link(link.url());
        let start = || Some(self.clone().download(link.clone(), name));
        let waiter = self.0.downloads.join(&name, start).ok_or(Broken::Busy)?;
        waiter.landed().await.unwrap_or(Err(Broken::Failed))
    }

    /// The image of `original`, the file at `link`.
    ///
    /// # Errors
    ///
    /// See [`Broken`].
    pub async fn resized(&self, link: &PictureLink, size: Size, original: Original) -> Result<Bytes, Broken> {
        let key = (self.0.cache.picture(&link.fingerprint()), size);
        let link = self.0.cache.link(link.url());
        let start = || Some(self.clone().resize(key, link, original));
        let waiter = self.0.resizings.join(&key, start).ok_or(Broken::Busy)?;
        waiter.landed().await.unwrap_or(Err(Broken::Failed))
    }

    /// The work behind [`Self::original`].
    async fn download(self, link: PictureLink, name: NameHash) -> Result<Original, Broken> {
        let Parts { cache, source, metrics, .. } = &*self.0;
        let picture = cache.picture(&link.fingerprint());
        if let Some(original) = cache.original(picture) {
            return Ok(original);
        }
        if let Some(broken) = cache.failure(name) {
            return Err(broken);
        }
        match source.download(link.into_url()).await {
            Ok(image) => {
                let original = Original::new(image);
                cache.keep_original(picture, original.clone());
                metrics.bytes(cache.bytes());
                Ok(original)
            }
            Err(error) => {
                let (outcome, broken) = judged(error);
                metrics.downloaded(outcome);
                cache.keep_failure(name, broken);
                Err(broken)
            }
        }
    }

    /// The work behind [`Self::resized`].
    async fn resize(
        self,
        key: (NameHash, Size),
        link: NameHash,
        original: Original,
    ) -> Result<Bytes, Broken> {
        let Parts { cache, cores, metrics, .. } = &*self.0;
        let (picture, size) = key;
        if let Some(image) = cache.image(picture, size) {
            return Ok(image);
        }
        let _core = cores.acquire().await;
        // A decoder that panics has met a file that it cannot decode.
        let is_first = original.is_first_decoding();
        let count = |outcome| {
            if is_first {
                metrics.downloaded(outcome);
            }
        };
        let Ok(Ok(image)) = spawn_blocking(move || resize(original.image(), size)).await else {
            count(DownloadOutcome::NotAnImage);
            cache.keep_failure(link, Broken::Failed);
            return Err(Broken::Failed);
        };
        count(DownloadOutcome::Image);
        metrics.resized();
        cache.keep_image(picture, size, image.clone());
        metrics.bytes(cache.bytes());
        Ok(image)
    }
}

/// The outcome for the metrics, and the failure to remember.
fn judged(error: FetchError) -> (DownloadOutcome, Broken) {
    match error {
        FetchError::Status(403 | 404 | 410) => (DownloadOutcome::LinkRefused, Broken::Refused),
        FetchError::NotAllowed | FetchError::NotPublic => (DownloadOutcome::NotAllowed, Broken::Failed),
        FetchError::Unreachable | FetchError::TimedOut | FetchError::BrokenOff | FetchError::Status(_) => {
            (DownloadOutcome::Failed, Broken::Failed)
        }
        FetchError::TooLarge | FetchError::NotAnImage => (DownloadOutcome::NotAnImage, Broken::Failed),
    }
}
