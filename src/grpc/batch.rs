//! `BatchGetProfilePictures`: as many as 100 contacts, one response.
//!
//! Hits are answered in one pass, without a task or a timer, as a unary hit is. The other look-ups are those
//! of `stack::LookupBatch`. Here are the messages alone.

use std::sync::Arc;

use futures_util::future::{Either, ready};
use http::{Request, Response};
use tokio::task::yield_now;
use tonic::body::Body;

use super::{
    backend::Backend,
    contact,
    contact_method::RequestMessage,
    many::{Many, ManyCall},
    status::status,
    timeout::call_end,
    unary::{MESSAGE_BYTES_MAX, message, reply},
};
use crate::{
    domain::{Answer, CallTime, Lookup, LookupError, Refusal},
    stack::{LookupBatch, LookupService},
    telemetry::{ManyMethod, ManyMetrics, ResultKind},
};

/// Maximum number of contacts of a batch.
const CONTACTS_MAX: usize = 100;

/// Answers a batch. The response is there at once if memory has every answer.
pub fn call<F: LookupService>(backend: &Backend<F>, request: Request<RequestMessage>) -> ManyCall {
    let end = call_end(request.headers(), request.extensions());
    let refused = move |refusal: Refusal| status(&refusal, end).into_http();
    if request.body().bytes.len() > MESSAGE_BYTES_MAX {
        let backend = backend.clone();
        return Either::Right(Box::pin(async move {
            // A call that is pending goes on in a task of its own. The task of the connection, which has
            // other calls to serve, does not decode large messages.
            yield_now().await;
            let bytes = u32::try_from(request.body().bytes.len()).unwrap_or(u32::MAX);
            let Ok(_large) = backend.large_batches.clone().try_acquire_many_owned(bytes) else {
                return Ok(refused(Refusal::Overloaded));
            };
            let batch = Batch::begin(&backend, &request);
            drop(request);
            match batch {
                Ok(batch) => Ok(batch.finish().await),
                Err(refusal) => Ok(refused(refusal)),
            }
        }));
    }
    match Batch::begin(backend, &request) {
        Err(refusal) => Either::Left(ready(Ok(refused(refusal)))),
        Ok(batch) if batch.lookups.is_complete() => Either::Left(ready(Ok(batch.finish_now()))),
        Ok(batch) => Either::Right(Box::pin(async { Ok(batch.finish().await) })),
    }
}

/// A batch whose look-ups have begun.
struct Batch<F> {
    many: Many,
    /// One look-up for each contact.
    lookups: LookupBatch<F>,
    metrics: Arc<ManyMetrics>,
}

impl<F: LookupService> Batch<F> {
    /// Answers from memory.
    fn begin(backend: &Backend<F>, request: &Request<RequestMessage>) -> Result<Self, Refusal> {
        let message = message(request.headers(), &request.body().bytes)?;
        let call = request.extensions();
        let many = Many::read::<contact::BatchGetProfilePicturesRequest>(
            message,
            CONTACTS_MAX,
            &backend.credentials,
            call,
        )?;
        let deadline = &call.get::<CallTime>().ok_or(Refusal::Internal)?.deadline;
        let lookups = backend.stack.batch(many.chats.iter().map(|chat| {
            let (instance, credential) = (many.instance.clone(), many.credential.clone());
            Lookup::new(instance, credential, chat.clone(), many.control, deadline.clone())
        }));
        Ok(Self { many, lookups, metrics: backend.metrics.clone() })
    }

    /// Waits for the look-ups. They see to the deadline themselves.
    async fn finish(self) -> Response<Body> {
        let Self { many, lookups, metrics } = self;
        response(many, &lookups.finish().await, &metrics)
    }

    /// The response when memory has every answer.
    fn finish_now(self) -> Response<Body> {
        response(self.many, &self.lookups.results(), &self.metrics)
    }
}

/// The response with what was `found` for each contact.
fn response(mut many: Many, found: &[Result<Answer, LookupError>], metrics: &ManyMetrics) -> Response<Body> {
    let mut response = contact::BatchGetProfilePicturesResponse::default();
    response.results.reserve_exact(many.contact_of.len());
    for index in 0..many.contact_of.len() {
        let found = many.contact_of[index].map(|contact| found[contact as usize].clone());
        let (result, kind) = many.result(index, found);
        response.failed_count += i32::from(kind == ResultKind::Failed);
        metrics.result(ManyMethod::Batch, kind);
        response.results.push(result);
    }
    reply(&response)
}
