//! The rows of the tables, each with its checksum. Whether a row may be used is known in
//! [`super::operations`].

use std::hash::Hasher;

use rusqlite::{Connection, OptionalExtension, params};
use siphasher::sip::SipHasher13;

use super::{super::engine::Epoch, fault::Fault};
use crate::stack::store::{StoreTime, horizon::HorizonRecord};

/// A table of sealed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Answers,
    Failures,
}

/// A row of the scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScopeRow {
    pub epoch: Epoch,
    /// When the token was rejected, in ms.
    pub rejected: Option<u64>,
    /// The latest start of an attempt that was answered, in ms.
    pub answered: u64,
    pub expires: StoreTime,
}

/// The value of a name, and its end. An expired one may still be there.
pub fn value(db: &Connection, table: Table, name: &str) -> Result<Option<(Vec<u8>, StoreTime)>, Fault> {
    let select = match table {
        Table::Answers => "SELECT value, expires, sum FROM answers WHERE name = ?1",
        Table::Failures => "SELECT value, expires, sum FROM failures WHERE name = ?1",
    };
    let mut select = db.prepare_cached(select)?;
    let row = select.query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let Some((value, expires, sum)): Option<(Vec<u8>, i64, i64)> = row else { return Ok(None) };
    check(sum, &[&[table as u8], name.as_bytes(), &value, &expires.to_le_bytes()])?;
    Ok(Some((value, time(expires)?)))
}

pub fn put_value(
    db: &Connection,
    table: Table,
    name: &str,
    value: &[u8],
    expires: StoreTime,
) -> Result<(), Fault> {
    let put = match table {
        Table::Answers => {
            "INSERT OR REPLACE INTO answers (name, value, expires, sum) VALUES (?1, ?2, ?3, ?4)"
        }
        Table::Failures => {
            "INSERT OR REPLACE INTO failures (name, value, expires, sum) VALUES (?1, ?2, ?3, ?4)"
        }
    };
    let expires = integer(expires);
    let sum = sum(&[&[table as u8], name.as_bytes(), value, &expires.to_le_bytes()]);
    db.prepare_cached(put)?.execute(params![name, value, expires, sum])?;
    Ok(())
}

/// Ends a cool-down.
pub fn remove_failure(db: &Connection, name: &str) -> Result<(), Fault> {
    db.prepare_cached("DELETE FROM failures WHERE name = ?1")?.execute([name])?;
    Ok(())
}

/// The record of a scope. An expired one may still be there.
pub fn scope(db: &Connection, name: &str) -> Result<Option<ScopeRow>, Fault> {
    let select = "SELECT epoch, rejected, answered, expires, sum FROM scopes WHERE name = ?1";
    let mut select = db.prepare_cached(select)?;
    let row =
        select.query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
    let row: Option<(Epoch, Option<i64>, i64, i64, i64)> = row.optional()?;
    let Some((epoch, rejected, answered, expires, sum)) = row else { return Ok(None) };
    check(sum, &[name.as_bytes(), &epoch, &flag(rejected), &answered.to_le_bytes(), &expires.to_le_bytes()])?;
    let rejected = rejected.map(unsigned).transpose()?;
    Ok(Some(ScopeRow { epoch, rejected, answered: unsigned(answered)?, expires: time(expires)? }))
}

pub fn put_scope(db: &Connection, name: &str, row: &ScopeRow) -> Result<(), Fault> {
    let put = "INSERT OR REPLACE INTO scopes (name, epoch, rejected, answered, expires, sum) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (rejected, answered) = (row.rejected.map(signed), signed(row.answered));
    let expires = integer(row.expires);
    let sum =
        sum(&[name.as_bytes(), &row.epoch, &flag(rejected), &answered.to_le_bytes(), &expires.to_le_bytes()]);
    db.prepare_cached(put)?.execute(params![name, row.epoch, rejected, answered, expires, sum])?;
    Ok(())
}

/// All horizons, with the tags of their instances.
pub fn horizons(db: &Connection) -> Result<Vec<(String, HorizonRecord)>, Fault> {
    let mut select = db.prepare_cached("SELECT name, free_at, spare_at, paused_until, sum FROM horizons")?;
    let rows = select
        .query_map([], |row| Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?], row.get(4)?)))?;
    let mut horizons = Vec::new();
    for row in rows {
        let (name, times, sum): (String, [i64; 3], i64) = row?;
        let [free_at, spare_at, paused_until] = times;
        check(sum, &horizon_parts(&name, &times.map(i64::to_le_bytes)))?;
        let record = HorizonRecord {
            free_at: time(free_at)?,
            spare_at: time(spare_at)?,
            paused_until: time(paused_until)?,
        };
        horizons.push((name, record));
    }
    Ok(horizons)
}

pub fn put_horizon(db: &Connection, name: &str, record: &HorizonRecord) -> Result<(), Fault> {
    let put = "INSERT OR REPLACE INTO horizons (name, free_at, spare_at, paused_until, sum) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let times = [record.free_at, record.spare_at, record.paused_until].map(integer);
    let sum = sum(&horizon_parts(name, &times.map(i64::to_le_bytes)));
    db.prepare_cached(put)?.execute(params![name, times[0], times[1], times[2], sum])?;
    Ok(())
}

fn horizon_parts<'a>(name: &'a str, times: &'a [[u8; 8]; 3]) -> [&'a [u8]; 4] {
    [name.as_bytes(), &times[0], &times[1], &times[2]]
}

/// SQLite has no unsigned numbers. A later time than it can hold is the end of time.
pub fn integer(time: StoreTime) -> i64 {
    signed(time.micros())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> Result<u64, Fault> {
    u64::try_from(number).map_err(|_| Fault::Damaged("a time is negative".to_owned()))
}

fn time(micros: i64) -> Result<StoreTime, Fault> {
    unsigned(micros).map(StoreTime::from_micros)
}

fn flag(rejected: Option<i64>) -> [u8; 9] {
    let mut flag = [0; 9];
    if let Some(at) = rejected {
        flag[0] = 1;
        flag[1..].copy_from_slice(&at.to_le_bytes());
    }
    flag
}

/// A checksum against accidents, not against forgers: the values themselves are sealed. The key of the hash
/// is zero, so that every process computes the same.
fn sum(parts: &[&[u8]]) -> i64 {
    let mut hasher = SipHasher13::new();
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    i64::from_le_bytes(hasher.finish().to_le_bytes())
}

fn check(stored: i64, parts: &[&[u8]]) -> Result<(), Fault> {
    if stored == sum(parts) { Ok(()) } else { Err(Fault::Damaged("a row has another checksum".to_owned())) }
}
