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
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use hyper::rt::Executor;
use parking_lot::Mutex;

/// Calls between two writes. More would keep a peer waiting that could read one part while the next is worked on.
const CALLS_MAX: usize = 32;

/// A call as hyper hands it over: it sends its own answer.
type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The calls of one connection that have not begun.
#[derive(Default)]
pub struct Batch(Arc<Mutex<Vec<Call>>>);

/// Takes calls from hyper, as long as their [`Batch`] is there. Each call has a copy of it, so it does not keep the batch:
/// calls that have not begun when the connection ends would keep each other for ever, with their places.
#[derive(Clone)]
pub struct Intake(Weak<Mutex<Vec<Call>>>);

impl<F> Executor<F> for Intake
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        if let Some(calls) = self.0.upgrade() {
            calls.lock().push(Box::pin(call));
        }
    }
}

impl Batch {
    /// The executor for the connection that is to be driven.
    pub fn intake(&self) -> Intake {
        Intake(Arc::downgrade(&self.0))
    }

    /// Drives `connection`, whose executor is the intake, and begins the calls it hands over. Must run on a tokio runtime.
    /// Calls that have not begun when the connection ends are dropped with the batch: nobody is there to answer.
    pub async fn drive<C: Future>(&self, mut connection: Pin<&mut C>) -> C::Output {
        let mut calls = VecDeque::new();
        poll_fn(|context| {
            loop {
                // Reads what has come, and writes what has been answered since.
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(ended);
                }
                calls.extend(self.0.lock().drain(..));
                if calls.is_empty() {
                    return Poll::Pending;
                }
                let some = calls.len().min(CALLS_MAX);
                calls.drain(..some).for_each(begin);
            }
        })
        .await
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

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use futures_util::FutureExt;
    use tokio::{sync::Notify, time::timeout};

    use super::*;

    /// Counts the calls that have ended.
    #[derive(Clone, Default)]
    struct Ended(Arc<AtomicUsize>);

    impl Ended {
        fn one(&self) {
            self.0.fetch_add(1, SeqCst);
        }

        fn count(&self) -> usize {
            self.0.load(SeqCst)
        }
    }

    /// Drives a connection that takes `calls` in when it is first polled, and ends when there was nothing new since.
    /// Returns how often it was polled; all of it happens in one poll of the whole.
    fn drive(calls: Vec<Call>) -> usize {
        let batch = Batch::default();
        let (intake, mut calls, mut polls) = (batch.intake(), Some(calls), 0);
        let connection = poll_fn(|_| {
            polls += 1;
            match calls.take() {
                None => Poll::Ready(()),
                Some(calls) => {
                    for call in calls {
                        intake.execute(call);
                    }
                    Poll::Pending
                }
            }
        });
        let mut connection = pin!(connection);
        batch.drive(connection.as_mut()).now_or_never().expect("the connection is polled after its calls");
        polls
    }

    #[tokio::test]
    async fn what_came_together_is_begun_together_and_then_written() {
        let ended = Ended::default();
        let call = || -> Call {
            let ended = ended.clone();
            Box::pin(async move { ended.one() })
        };
        // Once to read all the calls, once to write all the answers.
        assert_eq!(drive((0..20).map(|_| call()).collect()), 2);
        assert_eq!(ended.count(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_goes_on_without_its_connection() {
        let (notify, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let call = {
            let (notify, done) = (notify.clone(), done.clone());
            async move {
                notify.notified().await;
                done.notify_one();
            }
        };
        drive(vec![Box::pin(call)]);
        notify.notify_one();
        timeout(Duration::from_secs(1), done.notified()).await.expect("the call goes on");
    }

    #[tokio::test]
    async fn a_panic_ends_one_call_alone() {
        let ended = Ended::default();
        let call = |panics: bool| -> Call {
            let ended = ended.clone();
            Box::pin(async move {
                assert!(!panics, "on purpose");
                ended.one();
            })
        };
        drive(vec![call(false), call(true), call(false)]);
        assert_eq!(ended.count(), 2);
    }

    #[tokio::test]
    async fn calls_that_have_not_begun_end_with_their_connection() {
        let batch = Batch::default();
        let place = Arc::new(());
        let mut connection = pin!(poll_fn(|_| {
            let (own, place) = (batch.intake(), place.clone());
            batch.intake().execute(async move {
                let _held = (own, place);
                pending::<()>().await;
            });
            Poll::Ready(())
        }));
        batch.drive(connection.as_mut()).await;
        assert_eq!(Arc::strong_count(&place), 2);
        drop(batch);
        assert_eq!(Arc::strong_count(&place), 1, "a call that nobody drives is kept for ever");
    }
}
