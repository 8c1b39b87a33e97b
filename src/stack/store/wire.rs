//! The messages that are stored: [`Record`] and [`FailureRecord`] as protobuf. They are no part of the
//! contract with clients.
//!
//! Replicas of two versions read each other's messages during an upgrade. A field that this version does not
//! know is skipped, so a newer version may add only fields that an older one may ignore. A value that it does
//! not know makes the message unreadable.

use std::time::{Duration, SystemTime};

use prost::{Message, Oneof};

use super::{
    record::{FailureRecord, Record, SinceRecord},
    time::StoreTime,
};
use crate::domain::{Absence, Again, Finding, LookupError, NotFound, PictureLink, Rejected, TokenOwner};

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    statement: Option<Statement>,
    #[prost(fixed64, tag = "2")]
    fetched_us: u64,
    #[prost(fixed64, tag = "3")]
    fresh_until_us: u64,
    #[prost(message, optional, tag = "4")]
    since: Option<Since>,
}

#[derive(Clone, PartialEq, Message)]
struct Since {
    #[prost(message, optional, tag = "1")]
    statement: Option<Statement>,
    #[prost(fixed64, tag = "2")]
    asked_us: u64,
    #[prost(fixed64, tag = "3")]
    due_at_us: u64,
    #[prost(bool, tag = "4")]
    doubted: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Statement {
    #[prost(oneof = "Kind", tags = "1, 2, 3")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(string, tag = "1")]
    Link(String),
    /// 1: null, 2: a link to a foreign host.
    #[prost(uint32, tag = "2")]
    Absent(u32),
    /// 1: Hypersender knows no such contact, 2: it is not on WhatsApp.
    #[prost(uint32, tag = "3")]
    NotFound(u32),
}

#[derive(Clone, PartialEq, Message)]
struct Failure {
    /// The number of a [`LookupError`] that cools down, as `error_number` gives it.
    #[prost(uint32, tag = "1")]
    error: u32,
    #[prost(uint64, optional, tag = "2")]
    retry_after_us: Option<u64>,
    /// For an unavailable Hypersender: 1 no, 2 once, 3 yes.
    #[prost(uint32, tag = "3")]
    again: u32,
    #[prost(fixed64, tag = "4")]
    until_us: u64,
    #[prost(uint64, tag = "5")]
    time_us: u64,
}

/// The message of an answer.
pub fn encode(record: &Record) -> Vec<u8> {
    let since = record.since.as_ref().map(|since| Since {
        statement: Some(statement(&since.finding)),
        asked_us: since.asked.micros(),
        due_at_us: since.due_at.micros(),
        doubted: since.doubted,
    });
    let answer = Answer {
        statement: Some(statement(&record.finding)),
        fetched_us: record.fetched.micros(),
        fresh_until_us: record.fresh_until.micros(),
        since,
    };
    answer.encode_to_vec()
}

/// The answer in a message; `None` when it cannot be understood.
pub fn decode(message: &[u8]) -> Option<Record> {
    let answer = Answer::decode(message).ok()?;
    let fetched = time(answer.fetched_us)?;
    let since = answer.since.map(|since| {
        let asked = time(since.asked_us)?;
        let finding = finding(since.statement?, asked)?;
        Some(SinceRecord { finding, asked, due_at: time(since.due_at_us)?, doubted: since.doubted })
    });
    Some(Record {
        finding: finding(answer.statement?, fetched)?,
        fetched,
        fresh_until: time(answer.fresh_until_us)?,
        since: match since {
            Some(since) => Some(since?),
            None => None,
        },
    })
}

/// The message of a cool-down; `None` for an error that does not cool down. Its beginning is not in it.
pub fn encode_failure(failure: &FailureRecord) -> Option<Vec<u8>> {
    let mut again_number = 0;
    if let LookupError::Unavailable { again, .. } = &failure.error {
        again_number = match again {
            Again::No => 1,
            Again::Once => 2,
            Again::Yes => 3,
        };
    }
    let message = Failure {
        error: error_number(&failure.error)?,
        retry_after_us: failure.error.retry_after().map(micros),
        again: again_number,
        until_us: failure.until.micros(),
        time_us: micros(failure.time),
    };
    Some(message.encode_to_vec())
}

/// The cool-down in a message, which began at `began`, for a token of `owner`; `None` when it cannot be
/// understood.
pub fn decode_failure(message: &[u8], began: StoreTime, owner: TokenOwner) -> Option<FailureRecord> {
    let message = Failure::decode(message).ok()?;
    let retry_after = message.retry_after_us.map(Duration::from_micros);
    let rejected = |by_caller| match owner {
        // The server's own token is no matter of the caller, whichever process found it rejected.
        TokenOwner::Server => Rejected::Own,
        TokenOwner::Caller => by_caller,
    };
    let error = match message.error {
        1 | 2 => LookupError::CredentialsRejected(rejected(Rejected::Unknown)),
        3 => LookupError::CredentialsRejected(rejected(Rejected::Forbidden)),
        4 => LookupError::InstanceStarting,
        5 => LookupError::InstanceNotConnected,
        6 => LookupError::UpstreamRateLimited { retry_after },
        7 => {
            let again = match message.again {
                1 => Again::No,
                2 => Again::Once,
                3 => Again::Yes,
                _ => return None,
            };
            LookupError::Unavailable { retry_after, again }
        }
        8 => LookupError::SentAway,
        9 => LookupError::TimedOut { retry_after },
        10 => LookupError::Queued,
        11 => LookupError::ResponseInvalid,
        _ => return None,
    };
    let (until, time) = (time(message.until_us)?, Duration::from_micros(message.time_us));
    Some(FailureRecord { error, began, until, time })
}

/// The number of an error that cools down. It is part of the format.
fn error_number(error: &LookupError) -> Option<u32> {
    match error {
        LookupError::CredentialsRejected(Rejected::Own) => Some(1),
        LookupError::CredentialsRejected(Rejected::Unknown) => Some(2),
        LookupError::CredentialsRejected(Rejected::Forbidden) => Some(3),
        LookupError::InstanceStarting => Some(4),
        LookupError::InstanceNotConnected => Some(5),
        LookupError::UpstreamRateLimited { .. } => Some(6),
        LookupError::Unavailable { .. } => Some(7),
        LookupError::SentAway => Some(8),
        LookupError::TimedOut { .. } => Some(9),
        LookupError::Queued => Some(10),
        LookupError::ResponseInvalid => Some(11),
        LookupError::NotCached
        | LookupError::RateLimited { .. }
        | LookupError::NoTurnYet { .. }
        | LookupError::Overloaded
        | LookupError::CircuitOpen { .. }
        | LookupError::DeadlineExceeded
        | LookupError::Internal
        | LookupError::RequestRejected
        | LookupError::NotFound(_)
        | LookupError::Blocked { .. } => None,
    }
}

fn statement(finding: &Finding) -> Statement {
    let kind = match finding {
        Finding::Picture(link) => Kind::Link(link.url().to_owned()),
        Finding::Absent(Absence::Null) => Kind::Absent(1),
        Finding::Absent(Absence::ForeignLink) => Kind::Absent(2),
        Finding::NotFound(NotFound::Upstream) => Kind::NotFound(1),
        Finding::NotFound(NotFound::NotOnWhatsApp) => Kind::NotFound(2),
    };
    Statement { kind: Some(kind) }
}

/// The finding of a statement that was made at `at`. The expiry of a link is read as it was then.
fn finding(statement: Statement, at: StoreTime) -> Option<Finding> {
    Some(match statement.kind? {
        Kind::Link(link) => {
            let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(at.micros()))?;
            Finding::Picture(PictureLink::parse(&link, at).ok()?)
        }
        Kind::Absent(1) => Finding::Absent(Absence::Null),
        Kind::Absent(2) => Finding::Absent(Absence::ForeignLink),
        Kind::NotFound(1) => Finding::NotFound(NotFound::Upstream),
        Kind::NotFound(2) => Finding::NotFound(NotFound::NotOnWhatsApp),
        Kind::Absent(_) | Kind::NotFound(_) => return None,
    })
}

/// A time that is missing is no time.
fn time(micros: u64) -> Option<StoreTime> {
    (micros > 0).then(|| StoreTime::from_micros(micros))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
