//! [`lock`]: one process at a time opens, replaces and writes a store's file.
//!
//! SQLite locks the file as well, but only once it has opened it. Between two processes that find the same
//! damaged file, or while a running one replaces its file, only a lock beside it decides.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::fault::Fault;

/// How often, and with which pause, a lock is tried that another process holds. It may be about to end, or be
/// the copy of this process that exists for a moment while another program is started.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Checks that `path` can be a file of ours, and locks it for as long as the returned file is open. Returns
/// the path without links, beside which SQLite puts the companions.
///
/// The database itself is never opened here: POSIX drops all locks of a process on a file as soon as the
/// process closes one descriptor of it.
pub fn lock(path: &Path) -> Result<(PathBuf, File), Fault> {
    let path = resolved(path)?;
    let cannot =
        |error: &io::Error| Fault::Refused(format!("its folder cannot be written: {}", error.kind()));
    let mut beside = path.clone().into_os_string();
    beside.push(".lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(beside);
    let lock = lock.map_err(|error| cannot(&error))?;
    for _ in 0..ATTEMPTS {
        match lock.try_lock() {
            Ok(()) => return Ok((path, lock)),
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => {
                return Err(Fault::Refused(format!("its folder cannot hold a lock: {}", error.kind())));
            }
        }
    }
    Err(Fault::Refused("another process uses it".to_owned()))
}

fn resolved(path: &Path) -> Result<PathBuf, Fault> {
    let refused = |fault: &str| Fault::Refused(fault.to_owned());
    match path.metadata() {
        Ok(found) if found.is_dir() => Err(refused("it is a folder")),
        Ok(found) if !found.is_file() => Err(refused("it is not a regular file")),
        Ok(_) => path.canonicalize().map_err(|error| Fault::Refused(error.kind().to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if path.is_symlink() {
                return Err(refused("it is a link to a file that does not exist"));
            }
            let Some(name) = path.file_name() else { return Err(refused("it is not the path of a file")) };
            let folder = match path.parent() {
                Some(folder) if folder != Path::new("") => folder,
                Some(_) | None => Path::new("."),
            };
            match folder.canonicalize() {
                Ok(folder) => Ok(folder.join(name)),
                Err(_) => Err(refused("its folder does not exist")),
            }
        }
        Err(error) => Err(Fault::Refused(format!("it cannot be read: {}", error.kind()))),
    }
}
