//! [`Settings`]: how images are served.

use std::time::Duration;

use url::Url;

use super::{
    fetch::PictureHosts,
    sealed::{AddressKey, Addresses},
};

/// The settings of the avatars.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The public root of the sealed addresses; with `None`, none are handed out.
    pub root: Option<Url>,
    /// The keys of the sealed addresses: the first seals, all open. It is empty only without a root.
    pub keys: Vec<AddressKey>,
    /// The period of the sealed addresses: an address ends at the end of the next period.
    pub period: Duration,
    /// Whether the image is served, or a redirect to its link.
    pub mode: Mode,
    /// Maximum number of bytes of images in memory.
    pub bytes: u64,
    /// The hosts that images are fetched from.
    pub picture_hosts: PictureHosts,
}

impl Settings {
    /// Makes and opens the sealed addresses.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses::new(self.root.as_ref(), &self.keys, self.period)
    }
}

/// The answer for a contact with a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The image.
    #[default]
    Bytes,
    /// A redirect to the link of WhatsApp's CDN.
    Redirect,
}

/// The documented defaults, which the flags of `serve` repeat.
impl Default for Settings {
    fn default() -> Self {
        Self {
            root: None,
            keys: Vec::new(),
            period: Duration::from_secs(7 * 24 * 60 * 60),
            mode: Mode::Bytes,
            bytes: 64 * 1024 * 1024,
            picture_hosts: PictureHosts::default(),
        }
    }
}
