//! [`Fault`]: why an operation on the file failed, and what the store does about it.

use rusqlite::ErrorCode;

/// Why an operation on the file failed. The texts hold no name and no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file is damaged. It is moved aside, and a new one is begun.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// There is no room on the disk or in the quota, or the file may not grow. Some answers are removed.
    #[error("{0}")]
    Full(String),
    /// Another process uses the file, or it belongs to another application.
    #[error("{0}")]
    Refused(String),
    /// Anything else, such as an I/O error.
    #[error("{0}")]
    Failed(String),
}

/// The extended result code for a file that is shorter than it was: `SQLITE_IOERR | (2 << 8)`.
const SHORT_READ: i32 = 522;
/// The extended result code for a write that the system refuses: `SQLITE_IOERR | (3 << 8)`. SQLite reports so
/// what is like a full disk, but for `ENOSPC` itself: `EFBIG` and `EDQUOT`.
const WRITE_REFUSED: i32 = 778;
/// The extended result code for damage that the file system reports: `SQLITE_IOERR | (33 << 8)`.
const DAMAGED_FILE_SYSTEM: i32 = 8458;

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        let Some(failure) = error.sqlite_error() else {
            // All statements are fixed, so a row that does not fit them is damaged.
            return Self::Damaged("a row is not as it was written".to_owned());
        };
        // Not the message of the error, but the text of its code, which never holds data.
        let cause = format!("{failure} ({})", failure.extended_code);
        if [SHORT_READ, DAMAGED_FILE_SYSTEM].contains(&failure.extended_code) {
            return Self::Damaged(cause);
        }
        if failure.extended_code == WRITE_REFUSED {
            return Self::Full(cause);
        }
        match failure.code {
            // The statements are right, so that after all but the first two a table is missing or a row
            // breaks the schema.
            ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::Unknown
            | ErrorCode::SchemaChanged
            | ErrorCode::TooBig
            | ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch => Self::Damaged(cause),
            ErrorCode::DiskFull => Self::Full(cause),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                Self::Refused("another process uses it".to_owned())
            }
            _ => Self::Failed(cause),
        }
    }
}
