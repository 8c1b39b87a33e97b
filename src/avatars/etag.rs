//! [`EntityTag`]: names the exact bytes of a representation, and [`Seen`]: the tags that a browser has.

use http::{HeaderMap, HeaderValue};

use super::image::Size;

/// A strong entity tag: a keyed hash of 128 bits, so that it does not reveal a fingerprint or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(HeaderValue);

impl EntityTag {
    /// The value of the header `ETag`.
    #[must_use]
    pub fn header(&self) -> &HeaderValue {
        &self.0
    }
}

/// Makes entity tags. The key is derived from the key of the addresses, so that all replicas make the same
/// tags; without such a key it is random.
#[derive(Clone, Debug)]
pub struct Tagger;

impl Tagger {
    /// Tags with this key.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        let _ = key;
        unimplemented!("skeleton")
    }

    /// The tag of the JPEG of a picture in a size.
    #[must_use]
    pub fn picture(&self, fingerprint: &str, size: Size) -> EntityTag {
        let _ = (fingerprint, size);
        unimplemented!("skeleton")
    }
}

/// The entity tags of `If-None-Match`.
#[derive(Clone, Debug, Default)]
pub struct Seen;

impl Seen {
    /// Reads `If-None-Match`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let _ = headers;
        unimplemented!("skeleton")
    }

    /// Whether the browser has the representation with this tag.
    #[must_use]
    pub fn has(&self, tag: &EntityTag) -> bool {
        let _ = tag;
        unimplemented!("skeleton")
    }
}
