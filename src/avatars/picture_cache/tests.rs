//! What is kept, for how long, and in how much memory.

#![allow(clippy::unchecked_time_subtraction, reason = "a test may panic")]

use tokio::time::advance;

use super::*;
use crate::{
    avatars::fetch::Kind,
    domain::{Credential, Instance, Scope},
    stack::{self, CacheSettings},
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MIB: u64 = 1024 * 1024;

fn cache(bytes: u64) -> PictureCache<u8> {
    PictureCache::new(bytes)
}

/// Trust in a token that nobody rejects.
fn trust() -> Trust {
    let credential = Credential::new("token".into(), &std::hash::RandomState::new()).id();
    let scope = Scope { instance: Instance::parse("shop").unwrap(), credential };
    stack::PictureCache::new(CacheSettings::default(), Arc::default()).trust(&scope)
}

/// A link to a picture, which is not WhatsApp's own, so that its fingerprint is a hash.
fn link(picture: &str, signature: u32) -> PictureLink {
    let text = format!(
        "https://pictures.example/{picture}.jpg?X-Amz-Expires=60&X-Amz-Signature={signature}&X-Amz-Algorithm=AWS4&X-Amz-Credential=c&X-Amz-Date=20260101T000000Z&X-Amz-SignedHeaders=host"
    );
    PictureLink::parse(&text, std::time::SystemTime::UNIX_EPOCH).unwrap()
}

fn original(bytes: usize) -> Original {
    Original::new(Image { kind: Kind::Jpeg, bytes: vec![1; bytes] })
}

#[tokio::test(start_paused = true)]
async fn an_image_is_kept_by_picture_and_size() {
    let cache = cache(MIB);
    let [one, other] = ["one", "other"].map(|fingerprint| cache.picture(fingerprint));
    cache.keep_image(one, Size::S96, Bytes::from_static(b"image"));
    advance(100 * DAY).await;
    assert_eq!(cache.image(one, Size::S96).as_deref(), Some(&b"image"[..]));
    assert_eq!(cache.image(one, Size::S48), None);
    assert_eq!(cache.image(other, Size::S96), None);
    assert_eq!(cache.bytes(), 5 + u64::from(ENTRY_BYTES));
}

#[tokio::test(start_paused = true)]
async fn files_failures_and_pictures_from_before_are_kept_for_a_while() {
    let cache = cache(MIB);
    let name = cache.picture("one");
    cache.keep_original(name, original(1000));
    cache.keep_failure(name, 7);
    let trust = trust();
    let show =
        |picture, signature| cache.note_shown(name, cache.known(name, &link(picture, signature), &trust));
    let latest = || cache.latest(name).map(|known| known.fingerprint().to_owned());
    let [one, two] = ["one", "two"].map(|picture| Some(link(picture, 0).fingerprint().into_owned()));
    show("one", 1);
    advance(14 * SECOND).await;
    assert_eq!(cache.failure(name), Some(7));
    advance(SECOND).await;
    assert_eq!(cache.failure(name), None);
    advance(44 * SECOND).await;
    assert!(cache.original(name).is_some());
    advance(SECOND).await;
    assert!(cache.original(name).is_none());
    advance(DAY - 61 * SECOND).await;
    assert_eq!(latest(), one);
    show("one", 1);
    advance(DAY - SECOND).await;
    assert_eq!(latest(), one, "it was shown again");
    advance(SECOND).await;
    assert_eq!(latest(), None);
    show("one", 1);
    show("two", 1);
    assert_eq!(latest(), two);
    show("two", 2);
    assert_eq!(latest(), two);
    cache.forget_latest(name);
    assert_eq!(latest(), None);
}

#[tokio::test(start_paused = true)]
async fn a_picture_is_known_by_its_link_without_its_fingerprint() {
    let cache = cache(MIB);
    let [contact, other] = ["one", "other"].map(|text| cache.link(text));
    let trust = trust();
    let known = |contact, link: PictureLink| cache.known(contact, &link, &trust);
    let first = known(contact, link("one", 1));
    assert_eq!(first.picture(), cache.picture(&link("one", 1).fingerprint()));
    cache.note_shown(contact, first.clone());
    let is_shared = |known: &Known| Arc::ptr_eq(&known.noted, &first.noted);
    assert!(is_shared(&known(contact, link("one", 1))));
    for known in
        [known(contact, link("one", 2)), known(contact, link("two", 1)), known(other, link("one", 1))]
    {
        assert!(!is_shared(&known));
    }
    assert_ne!(known(contact, link("two", 1)).picture(), first.picture());
}

#[test]
fn names_of_different_kinds_differ() {
    let (cache, other) = (cache(MIB), cache(MIB));
    assert_eq!(cache.picture("one"), cache.clone().picture("one"));
    assert_ne!(cache.picture("one"), cache.link("one"));
    assert_ne!(cache.picture("one"), cache.picture("two"));
    assert_ne!(cache.picture("one"), other.picture("one"), "the hash has a key");
}

#[test]
fn an_image_of_more_than_16_kib_counts_2_25_times() {
    for (bytes, expected) in [(1, 1), (16_384, 16_384), (16_388, 36_873), (100_000, 225_000)] {
        let cache = cache(MIB);
        cache.keep_image(cache.picture("one"), Size::S96, vec![1; bytes].into());
        assert_eq!(cache.bytes() - u64::from(ENTRY_BYTES), expected, "{bytes} bytes");
    }
}

#[test]
fn images_that_were_used_least_recently_make_room() {
    let cache = cache(8 * MIB);
    let names: Vec<_> = (0..1000).map(|number| cache.picture(&number.to_string())).collect();
    for (number, name) in names.iter().enumerate() {
        cache.keep_image(*name, Size::S640, vec![1; 70_000].into());
        assert!(cache.image(*name, Size::S640).is_some(), "a new image is always kept");
        assert!(cache.image(names[0], Size::S640).is_some(), "{number}: an image in use stays");
        assert!(cache.bytes() <= 8 * MIB);
    }
    assert!(cache.image(names[1], Size::S640).is_none());
    assert!(cache.bytes() > 6 * MIB);
}

#[test]
fn files_and_contacts_have_a_part_of_the_memory_of_their_own() {
    let cache = cache(8 * MIB);
    let image = cache.picture("image");
    cache.keep_image(image, Size::S96, Bytes::from_static(b"image"));
    let (shown, trust) = (link("one", 1), trust());
    for number in 0..100_000 {
        let name = cache.link(&number.to_string());
        if number % 100 == 0 {
            cache.keep_original(name, original(70_000));
        }
        cache.note_shown(name, cache.known(name, &shown, &trust));
        cache.keep_failure(name, 1);
    }
    cache.latest.run_pending_tasks();
    cache.failures.run_pending_tasks();
    assert!(cache.bytes() <= 8 * MIB / 8 + 8 * MIB / 16 + 1000, "{}", cache.bytes());
    assert!(cache.failures.entry_count() <= FAILURES_MAX);
    assert!(cache.image(image, Size::S96).is_some());
}

#[test]
fn nothing_is_kept_without_memory() {
    let cache = cache(0);
    let name = cache.picture("one");
    cache.keep_image(name, Size::S96, Bytes::from_static(b"image"));
    cache.keep_original(name, original(1000));
    assert_eq!((cache.image(name, Size::S96), cache.original(name).is_some()), (None, false));
    assert_eq!(cache.bytes(), 0);
}
