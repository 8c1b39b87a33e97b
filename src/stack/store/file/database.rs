//! [`open`]: the SQLite database with the settings and the tables of a store.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::fault::Fault;

/// Marks the database as one of this service: "HySG".
const APPLICATION: i64 = 0x4879_5347;
/// The version of the tables. Another layout has another one.
const VERSION: i64 = 1;
/// Kept of the write-ahead log after it has grown.
const LOG_BYTES: i64 = 16 * 1024 * 1024;
/// Memory for pages, in KiB; SQLite takes a negative number for it.
const CACHE_KIB: i64 = 8 * 1024;

/// Every row ends with a checksum over its name and its columns, since SQLite has none and a flipped bit is
/// otherwise found only when it breaks the structure. Values are in tables with row numbers: in the others
/// one of more than 1,000 bytes takes a page of its own.
const TABLES: &str = "
CREATE TABLE answers (name TEXT NOT NULL UNIQUE, value BLOB NOT NULL, expires INTEGER NOT NULL,
    sum INTEGER NOT NULL);
CREATE INDEX answers_expires ON answers (expires);
CREATE TABLE failures (name TEXT NOT NULL UNIQUE, value BLOB NOT NULL, expires INTEGER NOT NULL,
    sum INTEGER NOT NULL);
CREATE INDEX failures_expires ON failures (expires);
CREATE TABLE scopes (name TEXT PRIMARY KEY, epoch BLOB NOT NULL, rejected INTEGER, answered INTEGER NOT NULL,
    expires INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE horizons (name TEXT PRIMARY KEY, free_at INTEGER NOT NULL, spare_at INTEGER NOT NULL,
    paused_until INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE probe (one INTEGER PRIMARY KEY, time INTEGER NOT NULL);
";

/// Opens or creates the database, locks it, and checks its structure, which reads the whole file.
///
/// # Errors
///
/// [`Fault::Damaged`] when the file is to be moved aside, [`Fault::Refused`] when it is not ours.
pub fn open(path: &Path) -> Result<Connection, Fault> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(|error| opening(&error))?;
    db.busy_timeout(Duration::ZERO)?;
    // A database of another application is not even tidied up.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Before anything is read, so that the log needs no memory that processes share.
    set(&db, "locking_mode", "EXCLUSIVE")?;
    set(&db, "cell_size_check", "ON")?;
    set(&db, "trusted_schema", "OFF")?;
    // An I/O error in mapped memory is a signal that ends the process.
    set(&db, "mmap_size", "0")?;
    set(&db, "temp_store", "MEMORY")?;
    set(&db, "cache_size", &(-CACHE_KIB).to_string())?;
    let is_new = identify(&db)?;
    if db.is_readonly("main")? {
        return Err(Fault::Refused("it is not writable".to_owned()));
    }
    if is_new {
        create(&db)?;
    }
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::Refused("its file system cannot hold a write-ahead log".to_owned()));
    }
    set(&db, "synchronous", "NORMAL")?;
    set(&db, "journal_size_limit", &LOG_BYTES.to_string())?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    db.set_prepared_statement_cache_capacity(64);
    // The first write takes the lock, if nothing has before.
    db.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
    Ok(db)
}

/// Closes a damaged database as it is.
pub fn abandon(db: Connection) {
    let _ = db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    drop(db);
}

/// The number that a pragma without an argument gives.
pub fn number(db: &Connection, pragma: &str) -> Result<i64, Fault> {
    Ok(db.prepare_cached(&format!("PRAGMA {pragma}"))?.query_row([], |row| row.get(0))?)
}

fn opening(error: &rusqlite::Error) -> Fault {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::PermissionDenied) => {
            Fault::Refused("it cannot be opened for writing".to_owned())
        }
        Some(_) | None => Fault::Failed("it cannot be opened".to_owned()),
    }
}

/// Some settings answer with a row, others do not.
fn set(db: &Connection, name: &str, value: &str) -> Result<(), Fault> {
    let mut statement = db.prepare(&format!("PRAGMA {name} = {value}"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Whether the database is empty. An error unless it is empty or a sound one of ours.
fn identify(db: &Connection) -> Result<bool, Fault> {
    let (application, version) = (number(db, "application_id")?, number(db, "user_version")?);
    let ours =
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('answers', 'failures', 'scopes', 'horizons')";
    let ours: i64 = db.query_row(ours, [], |row| row.get(0))?;
    let all: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && version == 0 && all == 0 && number(db, "page_count")? <= 1 {
        return Ok(true);
    }
    let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(Fault::Damaged("its structure is broken".to_owned()));
    }
    match (application, version, ours) {
        (APPLICATION, VERSION, 4) => Ok(false),
        (APPLICATION, other, 4) => {
            Err(Fault::Refused(format!("it has version {other} of the format, not version {VERSION}")))
        }
        // Either the header or the schema is not as we wrote it.
        (APPLICATION, _, _) | (_, _, 4) => Err(Fault::Damaged("its header is broken".to_owned())),
        _ => Err(Fault::Refused("it is the database of another application".to_owned())),
    }
}

/// All or nothing, so that a process that is killed meanwhile leaves an empty database.
fn create(db: &Connection) -> Result<(), Fault> {
    // Only before the first table, and before the change to a write-ahead log, which writes the first page.
    set(db, "auto_vacuum", "INCREMENTAL")?;
    // An empty database that already has its first page takes the setting only now.
    db.execute_batch("VACUUM")?;
    let marks = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};");
    db.execute_batch(&format!("BEGIN EXCLUSIVE; {marks} {TABLES} COMMIT"))?;
    Ok(())
}
