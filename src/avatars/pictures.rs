//! [`Pictures`]: from a contact to the bytes that show it. It looks up, downloads and resizes, keeps what it
//! has, and never lets a request wait for long.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    etag::{EntityTag, Seen, Tagger},
    fetch::Fetcher,
    image::Size,
    settings::Settings,
};
use crate::{
    domain::{ChatId, Credential, Instance, LookupError},
    stack::{Clock, LookupService, Stack},
    telemetry::AvatarMetrics,
};

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
        /// Whether it is an image from before, because the present one cannot be had.
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
        url: String,
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
    /// The image cannot be had: refused by the CDN, not an image, too large and so on.
    NoImage,
}

/// Finds the images of contacts. Clones share everything.
pub struct Pictures<F>(Arc<Inner<F>>);

struct Inner<F> {
    stack: Stack<F>,
    clock: Clock,
    tagger: Tagger,
    fetcher: Option<Fetcher>,
    metrics: Arc<AvatarMetrics>,
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
        let _ = (settings, &stack, clock, &fetcher, &metrics);
        unimplemented!("skeleton")
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
        let _ = (wanted, seen, &self.0.stack, self.0.clock, &self.0.fetcher, &self.0.metrics);
        unimplemented!("skeleton")
    }
}
