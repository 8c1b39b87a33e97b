//! Answers, cool-downs, leases and records of scopes.

use super::{
    super::super::engine::{Leased, RawReading, ScopeState},
    *,
};
use crate::domain::Reach;

async fn read(valkey: &Valkey, names: &Names, seen: Seen, lease: LeaseId) -> Leased {
    valkey.read(names, seen, Some(lease)).await.unwrap().lease
}

async fn stored(valkey: &Valkey, names: &Names) -> Option<Vec<u8>> {
    valkey.read(names, Seen::default(), None).await.unwrap().answer
}

async fn written(valkey: &Valkey, write: Write<'_>) -> Written {
    valkey.write(write).await.unwrap().1
}

/// Keys without a time to live would stay for ever.
async fn without_ttl(server: &Server) -> Vec<String> {
    let keys: Vec<String> = server.command(&["KEYS", "*"]).await;
    let mut without = Vec::new();
    for key in keys {
        if server.command::<i64>(&["PTTL", &key]).await < 0 {
            without.push(key);
        }
    }
    without
}

#[tokio::test]
async fn an_answer_is_read_as_it_was_written() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    let nothing = valkey.read(&names, Seen::default(), None).await.unwrap();
    let RawReading { scope, answer, failure, scope_failure, lease, .. } = nothing;
    assert_eq!((scope, answer, failure, scope_failure, lease), (None, None, None, None, Leased::No));

    begin(&valkey, &names, 1000).await;
    let reading = valkey.read(&names, Seen::default(), None).await.unwrap();
    assert_eq!(reading.scope, Some(ScopeState { epoch: EPOCH, rejected_at: None }));
    assert_eq!(reading.answer, Some(sealed(1000)));
    let year_2020 = StoreTime::from_millis(1_577_836_800_000);
    assert!(reading.now > year_2020 && reading.now.since(year_2020) < Duration::from_hours(24 * 36500));
    assert_eq!(without_ttl(&server).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_lease_is_taken_once_and_only_if_nothing_newer_is_stored() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    assert_eq!(read(&valkey, &names, Seen::default(), LEASE).await, Leased::Taken);
    assert_eq!(read(&valkey, &names, Seen::default(), LEASE).await, Leased::Taken, "a repeated request");
    assert_eq!(read(&valkey, &names, Seen::default(), OTHER).await, Leased::Held);
    let ttl: i64 = server.command(&["PTTL", &names.lease]).await;
    assert!((1..=3000).contains(&ttl), "{ttl}");

    begin(&valkey, &names, 1000).await;
    let rows = [
        (Seen::default(), Leased::No),
        (seen(999), Leased::No),
        (seen(1000), Leased::Taken),
        (seen(1001), Leased::Taken),
    ];
    for (seen, leased) in rows {
        assert_eq!(read(&valkey, &names, seen, OTHER).await, leased, "{seen:?}");
    }
}

#[tokio::test]
async fn times_are_compared_as_numbers() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    // As text with 14 digits, or byte by byte as signed numbers, these would be equal or the other way round.
    let (earlier, later) = (1_690_000_000_127, 1_690_000_000_128);
    begin(&valkey, &names, later).await;
    let value = sealed(earlier);
    assert_eq!(written(&valkey, write(&names, &value)).await, Written::Outdated);
    assert_eq!(read(&valkey, &names, seen(earlier), LEASE).await, Leased::No);
    assert_eq!(read(&valkey, &names, seen(later), LEASE).await, Leased::Taken);
}

#[tokio::test]
async fn a_cool_down_that_was_not_seen_is_newer_than_what_was() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    begin(&valkey, &names, 1000).await;
    for (reach, other) in [(Reach::Key, false), (Reach::Scope, true)] {
        valkey.fail(&names, reach, &sealed(2000), LONG, LEASE).await.unwrap();
        let reading = valkey.read(&names, seen(1000), Some(LEASE)).await.unwrap();
        let (mut failure, mut none) = (reading.failure, reading.scope_failure);
        if other {
            std::mem::swap(&mut failure, &mut none);
        }
        assert_eq!((failure, none, reading.lease), (Some(sealed(2000)), None, Leased::No), "{reach:?}");
        let (failure, scope_failure) = if other { (None, at(2000)) } else { (at(2000), None) };
        let all_seen = Seen { failure, scope_failure, ..seen(1000) };
        assert_eq!(read(&valkey, &names, all_seen, LEASE).await, Leased::Taken, "{reach:?}");

        // An earlier failure does not displace a later one. An answer ends both cool-downs.
        valkey.fail(&names, reach, &sealed(1999), LONG, LEASE).await.unwrap();
        assert_eq!(read(&valkey, &names, all_seen, LEASE).await, Leased::Taken, "{reach:?}");
        let value = sealed(1000);
        assert_eq!(written(&valkey, write(&names, &value)).await, Written::Stored);
        let reading = valkey.read(&names, Seen::default(), None).await.unwrap();
        assert_eq!((reading.failure, reading.scope_failure), (None, None), "{reach:?}");
    }
    assert_eq!(without_ttl(&server).await, Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_written_for_a_scope_that_never_had_an_answer() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    for reach in [Reach::Key, Reach::Scope] {
        assert_eq!(read(&valkey, &names, Seen::default(), LEASE).await, Leased::Taken);
        valkey.fail(&names, reach, &sealed(1000), LONG, LEASE).await.unwrap();
    }
    assert_eq!(valkey.reject(&names.scope, Duration::ZERO).await.unwrap(), None);
    let value = sealed(1000);
    assert_eq!(written(&valkey, write(&names, &value)).await, Written::NoScope);
    assert_eq!(server.command::<u64>(&["DBSIZE"]).await, 0, "the lease is released, and nothing is stored");
}

#[tokio::test]
async fn an_answer_of_another_epoch_changes_nothing() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    begin(&valkey, &names, 1000).await;
    assert_eq!(read(&valkey, &names, seen(1000), LEASE).await, Leased::Taken);
    for is_new_epoch in [false, true] {
        let value = sealed(2000);
        let other = Write { epoch: [7; 16], is_new_epoch, ..write(&names, &value) };
        assert_eq!(written(&valkey, other).await, Written::OtherEpoch(EPOCH));
    }
    assert_eq!(stored(&valkey, &names).await, Some(sealed(1000)));
    assert_eq!(read(&valkey, &names, seen(1000), OTHER).await, Leased::Held);
    // Two replicas that make a new epoch at a time agree on the first.
    let value = sealed(2000);
    let same = Write { is_new_epoch: true, ..write(&names, &value) };
    assert_eq!(written(&valkey, same).await, Written::Stored);
}

#[tokio::test]
async fn an_older_answer_does_not_displace_a_newer_one_unless_that_cannot_be_read() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    begin(&valkey, &names, 2000).await;
    let rows = [
        (1000, None, Written::Outdated),
        (1000, at(1999), Written::Outdated),
        (1000, at(2000), Written::Stored),
        (1000, None, Written::Stored),
        (1001, None, Written::Stored),
    ];
    for (millis, unreadable, expected) in rows {
        assert_eq!(read(&valkey, &names, seen(9999), LEASE).await, Leased::Taken);
        let value = sealed(millis);
        let write = Write { unreadable, ..write(&names, &value) };
        assert_eq!(written(&valkey, write).await, expected, "{millis} {unreadable:?}");
        let exists: u64 = server.command(&["EXISTS", &names.lease]).await;
        assert_eq!(exists, 0, "the lease is released in any case");
    }
    assert_eq!(stored(&valkey, &names).await, Some(sealed(1001)));
}

#[tokio::test]
async fn a_rejection_hides_what_was_asked_before_it_until_a_later_attempt_is_answered() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    begin(&valkey, &names, 1000).await;
    let now = valkey.probe().await.unwrap();
    let rejected = valkey.reject(&names.scope, Duration::from_secs(10)).await.unwrap().unwrap();
    let ago = now.since(rejected);
    assert!(ago > Duration::from_secs(5) && ago < Duration::from_secs(15), "{ago:?}");

    let reading = valkey.read(&names, Seen::default(), Some(LEASE)).await.unwrap();
    assert_eq!(reading.scope.unwrap().rejected_at, Some(rejected));
    assert_eq!(reading.lease, Leased::Taken, "a hidden answer does not count as newer");

    let value = sealed(rejected.millis());
    assert_eq!(written(&valkey, write(&names, &value)).await, Written::Outdated);
    let earlier = valkey.reject(&names.scope, Duration::from_secs(20)).await.unwrap();
    assert_eq!(earlier, Some(rejected), "an earlier rejection does not displace a later one");

    let value = sealed(rejected.millis() + 1);
    assert_eq!(written(&valkey, write(&names, &value)).await, Written::Stored);
    assert_eq!(valkey.scopes(std::slice::from_ref(&names.scope)).await.unwrap(), [Some(unrejected())]);
    let late = valkey.reject(&names.scope, Duration::from_secs(20)).await.unwrap();
    assert_eq!(late, None, "a rejection from before an answered attempt comes too late");
    assert!(valkey.reject(&names.scope, Duration::ZERO).await.unwrap().is_some());
    assert_eq!(without_ttl(&server).await, Vec::<String>::new());
}

fn unrejected() -> ScopeState {
    ScopeState { epoch: EPOCH, rejected_at: None }
}

#[tokio::test]
async fn a_lease_is_renewed_and_released_only_by_its_owner() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    let lease = names.lease.as_str();
    assert!(!valkey.renew(lease, LEASE).await.unwrap(), "there is none");
    assert_eq!(read(&valkey, &names, Seen::default(), LEASE).await, Leased::Taken);
    let _: bool = server.command(&["PEXPIRE", lease, "500"]).await;
    assert!(!valkey.renew(lease, OTHER).await.unwrap());
    valkey.release(lease, OTHER).await.unwrap();
    assert!(server.command::<i64>(&["PTTL", lease]).await <= 500, "another one changes nothing");
    assert!(valkey.renew(lease, LEASE).await.unwrap());
    assert!(server.command::<i64>(&["PTTL", lease]).await > 500);
    valkey.release(lease, LEASE).await.unwrap();
    assert_eq!(read(&valkey, &names, Seen::default(), OTHER).await, Leased::Taken);
}

#[tokio::test]
async fn answers_of_a_group_come_in_the_order_of_their_names() {
    let server = Server::start();
    let valkey = valkey(&server);
    let contacts: Vec<_> = (0..64).map(|contact| names(&contact.to_string())).collect();
    begin(&valkey, &contacts[0], 1000).await;
    let value = sealed(2063);
    assert_eq!(written(&valkey, write(&contacts[63], &value)).await, Written::Stored);
    let _: () = server.command(&["LPUSH", &contacts[5].answer, "a record of another kind"]).await;

    let group: Vec<_> = contacts.iter().map(|names| names.answer.clone()).collect();
    let (_, scope, answers) = valkey.answers(&contacts[0].scope, &group).await.unwrap();
    assert_eq!(scope, Some(unrejected()));
    assert_eq!(answers.len(), 64);
    let found: Vec<_> = (0..64).filter(|&at| answers[at].is_some()).collect();
    assert_eq!(found, [0, 63]);
    assert_eq!((answers[0].clone(), answers[63].clone()), (Some(sealed(1000)), Some(sealed(2063))));
    let (_, scope, none) = valkey.answers("{other}:s:scope", &[]).await.unwrap();
    assert_eq!((scope, none), (None, vec![]));
}

#[tokio::test]
async fn scopes_are_read_in_their_order() {
    let server = Server::start();
    let valkey = valkey(&server);
    begin(&valkey, &names("a"), 1000).await;
    let scopes = ["{other}:s:scope".to_owned(), names("a").scope, "{third}:s:scope".to_owned()];
    assert_eq!(valkey.scopes(&scopes).await.unwrap(), [None, Some(unrejected()), None]);
    assert_eq!(valkey.scopes(&[]).await.unwrap(), []);
}

/// A record of another kind, or one that is too short, comes from another program or a fault of ours. It
/// counts as absent and is written over.
#[tokio::test]
async fn a_record_of_another_kind_counts_as_absent_and_is_replaced() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    let Names { scope, scope_failure, answer, lease, failure } = &names;
    for name in [scope_failure, answer, lease, failure] {
        let _: () = server.command(&["LPUSH", name, "x"]).await;
    }
    let _: () = server.command(&["SET", scope, "x"]).await;
    let reading = valkey.read(&names, Seen::default(), Some(LEASE)).await.unwrap();
    let RawReading { scope, answer, failure, scope_failure, lease, .. } = reading;
    assert_eq!((scope, answer, failure, scope_failure, lease), (None, None, None, None, Leased::Taken));
    assert_eq!(valkey.scopes(std::slice::from_ref(&names.scope)).await.unwrap(), [None]);
    assert_eq!(valkey.reject(&names.scope, Duration::ZERO).await.unwrap(), None);

    begin(&valkey, &names, 1000).await;
    assert_eq!(stored(&valkey, &names).await, Some(sealed(1000)));

    let _: () = server.command(&["SET", &names.answer, "short"]).await;
    assert_eq!(stored(&valkey, &names).await, Some(b"short".to_vec()));
    let value = sealed(1);
    assert_eq!(written(&valkey, write(&names, &value)).await, Written::Stored);
    let _: u64 = server.command(&["HSET", &names.scope, "e", "short"]).await;
    assert_eq!(written(&valkey, write(&names, &value)).await, Written::NoScope);
    begin(&valkey, &names, 1000).await;
}

#[tokio::test]
async fn an_answer_ends_the_growth_of_the_pauses() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    let turns = format!("{TAG}:turn");
    let _: u64 = server.command(&["HSET", &turns, "next", "30000000", "free_at", "5"]).await;
    begin(&valkey, &names, 1000).await;
    let fields: Vec<String> = server.command(&["HGETALL", &turns]).await;
    assert_eq!(fields, ["free_at", "5"]);
}

/// The time of the server in ms, a minute from now: that of a clock which is set back a minute later.
async fn minute_ahead(valkey: &Valkey) -> u64 {
    valkey.probe().await.unwrap().millis() + 60_000
}

async fn rejected_at(valkey: &Valkey, names: &Names) -> Option<StoreTime> {
    valkey.read(names, Seen::default(), None).await.unwrap().scope.unwrap().rejected_at
}

#[tokio::test]
async fn a_rejection_counts_after_the_clock_was_set_back() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    begin(&valkey, &names, minute_ahead(&valkey).await).await;
    let flag = valkey.reject(&names.scope, Duration::from_secs(1)).await.unwrap().unwrap();
    assert!(flag < valkey.probe().await.unwrap());
    let scope = valkey.read(&names, Seen::default(), None).await.unwrap().scope.unwrap();
    assert_eq!(scope.rejected_at, Some(flag));
    assert_ne!(scope.epoch, EPOCH, "the answers are later than the rejection, so a new epoch hides them");

    // An attempt that began later lifts it.
    let value = sealed(flag.millis() + 1);
    let later = Write { epoch: scope.epoch, unreadable: None, ..write(&names, &value) };
    assert_eq!(written(&valkey, later).await, Written::Stored);
    assert_eq!(rejected_at(&valkey, &names).await, None);
    assert_eq!(without_ttl(&server).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_rejection_from_before_the_clock_was_set_back_counts_as_one_of_now() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    let ahead = minute_ahead(&valkey).await;
    begin(&valkey, &names, ahead - 1).await;
    let _: u64 = server.command(&["HSET", &names.scope, "r", &ahead.to_string()]).await;
    let scopes = valkey.scopes(std::slice::from_ref(&names.scope)).await.unwrap();
    let scope = scopes[0].unwrap();
    assert_ne!(scope.epoch, EPOCH, "the answers are later than now, so a new epoch hides them");
    let flag = scope.rejected_at.unwrap();
    assert!(flag <= valkey.probe().await.unwrap());
    assert_eq!(rejected_at(&valkey, &names).await, Some(flag), "it is changed once");

    for (millis, expected) in [(flag.millis(), Written::Outdated), (flag.millis() + 1, Written::Stored)] {
        let value = sealed(millis);
        let write = Write { epoch: scope.epoch, ..write(&names, &value) };
        assert_eq!(written(&valkey, write).await, expected);
    }
}

#[tokio::test]
async fn an_answer_and_a_failure_from_before_the_clock_was_set_back_are_displaced() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    let ahead = minute_ahead(&valkey).await;
    begin(&valkey, &names, ahead).await;
    for reach in [Reach::Key, Reach::Scope] {
        for millis in [ahead, 1000] {
            valkey.fail(&names, reach, &sealed(millis), LONG, LEASE).await.unwrap();
        }
    }
    let reading = valkey.read(&names, Seen::default(), None).await.unwrap();
    assert_eq!((reading.failure, reading.scope_failure), (Some(sealed(1000)), Some(sealed(1000))));
    let value = sealed(1000);
    assert_eq!(written(&valkey, write(&names, &value)).await, Written::Stored);
    assert_eq!(stored(&valkey, &names).await, Some(sealed(1000)));
}

#[tokio::test]
async fn a_failure_from_before_a_success_is_not_shared() {
    let server = Server::start();
    let (valkey, one, other) = (valkey(&server), names("a"), names("b"));
    begin(&valkey, &one, 2000).await;
    let value = sealed(1000);
    assert_eq!(written(&valkey, write(&other, &value)).await, Written::Stored);
    // The cool-down of a contact ends with an answer for it, and that of a scope with any answer.
    for (names, reach, is_shared) in [
        (&one, Reach::Key, false),
        (&one, Reach::Scope, false),
        (&other, Reach::Scope, false),
        (&other, Reach::Key, true),
    ] {
        assert_eq!(read(&valkey, names, seen(2000), LEASE).await, Leased::Taken);
        valkey.fail(names, reach, &sealed(1999), LONG, LEASE).await.unwrap();
        let reading = valkey.read(names, Seen::default(), None).await.unwrap();
        let found = reading.failure.or(reading.scope_failure);
        assert_eq!(found.is_some(), is_shared, "{} {reach:?}", names.answer);
        assert_eq!(server.command::<u64>(&["EXISTS", &names.lease]).await, 0, "the lease is released");
    }
}
