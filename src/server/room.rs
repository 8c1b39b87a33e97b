//! [`Room`]: where calls wait for their messages, bounded by the memory they take.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What a waiting call takes beside its message, measured with 16,384 of them.
pub const CALL_BYTES: usize = 4_096;

/// Where calls wait.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
    came: u64,
    /// By when they came.
    calls: BTreeMap<u64, Call>,
}

#[derive(Debug)]
struct Call {
    bytes: usize,
    /// Dropped to tell it to leave.
    _stay: oneshot::Sender<Infallible>,
}

impl Room {
    /// One that has so many bytes.
    pub fn of(bytes: usize) -> Self {
        Self { bytes, waiting: Mutex::default() }
    }

    /// Takes a place for a call of which nothing has come.
    pub fn enter(self: &Arc<Self>) -> Place {
        let (stay, told_to_leave) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.came += 1;
        let came = waiting.came;
        waiting.calls.insert(came, Call { bytes: 0, _stay: stay });
        drop(waiting);
        let place = Place { room: self.clone(), came, told_to_leave };
        place.hold(0);
        place
    }

    /// Whether nobody waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.calls.is_empty() && waiting.bytes == 0
    }
}

impl Waiting {
    fn leave(&mut self, came: u64) {
        if let Some(call) = self.calls.remove(&came) {
            self.bytes -= call.bytes;
        }
    }
}

/// A place in the room, free once it is dropped.
pub struct Place {
    room: Arc<Room>,
    came: u64,
    told_to_leave: oneshot::Receiver<Infallible>,
}

impl Place {
    /// The message takes so many bytes now. If there is no room for it, those who have waited longest leave.
    pub fn hold(&self, message: usize) {
        let bytes = CALL_BYTES + message;
        let waiting = &mut *self.room.waiting.lock();
        let Some(call) = waiting.calls.get_mut(&self.came).filter(|call| call.bytes != bytes) else {
            return;
        };
        waiting.bytes = waiting.bytes - call.bytes + bytes;
        call.bytes = bytes;
        while waiting.bytes > self.room.bytes
            && let Some((&longest, _)) = waiting.calls.first_key_value()
        {
            waiting.leave(longest);
        }
    }

    /// Resolves when others need the place.
    pub fn needed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.told_to_leave.poll_unpin(context).map(drop)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.waiting.lock().leave(self.came);
    }
}
