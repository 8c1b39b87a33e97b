//! [`Contacts`]: the test numbers as the service knows them.

use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;
use tonic_types::StatusExt;
use tower::ServiceExt;

use super::{Sandbox, SandboxNumber};
use crate::{
    domain::{
        Answer, CacheControl, CacheStatus, CallEnd, ChatId, Credential, Deadline, Finding, Instance, Lookup,
        LookupError, Ttl,
    },
    grpc::{Credentials, status},
    stack::{LookupService, Stack},
};

/// The time for one look-up, which is the default of the service.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Numbers whose fault pauses their whole instance, so that each is asked through an instance of its own: a
/// rejected token, a rate limit, no connection to WhatsApp, and failures that open the circuit breaker.
const PAUSING: [&str; 5] = ["15551230007", "15551230008", "15551230010", "15551230012", "15551230015"];
/// The length of [`Contact::version`], in characters.
const VERSION_CHARS: usize = 16;

/// Makes the sealed address of a contact, if it can.
pub type AddressOf = Box<dyn Fn(&Instance, &ChatId) -> Option<String> + Send + Sync>;

/// The test numbers, and the last failure of each.
pub struct Contacts<F> {
    stack: Stack<F>,
    address_of: AddressOf,
    rows: Vec<Row>,
}

struct Row {
    number: SandboxNumber,
    chat: ChatId,
    instance: Instance,
    credential: Credential,
    failure: Mutex<Option<(Instant, Failure)>>,
}

/// A test number as the page shows it.
#[derive(Debug, Serialize)]
pub struct Contact {
    number: &'static str,
    about: &'static str,
    instance: String,
    /// The path of its image, without the query.
    avatar: Option<String>,
    /// Whether there is a picture; `None` without an answer.
    finding: Option<&'static str>,
    /// How the answer was found, as in the contract.
    status: Option<&'static str>,
    /// The age of the answer.
    age_seconds: Option<u64>,
    /// The rest of its freshness; negative when that is over.
    fresh_seconds: Option<i64>,
    /// A text that changes with the picture. It is a part of the fingerprint.
    version: Option<String>,
    /// The last failure, if no newer answer took its place.
    error: Option<Failure>,
}

/// Why a look-up failed, in the words of the contract.
#[derive(Clone, Debug, Serialize)]
struct Failure {
    reason: String,
    text: String,
}

impl<F: LookupService> Contacts<F> {
    /// The numbers of `sandbox` for which `credentials` have a token.
    pub fn new(sandbox: Sandbox, stack: Stack<F>, credentials: &Credentials, address_of: AddressOf) -> Self {
        let Sandbox { instance, numbers, .. } = sandbox;
        let row = |number: SandboxNumber| {
            let own = format!("sandbox-{}", number.number);
            let instance =
                if PAUSING.contains(&number.number) { Instance::parse(&own).ok()? } else { instance.clone() };
            let credential = credentials.own(&instance)?.clone();
            let chat = ChatId::parse(number.number).ok()?;
            Some(Row { number, chat, instance, credential, failure: Mutex::default() })
        };
        Self { stack, address_of, rows: numbers.into_iter().filter_map(row).collect() }
    }

    /// Whether `number` is one of them.
    pub fn has(&self, number: &str) -> bool {
        self.row(number).is_some()
    }

    /// All of them, as the cache knows them now. Hypersender is not asked.
    pub async fn all(&self) -> Vec<Contact> {
        let stored = CacheControl { only_if_cached: true, ..CacheControl::default() };
        join_all(self.rows.iter().map(|row| self.look_up(row, stored))).await
    }

    /// The contact after a look-up; with `again`, one that accepts no stored answer. `None` when `number` is
    /// not one of them.
    pub async fn ask(&self, number: &str, again: bool) -> Option<Contact> {
        let control = CacheControl { max_age: again.then_some(Duration::ZERO), ..CacheControl::default() };
        Some(self.look_up(self.row(number)?, control).await)
    }

    fn row(&self, number: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.number.number == number)
    }

    async fn look_up(&self, row: &Row, control: CacheControl) -> Contact {
        let Row { chat, instance, credential, .. } = row;
        let deadline = Deadline::at(Instant::now() + TIME_MAX);
        let lookup = Lookup::new(instance.clone(), credential.clone(), chat.clone(), control, deadline);
        let found = self.stack.clone().oneshot(lookup).await;
        let mut failure = row.failure.lock();
        let contact = self.empty(row);
        match found {
            Ok(answer) => {
                // A stored answer may be older than the failure that it replaces.
                failure.take_if(|(at, _)| *at <= answer.fetched.instant);
                Contact { error: failure.clone().map(|(_, failure)| failure), ..contact }.with(&answer)
            }
            // The cache has nothing, and that is all that was wanted.
            Err(LookupError::NotCached) => {
                Contact { error: failure.clone().map(|(_, failure)| failure), ..contact }
            }
            Err(error) => {
                let error = Failure::of(&error);
                *failure = Some((Instant::now(), error.clone()));
                Contact { error: Some(error), ..contact }
            }
        }
    }

    /// The contact without an answer.
    fn empty(&self, row: &Row) -> Contact {
        let address = (self.address_of)(&row.instance, &row.chat);
        Contact {
            number: row.number.number,
            about: row.number.about,
            instance: row.instance.as_str().to_owned(),
            avatar: address.as_deref().and_then(path),
            finding: None,
            status: None,
            age_seconds: None,
            fresh_seconds: None,
            version: None,
            error: None,
        }
    }
}

impl Contact {
    fn with(self, answer: &Answer) -> Self {
        let status = match answer.cache.status {
            CacheStatus::Hit => "HIT",
            CacheStatus::Miss => "MISS",
            CacheStatus::Expired => "EXPIRED",
            CacheStatus::Refreshed => "REFRESHED",
            CacheStatus::Stale => "STALE",
        };
        let seconds = |time: Duration| time.as_secs().try_into().unwrap_or(i64::MAX);
        let fresh = match answer.cache.ttl {
            Ttl::Left(left) => seconds(left),
            Ttl::Past(past) => -seconds(past),
        };
        let (finding, version, error) = match &answer.finding {
            Finding::Picture(link) => {
                let version = link.fingerprint().chars().take(VERSION_CHARS).collect();
                ("picture", Some(version), None)
            }
            Finding::Absent(_) => ("absent", None, None),
            Finding::NotFound(why) => ("not_found", None, Some(Failure::of(&LookupError::NotFound(*why)))),
        };
        Self {
            finding: Some(finding),
            status: Some(status),
            age_seconds: Some(answer.cache.age.as_secs()),
            fresh_seconds: Some(fresh),
            version,
            error: error.or(self.error),
            ..self
        }
    }
}

impl Failure {
    fn of(error: &LookupError) -> Self {
        let status = status(error, CallEnd::UNSTATED);
        let reason = status.get_details_error_info().map(|info| info.reason);
        Self { reason: reason.unwrap_or_default(), text: status.message().to_owned() }
    }
}

/// The path of a sealed address on this port. The public root may have another host, such as 127.0.0.1 where
/// the page was opened as localhost, and a path that a proxy removes.
fn path(address: &str) -> Option<String> {
    address.rsplit('/').next().map(|sealed| format!("/avatars/{sealed}"))
}
