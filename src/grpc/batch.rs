//! `BatchGetProfilePictures`: as many as 100 contacts, one response.
//!
//! Hits are answered in one pass, without a task or a timer, as a unary hit is. The other look-ups share
//! flights, limits and the deadline with all other calls.

use std::sync::Arc;

use futures_util::{
    StreamExt,
    future::{BoxFuture, Either, ready},
    stream::FuturesUnordered,
};
use http::{Request, Response};
use tokio::task::yield_now;
use tonic::body::Body;
use tower::Service;

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
    domain::{Answer, BatchTurns, CallTime, Lookup, LookupError, Purpose, Refusal},
    stack::LookupService,
    telemetry::{ManyMethod, ManyMetrics, ResultKind},
};

/// Maximum number of contacts of a batch.
const CONTACTS_MAX: usize = 100;

type Found = Result<Answer, LookupError>;

/// Answers a batch. The response is there at once if memory has every answer.
pub fn call<F: LookupService>(backend: &mut Backend<F>, request: Request<RequestMessage>) -> ManyCall {
    let end = call_end(request.headers(), request.extensions());
    let refused = move |refusal: Refusal| status(&refusal, end).into_http();
    if request.body().bytes.len() > MESSAGE_BYTES_MAX {
        let mut backend = backend.clone();
        return Either::Right(Box::pin(async move {
            // A call that is pending goes on in a task of its own. The task of the connection, which has
            // other calls to serve, does not decode large messages.
            yield_now().await;
            match Batch::begin(&mut backend, &request) {
                Ok(batch) => Ok(batch.finish().await),
                Err(refusal) => Ok(refused(refusal)),
            }
        }));
    }
    match Batch::begin(backend, &request) {
        Err(refusal) => Either::Left(ready(Ok(refused(refusal)))),
        Ok(batch) if batch.fetches.is_empty() => Either::Left(ready(Ok(batch.reply()))),
        Ok(batch) => Either::Right(Box::pin(async { Ok(batch.finish().await) })),
    }
}

/// A batch whose look-ups have begun.
struct Batch {
    many: Many,
    /// For each contact its result; `None` while the look-up is in progress.
    found: Vec<Option<Found>>,
    /// The look-ups in progress, each with the index of its contact.
    fetches: FuturesUnordered<BoxFuture<'static, (usize, Found)>>,
    metrics: Arc<ManyMetrics>,
}

impl Batch {
    /// Answers from memory, and begins the other look-ups.
    fn begin<F: LookupService>(
        backend: &mut Backend<F>,
        request: &Request<RequestMessage>,
    ) -> Result<Self, Refusal> {
        let message = message(request.headers(), &request.body().bytes)?;
        let call = request.extensions();
        let many = Many::read::<contact::BatchGetProfilePicturesRequest>(
            message,
            CONTACTS_MAX,
            &backend.credentials,
            call,
        )?;
        let deadline = &call.get::<CallTime>().ok_or(Refusal::Internal)?.deadline;
        let turns = BatchTurns::new();
        let fetches = FuturesUnordered::new();
        let found = many.chats.iter().enumerate().map(|(contact, chat)| {
            let (instance, credential) = (many.instance.clone(), many.credential.clone());
            let lookup = Lookup {
                own_purpose: Purpose::Batch,
                batch: Some(turns.clone()),
                ..Lookup::new(instance, credential, chat.clone(), many.control, deadline.clone())
            };
            match backend.stack.call(lookup) {
                Either::Left(found) => Some(found.into_inner()),
                Either::Right(fetch) => {
                    fetches.push(Box::pin(async move { (contact, fetch.await) }) as BoxFuture<_>);
                    None
                }
            }
        });
        let found = found.collect();
        Ok(Self { many, found, fetches, metrics: backend.metrics.clone() })
    }

    /// Waits for the look-ups in progress. They see to the deadline themselves.
    async fn finish(mut self) -> Response<Body> {
        while let Some((contact, found)) = self.fetches.next().await {
            self.found[contact] = Some(found);
        }
        self.reply()
    }

    fn reply(mut self) -> Response<Body> {
        let mut response = contact::BatchGetProfilePicturesResponse::default();
        response.results.reserve_exact(self.many.contact_of.len());
        for index in 0..self.many.contact_of.len() {
            let contact = self.many.contact_of[index];
            let found = contact.map(|contact| {
                let found = self.found[contact as usize].clone();
                found.unwrap_or(Err(LookupError::Internal))
            });
            let (result, kind) = self.many.result(index, found);
            response.failed_count += i32::from(kind == ResultKind::Failed);
            self.metrics.result(ManyMethod::Batch, kind);
            response.results.push(result);
        }
        reply(&response)
    }
}
