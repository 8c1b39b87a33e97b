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
        let many =
            Many::read::<contact::BatchGetProfilePicturesRequest, F>(message, CONTACTS_MAX, backend, call)?;
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

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::atomic::Ordering::SeqCst};

    use tonic::{Code, Status};

    use super::*;
    use crate::{
        grpc::{
            ContactMethod,
            testing::{Upstream, backend, request},
        },
        stack::RateSettings,
    };

    /// A batch of one contact, whose message is large because of fingerprints that no contact has.
    fn large() -> Request<RequestMessage> {
        let known_fingerprints: HashMap<_, _> =
            (0..50).map(|key| (key.to_string(), "f".repeat(1_000))).collect();
        let chat_ids = vec!["15551230001".to_owned()];
        let message =
            contact::BatchGetProfilePicturesRequest { chat_ids, known_fingerprints, ..Default::default() };
        request(ContactMethod::BatchGetProfilePictures, &message)
    }

    #[tokio::test(start_paused = true)]
    async fn large_batches_in_progress_have_a_budget_of_bytes() {
        let upstream = Upstream::default();
        let backend = backend(RateSettings { per_second: 0.0, burst: 0 }, &upstream);
        let all = backend.large_batches.available_permits();
        let held = backend.large_batches.clone().try_acquire_many_owned(u32::try_from(all).unwrap()).unwrap();
        let Ok(refused) = call(&backend, large()).await;
        let status =
            Status::from_header_map(refused.headers()).expect("a refusal has its status in the head");
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(upstream.requests.load(SeqCst), 0);
        drop(held);
        let Ok(answered) = call(&backend, large()).await;
        assert!(Status::from_header_map(answered.headers()).is_none(), "the batch is answered");
        assert_eq!(backend.large_batches.available_permits(), all, "and gives its bytes back");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_small_batch_is_answered_on_the_task_of_the_connection() {
        let backend = backend(RateSettings { per_second: 0.0, burst: 0 }, &Upstream::default());
        let chat_ids = vec!["15551230001".to_owned(); 100];
        let message = contact::BatchGetProfilePicturesRequest { chat_ids, ..Default::default() };
        let small = || request(ContactMethod::BatchGetProfilePictures, &message);
        assert!(matches!(call(&backend, small()), Either::Right(_)), "a miss has to wait");
        let Ok(_) = call(&backend, small()).await;
        assert!(matches!(call(&backend, small()), Either::Left(_)), "hits are there at once (rule 36)");
        assert!(matches!(call(&backend, large()), Either::Right(_)), "it is decoded elsewhere (rule 43)");
    }
}
