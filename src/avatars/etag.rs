//! [`EntityTag`]: names the exact bytes of a representation, and [`Seen`]: the tags that a browser has.
//!
//! Not here: the headers of a response. A tag is a keyed hash, so that it reveals neither a fingerprint nor a
//! name, and all replicas with the same keys of addresses make the same tags.

use std::hash::Hasher;

use http::{HeaderMap, HeaderValue, header::IF_NONE_MATCH};
use siphasher::sip128::{Hasher128, SipHasher24};

use super::image::{ENCODER_VERSION, Size};
use crate::domain::{ChatId, Instance};

/// Maximum number of bytes of `If-None-Match` that are read. A browser sends one tag; a cache in front may
/// send several. The tags after this number of bytes are ignored, which costs at most a full response.
const SEEN_BYTES_MAX: usize = 4096;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A strong entity tag: a keyed hash of 128 bits, so that it does not reveal a fingerprint or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(HeaderValue);

impl EntityTag {
    /// The value of the header `ETag`.
    #[must_use]
    pub fn header(&self) -> &HeaderValue {
        &self.0
    }

    fn of(hash: u128) -> Self {
        let mut text = *b"\"00000000000000000000000000000000\"";
        let (digits, _) = text[1..].as_chunks_mut::<2>();
        for (pair, byte) in digits.iter_mut().zip(hash.to_be_bytes()) {
            *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        }
        Self(HeaderValue::from_bytes(&text).expect("quoted hex digits are a valid header value"))
    }
}

/// The representation that a hash is of. It separates the inputs of the hashes.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Picture = 1,
    Drawing = 2,
    Contact = 3,
}

/// Makes entity tags. The key is derived from the key of the addresses, so that all replicas make the same
/// tags; without such a key it is random.
#[derive(Clone, Debug)]
pub struct Tagger(SipHasher24);

impl Tagger {
    /// Tags with this key.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self(SipHasher24::new_with_key(&key))
    }

    /// The tag of the JPEG of a picture in a size.
    #[must_use]
    pub fn picture(&self, fingerprint: &str, size: Size) -> EntityTag {
        let mut hasher = self.hasher(Kind::Picture);
        hasher.write(&ENCODER_VERSION.to_le_bytes());
        hasher.write(&size.pixels().to_le_bytes());
        hasher.write(fingerprint.as_bytes());
        EntityTag::of(hasher.finish128().as_u128())
    }

    /// The tag of a default image, which consists of these bytes.
    #[must_use]
    pub fn drawing(&self, bytes: &[u8]) -> EntityTag {
        let mut hasher = self.hasher(Kind::Drawing);
        hasher.write(bytes);
        EntityTag::of(hasher.finish128().as_u128())
    }

    /// A number that is the same for all requests for a contact, and that does not reveal the contact.
    #[must_use]
    pub fn contact(&self, instance: &Instance, chat: &ChatId) -> u64 {
        let mut hasher = self.hasher(Kind::Contact);
        hasher.write(instance.as_str().as_bytes());
        // Neither part holds this byte.
        hasher.write(&[0]);
        hasher.write(chat.as_str().as_bytes());
        hasher.finish()
    }

    fn hasher(&self, kind: Kind) -> SipHasher24 {
        let mut hasher = self.0;
        hasher.write(&[kind as u8]);
        hasher
    }
}

/// The entity tags of `If-None-Match`.
#[derive(Clone, Debug, Default)]
pub struct Seen(Vec<HeaderValue>);

impl Seen {
    /// Reads `If-None-Match`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        Self(headers.get_all(IF_NONE_MATCH).iter().cloned().collect())
    }

    /// Whether the browser has the representation with this tag. The comparison is the weak one (RFC 9110,
    /// 13.1.2), because a proxy that compresses makes tags weak. `*` stands for every tag.
    #[must_use]
    pub fn has(&self, tag: &EntityTag) -> bool {
        let mut left = SEEN_BYTES_MAX;
        self.0.iter().any(|list| {
            let bytes = list.as_bytes();
            let read = &bytes[..bytes.len().min(left)];
            left -= read.len();
            lists(read, tag.0.as_bytes())
        })
    }
}

/// Whether a list of tags has `tag`. No tag of this service holds a comma, so that the list can be split at
/// commas: a part of a foreign tag never equals a whole tag with its quotes.
fn lists(list: &[u8], tag: &[u8]) -> bool {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).any(|entry| {
        let opaque = entry.strip_prefix(b"W/").unwrap_or(entry);
        opaque == tag || entry == b"*"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_one_representation() {
        let tagger = Tagger::new([1; 16]);
        let tag = tagger.picture("F1", Size::S96);
        assert_eq!(tag, tagger.picture("F1", Size::S96));
        for other in [
            tagger.picture("F1", Size::S48),
            tagger.picture("F2", Size::S96),
            tagger.drawing(b"F1"),
            Tagger::new([2; 16]).picture("F1", Size::S96),
        ] {
            assert_ne!(tag, other);
        }
        let text = tag.header().to_str().unwrap();
        assert_eq!((text.len(), &text[..1], &text[33..]), (34, "\"", "\""));
    }

    #[test]
    fn a_contact_has_a_number_of_its_own() {
        let tagger = Tagger::new([1; 16]);
        let number = |instance, chat| {
            tagger.contact(&Instance::parse(instance).unwrap(), &ChatId::parse(chat).unwrap())
        };
        assert_eq!(number("shop", "15551230001"), number("shop", "+15551230001"));
        assert_ne!(number("shop", "15551230001"), number("shop", "15551230002"));
        assert_ne!(number("shop1", "5551230001"), number("shop", "15551230001"));
    }

    #[test]
    fn a_browser_has_what_it_lists() {
        let tag = Tagger::new([1; 16]).picture("F1", Size::S96);
        let text = tag.header().to_str().unwrap().to_owned();
        let bare = text.trim_matches('"').to_owned();
        let long = format!("{}{text}", "\"a\",".repeat(2000));
        for (entries, expected) in [
            (vec![], false),
            (vec![text.clone()], true),
            (vec![format!("W/{text}")], true),
            (vec![format!("\"a\" , \"b,c\",  {text} ,\"d\"")], true),
            (vec!["\"a\"".to_owned(), text.clone()], true),
            (vec!["*".to_owned()], true),
            (vec![bare.clone()], false),
            (vec![format!("\"a{bare}\"")], false),
            (vec![format!("w/{text}")], false),
            (vec![text.to_uppercase()], false),
            (vec![long], false),
            (vec![String::new(), ",,".to_owned()], false),
        ] {
            let mut headers = HeaderMap::new();
            for entry in &entries {
                headers.append(IF_NONE_MATCH, HeaderValue::try_from(entry).unwrap());
            }
            assert_eq!(Seen::of(&headers).has(&tag), expected, "{entries:?}");
        }
    }
}
