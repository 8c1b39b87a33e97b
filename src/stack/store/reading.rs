//! What the store knows of contacts, read and opened. A value that cannot be opened counts as absent.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Leasing, Reading, Unavailable,
    engine::{self, Epoch, Leased, ScopeState, Seen},
    lease::{Held, Lease},
    parts::Parts,
    record::{FailureRecord, Stored},
    revocation::tell,
    scopes::Known,
    seal::open,
    time::StoreTime,
    wire,
};
use crate::{
    domain::{ChatId, Credential, Key, Scope, TokenOwner},
    telemetry::{StoreOperation as Operation, StoredAnswer},
};

/// The values of a contact as far as they count, and the times of those that do not.
#[derive(Debug)]
struct Opened {
    answer: Option<Stored>,
    failure: Option<FailureRecord>,
    scope_failure: Option<FailureRecord>,
    found: StoredAnswer,
    /// The times of the values that do not count. They must not keep a lease from this process.
    ignored: Seen,
    epoch: Option<Epoch>,
    leased: Leased,
}

/// Reads what is known of `key`; see [`super::Store::read`].
pub async fn read(
    parts: &Arc<Parts>,
    key: &Key,
    credential: &Credential,
    seen: Seen,
    wants_lease: bool,
) -> Result<Reading, Unavailable> {
    let known = parts.scopes.of(&key.scope, credential);
    let names = known.names(&key.chat);
    // The lease exists before the store has given it, so that it is released when this call is cancelled.
    let mut lease = wants_lease.then(|| {
        let (parts, known, chat) = (parts.clone(), known.clone(), key.chat.clone());
        Lease::new(Held {
            parts,
            known,
            chat,
            names: names.clone(),
            id: rand::random(),
            epoch: None,
            unreadable: None,
        })
    });
    let id = lease.as_ref().and_then(Lease::id);
    let mut opened = read_once(parts, &known, &names, seen, id, credential.owner()).await?;
    if wants_lease && opened.leased == Leased::No && opened.ignored != Seen::default() {
        let seen = later(seen, opened.ignored);
        opened = read_once(parts, &known, &names, seen, id, credential.owner()).await?;
    }
    let mut is_poll = false;
    if wants_lease {
        let noted = parts.waits.note(&names.lease, opened.leased, Instant::now());
        is_poll = noted.is_poll;
        if let Some(result) = noted.result {
            parts.metrics.lease(result);
        }
    }
    // A wait reads again and again, and so does a caller that does not accept what it has read.
    let is_seen = opened.answer.as_ref().is_some_and(|stored| Some(stored.asked_at) <= seen.answer);
    if !is_poll && !is_seen {
        parts.metrics.answer(opened.found);
    }
    let lease = match (opened.leased, lease.take()) {
        (Leased::Taken, Some(mut lease)) => {
            lease.note(opened.epoch, opened.ignored.answer);
            Leasing::Taken(lease)
        }
        (leased, lease) => {
            if let Some(lease) = lease {
                lease.forget();
            }
            if leased == Leased::Held { Leasing::Held } else { Leasing::No }
        }
    };
    let Opened { answer, failure, scope_failure, .. } = opened;
    Ok(Reading { answer, failure, scope_failure, lease })
}

async fn read_once(
    parts: &Parts,
    known: &Known,
    names: &engine::Names,
    seen: Seen,
    id: Option<engine::LeaseId>,
    owner: TokenOwner,
) -> Result<Opened, Unavailable> {
    let done = parts.guard.run(Operation::Read, parts.backend.read(names, seen, id)).await?;
    let reading = &done.value;
    parts.learn(&done, reading.now);
    note(parts, known, reading.scope, reading.now);
    let epoch = reading.scope.map(|scope| scope.epoch);
    let (answer, found) = answer(known, &names.answer, reading.scope, reading.answer.as_deref(), reading.now);
    let failure_of = |name: &str, value: Option<&[u8]>| failure(known, name, epoch, value, owner);
    let failure = failure_of(&names.failure, reading.failure.as_deref());
    let scope_failure = failure_of(&names.scope_failure, reading.scope_failure.as_deref());
    // A cool-down that is over is returned, because the next one follows from it. It does not keep
    // a caller from asking.
    let counts = |failure: &Option<FailureRecord>| failure.as_ref().is_some_and(|it| it.until > reading.now);
    let time = |value: &Option<Vec<u8>>, counts: bool| {
        value.as_deref().filter(|_| !counts).map(|value| engine::header(value).unwrap_or_default())
    };
    let ignored = Seen {
        answer: time(&reading.answer, answer.is_some()),
        failure: time(&reading.failure, counts(&failure)),
        scope_failure: time(&reading.scope_failure, counts(&scope_failure)),
    };
    Ok(Opened { answer, failure, scope_failure, found, ignored, epoch, leased: reading.lease })
}

/// Reads the answers of a group; see [`super::Store::read_group`].
pub async fn read_group(
    parts: &Parts,
    scope: &Scope,
    credential: &Credential,
    chats: &[ChatId],
) -> Result<Vec<Option<Stored>>, Unavailable> {
    let known = parts.scopes.of(scope, credential);
    let names: Vec<_> = chats.iter().map(|chat| known.answer_name(chat)).collect();
    let done = parts.guard.run(Operation::ReadGroup, parts.backend.answers(&known.name, &names)).await?;
    let (now, state, values) = &done.value;
    parts.learn(&done, *now);
    note(parts, &known, *state, *now);
    let mut values = values.iter();
    let stored = names.iter().map(|name| {
        let value = values.next().and_then(Option::as_deref);
        let (stored, found) = answer(&known, name, *state, value, *now);
        parts.metrics.answer(found);
        stored
    });
    Ok(stored.collect())
}

/// Notes the record of the scope. A rejection in it that this process did not know of hides what memory has.
fn note(parts: &Parts, known: &Known, scope: Option<ScopeState>, now: StoreTime) {
    if let Some(rejected_at) = known.note(scope, now) {
        tell(parts, known, rejected_at);
    }
}

/// Opens an answer. None counts without the record of the scope, with another epoch, or when the token was
/// rejected after the attempt began.
fn answer(
    known: &Known,
    name: &str,
    scope: Option<ScopeState>,
    value: Option<&[u8]>,
    now: StoreTime,
) -> (Option<Stored>, StoredAnswer) {
    let (Some(scope), Some(value)) = (scope, value) else {
        return (None, StoredAnswer::Miss);
    };
    let opened = open(&known.keys.value, name, &scope.epoch, value);
    let Some((asked_at, record)) = opened.and_then(|(at, message)| Some((at, wire::decode(&message)?)))
    else {
        return (None, StoredAnswer::Unreadable);
    };
    if known.is_rejected(asked_at) {
        return (None, StoredAnswer::Miss);
    }
    known.answered(asked_at);
    let found = if now < record.fresh_until { StoredAnswer::Hit } else { StoredAnswer::Stale };
    (Some(Stored { record, asked_at }), found)
}

fn failure(
    known: &Known,
    name: &str,
    epoch: Option<Epoch>,
    value: Option<&[u8]>,
    owner: TokenOwner,
) -> Option<FailureRecord> {
    let (began, message) = open(&known.keys.value, name, &epoch?, value?)?;
    wire::decode_failure(&message, began, owner)
}

fn later(seen: Seen, ignored: Seen) -> Seen {
    Seen {
        answer: seen.answer.max(ignored.answer),
        failure: seen.failure.max(ignored.failure),
        scope_failure: seen.scope_failure.max(ignored.scope_failure),
    }
}
