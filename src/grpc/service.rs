//! [`Contacts`]: the methods of the contact service. Each converts the request, looks up, and converts the
//! answer.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::future::Either;
use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::Service;

use super::{
    avatar_address::AvatarAddress,
    backend::Backend,
    batch, contact,
    contact_method::{ContactMethod, RequestMessage},
    control::cache_control,
    credentials::Credentials,
    many::ManyCall,
    picture::{cache_info, picture},
    stream,
    streams::Streams,
    unary,
};
use crate::{
    domain::{Answer, CallTime, ChatId, Key, Lookup, LookupError, Refusal},
    stack::{LookupService, ServeFuture, Stack},
    telemetry::{ManyMetrics, trace_answer},
};

/// The full name of the service.
pub const SERVICE: &str = "hypersender.contact.v1.ContactService";

/// Answers every [`ContactMethod`] with the look-ups of a stack.
#[derive(Debug)]
pub struct Contacts<F>(Backend<F>);

impl<F> Clone for Contacts<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F> Contacts<F> {
    /// Serves the answers of `stack`, with as many streams as `streams` allows.
    pub fn new(
        stack: Stack<F>,
        credentials: Arc<Credentials>,
        streams: Streams,
        metrics: Arc<ManyMetrics>,
        avatar_address: Option<AvatarAddress>,
    ) -> Self {
        Self(Backend::new(stack, credentials, streams, metrics, avatar_address))
    }
}

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
                let lookup = picture_of(&message, &self.0.credentials, request.extensions())?;
                let key = lookup.key.clone();
                let avatar_address = self.0.avatar_address(request.extensions());
                Ok(PictureLookup { key, avatar_address, lookup: self.0.stack.call(lookup) })
            })),
            ContactMethod::BatchGetProfilePictures => Either::Right(batch::call(&self.0, request)),
            ContactMethod::StreamProfilePictures => Either::Right(stream::call(&self.0, request)),
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
        avatar_address: Option<AvatarAddress>,
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
            let address = this.avatar_address.as_ref();
            let picture = picture(&this.key.scope.instance, &this.key.chat, answer, address)?;
            Ok(contact::GetProfilePictureResponse { profile_picture: Some(picture), cache_info })
        }))
    }
}
