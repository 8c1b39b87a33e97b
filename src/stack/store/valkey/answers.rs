//! Operations on the records of contacts: answers, cool-downs and leases.

use std::time::Duration;

use super::{
    super::engine::{
        Epoch, Failed, LEASE_TIME, LeaseId, Leased, Names, RawReading, SCOPE_TIME, ScopeState, Seen, Write,
        Written,
    },
    Repeat, StoreTime, Valkey, form, millis,
    scripts::{ANSWERS, Call, FAIL, READ, RELEASE, RENEW, WRITE},
};
use crate::domain::Reach;

/// A sealed value, or raw bytes; `None` when there is none.
type Bytes = Option<Vec<u8>>;
/// The reply of read.lua.
type Found = (u64, Bytes, Option<u64>, Bytes, Bytes, Bytes, u8);
/// The reply of answers.lua.
type Group = (u64, Bytes, Option<u64>, Vec<Bytes>);

impl Valkey {
    /// Reads the records of a contact, and takes the lease if `lease` names one and nothing is stored that is
    /// newer than `seen`.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    pub async fn read(
        &self,
        names: &Names,
        seen: Seen,
        lease: Option<LeaseId>,
    ) -> Result<RawReading, Failed> {
        let Names { scope, scope_failure, answer, lease: lease_name, failure } = names;
        let id = lease.as_ref().map_or(&[][..], |id| &id[..]);
        let call = Call::on([scope, scope_failure, answer, lease_name, failure].map(String::as_str))
            .with(id)
            .with(millis(LEASE_TIME))
            .with(time(seen.answer))
            .with(time(seen.failure))
            .with(time(seen.scope_failure));
        let reply = READ.run(&self.link, &call, Repeat::Harmless).await?;
        let (now, epoch, rejected, answer, failure, scope_failure, leased): Found = form(reply)?;
        let leased = leasing(leased)?;
        let scope = state(epoch, rejected);
        Ok(RawReading {
            now: StoreTime::from_micros(now),
            scope,
            answer,
            failure,
            scope_failure,
            lease: leased,
        })
    }

    /// Reads the record of a scope and the answers of up to 64 of its contacts.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    pub async fn answers(
        &self,
        scope: &str,
        names: &[String],
    ) -> Result<(StoreTime, Option<ScopeState>, Vec<Option<Vec<u8>>>), Failed> {
        let call = Call::on([scope].into_iter().chain(names.iter().map(String::as_str)));
        let reply = ANSWERS.run(&self.link, &call, Repeat::Harmless).await?;
        let (now, epoch, rejected, answers): Group = form(reply)?;
        if answers.len() != names.len() {
            return Err(another_form());
        }
        Ok((StoreTime::from_micros(now), state(epoch, rejected), answers))
    }

    /// Stores an answer, ends the cool-downs, and releases the lease.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    pub async fn write(&self, write: Write<'_>) -> Result<(StoreTime, Written), Failed> {
        let Names { scope, scope_failure, answer, lease, failure } = write.names;
        let turns = turns(scope);
        let call = Call::on([scope, scope_failure, answer, lease, failure, &turns].map(String::as_str))
            .with(write.value)
            .with(millis(write.ttl))
            .with(&write.epoch[..])
            .with(u8::from(write.is_new_epoch))
            .with(time(write.unreadable))
            .with(&write.lease[..])
            .with(millis(SCOPE_TIME));
        let reply = WRITE.run(&self.link, &call, Repeat::Harmless).await?;
        let mut reply: Vec<redis::Value> = form(reply)?;
        let other = if reply.len() > 2 { reply.pop() } else { None };
        let (now, code): (u64, u8) = form(redis::Value::Array(reply))?;
        Ok((StoreTime::from_micros(now), outcome(code, other)?))
    }

    /// Shares a cool-down if the scope has a record, and releases the lease in any case.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    pub async fn fail(
        &self,
        names: &Names,
        reach: Reach,
        value: &[u8],
        ttl: Duration,
        lease: LeaseId,
    ) -> Result<StoreTime, Failed> {
        let failure = match reach {
            Reach::Key => &names.failure,
            Reach::Scope => &names.scope_failure,
        };
        let answer = match reach {
            Reach::Key => Some(&names.answer),
            Reach::Scope => None,
        };
        let keys = [&names.scope, failure, &names.lease].into_iter().chain(answer);
        let call = Call::on(keys.map(String::as_str)).with(value).with(millis(ttl)).with(&lease[..]);
        let now = FAIL.run(&self.link, &call, Repeat::Harmless).await?;
        Ok(StoreTime::from_micros(form(now)?))
    }

    /// Renews a lease. Returns whether the caller still has it.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    pub async fn renew(&self, lease: &str, id: LeaseId) -> Result<bool, Failed> {
        let call = Call::on([lease]).with(&id[..]).with(millis(LEASE_TIME));
        form(RENEW.run(&self.link, &call, Repeat::Harmless).await?)
    }

    /// Releases a lease if the caller still has it.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    pub async fn release(&self, lease: &str, id: LeaseId) -> Result<(), Failed> {
        let call = Call::on([lease]).with(&id[..]);
        RELEASE.run(&self.link, &call, Repeat::Harmless).await?;
        Ok(())
    }
}

/// The lease by the code of read.lua.
fn leasing(code: u8) -> Result<Leased, Failed> {
    match code {
        0 => Ok(Leased::No),
        1 => Ok(Leased::Taken),
        2 => Ok(Leased::Held),
        _ => Err(another_form()),
    }
}

/// The outcome by the code of write.lua and the epoch that comes with some codes.
fn outcome(code: u8, epoch: Option<redis::Value>) -> Result<Written, Failed> {
    match (code, epoch) {
        (0, None) => Ok(Written::Stored),
        (1, None) => Ok(Written::Outdated),
        (2, Some(epoch)) => match form::<Vec<u8>>(epoch)?.try_into() {
            Ok(epoch) => Ok(Written::OtherEpoch(epoch)),
            Err(_) => Err(Failed { cause: "the record of a scope is broken".to_owned() }),
        },
        (3, None) => Ok(Written::NoScope),
        _ => Err(another_form()),
    }
}

fn another_form() -> Failed {
    Failed { cause: "the reply has another form".to_owned() }
}

/// The state of a scope. A record with a broken epoch counts as absent.
pub fn state(epoch: Option<Vec<u8>>, rejected: Option<u64>) -> Option<ScopeState> {
    let epoch = Epoch::try_from(epoch?).ok()?;
    Some(ScopeState { epoch, rejected_at: rejected.map(StoreTime::from_millis) })
}

/// The argument of a script for a time, in milliseconds; -1 for none.
fn time(time: Option<StoreTime>) -> i64 {
    time.map_or(-1, |time| i64::try_from(time.millis()).unwrap_or(i64::MAX))
}

/// The name of the turns of the instance that `scope` belongs to.
fn turns(scope: &str) -> String {
    let tag = scope.find('}').map_or("", |end| &scope[..=end]);
    format!("{tag}:turn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_is_not_known_is_a_failure() {
        assert_eq!([0, 1, 2].map(leasing), [Ok(Leased::No), Ok(Leased::Taken), Ok(Leased::Held)]);
        assert_eq!(leasing(3), Err(another_form()));
        let codes = [0, 1, 3].map(|code| outcome(code, None));
        assert_eq!(codes, [Ok(Written::Stored), Ok(Written::Outdated), Ok(Written::NoScope)]);
        let epoch = || Some(redis::Value::BulkString(vec![7; 16]));
        assert_eq!(outcome(2, epoch()), Ok(Written::OtherEpoch([7; 16])));
        for (code, epoch) in [(2, None), (4, None), (3, epoch())] {
            assert_eq!(outcome(code, epoch), Err(another_form()), "{code}");
        }
    }
}
