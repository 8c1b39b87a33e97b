//! [`File`]: an embedded store for one process, in an SQLite database.
//!
//! A thread of its own owns the database ([`worker`]); the methods here put operations into its queue and
//! wait for the results. A write counts as done when it is in the open transaction, which is committed within
//! a second: a killed process loses that second, and never the file.

mod aside;
mod database;
mod fault;
mod horizons;
mod leases;
mod lock;
mod operations;
mod rows;
mod tidy;
mod worker;

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use self::{
    fault::Fault,
    horizons::Horizons,
    operations::{Answer, Answers, Session},
    worker::{How, Job, Worker},
};
use super::{
    Setting, Unusable,
    engine::{Failed, LeaseId, Names, RawReading, ScopeState, Seen, Write, Written},
    horizon::HorizonRecord,
    time::StoreTime,
};
use crate::domain::Reach;

/// Operations that wait for the thread. One more fails, since the disk is then seconds behind.
const QUEUE: usize = 4096;

/// The open file. When it is dropped, the thread commits what was written and ends; [`Self::close`] waits for
/// that.
#[derive(Debug)]
pub struct File {
    jobs: SyncSender<Job>,
    horizons: Arc<Horizons>,
}

impl File {
    /// Opens the file at `path`, or begins one. A damaged file is moved aside to `PATH.damaged-<time>`.
    /// `bytes` bounds the pages in use; beyond it the answers that expire soonest are removed. It blocks
    /// while the whole file is checked.
    ///
    /// # Errors
    ///
    /// When another process uses the file, when it belongs to another application, or when it cannot be
    /// written.
    pub fn open(path: &Path, bytes: u64) -> Result<Self, Unusable> {
        let unusable = |cause: &dyn std::fmt::Display| Unusable {
            setting: Setting::Place,
            fault: format!("the store's file {} cannot be used: {cause}", path.display()),
        };
        let opened = lock::lock(path).and_then(|(path, lock)| Worker::open(path, lock, bytes));
        let worker = opened.map_err(|fault| unusable(&fault))?;
        let horizons = worker.horizons();
        let (jobs, queue) = sync_channel(QUEUE);
        let thread = thread::Builder::new().name("store-file".to_owned());
        thread.spawn(move || worker.run(&queue)).map_err(|error| unusable(&error.kind()))?;
        Ok(Self { jobs, horizons })
    }

    /// Reads the records of a contact, and takes the lease if nothing is stored that was not seen.
    pub async fn read(
        &self,
        names: &Names,
        seen: Seen,
        lease: Option<LeaseId>,
    ) -> Result<RawReading, Failed> {
        let names = names.clone();
        self.run(How::Read, move |session| session.read(&names, seen, lease)).await
    }

    /// Reads answers of one scope.
    pub async fn answers(&self, scope: &str, names: &[String]) -> Result<Answers, Failed> {
        let (scope, names) = (scope.to_owned(), names.to_owned());
        self.run(How::Read, move |session| session.answers(&scope, &names)).await
    }

    /// Stores an answer.
    pub async fn write(&self, write: Write<'_>) -> Result<(StoreTime, Written), Failed> {
        let answer = Answer {
            names: write.names.clone(),
            value: write.value.to_owned(),
            ttl: write.ttl,
            epoch: write.epoch,
            is_new_epoch: write.is_new_epoch,
            unreadable: write.unreadable,
            lease: write.lease,
        };
        self.run(How::Write, move |session| session.write(&answer)).await
    }

    /// Stores a cool-down if the scope has a record, and releases the lease in any case.
    pub async fn fail(
        &self,
        names: &Names,
        reach: Reach,
        value: &[u8],
        ttl: Duration,
        lease: LeaseId,
    ) -> Result<StoreTime, Failed> {
        let (names, value) = (names.clone(), value.to_owned());
        self.run(How::Write, move |session| session.fail(&names, reach, &value, ttl, lease)).await
    }

    /// Renews a lease. Returns whether the caller still has it.
    pub async fn renew(&self, lease: &str, id: LeaseId) -> Result<bool, Failed> {
        let lease = lease.to_owned();
        self.run(How::Read, move |session| Ok(session.leases.renew(&lease, id, session.instant))).await
    }

    /// Releases a lease if the caller has it.
    pub async fn release(&self, lease: &str, id: LeaseId) -> Result<(), Failed> {
        let lease = lease.to_owned();
        self.run(How::Lease, move |session| {
            session.leases.release(&lease, id);
            Ok(())
        })
        .await
    }

    /// Notes that the token was rejected `ago`, and returns the flag of the scope. It is on the disk then:
    /// without it, answers of the rejected token would be used again.
    pub async fn reject(&self, scope: &str, ago: Duration) -> Result<Option<StoreTime>, Failed> {
        let scope = scope.to_owned();
        self.run(How::Flush, move |session| session.reject(&scope, ago)).await
    }

    /// Reads the records of scopes.
    pub async fn scopes(&self, names: &[String]) -> Result<Vec<Option<ScopeState>>, Failed> {
        let names = names.to_owned();
        self.run(How::Read, move |session| session.scopes(&names)).await
    }

    /// Writes and commits, so that a full disk is found.
    pub async fn probe(&self) -> Result<StoreTime, Failed> {
        self.run(How::Commit, |session| session.probe()).await
    }

    /// The horizons that the file holds, by the tag of the instance.
    pub fn horizons(&self) -> Vec<(String, HorizonRecord)> {
        self.horizons.all()
    }

    /// Notes a horizon, which is written within a second.
    pub fn remember(&self, tag: &str, record: HorizonRecord) {
        if self.horizons.remember(tag, record) {
            // A full queue means that the thread is busy with writes, whose commit writes the horizons too.
            let _ = self.jobs.try_send(Box::new(Worker::write_soon));
        }
    }

    /// Commits everything and closes the file. Later operations fail.
    pub async fn close(&self) {
        let (closed, is_closed) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            worker.close();
            let _ = closed.send(());
        });
        let mut job = Some(job);
        while let Some(waiting) = job.take() {
            match self.jobs.try_send(waiting) {
                Ok(()) => {
                    let _ = is_closed.await;
                    return;
                }
                Err(TrySendError::Full(waiting)) => {
                    job = Some(waiting);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        how: How,
        operation: impl Fn(&mut Session<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Failed> {
        let (reply, result) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            if how != How::Read || !reply.is_closed() {
                let _ = reply.send(worker.perform(how, &operation));
            }
        });
        self.jobs.try_send(job).map_err(|error| {
            failed(match error {
                TrySendError::Full(_) => "too many operations wait for the disk",
                TrySendError::Disconnected(_) => "the thread of the file has ended",
            })
        })?;
        result.await.unwrap_or_else(|_| Err(failed("the thread of the file has ended")))
    }
}

fn failed(cause: &str) -> Failed {
    Failed { cause: cause.to_owned() }
}

#[cfg(test)]
mod tests;
