//! [`Contacts`]: the methods of the contact service. Each converts the request, looks up, and converts the
//! answer.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::future::{BoxFuture, Either, Ready};
use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::Service;

use super::{
    Answered, batch, contact,
    contact_method::{ContactMethod, RequestMessage},
    control::cache_control,
    picture::{cache_info, picture},
    stream,
    streams::Streams,
    unary,
};
use crate::{
    domain::{Answer, CallTime, Caller, ChatId, Credential, Instance, Key, Lookup, LookupError, Refusal},
    stack::{LookupService, ServeFuture, Stack},
    telemetry::{ManyMetrics, trace_answer},
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
    pub(super) fn resolve(&self, name: &str, call: &Extensions) -> Result<(Instance, Credential), Refusal> {
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
#[derive(Debug)]
pub struct Contacts<F> {
    pub(super) stack: Stack<F>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) streams: Streams,
    pub(super) metrics: Arc<ManyMetrics>,
}

impl<F> Clone for Contacts<F> {
    fn clone(&self) -> Self {
        let Self { stack, credentials, streams, metrics } = self;
        Self {
            stack: stack.clone(),
            credentials: credentials.clone(),
            streams: streams.clone(),
            metrics: metrics.clone(),
        }
    }
}

impl<F> Contacts<F> {
    /// Serves the answers of `stack`, with as many streams as `streams` allows.
    pub fn new(
        stack: Stack<F>,
        credentials: Credentials,
        streams: Streams,
        metrics: Arc<ManyMetrics>,
    ) -> Self {
        Self { stack, credentials: Arc::new(credentials), streams, metrics }
    }
}

/// The response to a batch or a stream: known at once, or later.
pub type ManyCall = Either<Ready<Answered>, BoxFuture<'static, Answered>>;

impl<F: LookupService> Service<Request<RequestMessage>> for Contacts<F> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<unary::Call<PictureLookup<ServeFuture>>, ManyCall>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestMessage>) -> Self::Future {
        let RequestMessage { method, bytes } = request.body();
        match method {
            ContactMethod::GetProfilePicture => Either::Left(unary::call(&request, bytes, |message| {
                let lookup = picture_of(&message, &self.credentials, request.extensions())?;
                let key = lookup.key.clone();
                Ok(PictureLookup { key, lookup: self.stack.call(lookup) })
            })),
            ContactMethod::BatchGetProfilePictures => Either::Right(batch::call(self, request)),
            ContactMethod::StreamProfilePictures => Either::Right(stream::call(self, request)),
        }
    }
}

/// The look-up that `message` asks for. The layers of the server have put the caller and the deadline into
/// `call`, the extensions of the request.
fn picture_of(
    message: &contact::GetProfilePictureRequest,
    credentials: &Credentials,
    call: &Extensions,
) -> Result<Lookup, Refusal> {
    let chat = ChatId::parse(&message.chat_id)?;
    let control = cache_control(message.cache_control.unwrap_or_default())?;
    let (instance, credential) = credentials.resolve(&message.instance, call)?;
    let time = call.get::<CallTime>();
    let deadline = time.map(|time| time.deadline.clone()).ok_or(Refusal::Internal)?;
    Ok(Lookup::new(instance, credential, chat, control, deadline))
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
        Poll::Ready(answer.and_then(|answer| {
            let cache_info = Some(cache_info(answer.cache));
            let picture = picture(this.key.scope.instance.as_str(), this.key.chat.as_str(), answer)?;
            Ok(contact::GetProfilePictureResponse { profile_picture: Some(picture), cache_info })
        }))
    }
}
