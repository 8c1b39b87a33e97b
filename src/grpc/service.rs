//! [`Contacts`]: `GetProfilePicture`. It converts the request, looks up, and converts the answer.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::{Either, Ready, ready};
use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::{Service, ServiceExt, util::Oneshot};

use super::{contact, status::status, timeout::call_end, unary};
use crate::{
    domain::{
        Answer, CacheControl, CacheInfo, CacheStatus, CallEnd, CallTime, Caller, ChatId, Credential, Finding,
        Instance, Key, Lookup, LookupError, Ttl,
    },
    telemetry::trace_answer,
};

/// Full name of the service.
pub const SERVICE: &str = "hypersender.contact.v1.ContactService";
/// Path of the method, by which HTTP/2 calls it.
pub const GET_PROFILE_PICTURE: &str = "/hypersender.contact.v1.ContactService/GetProfilePicture";

/// Which token each instance is asked with, when the call itself does not carry the one.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The token of each instance that has one of its own.
    pub by_instance: HashMap<Instance, Credential>,
    /// The token for every other instance; without it there are no others.
    pub any: Option<Credential>,
    /// The instance asked when a call names none.
    pub default_instance: Option<Instance>,
}

impl Credentials {
    /// The instance a caller means by `name`, and the token it is asked with.
    fn resolve(&self, name: &str, call: &Extensions) -> Result<(Instance, Credential), LookupError> {
        let instance = if name.is_empty() {
            self.default_instance.clone().ok_or(LookupError::InstanceMissing)?
        } else {
            Instance::parse(name)?
        };
        // A call that nobody looked at is refused: the layer in front of the service is missing.
        let caller = call.get::<Caller>().ok_or(LookupError::Internal)?;
        if !caller.may_ask(&instance) {
            return Err(LookupError::InstanceNotAllowed);
        }
        let own = || self.by_instance.get(&instance).or(self.any.as_ref());
        let credential = call.get::<Credential>().or_else(own);
        let credential = credential.cloned().ok_or(LookupError::InstanceNotConfigured)?;
        Ok((instance, credential))
    }
}

/// Answers the method at [`GET_PROFILE_PICTURE`] over a stack that looks up.
#[derive(Clone, Debug)]
pub struct Contacts<S> {
    lookup: S,
    credentials: Arc<Credentials>,
}

impl<S> Contacts<S> {
    /// Serves what `lookup` finds.
    pub fn new(lookup: S, credentials: Credentials) -> Self {
        Self { lookup, credentials: Arc::new(credentials) }
    }

    /// The look-up a request asks for; who asks and until when was found out where the request came in.
    fn read(&self, request: &Request<Bytes>) -> Result<Lookup, LookupError> {
        let message: contact::GetProfilePictureRequest = unary::read(request.headers(), request.body())?;
        let chat = ChatId::parse(&message.chat_id)?;
        let control = cache_control(message.cache_control.unwrap_or_default())?;
        let (instance, credential) = self.credentials.resolve(&message.instance, request.extensions())?;
        let time = request.extensions().get::<CallTime>();
        let deadline = time.map(|time| time.deadline.clone()).ok_or(LookupError::Internal)?;
        Ok(Lookup::new(instance, credential, chat, control, deadline))
    }
}

type Answered = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Bytes>> for Contacts<S>
where
    S: Service<Lookup, Response = Answer, Error = LookupError> + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Answered>, Answering<Oneshot<S, Lookup>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let end = call_end(request.headers(), request.extensions());
        match self.read(&request) {
            Ok(lookup) => {
                let key = lookup.key.clone();
                Either::Right(Answering { key, end, lookup: self.lookup.clone().oneshot(lookup) })
            }
            Err(error) => Either::Left(ready(Ok(status(&error, end).into_http()))),
        }
    }
}

pin_project! {
    /// A call whose look-up goes on.
    #[derive(Debug)]
    pub struct Answering<F> {
        key: Key,
        end: CallEnd,
        #[pin]
        lookup: F,
    }
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Answer, LookupError>>,
{
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        let this = self.project();
        let answer = ready!(this.lookup.poll(context)).inspect(|answer| trace_answer(&answer.cache));
        Poll::Ready(Ok(match answer.and_then(|answer| write(this.key, answer)) {
            Ok(answer) => unary::reply(&answer),
            Err(error) => status(&error, *this.end).into_http(),
        }))
    }
}

/// The longest duration of the contract, in seconds: 10,000 years, as google/protobuf/duration.proto says.
const SECONDS_MAX: u64 = 315_576_000_000;
const NANOS_MAX: u32 = 999_999_999;

/// The duration, unless it is negative or one of its parts is outside the bounds of the contract (rule 10).
/// The conversion of `prost_types` adds the parts up instead, and takes 1 s - 1 ns.
fn accepted(given: prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(given.seconds).ok().filter(|seconds| *seconds <= SECONDS_MAX)?;
    let nanos = u32::try_from(given.nanos).ok().filter(|nanos| *nanos <= NANOS_MAX)?;
    Some(Duration::new(seconds, nanos))
}

/// What the caller accepts; a duration that the field's rules forbid is refused by name.
fn cache_control(control: contact::CacheControl) -> Result<CacheControl, LookupError> {
    let read = |field, given: Option<prost_types::Duration>| {
        let read = given.map(|given| accepted(given).ok_or(LookupError::CacheControlInvalid { field }));
        read.transpose()
    };
    Ok(CacheControl {
        max_age: read("max_age", control.max_age)?,
        min_fresh: read("min_fresh", control.min_fresh)?,
        stale_if_error: read("stale_if_error", control.stale_if_error)?,
        only_if_cached: control.only_if_cached,
    })
}

/// The answer in the terms of the contract. That there is no such contact is stored like an answer, and told as an error.
fn write(key: &Key, answer: Answer) -> Result<contact::GetProfilePictureResponse, LookupError> {
    let mut picture = contact::ProfilePicture {
        instance: key.scope.instance.as_str().to_owned(),
        chat_id: key.chat.as_str().to_owned(),
        fetch_time: Some(timestamp(answer.fetched.wall)),
        ..Default::default()
    };
    match answer.finding {
        Finding::Picture(link) => {
            picture.set_state(contact::ProfilePictureState::Present);
            picture.fingerprint = link.fingerprint().into_owned();
            picture.expire_time = link.expires_at().map(timestamp);
            picture.url = link.into_url();
        }
        Finding::Absent(_) => picture.set_state(contact::ProfilePictureState::NotAvailable),
        Finding::NotFound(why) => return Err(LookupError::NotFound(why)),
    }
    Ok(contact::GetProfilePictureResponse {
        profile_picture: Some(picture),
        cache_info: Some(cache_info(answer.cache)),
    })
}

fn cache_info(info: CacheInfo) -> contact::CacheInfo {
    let status = match info.status {
        CacheStatus::Hit => contact::CacheStatus::Hit,
        CacheStatus::Miss => contact::CacheStatus::Miss,
        CacheStatus::Expired => contact::CacheStatus::Expired,
        CacheStatus::Refreshed => contact::CacheStatus::Refreshed,
        CacheStatus::Stale => contact::CacheStatus::Stale,
    };
    let ttl = match info.ttl {
        Ttl::Left(left) => duration(left),
        Ttl::Past(past) => {
            let past = duration(past);
            prost_types::Duration { seconds: -past.seconds, nanos: -past.nanos }
        }
    };
    contact::CacheInfo {
        status: status.into(),
        age: Some(duration(info.age)),
        ttl: Some(ttl),
        collapsed: info.collapsed,
    }
}

fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: duration.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

fn timestamp(at: SystemTime) -> prost_types::Timestamp {
    prost_types::Timestamp::from(at)
}
