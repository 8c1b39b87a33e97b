//! What a stream finds before its contacts wait for turns (rule 36): in memory, and then in the shared store,
//! on the way through which contacts are [`Reading`].

use std::collections::VecDeque;

use futures_util::{
    FutureExt,
    future::{BoxFuture, Either, pending},
};
use tokio::time::Instant;

use super::{LookupStream, Pending, Step, found};
use crate::{
    domain::{Answer, Lookup, LookupError},
    stack::{ask::LookupService, store::GROUP_MAX},
};

/// The results of a group, in its order: `None` for a contact that needs a fetch. `None` as a whole when the
/// store did not answer.
type Read = Option<Vec<Option<Result<Answer, LookupError>>>>;

/// The contacts that memory did not have, on their way through the store. One group of them is read at a
/// time, and the next one only when the results of the last one were taken, so that few are in memory.
#[derive(Default)]
pub struct Reading {
    unread: VecDeque<Pending>,
    group: Option<(Vec<Pending>, BoxFuture<'static, Read>)>,
    found: VecDeque<(Pending, Result<Answer, LookupError>)>,
}

impl Reading {
    /// Adds a contact that memory does not have.
    pub fn push_back(&mut self, pending: Pending) {
        self.unread.push_back(pending);
    }

    /// Whether every contact was read and every result taken.
    pub fn is_over(&self) -> bool {
        self.unread.is_empty() && self.group.is_none() && self.found.is_empty()
    }

    /// Forgets all contacts.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Begins to read the next group through `read`, unless one is being read.
    fn begin(&mut self, read: impl FnOnce(&[Pending]) -> BoxFuture<'static, Read>) {
        if self.group.is_none() && !self.unread.is_empty() {
            let group: Vec<Pending> = self.unread.drain(..self.unread.len().min(GROUP_MAX)).collect();
            let read = read(&group);
            self.group = Some((group, read));
        }
    }

    /// Waits for the group that is being read. Returns the contacts that need a fetch: all that are left,
    /// when the store did not answer, so that it costs a stream one time-out. If it is dropped before it
    /// resolves, nothing is lost. It never resolves while no group is being read.
    pub async fn ended(&mut self) -> Vec<Pending> {
        let Some((_, read)) = &mut self.group else {
            return pending().await;
        };
        let read = read.await;
        let group = self.group.take().map(|(group, _)| group).unwrap_or_default();
        let Some(results) = read else {
            return group.into_iter().chain(self.unread.drain(..)).collect();
        };
        let mut rest = Vec::new();
        for (pending, result) in group.into_iter().zip(results) {
            match result {
                Some(result) => self.found.push_back((pending, result)),
                None => rest.push(pending),
            }
        }
        rest
    }
}

impl<F: LookupService> LookupStream<F> {
    /// Serves the contacts that memory has, and queues the others (rule 36); `None` when that is done.
    pub(super) fn look_in_memory(&mut self) -> Option<Step> {
        while self.scanned < self.contacts.chats.len() {
            if self.is_tired() {
                return Some(Step::Yield);
            }
            let pending = Pending::new(u32::try_from(self.scanned).expect("a stream has few contacts"));
            self.scanned += 1;
            match self.stack.serve.recall(self.lookup(&pending, None)) {
                Either::Left(result) => return Some(found(&pending, result)),
                Either::Right(_) if self.stack.serve.has_store() => self.reading.push_back(pending),
                Either::Right(_) => self.queue.push_back(pending),
            }
        }
        None
    }

    /// Serves the contacts that the store has, and queues the others; `None` when that is done.
    pub(super) fn read_store(&mut self, now: Instant) -> Option<Step> {
        if let Some((pending, result)) = self.reading.found.pop_front() {
            return Some(found(&pending, result));
        }
        if self.reading.is_over() {
            return None;
        }
        let deadline = self.contacts.deadline;
        if deadline <= now {
            return Some(Step::Return(Some(self.end(LookupError::DeadlineExceeded))));
        }
        let mut reading = std::mem::take(&mut self.reading);
        reading.begin(|group| {
            let lookups: Vec<Lookup> = group.iter().map(|pending| self.lookup(pending, None)).collect();
            let serve = self.stack.serve.clone();
            async move { serve.recall_group(&lookups, deadline).await.ok() }.boxed()
        });
        self.reading = reading;
        Some(Step::Read(deadline))
    }

    /// Queues contacts that neither memory nor the store has. A caller that wants no fetch gets its result.
    pub(super) fn queue_missed(&mut self, missed: Vec<Pending>) {
        for pending in missed {
            if !self.contacts.control.only_if_cached {
                self.queue.push_back(pending);
                continue;
            }
            let lookup = Lookup { without_store: true, ..self.lookup(&pending, None) };
            let result = match self.stack.serve.recall(lookup) {
                Either::Left(result) => result,
                Either::Right(_) => Err(LookupError::NotCached),
            };
            self.reading.found.push_back((pending, result));
        }
    }
}
