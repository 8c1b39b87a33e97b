//! [`Worker`]: the thread that owns the database. It runs one operation after another, and collects the
//! writes of half a second in one transaction, in which later reads see them.
//!
//! It also decides what is done about a [`Fault`]: a damaged file is replaced, a full disk is given room, and
//! a connection whose transaction cannot be ended is opened again.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, SystemTime},
};

use rusqlite::Connection;
use tokio::time::Instant;
use tracing::warn;

use super::{
    super::{engine::Failed, time::StoreTime},
    Horizons, aside, database,
    fault::Fault,
    leases::Leases,
    operations::Session,
    rows, tidy,
};

/// An operation, with the way of its result.
pub type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// How an operation uses the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It reads. It is left out when its caller has given up.
    Read,
    /// It changes leases only.
    Lease,
    /// It writes, and is committed soon.
    Write,
    /// It writes, and is committed before its result is given.
    Commit,
    /// It is also on the disk by then, and outlives a loss of power.
    Flush,
}

/// The most time between a write and its commit. It leaves half of the second that may be lost to slow disks.
const COMMIT_AFTER: Duration = Duration::from_millis(500);
/// The pause between two rounds of tidying up, and between two steps of a round.
const TIDY_EVERY: Duration = Duration::from_secs(5);
const TIDY_STEP: Duration = Duration::from_millis(50);
/// The pause between two attempts to open a file that cannot be opened.
const OPEN_EVERY: Duration = Duration::from_secs(1);
/// The pause between two replacements of a damaged file, so that a broken disk does not fill up.
const REPLACE_EVERY: Duration = Duration::from_secs(10);

/// The owner of the database.
#[derive(Debug)]
pub struct Worker {
    path: PathBuf,
    /// Held as long as the worker lives.
    lock: Option<fs::File>,
    bytes: u64,
    /// `None` when it could not be opened, or is closed.
    db: Option<Connection>,
    leases: Leases,
    horizons: Arc<Horizons>,
    /// When the open transaction and the changed horizons are committed.
    commit_at: Option<Instant>,
    /// The last commit failed, so that each write is committed before its result is given.
    is_troubled: bool,
    tidy_at: Instant,
    open_at: Instant,
    replace_at: Instant,
}

impl Worker {
    /// Opens the file, or replaces it when it is damaged.
    pub fn open(path: PathBuf, lock: fs::File, bytes: u64) -> Result<Self, Fault> {
        let now = Instant::now();
        let mut worker = Self {
            path,
            lock: Some(lock),
            bytes,
            db: None,
            leases: Leases::default(),
            horizons: Arc::default(),
            commit_at: None,
            is_troubled: false,
            tidy_at: now,
            open_at: now,
            replace_at: now,
        };
        let horizons = match worker.begin_with() {
            Err(Fault::Damaged(cause)) => {
                worker.replace(&cause)?;
                Vec::new()
            }
            Err(fault @ (Fault::Full(_) | Fault::Refused(_) | Fault::Failed(_))) => return Err(fault),
            Ok(horizons) => horizons,
        };
        worker.horizons = Arc::new(Horizons::new(horizons));
        Ok(worker)
    }

    fn begin_with(&mut self) -> Result<Vec<(String, super::HorizonRecord)>, Fault> {
        let db = database::open(&self.path)?;
        let horizons = rows::horizons(&db);
        self.db = Some(db);
        horizons
    }

    /// The horizons, which the thread writes.
    pub fn horizons(&self) -> Arc<Horizons> {
        Arc::clone(&self.horizons)
    }

    /// Runs the operations until the other end of the queue is gone, and closes the file.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let due = self.commit_at.map_or(self.tidy_at, |commit_at| commit_at.min(self.tidy_at));
            match jobs.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(job) => job(&mut self),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.do_due();
        }
        self.close();
    }

    /// Runs an operation; on a new file again if it finds the file damaged.
    pub fn perform<T>(
        &mut self,
        how: How,
        operation: &dyn Fn(&mut Session<'_>) -> Result<T, Fault>,
    ) -> Result<T, Failed> {
        let mut result = self.attempt(how, operation);
        if let Err(Fault::Damaged(cause)) = &result {
            result = self.replace(cause).and_then(|()| self.attempt(how, operation));
        }
        result.map_err(|fault| Failed { cause: fault.to_string() })
    }

    /// Has the changed horizons written soon, unless the file is closed.
    pub fn write_soon(&mut self) {
        if self.lock.is_none() {
            return;
        }
        self.commit_at.get_or_insert_with(|| Instant::now() + COMMIT_AFTER);
    }

    /// Commits, and closes the file for good.
    pub fn close(&mut self) {
        if self.lock.is_none() {
            return;
        }
        self.commit_or_warn();
        if let Some(db) = self.db.take() {
            // So that the next start has nothing to replay. It is done at the end in any case, but without a
            // result.
            if let Err(fault) = checkpoint(&db, "TRUNCATE") {
                warn!(cause = %fault, "the log of the store's file could not be emptied");
            }
        }
        self.lock = None;
        // Nothing is written any more, and the thread would find it due again and again.
        self.commit_at = None;
    }

    fn do_due(&mut self) {
        if self.lock.is_none() {
            self.tidy_at = Instant::now() + TIDY_EVERY;
            return;
        }
        if self.commit_at.is_some_and(|at| at <= Instant::now()) {
            self.commit_or_warn();
        }
        if self.tidy_at <= Instant::now() {
            let bytes = self.bytes;
            // The next operation of a caller meets the same fault and reports it.
            let is_more = self.perform(How::Write, &|session| tidy::tidy(session, bytes)).unwrap_or(false);
            self.horizons.expire(tidy::horizons_end(wall_clock()));
            self.tidy_at = Instant::now() + if is_more { TIDY_STEP } else { TIDY_EVERY };
        }
    }

    fn attempt<T>(
        &mut self,
        how: How,
        operation: &dyn Fn(&mut Session<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let result = match how {
            How::Read | How::Lease => self.with(operation),
            How::Write => self.with_savepoint(operation),
            How::Commit => self.with_savepoint(operation).and_then(|value| self.commit().map(|()| value)),
            How::Flush => self.with_savepoint(operation).and_then(|value| {
                self.commit()?;
                self.with(&|session| checkpoint(session.db, "PASSIVE"))?;
                Ok(value)
            }),
        };
        match &result {
            Err(Fault::Full(_)) => self.make_room(),
            Ok(_) | Err(Fault::Damaged(_) | Fault::Refused(_) | Fault::Failed(_)) => {}
        }
        result
    }

    fn with<T>(&mut self, operation: &dyn Fn(&mut Session<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        self.reopen()?;
        let Some(db) = &self.db else { return Err(Fault::Failed("the file is closed".to_owned())) };
        operation(&mut Session { db, leases: &mut self.leases, now: wall_clock(), instant: Instant::now() })
    }

    /// Runs an operation in the open transaction, of which nothing stays if it fails.
    fn with_savepoint<T>(
        &mut self,
        operation: &dyn Fn(&mut Session<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.with(&|session| begin(session.db))?;
        self.write_soon();
        let result = self.with(&|session| {
            session.db.execute_batch("SAVEPOINT operation")?;
            let value = operation(session)?;
            session.db.execute_batch("RELEASE operation")?;
            Ok(value)
        });
        if result.is_err() {
            self.undo("ROLLBACK TO operation; RELEASE operation");
            // After some errors nothing of the transaction is left.
            self.is_troubled |= self.db.as_ref().is_none_or(Connection::is_autocommit);
        } else if self.is_troubled {
            self.commit()?;
        }
        result
    }

    /// Ends a failed operation or transaction. SQLite has already rolled back everything after some errors. A
    /// connection that cannot roll back is closed, since later writes would end in a transaction that is
    /// never committed.
    fn undo(&mut self, rollback: &str) {
        let is_undone = self.db.as_ref().is_none_or(|db| {
            db.is_autocommit() || db.execute_batch(rollback).is_ok() || db.execute_batch("ROLLBACK").is_ok()
        });
        if !is_undone && let Some(db) = self.db.take() {
            database::abandon(db);
        }
    }

    fn commit(&mut self) -> Result<(), Fault> {
        self.commit_at = None;
        let changed = self.horizons.take_changed();
        let result = self.with(&|session| {
            if !changed.is_empty() {
                begin(session.db)?;
                for (tag, record) in &changed {
                    rows::put_horizon(session.db, tag, record)?;
                }
            }
            let is_open = !session.db.is_autocommit();
            if is_open {
                session.db.execute_batch("COMMIT")?;
            }
            Ok(is_open)
        });
        if let Ok(is_committed) = result {
            self.is_troubled &= !is_committed;
        } else {
            self.is_troubled = true;
            self.undo("ROLLBACK");
            if !changed.is_empty() {
                self.horizons.keep(changed.into_iter().map(|(tag, _)| tag));
                self.commit_at = Some(Instant::now() + OPEN_EVERY);
            }
        }
        result.map(drop)
    }

    /// Commits the writes whose results were given before.
    fn commit_or_warn(&mut self) {
        let was_troubled = self.is_troubled;
        match self.commit() {
            Ok(()) => {}
            // The file may have been replaced, so that the horizons are written now.
            Err(Fault::Damaged(cause)) => {
                if self.replace(&cause).is_ok() {
                    let _ = self.commit();
                }
            }
            Err(fault @ (Fault::Full(_) | Fault::Refused(_) | Fault::Failed(_))) => {
                if !was_troubled {
                    warn!(cause = %fault, "the store's file could not be written; the last writes are lost");
                }
                if matches!(fault, Fault::Full(_)) {
                    self.make_room();
                }
            }
        }
    }

    /// Frees pages inside the file and the log, so that writes go on in the room that the file has.
    fn make_room(&mut self) {
        // What fits is kept.
        let _ = self.commit();
        let result = self.with(&|session| {
            // Without a rest of the disk nothing can be removed before the log is free.
            checkpoint(session.db, "PASSIVE")?;
            tidy::evict_lot(session.db, tidy::STEP_ROWS)?;
            checkpoint(session.db, "PASSIVE")
        });
        // The next write reports it, if there is still no room.
        drop(result);
    }

    fn reopen(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        if self.db.is_some() || self.lock.is_none() {
            return Ok(());
        }
        if now < self.open_at {
            return Err(Fault::Failed("the file cannot be opened".to_owned()));
        }
        self.open_at = now + OPEN_EVERY;
        self.db = Some(database::open(&self.path)?);
        Ok(())
    }

    /// Moves the damaged file aside and begins a new one. The leases and the horizons are in memory and stay.
    fn replace(&mut self, cause: &str) -> Result<(), Fault> {
        if let Some(db) = self.db.take() {
            database::abandon(db);
        }
        let now = Instant::now();
        if now < self.replace_at {
            return Err(Fault::Failed("the file was damaged again soon after it was replaced".to_owned()));
        }
        self.replace_at = now + REPLACE_EVERY;
        let moved = aside::move_aside(&self.path)
            .map_err(|error| Fault::Failed(format!("the damaged file cannot be moved: {}", error.kind())))?;
        warn!(
            cause,
            moved_to = %moved.display(),
            "the store's file was damaged and has been moved aside; a new one is begun"
        );
        self.db = Some(database::open(&self.path)?);
        self.horizons.keep_all();
        self.commit_at = Some(now + COMMIT_AFTER);
        Ok(())
    }
}

fn begin(db: &Connection) -> Result<(), Fault> {
    if db.is_autocommit() {
        db.execute_batch("BEGIN IMMEDIATE")?;
    }
    Ok(())
}

/// Writes the log to the disk, and from there into the database.
fn checkpoint(db: &Connection, mode: &str) -> Result<(), Fault> {
    Ok(db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))?)
}

/// The wall clock of this machine, which is the clock of a store in a file. Before 1970 it stands still.
fn wall_clock() -> StoreTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    StoreTime::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_due_after_the_file_was_closed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("store.db");
        let lock = fs::File::create(folder.path().join("lock")).expect("a lock file");
        let mut worker = Worker::open(path, lock, 1 << 30).expect("a new file");
        worker.write_soon();
        assert!(worker.commit_at.is_some());
        worker.close();
        worker.write_soon();
        assert_eq!(worker.commit_at, None);
    }
}
