//! [`Contacts`]: the methods of the contact service. Each converts the request, looks up, and converts the
//! answer.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::{Service, ServiceExt, util::Oneshot};

use super::{
    contact,
    contact_method::{ContactMethod, RequestMessage},
    unary,
};
use crate::{
    domain::{
        Answer, CacheControl, CacheInfo, CacheStatus, CallTime, Caller, ChatId, Credential, Finding,
        Instance, Key, Lookup, LookupError, Refusal, Ttl,
    },
    telemetry::trace_answer,
};

/// The full name of the service.
pub const SERVICE: &str = "hypersender.contact.v1.ContactService";

/// The token for each instance, for calls that carry none themselves.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The tokens of instances that have their own.
    pub by_instance: HashMap<Instance, Credential>,
    /// The token for every other instance. Without it, calls for other instances are refused.
    pub any: Option<Credential>,
    /// The instance for calls that name none.
    pub default_instance: Option<Instance>,
}

impl Credentials {
    /// The instance that a caller means by `name`, and the token for it.
    fn resolve(&self, name: &str, call: &Extensions) -> Result<(Instance, Credential), Refusal> {
        let instance = if name.is_empty() {
            self.default_instance.clone().ok_or(Refusal::InstanceMissing)?
        } else {
            Instance::parse(name)?
        };
        // A call without a caller means that the layer in front of this service is missing. It is refused.
        let caller = call.get::<Caller>().ok_or(Refusal::Internal)?;
        if !caller.may_ask(&instance) {
            return Err(Refusal::InstanceNotAllowed);
        }
        let own = || self.by_instance.get(&instance).or(self.any.as_ref());
        let credential = call.get::<Credential>().or_else(own);
        let credential = credential.cloned().ok_or(Refusal::InstanceNotConfigured)?;
        Ok((instance, credential))
    }
}

/// Answers every [`ContactMethod`] with the look-ups of a stack.
#[derive(Clone, Debug)]
pub struct Contacts<S> {
    lookup: S,
    credentials: Arc<Credentials>,
}

impl<S> Contacts<S> {
    /// Serves the answers of `lookup`.
    pub fn new(lookup: S, credentials: Credentials) -> Self {
        Self { lookup, credentials: Arc::new(credentials) }
    }

    /// The look-up that `message` asks for. The layers of the server have put the caller and the deadline
    /// into `call`, the extensions of the request.
    fn picture_of(
        &self,
        message: &contact::GetProfilePictureRequest,
        call: &Extensions,
    ) -> Result<Lookup, Refusal> {
        let chat = ChatId::parse(&message.chat_id)?;
        let control = cache_control(message.cache_control.unwrap_or_default())?;
        let (instance, credential) = self.credentials.resolve(&message.instance, call)?;
        let time = call.get::<CallTime>();
        let deadline = time.map(|time| time.deadline.clone()).ok_or(Refusal::Internal)?;
        Ok(Lookup::new(instance, credential, chat, control, deadline))
    }
}

impl<S> Service<Request<RequestMessage>> for Contacts<S>
where
    S: Service<Lookup, Response = Answer, Error = LookupError> + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = unary::Call<PictureLookup<Oneshot<S, Lookup>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestMessage>) -> Self::Future {
        let RequestMessage { method, bytes } = request.body();
        match method {
            ContactMethod::GetProfilePicture => unary::call(&request, bytes, |message| {
                let lookup = self.picture_of(&message, request.extensions())?;
                let key = lookup.key.clone();
                Ok(PictureLookup { key, lookup: self.lookup.clone().oneshot(lookup) })
            }),
            ContactMethod::BatchGetProfilePictures | ContactMethod::StreamProfilePictures => {
                unary::call(&request, bytes, |_: contact::GetProfilePictureRequest| Err(Refusal::Internal))
            }
        }
    }
}

pin_project! {
    /// A look-up in progress, which resolves to the response message of `GetProfilePicture`.
    #[derive(Debug)]
    pub struct PictureLookup<F> {
        key: Key,
        #[pin]
        lookup: F,
    }
}

impl<F> Future for PictureLookup<F>
where
    F: Future<Output = Result<Answer, LookupError>>,
{
    type Output = Result<contact::GetProfilePictureResponse, LookupError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.lookup.poll(context)).inspect(|answer| trace_answer(&answer.cache));
        Poll::Ready(answer.and_then(|answer| write(this.key, answer)))
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

/// The caller's cache control. A duration that the rules of its field forbid is refused, with the name of the
/// field.
fn cache_control(control: contact::CacheControl) -> Result<CacheControl, Refusal> {
    let read = |field, given: Option<prost_types::Duration>| {
        let read = given.map(|given| accepted(given).ok_or(Refusal::CacheControlInvalid { field }));
        read.transpose()
    };
    Ok(CacheControl {
        max_age: read("max_age", control.max_age)?,
        min_fresh: read("min_fresh", control.min_fresh)?,
        stale_if_error: read("stale_if_error", control.stale_if_error)?,
        only_if_cached: control.only_if_cached,
    })
}

/// The answer in the terms of the contract. A missing contact is stored like an answer and reported as an
/// error.
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
