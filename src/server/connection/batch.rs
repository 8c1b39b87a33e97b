//! [`Batch`]: calls that arrive together are answered together.
//!
//! hyper's own executor gives each call a task. Then almost every response has a write to the socket of its
//! own, which is most of the cost of a hit. Here calls wait until the connection has read everything that has
//! arrived. Then each call is polled once, in the task of the connection. Calls that end there, as every hit
//! does, leave in one write. A call that has to wait goes on in a task of its own.

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

use super::own_pace::until_reset;

/// Maximum number of calls between two writes. With more, the peer would wait for responses that are complete
/// already.
const CALLS_MAX: usize = 32;

/// A call as hyper hands it to its executor: it sends its own response.
type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The calls of one connection that have not begun.
#[derive(Default)]
pub struct Batch(Arc<Mutex<Vec<Call>>>);

/// The executor given to hyper. It holds the batch weakly, because hyper keeps a clone of it in every call:
/// otherwise calls that have not begun when the connection ends would keep each other alive for ever, with
/// their permits.
#[derive(Clone)]
pub struct BatchExecutor(Weak<Mutex<Vec<Call>>>);

impl<F> Executor<F> for BatchExecutor
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
    pub fn executor(&self) -> BatchExecutor {
        BatchExecutor(Arc::downgrade(&self.0))
    }

    /// Drives `connection`, which has the executor of this batch, and begins its calls. Must run on a tokio
    /// runtime. Calls that have not begun when the connection ends are dropped with the batch: they have no
    /// caller any more.
    pub async fn drive<C: Future>(&self, mut connection: Pin<&mut C>) -> C::Output {
        let mut calls = VecDeque::new();
        poll_fn(|context| {
            loop {
                // Reads the calls that have arrived, and writes the responses since the last poll.
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
    // Without a waker: a call that is pending is polled again by a task of its own.
    let mut context = Context::from_waker(Waker::noop());
    // A panic ends this call alone: hyper then resets its stream. The panic hook has logged it.
    if let Ok(Poll::Pending) = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut context))) {
        tokio::spawn(until_reset(call));
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

    /// Drives a connection that reads `calls` in its first poll, and ends in the next one. Returns how often
    /// it was polled. All of that happens in one poll of the batch.
    fn drive(calls: Vec<Call>) -> usize {
        let batch = Batch::default();
        let (executor, mut calls, mut polls) = (batch.executor(), Some(calls), 0);
        let connection = poll_fn(|_| {
            polls += 1;
            match calls.take() {
                None => Poll::Ready(()),
                Some(calls) => {
                    for call in calls {
                        executor.execute(call);
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
        let permit = Arc::new(());
        let mut connection = pin!(poll_fn(|_| {
            let (own, permit) = (batch.executor(), permit.clone());
            batch.executor().execute(async move {
                let _held = (own, permit);
                pending::<()>().await;
            });
            Poll::Ready(())
        }));
        batch.drive(connection.as_mut()).await;
        assert_eq!(Arc::strong_count(&permit), 2);
        drop(batch);
        assert_eq!(Arc::strong_count(&permit), 1, "a call that is never polled is kept for ever");
    }
}
