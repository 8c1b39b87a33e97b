//! Sealed addresses (rule 67): their format, their life, their keys, and that nothing else opens.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;

pub(super) const ROOT: &str = "https://avatars.example.com";
const PREFIX: &str = "https://avatars.example.com/avatars/";
pub(super) const WEEK: u64 = 7 * 24 * 60 * 60;
pub(super) const PERIOD: Duration = Duration::from_secs(WEEK);
pub(super) const NOW: u64 = 1_800_000_000;
/// The bytes 0 to 31.
pub(super) const KEY: [u8; 32] = {
    let mut key = [0; 32];
    let mut index = 0;
    while index < 32 {
        key[index as usize] = index;
        index += 1;
    }
    key
};

pub(super) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(super) fn addresses(root: &str, keys: &[[u8; 32]]) -> Addresses {
    let keys: Vec<_> = keys.iter().copied().map(AddressKey::new).collect();
    Addresses::new(Some(&Url::parse(root).unwrap()), &keys, PERIOD)
}

pub(super) fn contact(instance: &str, chat: &str) -> (Instance, ChatId) {
    (Instance::parse(instance).unwrap(), ChatId::parse(chat).unwrap())
}

/// The sealed part of the address of a contact.
pub(super) fn seal(addresses: &Addresses, (instance, chat): &(Instance, ChatId), now: u64) -> String {
    let url = addresses.url(instance, chat, at(now)).unwrap();
    url.strip_prefix(PREFIX).unwrap().to_owned()
}

/// The end of an address that is made now, found by opening it.
fn end(addresses: &Addresses, contact: &(Instance, ChatId), now: u64) -> u64 {
    let sealed = seal(addresses, contact, now);
    let is_open = |seconds: &u64| addresses.open(&sealed, at(now + seconds)).is_ok();
    let (mut open, mut ended) = (0, 3 * WEEK);
    assert!(is_open(&open) && !is_open(&ended));
    while ended - open > 1 {
        let middle = u64::midpoint(open, ended);
        *if is_open(&middle) { &mut open } else { &mut ended } = middle;
    }
    now + ended
}

/// The addresses were made by a separate program in Python: AES-GCM-SIV of OpenSSL through the package
/// `cryptography`, HMAC and SHA-256 of the standard library, SipHash-1-3 written from its paper.
#[test]
fn the_format_is_the_documented_one() {
    for (key, instance, chat, expected) in [
        (
            KEY,
            "shop",
            "15551230001",
            "AWMNzSmdmtnRGiwgPyAxncTkUdBmB6t85g-6HVGKwhgoplkgi1PbCfAcpsK57pQH89ME5xc",
        ),
        (
            KEY,
            "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
            "15551234567@c.us",
            "AWMNzSmUXC43fJKfKikREGpjvIgqW2jjKleOHegxqZSlfqdLFHoGEHIce7DdQZhZ6hCoh0EuwHPRQZOH8lwGywXPDDr_46qoGtzHDI\
             SHzkBJRVodeg",
        ),
        (
            [0xff; 32],
            &"A".repeat(64),
            "12345678901234567890@c.us",
            "Aa-WE3aCwWFfbYT4LX04sJFXb-ZdrKVTDGrVjX9fFwLPLtmmqebVABBiyXbOP3pFN-RMwGSlsEl7k2X9G4j2xIGDfqyHOAePIz4B3g\
             U-ELvT92abexWb0ogiJggA_UlLSh5NMx4qzXmSrQTN8dzgvIdEllpk-vy_B-W4dXOaUkzL7cMEb7P4AgKMU-x2pvHSam22cds",
        ),
        (KEY, "a", "12345", "AWMNzSk_iNL-Xym0xio3GI0MYJVDsu5qobN8-NCEDMDllBf45YljJwsa48dvJpSg6JeAu_c"),
    ] {
        let (addresses, contact) = (addresses(ROOT, &[key]), contact(instance, chat));
        assert_eq!(seal(&addresses, &contact, NOW), expected, "{instance}");
        assert_eq!(addresses.open(expected, at(NOW)), Ok(contact));
    }
    let tag = AddressKey::new(KEY).derive("tag");
    assert_eq!(u128::from_be_bytes(tag), 0x4612_fded_3ad5_5fff_53cc_5297_b70a_f961);
}

#[test]
fn the_root_may_have_a_path_and_a_slash_at_its_end() {
    let (instance, chat) = contact("shop", "15551230001");
    for (root, prefix) in [
        (ROOT, PREFIX),
        ("https://avatars.example.com/", PREFIX),
        ("https://a.example:8443/img", "https://a.example:8443/img/avatars/"),
        ("https://a.example/img/", "https://a.example/img/avatars/"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/avatars/"),
    ] {
        let url = addresses(root, &[KEY]).url(&instance, &chat, at(NOW)).unwrap();
        assert!(url.starts_with(prefix), "{url}");
        assert_eq!(url.len(), prefix.len() + 71);
    }
}

#[test]
fn without_a_root_there_are_no_addresses_and_without_a_key_none_opens() {
    let (instance, chat) = contact("shop", "15551230001");
    let sealed = seal(&addresses(ROOT, &[KEY]), &(instance.clone(), chat.clone()), NOW);
    let neither = Addresses::new(None, &[], PERIOD);
    assert_eq!(neither.url(&instance, &chat, at(NOW)), None);
    assert_eq!(neither.open(&sealed, at(NOW)), Err(Unopened::Unknown));
    let no_root = Addresses::new(None, &[AddressKey::new(KEY)], PERIOD);
    assert_eq!(no_root.url(&instance, &chat, at(NOW)), None);
    assert_eq!(no_root.open(&sealed, at(NOW)), Ok((instance, chat)), "the key is all that opening needs");
}

#[test]
fn an_address_stays_the_same_for_a_period_and_ends_with_the_next_one_on_every_replica() {
    let replicas = [(); 2].map(|()| addresses(ROOT, &[KEY]));
    for number in 0..20 {
        let contact = contact("shop", &format!("1555123{number:04}"));
        let end = end(&replicas[0], &contact, NOW);
        let next = end - WEEK;
        assert!((1..=WEEK).contains(&(next - NOW)), "it lives for one to two periods");
        let sealed = seal(&replicas[0], &contact, NOW);
        for now in [next - WEEK, NOW, next - 1] {
            assert_eq!(seal(&replicas[1], &contact, now), sealed, "{now}");
        }
        for (now, same) in [(next - WEEK - 1, false), (next, false), (next - 1, true)] {
            assert_eq!(seal(&replicas[1], &contact, now) == sealed, same, "{now}");
        }
        assert_eq!(replicas[1].open(&sealed, at(end - 1)), Ok(contact));
        assert_eq!(replicas[1].open(&sealed, at(end)), Err(Unopened::Ended));
    }
}

#[test]
fn the_boundaries_of_contacts_are_spread_over_the_period() {
    let addresses = addresses(ROOT, &[KEY]);
    let mut days = [0; 7];
    let mut ends = HashSet::new();
    for number in 0..700 {
        let end = end(&addresses, &contact("shop", &format!("1555123{number:04}")), NOW);
        days[usize::try_from((end - NOW - WEEK - 1) / (WEEK / 7)).unwrap()] += 1;
        ends.insert(end);
    }
    assert!(days.iter().all(|day| (60..=140).contains(day)), "{days:?}");
    assert!(ends.len() > 690, "few contacts share a second");
}

#[test]
fn the_first_key_seals_and_every_key_opens_until_it_is_removed() {
    let (old, new, contact) = ([1; 32], [2; 32], contact("shop", "15551230001"));
    let [only_old, announced, moved, only_new] =
        [&[old][..], &[old, new], &[new, old], &[new]].map(|keys| addresses(ROOT, keys));
    let [by_old, by_new] = [&only_old, &only_new].map(|addresses| seal(addresses, &contact, NOW));
    assert_ne!(by_old, by_new);
    for (addresses, seals, opens_old, opens_new) in [
        (&only_old, &by_old, true, false),
        (&announced, &by_old, true, true),
        (&moved, &by_new, true, true),
        (&only_new, &by_new, false, true),
    ] {
        assert_eq!(seal(addresses, &contact, NOW), *seals);
        for (sealed, opens) in [(&by_old, opens_old), (&by_new, opens_new)] {
            let expected = if opens { Ok(contact.clone()) } else { Err(Unopened::Unknown) };
            assert_eq!(addresses.open(sealed, at(NOW)), expected);
        }
    }
}

/// The address of any plaintext, sealed as the service seals.
pub(super) fn seal_bytes(content: &[u8]) -> String {
    let key = SealingKey::new(&AddressKey::new(KEY));
    let mut content = content.to_owned();
    let tag = key.seal(&mut content);
    BASE64_URL_SAFE_NO_PAD.encode([&key.head, &*content, tag.as_ref()].concat())
}

/// Two keys with the same hint, which are found among some 80,000.
fn keys_of_one_hint() -> [[u8; 32]; 2] {
    let mut found = HashMap::new();
    for number in 0..1_000_000_u32 {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key);
        if let Some(other) = found.insert(hash.as_ref()[..4].to_vec(), key) {
            return [other, key];
        }
    }
    panic!("a million keys have different hints");
}

#[test]
fn keys_with_the_same_hint_open_their_addresses() {
    let [one, other] = keys_of_one_hint();
    let (shown, both) = (contact("shop", "15551230001"), addresses(ROOT, &[one, other]));
    for key in [one, other] {
        let sealed = seal(&addresses(ROOT, &[key]), &shown, NOW);
        assert_eq!(both.open(&sealed, at(NOW)), Ok(shown.clone()));
        assert_eq!(both.open(&sealed, at(NOW + 3 * WEEK)), Err(Unopened::Ended));
        let hint_only = format!("{}{}", &sealed[..8], "A".repeat(sealed.len() - 8));
        assert_eq!(both.open(&hint_only, at(NOW)), Err(Unopened::Unknown));
    }
    let sealed = seal(&addresses(ROOT, &[other]), &shown, NOW);
    assert_eq!(addresses(ROOT, &[one]).open(&sealed, at(NOW)), Err(Unopened::Unknown));
}

#[test]
fn only_the_canonical_content_opens_although_the_key_has_sealed_another() {
    let content = |end: u64, names: &[&str], length: usize| {
        let mut bytes = end.to_be_bytes().to_vec();
        for name in names {
            bytes.push(u8::try_from(name.len()).unwrap());
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes.resize(length, 0);
        bytes
    };
    let addresses = addresses(ROOT, &[KEY]);
    let open = |content: &[u8]| addresses.open(&seal_bytes(content), at(NOW));
    let (end, uuid) = (NOW + 1, "9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D");
    assert!(open(&content(end, &["shop", "15551230001"], 32)).is_ok());
    assert_eq!(open(&content(NOW, &["shop", "15551230001"], 32)), Err(Unopened::Ended));
    let mut padded = content(end, &["shop", "15551230001"], 32);
    padded[31] = 1;
    for other in [
        padded,
        content(end, &["shop", "15551230001"], 25),
        content(end, &["shop", "15551230001"], 64),
        content(end, &["shop", "+15551230001"], 32),
        content(end, &["shop", "15551230001@C.US"], 32),
        content(end, &["shop", "15551230001@s.whatsapp.net"], 64),
        content(end, &["shop", "1555"], 32),
        content(end, &["", "15551230001"], 32),
        content(end, &["a/b", "15551230001"], 32),
        content(end, &["\u{e9}", "15551230001"], 32),
        content(end, &[uuid, "15551230001"], 64),
        content(NOW, &[uuid, "15551230001"], 64),
        content(end, &["shop"], 32),
        content(end, &["shop", "15551230001", "1"], 32),
        content(end, &[], 8)[..7].to_vec(),
        content(end, &[], 8),
        Vec::new(),
        [0xff; 32].to_vec(),
    ] {
        assert_eq!(open(&other), Err(Unopened::Unknown), "{other:?}");
    }
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Contacts whose addresses have every length there is.
pub(super) fn contacts() -> [(Instance, ChatId); 4] {
    let long = "A".repeat(64);
    [
        contact("a", "12345"),
        contact("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", "15551234567@c.us"),
        contact(&long[..50], "15551234567@c.us"),
        contact(&long, "12345678901234567890@c.us"),
    ]
}

#[test]
fn one_text_alone_opens_to_a_contact() {
    let addresses = addresses(ROOT, &[KEY]);
    for contact in contacts() {
        let sealed = seal(&addresses, &contact, NOW);
        let open = |text: &str| addresses.open(text, at(NOW));
        let unknown = |text: &str| assert_eq!(open(text), Err(Unopened::Unknown), "{text}");
        assert_eq!(open(&sealed), Ok(contact));
        for length in 0..sealed.len() {
            unknown(&sealed[..length]);
        }
        for end in ["=", "==", "A", "AA", "AAAA", " ", "\t", "\n", "\r\n", "/", "?", "%3D", "\0"] {
            unknown(&format!("{sealed}{end}"));
            unknown(&format!("{end}{sealed}"));
        }
        for place in 0..sealed.len() {
            for &byte in ALPHABET.iter().chain(b"+/=%. \0") {
                let mut altered = sealed.clone().into_bytes();
                if std::mem::replace(&mut altered[place], byte) != byte {
                    unknown(str::from_utf8(&altered).unwrap());
                }
            }
        }
        unknown(&sealed.replace('-', "+").replace('_', "/").replacen('A', "a", 1));
        unknown(&"A".repeat(sealed.len()));
        unknown(&"\u{e9}".repeat(sealed.len() / 2));
    }
    assert_eq!(addresses.open(&"A".repeat(10_000_000), at(NOW)), Err(Unopened::Unknown));
}

/// `count` random characters of the alphabet.
fn letters(random: &mut SmallRng, count: usize) -> Vec<u8> {
    (0..count).map(|_| ALPHABET[random.random_range(0..ALPHABET.len())]).collect()
}

/// Alters one of the addresses `sealed` in one of many ways. The result may be one of them by chance.
fn alter(sealed: &[Vec<u8>], random: &mut SmallRng) -> Vec<u8> {
    let mut altered = sealed[random.random_range(0..sealed.len())].clone();
    let length = altered.len();
    let (place, other_place) = (random.random_range(0..length), random.random_range(0..length));
    match random.random_range(0..8_u8) {
        0 => altered.truncate(place),
        1 => altered.extend(letters(random, place + 1)),
        2 => drop(altered.splice(place.., letters(random, length - place))),
        3 => altered.swap(place, other_place),
        4 => {
            let other = &sealed[random.random_range(0..sealed.len())];
            altered.splice(place.., other.iter().skip(other_place).copied());
        }
        5 => altered[place] = random.random_range(0..128),
        6 => altered[place..=place].copy_from_slice(&letters(random, 1)),
        _ => {
            for place in [place, other_place] {
                altered[place..=place].copy_from_slice(&letters(random, 1));
            }
        }
    }
    altered
}

/// Alters addresses `count` times at random, and counts the results that open.
fn altered_that_open(count: usize, seed: u64) -> usize {
    let addresses = addresses(ROOT, &[[9; 32], KEY]);
    // Both keys have sealed, each two of the four lengths.
    let by_second = self::addresses(ROOT, &[KEY]);
    let contacts = contacts().into_iter().zip([&addresses, &by_second, &addresses, &by_second]);
    let sealed: Vec<_> =
        contacts.map(|(contact, addresses)| seal(addresses, &contact, NOW).into_bytes()).collect();
    let mut random = SmallRng::seed_from_u64(seed);
    let altered = (0..count).map(|_| alter(&sealed, &mut random)).filter(|altered| !sealed.contains(altered));
    let unknown = Err(Unopened::Unknown);
    altered.filter(|altered| addresses.open(str::from_utf8(altered).unwrap(), at(NOW)) != unknown).count()
}

#[test]
fn an_altered_address_does_not_open() {
    let seed = rand::random();
    assert_eq!(altered_that_open(200_000, seed), 0, "with the seed {seed}");
}

#[test]
fn an_address_and_its_keys_hide_in_debug_output() {
    let key = AddressKey::new(KEY);
    assert_eq!(format!("{:?} {key:?}", addresses(ROOT, &[KEY])), "Addresses(..) AddressKey(..)");
}

proptest! {
    #[test]
    fn every_contact_opens_as_it_was_sealed(
        instance in "[A-Za-z0-9_-]{1,64}",
        chat in "[0-9]{5,15}|[0-9]{5,20}@(c\\.us|lid|C\\.US|s\\.whatsapp\\.net)",
        key in any::<[u8; 32]>(),
        now in 0..8_000_000_000_u64,
        period in 3_600..31_536_000_u64,
    ) {
        let addresses = Addresses::new(
            Some(&Url::parse(ROOT).unwrap()),
            &[AddressKey::new(key)],
            Duration::from_secs(period),
        );
        let contact = contact(&instance, &chat);
        let sealed = seal(&addresses, &contact, now);
        prop_assert!([71, 114, 156, 199].contains(&sealed.len()));
        prop_assert_eq!(addresses.open(&sealed, at(now + period)), Ok(contact.clone()));
        prop_assert_eq!(addresses.open(&sealed, at(now + 2 * period)), Err(Unopened::Ended));
        prop_assert_eq!(addresses.open(&sealed, at(now)), Ok(contact));
    }

    #[test]
    fn no_text_opens_and_none_panics(text in "\\PC{0,300}|[A-Za-z0-9_-]{0,210}") {
        prop_assert_eq!(addresses(ROOT, &[KEY]).open(&text, at(NOW)), Err(Unopened::Unknown));
    }
}
