//! [`tidy`]: expired rows are removed, the size is bounded, and free pages go back to the file system. Each
//! step is small, since reads wait for it.

use rusqlite::Connection;

use super::{database::number, fault::Fault, operations::Session, rows};
use crate::stack::store::StoreTime;

/// Rows of a table that one step removes at most.
pub const STEP_ROWS: i64 = 256;
/// Answers that are removed before the size is looked at again.
const LOT_ROWS: i64 = 16;
/// Pages that one step gives back at most; 256 KiB.
const STEP_PAGES: i64 = 64;
/// Free pages that are kept for the next answers; 1 MiB.
const SPARE_PAGES: i64 = 256;
/// How long a horizon is kept after its last turn, in microseconds (replicas.md, rule 9).
const HORIZON_MICROS: u64 = 60 * 60 * 1_000_000;

/// Does a step. Returns whether there is more to do.
pub fn tidy(session: &mut Session<'_>, bytes: u64) -> Result<bool, Fault> {
    session.leases.expire(session.instant);
    let (db, now) = (session.db, rows::integer(session.now));
    let mut is_more = false;
    let expired = [
        "DELETE FROM answers WHERE rowid IN (SELECT rowid FROM answers WHERE expires <= ?1 ORDER BY expires LIMIT ?2)",
        "DELETE FROM failures WHERE rowid IN (SELECT rowid FROM failures WHERE expires <= ?1 ORDER BY expires LIMIT ?2)",
        "DELETE FROM scopes WHERE name IN (SELECT name FROM scopes WHERE expires <= ?1 LIMIT ?2)",
    ];
    for delete in expired {
        is_more |= delete_step(db, delete, now)?;
    }
    let passed = "DELETE FROM horizons WHERE name IN \
                  (SELECT name FROM horizons WHERE max(free_at, spare_at, paused_until) <= ?1 LIMIT ?2)";
    is_more |= delete_step(db, passed, rows::integer(horizons_end(session.now)))?;
    is_more |= evict(db, bytes)?;
    is_more |= compact(db)?;
    Ok(is_more)
}

/// Horizons whose last turn and pause ended by this time are forgotten.
pub fn horizons_end(now: StoreTime) -> StoreTime {
    StoreTime::from_micros(now.micros().saturating_sub(HORIZON_MICROS))
}

/// Removes the answers that expire soonest while the pages in use are more than `bytes`. Returns whether they
/// may still be.
fn evict(db: &Connection, bytes: u64) -> Result<bool, Fault> {
    let page = number(db, "page_size")?;
    for _ in 0..STEP_ROWS / LOT_ROWS {
        let used = (number(db, "page_count")? - number(db, "freelist_count")?).saturating_mul(page);
        if u64::try_from(used).unwrap_or(0) <= bytes || !evict_lot(db, LOT_ROWS)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes this many of the answers that expire soonest. Returns whether there may be more of them.
pub fn evict_lot(db: &Connection, lot: i64) -> Result<bool, Fault> {
    let delete = "DELETE FROM answers WHERE rowid IN (SELECT rowid FROM answers ORDER BY expires LIMIT ?1)";
    let removed = db.prepare_cached(delete)?.execute([lot])?;
    Ok(i64::try_from(removed).unwrap_or(i64::MAX) >= lot)
}

fn compact(db: &Connection) -> Result<bool, Fault> {
    let free = number(db, "freelist_count")?;
    if free <= SPARE_PAGES {
        return Ok(false);
    }
    let pages = STEP_PAGES.min(free - SPARE_PAGES);
    let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = vacuum.query([])?;
    // It gives a row for each page that it frees, and goes on only when the row is taken.
    while rows.next()?.is_some() {}
    Ok(free - pages > SPARE_PAGES)
}

fn delete_step(db: &Connection, delete: &str, until: i64) -> Result<bool, Fault> {
    let removed = db.prepare_cached(delete)?.execute([until, STEP_ROWS])?;
    Ok(i64::try_from(removed).unwrap_or(i64::MAX) >= STEP_ROWS)
}
