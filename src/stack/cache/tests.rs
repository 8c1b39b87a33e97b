//! [`PictureCache`] by itself: bytes, evictions and rejected tokens.

use std::{hash::RandomState, time::SystemTime};

use tokio::time::Instant;

use super::*;
use crate::domain::{Absence, CacheInfo, ChatId, Credential, Instance, Now};

fn key(hasher: &RandomState, token: &str, chat: &str) -> Key {
    let credential = Credential::of_caller(token.into(), hasher).id();
    let instance = Instance::parse("shop").unwrap();
    Key { scope: Scope { instance, credential }, chat: ChatId::parse(chat).unwrap() }
}

fn answer() -> Answer {
    Answer {
        finding: Finding::Absent(Absence::Null),
        fetched: Now { instant: Instant::now(), wall: SystemTime::now() },
        took: Duration::ZERO,
        cache: CacheInfo::FETCHED,
    }
}

#[test]
fn credentials_without_anything_stored_take_no_room() {
    let (hasher, settings) = (RandomState::new(), Settings { entries: 2, ..Settings::default() });
    let cache = PictureCache::new(settings, Arc::default());
    let store = |token: &str, chat: &str| cache.settle(&key(&hasher, token, chat), &answer(), 1.0, None);
    store("a", "15551230001");
    store("a", "15551230002");
    assert_eq!(cache.standing.len(), 1);
    let bytes = cache.bytes();
    for number in 0..100 {
        let token = number.to_string();
        cache.revoke(&key(&hasher, &format!("never answered {token}"), "15551230001").scope, Instant::now());
        store(&token, "15551230001");
        assert!(cache.standing.len() <= 2);
    }
    store("b", "15551230001");
    store("b", "15551230002");
    assert_eq!((cache.standing.len(), cache.bytes()), (1, bytes));
}

#[test]
fn a_credential_that_is_rejected_hides_what_eviction_left_of_its_answers() {
    let (hasher, settings) = (RandomState::new(), Settings { entries: 2, ..Settings::default() });
    let cache = PictureCache::new(settings, Arc::default());
    let keys = ["15551230001", "15551230002", "15551230003"].map(|chat| key(&hasher, "a", chat));
    for key in &keys {
        cache.settle(key, &answer(), 1.0, None);
    }
    let stored = || keys.iter().filter(|key| cache.get(key).is_some()).count();
    assert_eq!(stored(), 2);
    cache.revoke(&keys[0].scope, Instant::now());
    assert_eq!(stored(), 0);
}

#[test]
fn a_credential_that_is_rejected_hides_what_it_stored_and_nothing_else() {
    let (hasher, cache) = (RandomState::new(), PictureCache::new(Settings::default(), Arc::default()));
    let [first, second, other] =
        [("a", "15551230001"), ("a", "15551230002"), ("b", "15551230001")].map(|(t, c)| key(&hasher, t, c));
    for key in [&first, &second, &other] {
        cache.settle(key, &answer(), 1.0, None);
    }
    let stored = || [&first, &second, &other].map(|key| cache.get(key).is_some());
    cache.revoke(&first.scope, Instant::now());
    assert_eq!(stored(), [false, false, true]);
    cache.settle(&second, &answer(), 1.0, None);
    assert_eq!(stored(), [true, true, true]);
}
