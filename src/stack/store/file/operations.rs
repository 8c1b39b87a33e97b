//! The operations of the engine inside the transaction of the file's thread. They decide as the scripts of
//! [`super::super::valkey`] do.

use std::time::Duration;

use rusqlite::Connection;
use tokio::time::Instant;

use super::{
    super::engine::{self, Epoch, LeaseId, Leased, Names, RawReading, SCOPE_TIME, ScopeState, Seen, Written},
    fault::Fault,
    leases::Leases,
    rows::{self, ScopeRow, Table},
};
use crate::{domain::Reach, stack::store::StoreTime};

/// All that an operation works on.
#[derive(Debug)]
pub struct Session<'a> {
    pub db: &'a Connection,
    pub leases: &'a mut Leases,
    /// The wall clock.
    pub now: StoreTime,
    /// The clock of the leases.
    pub instant: Instant,
}

/// The time, the record of a scope, and some of its answers.
pub type Answers = (StoreTime, Option<ScopeState>, Vec<Option<Vec<u8>>>);

/// An answer to store, owned.
#[derive(Clone, Debug)]
pub struct Answer {
    pub names: Names,
    pub value: Vec<u8>,
    pub ttl: Duration,
    pub epoch: Epoch,
    pub is_new_epoch: bool,
    pub unreadable: Option<StoreTime>,
    pub lease: LeaseId,
}

impl Session<'_> {
    pub fn read(&mut self, names: &Names, seen: Seen, lease: Option<LeaseId>) -> Result<RawReading, Fault> {
        let scope = self.scope(&names.scope)?;
        let answer = self.value(Table::Answers, &names.answer)?;
        let failure = self.value(Table::Failures, &names.failure)?;
        let scope_failure = self.value(Table::Failures, &names.scope_failure)?;
        // Above, an answer without the record of its scope counts as absent, and one before a rejection too.
        let asked = answer.as_deref().and_then(header);
        let is_valid =
            scope.is_some_and(|scope| scope.rejected.is_none_or(|rejected| asked > Some(rejected)));
        let is_news = (is_valid && is_later(answer.as_deref(), seen.answer))
            || is_later(failure.as_deref(), seen.failure)
            || is_later(scope_failure.as_deref(), seen.scope_failure);
        let lease = match lease {
            Some(id) if !is_news => {
                let is_taken = self.leases.take(&names.lease, id, self.instant);
                if is_taken { Leased::Taken } else { Leased::Held }
            }
            Some(_) | None => Leased::No,
        };
        Ok(RawReading { now: self.now, scope: scope.map(state), answer, failure, scope_failure, lease })
    }

    pub fn answers(&self, scope: &str, names: &[String]) -> Result<Answers, Fault> {
        let scope = self.scope(scope)?;
        let answers: Result<_, _> = names.iter().map(|name| self.value(Table::Answers, name)).collect();
        Ok((self.now, scope.map(state), answers?))
    }

    pub fn write(&mut self, answer: &Answer) -> Result<(StoreTime, Written), Fault> {
        let names = &answer.names;
        let asked = header(&answer.value).unwrap_or(0);
        let known = self.scope(&names.scope)?;
        let scope = match known {
            Some(scope) if scope.epoch != answer.epoch => {
                return Ok((self.now, Written::OtherEpoch(scope.epoch)));
            }
            Some(scope) => scope,
            None if answer.is_new_epoch => {
                ScopeRow { epoch: answer.epoch, rejected: None, answered: 0, expires: self.now }
            }
            None => return Ok((self.now, Written::NoScope)),
        };
        let is_rejected = scope.rejected.is_some_and(|rejected| asked <= rejected);
        // An answer of another epoch is never read again.
        let stored = if known.is_some() { self.value(Table::Answers, &names.answer)? } else { None };
        let is_newer = stored.as_deref().and_then(header).is_some_and(|stored| {
            let is_readable = answer.unreadable.is_none_or(|at| at.millis() != stored);
            // Of a time that has not come, it is from before the clock was set back.
            stored > asked && is_readable && stored <= self.now.millis()
        });
        if is_rejected || is_newer {
            self.leases.release(&names.lease, answer.lease);
            return Ok((self.now, Written::Outdated));
        }
        let answered = scope.answered.max(asked);
        rows::put_scope(
            self.db,
            &names.scope,
            &self.renewed(ScopeRow { rejected: None, answered, ..scope }),
        )?;
        let expires = after(self.now, answer.ttl);
        rows::put_value(self.db, Table::Answers, &names.answer, &answer.value, expires)?;
        rows::remove_failure(self.db, &names.failure)?;
        rows::remove_failure(self.db, &names.scope_failure)?;
        self.leases.release(&names.lease, answer.lease);
        Ok((self.now, Written::Stored))
    }

    pub fn fail(
        &mut self,
        names: &Names,
        reach: Reach,
        value: &[u8],
        ttl: Duration,
        lease: LeaseId,
    ) -> Result<StoreTime, Fault> {
        self.leases.release(&names.lease, lease);
        let Some(scope) = self.scope(&names.scope)? else { return Ok(self.now) };
        let name = match reach {
            Reach::Key => &names.failure,
            Reach::Scope => &names.scope_failure,
        };
        let stored = self.value(Table::Failures, name)?.as_deref().and_then(header);
        let answered = match reach {
            Reach::Key => self.value(Table::Answers, &names.answer)?.as_deref().and_then(header),
            Reach::Scope => Some(scope.answered),
        };
        let began = header(value);
        // Times that have not come are from before the clock was set back.
        let is_later = |time: Option<u64>| time > began && time <= Some(self.now.millis());
        if !is_later(stored) && !is_later(answered) {
            rows::put_value(self.db, Table::Failures, name, value, after(self.now, ttl))?;
        }
        Ok(self.now)
    }

    pub fn reject(&self, name: &str, ago: Duration) -> Result<Option<StoreTime>, Fault> {
        let Some(scope) = self.scope(name)? else { return Ok(None) };
        let at = StoreTime::from_micros(self.now.micros().saturating_sub(micros(ago))).millis();
        if scope.answered > self.now.millis() {
            // From before the clock was set back, so that it cannot be compared.
            let at = scope.rejected.max(Some(at)).unwrap_or(at);
            self.renew_epoch(name, scope, at)?;
            return Ok(Some(StoreTime::from_millis(at)));
        }
        if scope.answered > at || scope.rejected.is_some_and(|rejected| rejected >= at) {
            return Ok(scope.rejected.map(StoreTime::from_millis));
        }
        rows::put_scope(self.db, name, &self.renewed(ScopeRow { rejected: Some(at), ..scope }))?;
        Ok(Some(StoreTime::from_millis(at)))
    }

    pub fn scopes(&self, names: &[String]) -> Result<Vec<Option<ScopeState>>, Fault> {
        names.iter().map(|name| Ok(self.scope(name)?.map(state))).collect()
    }

    pub fn probe(&self) -> Result<StoreTime, Fault> {
        let put = "INSERT OR REPLACE INTO probe (one, time) VALUES (1, ?1)";
        self.db.prepare_cached(put)?.execute([rows::integer(self.now)])?;
        Ok(self.now)
    }

    /// The record of a scope. A rejection whose time has not come is from before the clock was set back. It
    /// counts as one of now, and because the times of the stored answers are from then, too, a new epoch
    /// hides them.
    fn scope(&self, name: &str) -> Result<Option<ScopeRow>, Fault> {
        let Some(row) = rows::scope(self.db, name)?.filter(|row| row.expires > self.now) else {
            return Ok(None);
        };
        let now = self.now.millis();
        if row.rejected.is_none_or(|rejected| rejected <= now) {
            return Ok(Some(row));
        }
        self.renew_epoch(name, row, now).map(Some)
    }

    /// Notes a rejection under a new epoch, which hides all stored answers.
    fn renew_epoch(&self, name: &str, row: ScopeRow, rejected: u64) -> Result<ScopeRow, Fault> {
        let (epoch, rejected) = (rand::random(), Some(rejected));
        let row = self.renewed(ScopeRow { epoch, rejected, answered: 0, ..row });
        rows::put_scope(self.db, name, &row)?;
        Ok(row)
    }

    fn value(&self, table: Table, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let row = rows::value(self.db, table, name)?;
        Ok(row.and_then(|(value, expires)| (expires > self.now).then_some(value)))
    }

    fn renewed(&self, row: ScopeRow) -> ScopeRow {
        ScopeRow { expires: after(self.now, SCOPE_TIME), ..row }
    }
}

fn state(row: ScopeRow) -> ScopeState {
    ScopeState { epoch: row.epoch, rejected_at: row.rejected.map(StoreTime::from_millis) }
}

/// The time in the header of a sealed value, in ms.
fn header(value: &[u8]) -> Option<u64> {
    engine::header(value).map(StoreTime::millis)
}

fn is_later(value: Option<&[u8]>, seen: Option<StoreTime>) -> bool {
    value.is_some_and(|value| seen.is_none_or(|seen| header(value).unwrap_or(0) > seen.millis()))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn after(time: StoreTime, span: Duration) -> StoreTime {
    StoreTime::from_micros(time.micros().saturating_add(micros(span)))
}
