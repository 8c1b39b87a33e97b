//! Every outcome of every operation.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_answer_is_stored_and_read() {
    let (_folder, path) = folder();
    let file = open(&path);
    let reading = file.read(&names(1), Seen::default(), None).await.unwrap();
    assert_eq!(
        (reading.scope, reading.answer, reading.failure, reading.scope_failure),
        (None, None, None, None)
    );
    let value = store(&file, 1, "one").await;
    let reading = file.read(&names(1), Seen::default(), None).await.unwrap();
    assert_eq!(reading.answer, Some(value.clone()));
    assert_eq!(reading.scope, Some(ScopeState { epoch: EPOCH, rejected_at: None }));
    assert_eq!(reading.lease, Leased::No);
    let (_, scope, answers) = file.answers("s:1", &["a:2".into(), "a:1".into()]).await.unwrap();
    assert_eq!((scope, answers), (reading.scope, vec![None, Some(value)]));
    assert_eq!(file.scopes(&["s:1".into(), "s:2".into()]).await.unwrap(), [reading.scope, None]);
}

#[tokio::test]
async fn an_older_answer_never_displaces_a_newer_one() {
    let (_folder, path) = folder();
    let file = open(&path);
    let now = now(&file).await;
    // Compared as numbers: as bytes or digits the order would be another one.
    let (old, new) = (StoreTime::from_millis(999_999), now);
    let (first, second) = (value(new, "new"), value(old, "old"));
    assert_eq!(file.write(answer(&names(1), &first)).await.unwrap().1, Written::Stored);
    assert_eq!(file.write(answer(&names(1), &second)).await.unwrap().1, Written::Outdated);
    assert_eq!(stored(&file, 1).await, Some(first.clone()));
    // One that cannot be read is overwritten all the same, but only the one that was named.
    let names = names(1);
    let wrong = Write { unreadable: Some(old), ..answer(&names, &second) };
    assert_eq!(file.write(wrong).await.unwrap().1, Written::Outdated);
    let right = Write { unreadable: Some(new), ..answer(&names, &second) };
    assert_eq!(file.write(right).await.unwrap().1, Written::Stored);
    assert_eq!(stored(&file, 1).await, Some(second.clone()));
}

#[tokio::test]
async fn an_answer_from_before_the_clock_was_set_back_is_displaced() {
    let (_folder, path) = folder();
    let file = open(&path);
    let now = now(&file).await;
    let ahead = value(StoreTime::from_millis(now.millis() + 3_600_000), "ahead");
    assert_eq!(file.write(answer(&names(1), &ahead)).await.unwrap().1, Written::Stored);
    let value = store(&file, 1, "present").await;
    assert_eq!(stored(&file, 1).await, Some(value));
}

async fn scope(file: &File) -> ScopeState {
    file.scopes(&["s:1".into()]).await.unwrap()[0].unwrap()
}

#[tokio::test]
async fn a_rejection_counts_after_the_clock_was_set_back() {
    let (_folder, path) = folder();
    let (file, one) = (open(&path), names(1));
    let ahead = value(StoreTime::from_millis(now(&file).await.millis() + 3_600_000), "ahead");
    assert_eq!(file.write(answer(&one, &ahead)).await.unwrap().1, Written::Stored);
    let flag = file.reject("s:1", SECOND).await.unwrap().unwrap();
    assert!(flag < now(&file).await);
    let ScopeState { epoch, rejected_at } = scope(&file).await;
    assert_eq!(rejected_at, Some(flag));
    assert_ne!(epoch, EPOCH, "the answer is later than the rejection, so a new epoch hides it");
    let later = value(StoreTime::from_millis(flag.millis() + 1), "later");
    let later = Write { epoch, ..answer(&one, &later) };
    assert_eq!(file.write(later).await.unwrap().1, Written::Stored);
    assert_eq!(scope(&file).await, ScopeState { epoch, rejected_at: None });
}

#[tokio::test]
async fn a_rejection_from_before_the_clock_was_set_back_counts_as_one_of_now() {
    let (_folder, path) = folder();
    let (file, one) = (open(&path), names(1));
    let start = now(&file).await;
    store(&file, 1, "one").await;
    // The file as a process with another clock leaves it.
    file.close().await;
    drop(file);
    let db = rusqlite::Connection::open(&path).unwrap();
    let ahead = start.millis() + 3_600_000;
    let row = super::super::rows::scope(&db, "s:1").unwrap().unwrap();
    let row = super::super::rows::ScopeRow { rejected: Some(ahead), answered: ahead - 1, ..row };
    super::super::rows::put_scope(&db, "s:1", &row).unwrap();
    drop(db);
    let file = open(&path);
    let ScopeState { epoch, rejected_at } = scope(&file).await;
    assert_ne!(epoch, EPOCH, "the answers may be later than now, so a new epoch hides them");
    let flag = rejected_at.unwrap();
    assert!(start <= StoreTime::from_millis(flag.millis() + 1) && flag <= now(&file).await);
    assert_eq!(scope(&file).await.rejected_at, Some(flag), "it is changed once");
    for (millis, expected) in [(flag.millis(), Written::Outdated), (flag.millis() + 1, Written::Stored)] {
        let value = value(StoreTime::from_millis(millis), "later");
        let write = Write { epoch, ..answer(&one, &value) };
        assert_eq!(file.write(write).await.unwrap().1, expected);
    }
}

#[tokio::test]
async fn a_failure_from_before_a_success_is_not_shared() {
    let (_folder, path) = folder();
    let (file, one, other) = (open(&path), names(1), names(2));
    let now = now(&file).await;
    for (names, asked) in [(&one, now), (&other, earlier(now, HOUR))] {
        let value = value(asked, "answer");
        assert_eq!(file.write(answer(names, &value)).await.unwrap().1, Written::Stored);
    }
    let failure = value(earlier(now, SECOND), "failure");
    for (names, reach, is_shared) in [
        (&one, Reach::Key, false),
        (&one, Reach::Scope, false),
        (&other, Reach::Scope, false),
        (&other, Reach::Key, true),
    ] {
        file.fail(names, reach, &failure, HOUR, LEASE).await.unwrap();
        let reading = file.read(names, Seen::default(), None).await.unwrap();
        let found = reading.failure.or(reading.scope_failure);
        assert_eq!(found.is_some(), is_shared, "{} {reach:?}", names.answer);
    }
}

#[tokio::test]
async fn only_the_present_epoch_is_written() {
    let (_folder, path) = folder();
    let file = open(&path);
    let (names, value) = (names(1), value(now(&file).await, "one"));
    let known = Write { is_new_epoch: false, ..answer(&names, &value) };
    assert_eq!(file.write(known.clone()).await.unwrap().1, Written::NoScope);
    assert_eq!(file.scopes(&["s:1".into()]).await.unwrap(), [None]);
    assert_eq!(file.write(answer(&names, &value)).await.unwrap().1, Written::Stored);
    assert_eq!(file.write(known.clone()).await.unwrap().1, Written::Stored);
    for is_new_epoch in [false, true] {
        let other = Write { epoch: [8; 16], is_new_epoch, ..known.clone() };
        assert_eq!(file.write(other).await.unwrap().1, Written::OtherEpoch(EPOCH));
    }
    assert_eq!(stored(&file, 1).await, Some(value));
}

#[tokio::test]
async fn a_rejected_token_hides_what_was_fetched_before() {
    let (_folder, path) = folder();
    let file = open(&path);
    assert_eq!(file.reject("s:1", Duration::ZERO).await.unwrap(), None);
    let start = now(&file).await;
    let (old, one) = (value(earlier(start, 10 * SECOND), "old"), names(1));
    assert_eq!(file.write(answer(&one, &old)).await.unwrap().1, Written::Stored);
    // An attempt that began later was answered, so that the token is good.
    assert_eq!(file.reject("s:1", 20 * SECOND).await.unwrap(), None);
    assert_eq!(stored(&file, 1).await, Some(old.clone()));
    let flag = file.reject("s:1", 5 * SECOND).await.unwrap().unwrap();
    assert!(flag >= earlier(start, 5 * SECOND) && flag <= now(&file).await);
    // An earlier rejection does not replace a later one.
    assert_eq!(file.reject("s:1", 8 * SECOND).await.unwrap(), Some(flag));
    let seen = Seen::default();
    let reading = file.read(&one, seen, Some(LEASE)).await.unwrap();
    // The answer is there, but does not keep anybody from fetching.
    assert_eq!((reading.answer, reading.lease), (Some(old.clone()), Leased::Taken));
    assert_eq!(reading.scope, Some(ScopeState { epoch: EPOCH, rejected_at: Some(flag) }));
    let (_, scope, answers) = file.answers("s:1", &["a:1".into()]).await.unwrap();
    assert_eq!((scope, answers), (reading.scope, vec![Some(old)]));
    // An attempt that began before lifts nothing, and releases its lease.
    let before = value(flag, "before");
    assert_eq!(file.write(answer(&one, &before)).await.unwrap().1, Written::Outdated);
    assert!(!file.renew(&one.lease, LEASE).await.unwrap());
    let after = value(StoreTime::from_millis(flag.millis() + 1), "after");
    assert_eq!(file.write(answer(&one, &after)).await.unwrap().1, Written::Stored);
    assert_eq!(file.scopes(&["s:1".into()]).await.unwrap()[0].unwrap().rejected_at, None);
    assert_eq!(stored(&file, 1).await, Some(after));
}

#[tokio::test]
async fn a_cool_down_lasts_until_an_answer_or_its_end() {
    let (_folder, path) = folder();
    let file = open(&path);
    let (now, one) = (now(&file).await, names(1));
    let failure = value(now, "failure");
    let _ = file.read(&one, Seen::default(), Some(LEASE)).await.unwrap();
    file.fail(&one, Reach::Key, &failure, HOUR, LEASE).await.unwrap();
    // The scope never had an answer.
    assert_eq!(file.read(&one, Seen::default(), None).await.unwrap().failure, None);
    assert!(!file.renew(&one.lease, LEASE).await.unwrap());
    store(&file, 2, "two").await;
    let now = super::now(&file).await;
    let failure = value(now, "failure");
    file.fail(&one, Reach::Key, &failure, HOUR, LEASE).await.unwrap();
    file.fail(&one, Reach::Key, &value(earlier(now, SECOND), "older"), HOUR, LEASE).await.unwrap();
    file.fail(&one, Reach::Scope, &failure, HOUR, LEASE).await.unwrap();
    let reading = file.read(&one, Seen::default(), Some(LEASE)).await.unwrap();
    assert_eq!((reading.failure, reading.lease), (Some(failure.clone()), Leased::No));
    assert_eq!(reading.scope_failure, Some(failure.clone()));
    let other = file.read(&names(3), Seen::default(), None).await.unwrap();
    assert_eq!((other.failure, other.scope_failure), (None, Some(failure.clone())));
    store(&file, 1, "one").await;
    let reading = file.read(&one, Seen::default(), None).await.unwrap();
    assert_eq!((reading.failure, reading.scope_failure), (None, None));
    file.fail(&one, Reach::Key, &failure, Duration::ZERO, LEASE).await.unwrap();
    assert_eq!(file.read(&one, Seen::default(), None).await.unwrap().failure, None);
}

#[tokio::test]
async fn a_lease_is_taken_when_nothing_new_is_stored() {
    let (_folder, path) = folder();
    let file = open(&path);
    let (one, other) = (names(1), Some([2; 16]));
    let lease = async |seen, id| file.read(&one, seen, id).await.unwrap().lease;
    let seen = Seen::default();
    assert_eq!(lease(seen, Some(LEASE)).await, Leased::Taken);
    assert_eq!(lease(seen, other).await, Leased::Held);
    assert_eq!(lease(seen, None).await, Leased::No);
    assert!(file.renew(&one.lease, LEASE).await.unwrap());
    assert!(!file.renew(&one.lease, [2; 16]).await.unwrap());
    file.release(&one.lease, [2; 16]).await.unwrap();
    assert_eq!(lease(seen, other).await, Leased::Held);
    file.release(&one.lease, LEASE).await.unwrap();
    assert_eq!(lease(seen, other).await, Leased::Taken);
    file.release(&one.lease, [2; 16]).await.unwrap();
    let start = now(&file).await;
    let written = value(start, "one");
    file.write(answer(&one, &written)).await.unwrap();
    assert_eq!(lease(seen, other).await, Leased::No);
    let older = Some(StoreTime::from_millis(start.millis() - 1));
    assert_eq!(lease(Seen { answer: older, ..seen }, other).await, Leased::No);
    let seen = Seen { answer: Some(start), ..seen };
    assert_eq!(lease(seen, other).await, Leased::Taken);
    file.fail(&one, Reach::Key, &value(start, "f"), HOUR, [2; 16]).await.unwrap();
    assert_eq!(lease(seen, other).await, Leased::No);
    let seen = Seen { failure: Some(start), ..seen };
    assert_eq!(lease(seen, other).await, Leased::Taken);
    file.fail(&one, Reach::Scope, &value(start, "f"), HOUR, [2; 16]).await.unwrap();
    assert_eq!(lease(seen, other).await, Leased::No);
    let seen = Seen { scope_failure: Some(start), ..seen };
    assert_eq!(lease(seen, other).await, Leased::Taken);
}

#[tokio::test]
async fn a_restart_finds_everything_but_the_leases() {
    let (_folder, path) = folder();
    let file = open(&path);
    let value = store(&file, 1, "one").await;
    let flag = file.reject("s:1", Duration::ZERO).await.unwrap();
    let _ = file.read(&names(2), Seen::default(), Some(LEASE)).await.unwrap();
    let failure = super::value(now(&file).await, "failure");
    file.fail(&names(3), Reach::Key, &failure, HOUR, LEASE).await.unwrap();
    let time = now(&file).await;
    let horizon = HorizonRecord { free_at: time, spare_at: earlier(time, SECOND), paused_until: time };
    file.remember("{a:1}", HorizonRecord { free_at: earlier(time, SECOND), ..horizon });
    file.remember("{a:1}", horizon);
    assert_eq!(file.horizons(), [("{a:1}".to_owned(), horizon)]);
    file.close().await;
    assert!(file.probe().await.is_err());
    file.close().await;
    assert!(!path.with_file_name("store.db-wal").exists());
    let file = open(&path);
    assert_eq!(file.horizons(), [("{a:1}".to_owned(), horizon)]);
    let reading = file.read(&names(1), Seen::default(), None).await.unwrap();
    assert_eq!((reading.answer, reading.scope.unwrap().rejected_at), (Some(value), flag));
    assert_eq!(file.read(&names(3), Seen::default(), None).await.unwrap().failure, Some(failure));
    assert_eq!(file.read(&names(2), Seen::default(), Some([2; 16])).await.unwrap().lease, Leased::Taken);
    let later = super::value(StoreTime::from_millis(flag.unwrap().millis() + 1), "later");
    file.write(answer(&names(1), &later)).await.unwrap();
    // Dropping it without closing writes as well; the thread then ends a moment later.
    drop(file);
    let file = loop {
        match File::open(&path, ROOM) {
            Ok(file) => break file,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(stored(&file, 1).await, Some(later));
}

#[tokio::test]
async fn writes_and_horizons_are_committed_within_a_second() {
    let (_folder, path) = folder();
    let file = open(&path);
    let value = store(&file, 1, "one").await;
    let time = now(&file).await;
    file.remember("{a:1}", HorizonRecord { free_at: time, spare_at: time, paused_until: time });
    tokio::time::sleep(Duration::from_secs(2)).await;
    // A copy is what a killed process would leave.
    let copy = path.with_file_name("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::copy(path.with_file_name("store.db-wal"), copy.with_file_name("copy.db-wal")).unwrap();
    let copy = open(&copy);
    assert_eq!(stored(&copy, 1).await, Some(value));
    assert_eq!(copy.horizons().len(), 1);
}
