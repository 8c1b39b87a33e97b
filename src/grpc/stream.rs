//! `StreamProfilePictures`: as many as 10,000 contacts, each result as soon as it is known.
//!
//! A stream runs in a task of its own, which sends frames to the body of the response. `stack::LookupStream`
//! decides which contact is looked up when. The files below make the messages: results, progress, the end.

mod body;
mod interrupts;
mod messages;
mod run;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt, future::Either};
use http::Request;
use tokio::{sync::mpsc, task::yield_now};
use tracing::{error, warn};

use self::{
    body::StreamBody,
    interrupts::Interrupts,
    messages::{Messages, NoRoom},
    run::{Ending, Run},
};
use super::{
    backend::Backend,
    contact,
    contact_method::RequestMessage,
    many::{Many, ManyCall},
    status::status,
    streams::OwnPace,
    timeout::call_end,
    unary::{message, response},
};
use crate::{
    domain::{CallTime, Caller, Recheck, Refusal},
    stack::{self, LookupService},
    telemetry::in_this_call,
};

/// Maximum number of contacts of a stream.
const CONTACTS_MAX: usize = 10_000;

/// Begins a stream. The response is there once the request is checked.
pub fn call<F: LookupService>(backend: &Backend<F>, request: Request<RequestMessage>) -> ManyCall {
    let backend = backend.clone();
    Either::Right(Box::pin(async move {
        // A call that is pending goes on in a task of its own. The task of the connection, which has other
        // calls to serve, does not decode the message.
        yield_now().await;
        let end = call_end(request.headers(), request.extensions());
        let pace = OwnPace::default();
        Ok(match begin(&backend, &request, pace.clone()) {
            Ok(body) => {
                let mut response = response(body);
                response.extensions_mut().insert(pace);
                response
            }
            Err(refusal) => status(&refusal, end).into_http(),
        })
    }))
}

/// Checks the request and starts the task of the stream.
fn begin<F: LookupService>(
    backend: &Backend<F>,
    request: &Request<RequestMessage>,
    pace: OwnPace,
) -> Result<StreamBody, Refusal> {
    let message = message(request.headers(), &request.body().bytes)?;
    let call = request.extensions();
    let many = Many::read::<contact::StreamProfilePicturesRequest, F>(message, CONTACTS_MAX, backend, call)?;
    let caller = call.get::<Caller>().ok_or(Refusal::Internal)?;
    let time = call.get::<CallTime>().ok_or(Refusal::Internal)?;
    let deadline = time.deadline.latest().ok_or(Refusal::Internal)?;
    let permit = backend.streams.begin(&many.instance, caller).map_err(Refusal::TooManyStreams)?;
    let lookups = backend.stack.stream(stack::Contacts {
        instance: many.instance.clone(),
        credential: many.credential.clone(),
        chats: many.chats.clone(),
        control: many.control,
        deadline,
    });
    let (frames, body) = mpsc::unbounded_channel();
    let recheck = call.get::<Recheck>().cloned();
    let interrupts = Interrupts::new(deadline, backend.streams.stopping(), recheck, many.instance.clone());
    let messages = Messages::new(many, frames, backend.metrics.clone());
    let (mut run, end) = (Run::new(messages, lookups, interrupts), time.end);
    let metrics = backend.metrics.clone();
    tokio::spawn(in_this_call(async move {
        let _permit = permit;
        let results = AssertUnwindSafe(run.results()).catch_unwind().await;
        let results = results.unwrap_or_else(|_| {
            // The panic hook has logged where it happened.
            error!("a stream panicked");
            Err(Ending::Refused(Refusal::Internal))
        });
        if run.finish(results, end).await == Err(NoRoom::SlowReader) {
            metrics.slow_reader();
            warn!("a client has not read its stream for 5 minutes; the stream is reset");
            pace.reset.notify_one();
        }
    }));
    Ok(StreamBody::new(body))
}
