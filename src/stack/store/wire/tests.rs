//! Messages of this version and of others.

use proptest::{option::of, prelude::*};

use super::*;

fn moments() -> impl Strategy<Value = StoreTime> {
    (1..1_u64 << 52).prop_map(StoreTime::from_micros)
}

fn findings(at: StoreTime) -> impl Strategy<Value = Finding> {
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(at.micros());
    prop_oneof![
        "https://pps\\.whatsapp\\.net/v/t61/[0-9]{4}_n\\.jpg\\?oe=[0-9A-F]{8}"
            .prop_map(move |link| Finding::Picture(PictureLink::parse(&link, at).unwrap())),
        Just(Finding::Absent(Absence::Null)),
        Just(Finding::Absent(Absence::ForeignLink)),
        Just(Finding::NotFound(NotFound::Upstream)),
        Just(Finding::NotFound(NotFound::NotOnWhatsApp)),
    ]
}

fn since() -> impl Strategy<Value = SinceRecord> {
    (moments(), moments(), any::<bool>()).prop_flat_map(|(asked, due_at, doubted)| {
        findings(asked).prop_map(move |finding| SinceRecord { finding, asked, due_at, doubted })
    })
}

fn records() -> impl Strategy<Value = Record> {
    (moments(), moments(), of(since())).prop_flat_map(|(fetched, fresh_until, since)| {
        let since = Just(since);
        (findings(fetched), since).prop_map(move |(finding, since)| Record {
            finding,
            fetched,
            fresh_until,
            since,
        })
    })
}

fn errors() -> impl Strategy<Value = LookupError> {
    let wait = || of((0..1_u64 << 40).prop_map(Duration::from_micros));
    let again = prop_oneof![Just(Again::No), Just(Again::Once), Just(Again::Yes)];
    prop_oneof![
        Just(LookupError::CredentialsRejected(Rejected::Unknown)),
        Just(LookupError::CredentialsRejected(Rejected::Forbidden)),
        Just(LookupError::InstanceStarting),
        Just(LookupError::InstanceNotConnected),
        wait().prop_map(|retry_after| LookupError::UpstreamRateLimited { retry_after }),
        (wait(), again).prop_map(|(retry_after, again)| LookupError::Unavailable { retry_after, again }),
        Just(LookupError::SentAway),
        wait().prop_map(|retry_after| LookupError::TimedOut { retry_after }),
        Just(LookupError::Queued),
        Just(LookupError::ResponseInvalid),
    ]
}

proptest! {
    #[test]
    fn an_answer_is_read_as_it_was_written(record in records()) {
        prop_assert_eq!(decode(&encode(&record)), Some(record));
    }

    #[test]
    fn a_cool_down_is_read_as_it_was_written(
        (error, began, until) in (errors(), moments(), moments()),
        time in (0..1_u64 << 40).prop_map(Duration::from_micros),
    ) {
        let failure = FailureRecord { error, began, until, time };
        let message = encode_failure(&failure).unwrap();
        prop_assert_eq!(decode_failure(&message, began, TokenOwner::Caller), Some(failure));
    }

    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode(&bytes);
        let _ = decode_failure(&bytes, StoreTime::default(), TokenOwner::Server);
    }
}

fn stored() -> Answer {
    let statement = Some(Statement { kind: Some(Kind::Absent(1)) });
    Answer { statement, fetched_us: 5, fresh_until_us: 6, since: None }
}

fn read(change: impl FnOnce(&mut Answer)) -> Option<Record> {
    let mut answer = stored();
    change(&mut answer);
    decode(&answer.encode_to_vec())
}

#[test]
fn a_field_of_a_newer_version_is_skipped() {
    // Field 15, a string.
    let message = [&stored().encode_to_vec()[..], b"\x7a\x03new"].concat();
    assert!(decode(&message).is_some());
    assert_eq!(decode(&message), read(|_| ()));
}

#[test]
fn a_value_of_a_newer_version_makes_a_message_unreadable() {
    let statement = |kind| Some(Statement { kind });
    let since =
        Since { statement: statement(Some(Kind::Absent(9))), asked_us: 1, due_at_us: 1, doubted: false };
    assert_eq!(read(|answer| answer.statement = statement(Some(Kind::Absent(3)))), None);
    assert_eq!(read(|answer| answer.statement = statement(Some(Kind::NotFound(3)))), None);
    assert_eq!(read(|answer| answer.statement = statement(None)), None, "another kind");
    assert_eq!(read(|answer| answer.since = Some(since)), None);
    assert_eq!(decode(b""), None);
}

#[test]
fn a_link_is_checked_as_one_of_hypersender() {
    let link = |text: &str| {
        read(|answer| answer.statement = Some(Statement { kind: Some(Kind::Link(text.into())) }))
    };
    assert!(link("https://pps.whatsapp.net/p.jpg").is_some());
    for text in ["", "p.jpg", "ftp://pps.whatsapp.net/p.jpg", "https://user@pps.whatsapp.net/p.jpg"] {
        assert_eq!(link(text), None, "{text}");
    }
}

#[test]
fn a_refusal_of_this_server_is_no_cool_down() {
    let wait = Duration::from_secs(1);
    for error in [
        LookupError::NotCached,
        LookupError::RateLimited { wait },
        LookupError::NoTurnYet { wait },
        LookupError::Overloaded,
        LookupError::CircuitOpen { wait },
        LookupError::DeadlineExceeded,
        LookupError::Internal,
        LookupError::RequestRejected,
        LookupError::NotFound(NotFound::Upstream),
        LookupError::Blocked { wait },
    ] {
        assert_eq!(error.handling().cool_down, None, "{error}");
        let failure = FailureRecord { error, began: time(1).unwrap(), until: time(2).unwrap(), time: wait };
        assert_eq!(encode_failure(&failure), None);
    }
}

#[test]
fn an_error_of_a_newer_version_is_no_cool_down() {
    for message in [
        Failure { error: 99, until_us: 1, ..Failure::default() },
        Failure { error: 7, again: 9, until_us: 1, ..Failure::default() },
    ] {
        assert_eq!(decode_failure(&message.encode_to_vec(), StoreTime::default(), TokenOwner::Server), None);
    }
}

#[test]
fn a_rejected_token_of_the_server_is_named_as_such_whoever_found_it() {
    for (found, server, caller) in [
        (Rejected::Own, Rejected::Own, Rejected::Unknown),
        (Rejected::Unknown, Rejected::Own, Rejected::Unknown),
        (Rejected::Forbidden, Rejected::Own, Rejected::Forbidden),
    ] {
        let (error, began) = (LookupError::CredentialsRejected(found), time(1).unwrap());
        let failure = FailureRecord { error, began, until: time(2).unwrap(), time: Duration::ZERO };
        let message = encode_failure(&failure).unwrap();
        for (owner, expected) in [(TokenOwner::Server, server), (TokenOwner::Caller, caller)] {
            let read = decode_failure(&message, began, owner).unwrap().error;
            assert_eq!(read, LookupError::CredentialsRejected(expected));
        }
    }
}
