//! [`PictureCache`] by itself: bytes, evictions and rejected tokens.

use std::{collections::HashSet, hash::RandomState, time::SystemTime};

use proptest::prelude::*;

use tokio::time::Instant;

use super::*;
use crate::{
    domain::{Absence, CacheInfo, ChatId, Credential, Instance, Now, PictureLink},
    stack::store::{
        Listener, Place, Record, Settings as StoreSettings, Store, StoreClock, StoreTime, Stored,
    },
};

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
    assert_eq!(cache.standings.len(), 1);
    let bytes = cache.bytes();
    for number in 0..100 {
        let token = number.to_string();
        cache.revoke(&key(&hasher, &format!("never answered {token}"), "15551230001").scope, Instant::now());
        store(&token, "15551230001");
        assert!(cache.standings.len() <= 2);
    }
    store("b", "15551230001");
    store("b", "15551230002");
    assert_eq!((cache.standings.len(), cache.bytes()), (1, bytes));
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

/// The clock of a store that shows 1.9 billion seconds at `instant`.
fn clock(instant: Instant) -> StoreClock {
    let clock = StoreClock::default();
    clock.learn(instant, StoreTime::from_millis(1_900_000_000_000));
    clock
}

fn picture(name: u8) -> Finding {
    let url = format!("https://pps.whatsapp.net/{}.jpg", "p".repeat(usize::from(name)));
    Finding::Picture(PictureLink::parse(&url, SystemTime::now()).unwrap())
}

/// An answer of the store that was given at `at` and is fresh for ten minutes.
fn stored(clock: &StoreClock, finding: Finding, at: Instant) -> Stored {
    let fetched = clock.at(at).unwrap();
    let fresh_until = StoreTime::from_micros(fetched.micros() + 600_000_000);
    Stored { record: Record { finding, fetched, fresh_until, since: None }, asked_at: fetched }
}

#[test]
fn an_answer_of_the_store_enters_memory_unless_a_later_one_is_there_or_its_token_was_rejected() {
    let (hasher, start) = (RandomState::new(), Instant::now());
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let now = Now { instant: at(100), wall: SystemTime::now() };
    let clock = clock(start);
    let cache = PictureCache::new(Settings::default(), Arc::default());
    let contact = key(&hasher, "a", "15551230001");
    let adopt =
        |name, seconds| cache.adopt(&contact, stored(&clock, picture(name), at(seconds)), &clock, now);
    let finding = |entry: Option<Entry>| entry.map(|entry| entry.finding);
    assert_eq!(finding(adopt(1, 10)), Some(picture(1)));
    assert_eq!(finding(adopt(2, 20)), Some(picture(2)));
    assert_eq!(finding(adopt(3, 15)), Some(picture(2)), "it is older");
    assert_eq!(finding(cache.get(&contact)), Some(picture(2)));
    assert_eq!(cache.scopes(), std::slice::from_ref(&contact.scope));

    cache.rejected(&contact.scope, at(30));
    assert_eq!(finding(cache.get(&contact)), None);
    assert_eq!(finding(adopt(4, 25)), None);
    assert_eq!(finding(cache.get(&contact)), None);
    assert_eq!(finding(adopt(5, 40)), Some(picture(5)), "the token is accepted again");
    assert_eq!(finding(cache.get(&contact)), Some(picture(5)));
}

#[test]
fn a_change_drops_an_older_answer_and_leaves_nothing_of_it() {
    let (hasher, start) = (RandomState::new(), Instant::now());
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let now = Now { instant: at(100), wall: SystemTime::now() };
    let clock = clock(start);
    let cache = PictureCache::new(Settings::default(), Arc::default());
    let contact = key(&hasher, "a", "15551230001");
    let adopt = |name, seconds| {
        cache.adopt(&contact, stored(&clock, picture(name), at(seconds)), &clock, now).unwrap().finding
    };
    adopt(9, 10);
    let bytes = cache.bytes();
    cache.changed(&contact, at(9));
    assert!(cache.get(&contact).is_some(), "the change is older");
    cache.changed(&contact, at(20));
    cache.changed(&contact, at(21));
    assert!(cache.get(&contact).is_none());
    assert_eq!((cache.standings.len(), cache.scopes().len()), (0, 0));
    assert!(cache.bytes() < bytes);
    // The old answer may have been read before the change, and come after it.
    let late = cache.adopt(&contact, stored(&clock, picture(9), at(11)), &clock, now);
    assert_eq!((late, cache.get(&contact).is_some()), (None, false));
    // Not even a null falls back on what was dropped.
    let null = Answer { fetched: Now { instant: at(30), ..now }, ..answer() };
    assert_eq!(cache.settle(&contact, &null, 1.0, None).entry.finding, null.finding);
    assert_eq!(adopt(9, 40), picture(9));
    assert_eq!((cache.len(), cache.bytes()), (1, bytes));
}

#[test]
fn an_answer_from_before_the_clock_of_the_store_was_set_back_lifts_no_rejection() {
    let (hasher, start) = (RandomState::new(), Instant::now());
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let now = Now { instant: at(100), wall: SystemTime::now() };
    let clock = clock(start);
    let cache = PictureCache::new(Settings::default(), Arc::default());
    let [first, second] = ["15551230001", "15551230002"].map(|chat| key(&hasher, "a", chat));
    let adopt = |key, seconds| {
        cache.adopt(key, stored(&clock, picture(1), at(seconds)), &clock, now).map(|entry| entry.finding)
    };
    assert_eq!(adopt(&first, 160), Some(picture(1)), "nothing hides it");
    cache.rejected(&first.scope, at(90));
    assert_eq!(cache.get(&first), None, "a later rejection hides it");
    assert_eq!((adopt(&first, 160), adopt(&second, 161)), (None, None));
    assert_eq!((cache.get(&first), cache.get(&second)), (None, None));
    assert_eq!(adopt(&second, 95), Some(picture(1)), "the token is accepted again");
}

#[tokio::test]
async fn an_answer_that_was_read_before_a_rejection_does_not_enter_memory_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::File { path: folder.path().join("store.db"), bytes: 1 << 30 };
    let settings = StoreSettings { place, timeout: Duration::from_secs(20), replicas: 1 };
    let store = Store::open(settings, Arc::default()).await.unwrap();
    let (hasher, cache) = (RandomState::new(), PictureCache::new(Settings::default(), Arc::default()));
    let (contact, credential) =
        (key(&hasher, "a", "15551230001"), Credential::of_caller("a".into(), &hasher));
    let read = stored(store.clock(), picture(1), Instant::now());
    let now = Now { instant: Instant::now(), wall: SystemTime::now() };
    // Memory has nothing of the scope yet that the rejection could hide.
    let at = Instant::now();
    store.reject(&contact.scope, &credential, at);
    cache.rejected(&contact.scope, at);
    assert_eq!(cache.take_over(&contact, read.clone(), &store, now), None);
    assert_eq!(cache.get(&contact), None);
    let later = Stored { asked_at: StoreTime::from_micros(read.asked_at.micros() + 1_000_000), ..read };
    let now = Now { instant: now.instant + Duration::from_secs(2), ..now };
    assert!(cache.take_over(&contact, later, &store, now).is_some(), "the token is accepted again");
}

/// Something that happens to the cache: its kind, the contact, the token, and a time in seconds.
type Event = (u8, u8, u8, u64);

fn events() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec((0..5_u8, 0..6_u8, 0..3_u8, 0..50_u64), 0..60)
}

proptest! {
    #[test]
    fn bytes_and_rows_are_those_of_the_stored_answers_whatever_happens(events in events()) {
        let (hasher, start) = (RandomState::new(), Instant::now());
        let (clock, wall) = (clock(start), SystemTime::now());
        let cache = PictureCache::new(Settings { entries: 4, ..Settings::default() }, Arc::default());
        for (kind, chat, token, seconds) in events {
            let key = key(&hasher, &token.to_string(), &format!("1555123000{chat}"));
            let at = start + Duration::from_secs(seconds);
            let now = Now { instant: start + Duration::from_secs(50), wall };
            match kind {
                0 => {
                    let fetched = Now { instant: at, wall };
                    cache.settle(&key, &Answer { finding: picture(chat), fetched, ..answer() }, 1.0, None);
                }
                1 => drop(cache.adopt(&key, stored(&clock, picture(token), at), &clock, now)),
                2 => cache.changed(&key, at),
                3 => cache.rejected(&key.scope, at),
                _ => drop(cache.get(&key)),
            }
        }
        let live = |row: &Row| !cache.is_dropped(row);
        let bytes: usize = cache.map.iter().map(|slot| entry_bytes(&slot.entry)).sum();
        let rows: HashSet<*const Standing> =
            cache.map.iter().filter(|slot| live(&slot.standing)).map(|slot| Arc::as_ptr(&slot.standing)).collect();
        prop_assert_eq!(cache.standings.len(), rows.len());
        prop_assert_eq!(cache.bytes(), bytes + rows.len() * Standings::ROW_BYTES);
        prop_assert!(cache.len() <= 4);
    }
}
