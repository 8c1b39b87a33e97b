//! [`MemoryBudget`]: a limit on the memory of calls that wait. When it is exceeded, the call that has waited
//! longest is evicted.
//!
//! It limits bytes rather than calls: a call whose message has not begun to arrive takes 4 KiB, and a call
//! with a large message takes many times as much.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Memory of a waiting call without its message, measured with 16,384 calls.
pub const CALL_BYTES: usize = 4_096;

/// The number of bytes that all waiting calls may take together.
#[derive(Debug)]
pub struct MemoryBudget {
    bytes: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
    /// The number of the newest call. Numbers are never used twice.
    newest: u64,
    /// The calls by number, so that the first one has waited longest.
    calls: BTreeMap<u64, Call>,
}

#[derive(Debug)]
struct Call {
    bytes: usize,
    /// Dropping it evicts the call, whose [`Reservation`] has the receiver.
    _stay: oneshot::Sender<Infallible>,
}

impl MemoryBudget {
    /// A budget of `bytes`.
    pub fn of(bytes: usize) -> Self {
        Self { bytes, waiting: Mutex::default() }
    }

    /// Reserves memory for a call whose message has not begun to arrive.
    pub fn reserve(self: &Arc<Self>) -> Reservation {
        let (stay, evicted) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.newest += 1;
        let number = waiting.newest;
        waiting.calls.insert(number, Call { bytes: 0, _stay: stay });
        drop(waiting);
        let reservation = Reservation { budget: self.clone(), number, evicted };
        reservation.resize(0);
        reservation
    }

    /// Whether no call waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.calls.is_empty() && waiting.bytes == 0
    }
}

impl Waiting {
    fn remove(&mut self, number: u64) {
        if let Some(call) = self.calls.remove(&number) {
            self.bytes -= call.bytes;
        }
    }
}

/// The memory of one waiting call. It is released when this is dropped.
pub struct Reservation {
    budget: Arc<MemoryBudget>,
    number: u64,
    evicted: oneshot::Receiver<Infallible>,
}

impl Reservation {
    /// Sets the memory to that of a call with `message_bytes` of its message. When the budget is exceeded,
    /// the calls that have waited longest are evicted. This call can be one of them.
    pub fn resize(&self, message_bytes: usize) {
        let bytes = CALL_BYTES + message_bytes;
        let waiting = &mut *self.budget.waiting.lock();
        let Some(call) = waiting.calls.get_mut(&self.number).filter(|call| call.bytes != bytes) else {
            return;
        };
        waiting.bytes = waiting.bytes - call.bytes + bytes;
        call.bytes = bytes;
        while waiting.bytes > self.budget.bytes
            && let Some((&longest, _)) = waiting.calls.first_key_value()
        {
            waiting.remove(longest);
        }
    }

    /// Resolves when this call is evicted.
    pub fn poll_evicted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.evicted.poll_unpin(context).map(drop)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.waiting.lock().remove(self.number);
    }
}
