//! Random addresses: nothing opens but an address that was sealed, and it opens to the contact that it was
//! made for.

use super::{
    tests::{KEY, NOW, PERIOD, ROOT, WEEK, addresses, at, contact, contacts, seal, seal_bytes},
    *,
};
use crate::avatars::fuzz::{Corpus, Random, run};

/// The key that seals. `KEY` opens only.
const FIRST_KEY: [u8; 32] = [9; 32];

/// Addresses and their contents, and the means to alter both.
struct Sealed {
    addresses: Addresses,
    /// The contact of each address.
    known: Vec<(String, (Instance, ChatId))>,
    texts: Corpus,
    /// The bytes behind the texts.
    bytes: Corpus,
    /// The contents, before they are encrypted.
    contents: Corpus,
}

impl Sealed {
    fn new() -> Self {
        let both = addresses(ROOT, &[FIRST_KEY, KEY]);
        let second = addresses(ROOT, &[KEY]);
        let known: Vec<_> = [&both, &second]
            .into_iter()
            .flat_map(|by| contacts().map(|contact| (seal(by, &contact, NOW), contact)))
            .collect();
        let texts: Vec<_> = known.iter().map(|(text, _)| text.clone().into_bytes()).collect();
        let bytes = texts.iter().map(|text| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()).collect();
        let contents = contacts().map(|(instance, chat)| {
            let mut content = [0; CONTENT_BYTES_MAX];
            let length = Content { end: NOW + WEEK, instance: &instance, chat: &chat }.write(&mut content);
            content[..length].to_vec()
        });
        Self {
            addresses: both,
            known,
            texts: Corpus {
                valid: texts,
                words: &[b"AWMNzSm", b"A", b"=", b"==", b"%3D", b"+", b"/", b"-", b"_", b"\0", b"\xC3\xA9"],
                bytes_max: 512,
            },
            bytes: Corpus { valid: bytes, words: &[b"\x01", b"\0\0\0\0"], bytes_max: 512 },
            contents: Corpus {
                valid: contents.to_vec(),
                words: &[b"\x05", b"\x0B", b"12345", b"@c.us", b"@lid", b"@C.US", b"+", b"shop", b"\0"],
                bytes_max: CONTENT_BYTES_MAX + 32,
            },
        }
    }

    /// Whether the text opens, which it does if it is one that was sealed.
    fn opens(&self, text: &str) -> bool {
        let known = self.known.iter().find(|(known, _)| known == text);
        let expected = known.map(|(_, contact)| contact.clone()).ok_or(Unopened::Unknown);
        assert_eq!(self.addresses.open(text, at(NOW)), expected, "{text:?}");
        if known.is_some() {
            assert_eq!(self.addresses.open(text, at(NOW + 2 * WEEK)), Err(Unopened::Ended), "{text:?}");
        }
        known.is_some()
    }

    /// Whether an altered content opens, which it does if it is canonical, although a key has sealed it.
    fn content_opens(&self, random: &mut Random) -> bool {
        let content = self.contents.draw(random);
        let expected = match canonical(&content) {
            None => Err(Unopened::Unknown),
            Some((end, _)) if end <= NOW => Err(Unopened::Ended),
            Some((_, contact)) => Ok(contact),
        };
        let opened = self.addresses.open(&seal_bytes(&content), at(NOW));
        assert_eq!(opened, expected, "{content:x?}");
        opened.is_ok()
    }
}

/// The end and the contact of a content in the only form that there is for them, read in another way.
fn canonical(content: &[u8]) -> Option<(u64, (Instance, ChatId))> {
    let end = u64::from_be_bytes(content.get(..8)?.try_into().unwrap());
    let instance_end = 9 + usize::from(*content.get(8)?);
    let chat_end = instance_end + 1 + usize::from(*content.get(instance_end)?);
    let text = |bytes| str::from_utf8(bytes).ok();
    let instance_name = text(content.get(9..instance_end)?)?;
    let chat_name = text(content.get(instance_end + 1..chat_end)?)?;
    let (instance, chat) = (Instance::parse(instance_name).ok()?, ChatId::parse(chat_name).ok()?);
    let is_canonical = instance.as_str() == instance_name
        && chat.as_str() == chat_name
        && content.len().is_multiple_of(32)
        && content.len() - chat_end < 32
        && content[chat_end..].iter().all(|&byte| byte == 0);
    is_canonical.then_some((end, (instance, chat)))
}

/// Whether a random contact opens as it was sealed, and only with its key and until its end.
fn contact_opens(random: &mut Random) -> bool {
    let names = b"ABCXYZabcxyz0189-_";
    let instance: String = (0..=random.below(64).min(63)).map(|_| char::from(*random.pick(names))).collect();
    let digits = 10_u64.pow(4) + random.number() % 10_u64.pow(15);
    let contact = contact(&instance, &format!("{digits}{}", random.pick(&["@c.us", "@lid"])));
    let mut key = [0; 32];
    key[..8].copy_from_slice(&random.number().to_be_bytes());
    let (own, now) = (addresses(ROOT, &[key]), random.number() % 8_000_000_000);
    let sealed = seal(&own, &contact, now);
    assert_eq!(own.open(&sealed, at(now)), Ok(contact.clone()));
    assert_eq!(own.open(&sealed, at(now) + PERIOD), Ok(contact));
    assert_eq!(own.open(&sealed, at(now) + 2 * PERIOD), Err(Unopened::Ended));
    key[random.below(32)] ^= 1 << random.below(8);
    assert_eq!(addresses(ROOT, &[key]).open(&sealed, at(now)), Err(Unopened::Unknown));
    true
}

#[test]
#[ignore = "`make fuzz` runs it"]
fn nothing_opens_but_an_address_that_was_sealed() {
    let sealed = Sealed::new();
    run("sealed addresses", |random| match random.below(8) {
        0..3 => sealed.opens(&String::from_utf8_lossy(&sealed.texts.draw(random))),
        3..6 => sealed.opens(&BASE64_URL_SAFE_NO_PAD.encode(sealed.bytes.draw(random))),
        6 => sealed.content_opens(random),
        _ => contact_opens(random),
    });
}
