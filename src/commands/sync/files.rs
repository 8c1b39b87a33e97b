//! Files of a sync: how they are replaced so that each is whole at any moment, and the locks that keep two
//! syncs apart.
//!
//! Temporary names can be guessed, so nothing is ever written through a link that has such a name.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The permissions of new files: their content or their names are phone numbers.
pub const MODE: u32 = 0o600;

/// Takes the lock of the system on the file at `path`, which is made if need be, until the returned file is
/// closed. `holder` names another holder of the lock, for the user.
///
/// # Errors
///
/// Another process has the lock, or the file cannot be locked.
pub fn lock(path: &Path, holder: &str) -> Result<File, String> {
    let mut options = OpenOptions::new();
    let opened = options.create(true).truncate(false).write(true).mode(MODE).open(path);
    let file = opened.map_err(|error| format!("{}: {error}", path.display()))?;
    try_lock(&file, path, holder)?;
    Ok(file)
}

/// The same for a file that is open.
pub fn try_lock(file: &File, path: &Path, holder: &str) -> Result<(), String> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(format!("{holder} is in progress: it holds the lock of {}", path.display()))
        }
        Err(TryLockError::Error(error)) => Err(format!("{}: {error}", path.display())),
    }
}

/// Writes `bytes` to the file `temporary`, and renames it to `path` when they are on the disk.
pub fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    write_durably(temporary, bytes)?;
    fs::rename(temporary, path)?;
    sync_folder(path)
}

/// Writes a whole file, in place of an earlier one, and waits until its bytes are on the disk.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Waits until the names in the folder of `path` are on the disk.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// The path without links, of a file that exists or that could be made.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Err(error), Some(folder), Some(name)) if error.kind() == ErrorKind::NotFound => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            Ok(fs::canonicalize(folder)?.join(name))
        }
        (resolved, ..) => resolved,
    }
}

/// The path with `ending` after its name.
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_file_is_replaced_without_its_links_and_permissions() {
        let folder = TempDir::new().unwrap();
        let [path, temporary, other] = ["file", "file.new", "other"].map(|name| folder.path().join(name));
        fs::write(&other, "mine").unwrap();
        for prepare in [
            |path: &Path, other: &Path| symlink(other, path).unwrap(),
            |path: &Path, other: &Path| fs::hard_link(other, path).unwrap(),
            |path: &Path, _: &Path| {
                fs::write(path, "longer than the new content").unwrap();
                fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
            },
            |_: &Path, _: &Path| {},
        ] {
            prepare(&temporary, &other);
            replace(&path, &temporary, b"new").unwrap();
            assert_eq!([&path, &other].map(|path| fs::read_to_string(path).unwrap()), ["new", "mine"]);
            let file = fs::symlink_metadata(&path).unwrap();
            assert!(file.is_file() && file.permissions().mode() & 0o777 == MODE, "{file:?}");
            assert!(!temporary.exists());
        }
    }
}
