//! [`Batch`]: calls that came in together are answered together.
//!
//! Given a task each, as hyper's own executor does, calls are answered one by one, with a write to the socket for almost
//! every answer, which is most of what a hit costs. Here they wait until the connection has read all that has come. Then
//! each is polled once, on the connection's own task. What ends there, as every hit does, leaves in one write; what has to
//! wait goes on in a task of its own.

use std::{
    collections::VecDeque,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use hyper::rt::Executor;

/// Calls between two writes. More would keep a peer waiting that could read one part while the next is worked on.
const CALLS_MAX: usize = 32;

/// A call as hyper hands it over: it sends its own answer.
type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The calls of one connection that have not begun. Clones share them.
#[derive(Clone, Default)]
pub struct Batch(Arc<Mutex<Vec<Call>>>);

impl<F> Executor<F> for Batch
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        self.lock().push(Box::pin(call));
    }
}

impl Batch {
    /// Drives `connection`, which has this batch as its executor, and begins the calls it hands over. Must run on a tokio
    /// runtime. Calls that have not begun when the connection ends are dropped: nobody is there to answer.
    pub async fn drive<C: Future>(&self, mut connection: Pin<&mut C>) -> C::Output {
        let mut calls = VecDeque::new();
        poll_fn(|context| {
            loop {
                // Reads what has come, and writes what has been answered since.
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(ended);
                }
                calls.extend(self.lock().drain(..));
                if calls.is_empty() {
                    return Poll::Pending;
                }
                let some = calls.len().min(CALLS_MAX);
                calls.drain(..some).for_each(begin);
            }
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        // The list is whole after any panic: each change to it is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls a call for the first time.
fn begin(mut call: Call) {
    // It is polled anew by its own task, so nobody need wake this one.
    let mut context = Context::from_waker(Waker::noop());
    // A panic ends the call alone, which hyper then resets. It was reported where it happened.
    if let Ok(Poll::Pending) = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut context))) {
        tokio::spawn(call);
    }
}
