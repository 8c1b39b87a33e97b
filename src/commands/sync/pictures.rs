//! [`Pictures`]: the folder with the pictures, one file for each contact, named by its canonical chat id.

use std::{
    cell::Cell,
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use tokio::task::spawn_blocking;

use super::files::{lock, sync_folder, write_durably};
use crate::{
    avatars::{FetchError, Fetcher, Kind, PictureHosts},
    domain::ChatId,
};

/// Maximum size of a picture.
const PICTURE_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Pictures in a row that fail for a reason that may pass, or cannot be written, before no more are tried:
/// with a host that cannot be reached, each of them would take 5 s.
const FAILURES_MAX: u32 = 20;
/// The ending of a picture that is not kept yet.
const NEW: &str = ".new";
/// The file whose lock the user of the folder holds.
const LOCK: &str = ".lock";
/// The permissions of a new folder: the names of its files are phone numbers.
const FOLDER_MODE: u32 = 0o700;

/// A folder of pictures, and how they are downloaded.
#[derive(Debug)]
pub struct Pictures {
    folder: PathBuf,
    fetcher: Fetcher,
    failures: Cell<u32>,
    /// The lock is the system's, and ends with the process.
    _lock: File,
}

/// A picture that is on the disk under a temporary name. It is removed when it is dropped before it is kept.
#[derive(Debug)]
pub struct Downloaded {
    chat_id: String,
    kind: Kind,
    temporary: PathBuf,
}

/// Why there is no picture on the disk.
#[derive(Debug)]
pub enum Failed {
    /// It may be there another time.
    ForNow,
    /// The same link never gives a picture with these settings.
    Refused(FetchError),
    /// This file cannot be written.
    Disk(PathBuf, io::Error),
}

impl Failed {
    /// Whether every other link to the same picture fails in the same way, whatever the settings are. That is
    /// so when the file itself is refused. A link expires, and the list of hosts may change.
    pub fn is_of_file(&self) -> bool {
        match self {
            Self::Refused(FetchError::TooLarge | FetchError::NotAnImage) => true,
            Self::Refused(
                FetchError::NotAllowed
                | FetchError::NotPublic
                | FetchError::Unreachable
                | FetchError::TimedOut
                | FetchError::BrokenOff
                | FetchError::Status(_),
            )
            | Self::ForNow
            | Self::Disk(..) => false,
        }
    }
}

impl Drop for Downloaded {
    fn drop(&mut self) {
        // One that was kept has another name, and one that stays is removed by the next sync.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Downloaded {
    /// The contact in canonical form.
    pub fn chat_id(&self) -> &str {
        &self.chat_id
    }

    /// The name that the file gets.
    pub fn name(&self) -> String {
        name(&self.chat_id, self.kind)
    }
}

fn name(chat_id: &str, kind: Kind) -> String {
    format!("{chat_id}.{}", kind.extension())
}

impl Pictures {
    /// Opens and locks the folder, which is created if need be, and removes the temporary files of an
    /// interrupted sync.
    ///
    /// # Errors
    ///
    /// The reason why no picture can be saved, for the user.
    pub fn open(folder: PathBuf, hosts: PictureHosts) -> Result<Self, String> {
        let fault = |error: io::Error| format!("{}: {error}", folder.display());
        let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&folder);
        made.map_err(fault)?;
        let lock = lock(&folder.join(LOCK), "another sync with the same --pictures")?;
        let cleared = fs::read_dir(&folder).and_then(|files| {
            for file in files {
                let file = file?;
                if is_temporary(&file.file_name()) && !file.file_type()?.is_dir() {
                    fs::remove_file(file.path())?;
                }
            }
            Ok(())
        });
        cleared.map_err(fault)?;
        let fetcher = Fetcher::new(hosts).map_err(|error| error.to_string())?;
        Ok(Self { folder, fetcher, failures: Cell::new(0), _lock: lock })
    }

    /// Whether the folder has the file `name`.
    pub fn has(&self, name: &str) -> bool {
        self.folder.join(name).is_file()
    }

    /// Downloads the picture of a contact to a temporary file. The link is a secret.
    pub async fn download(&self, chat_id: &str, link: &str) -> Result<Downloaded, Failed> {
        if self.failures.get() >= FAILURES_MAX {
            return Err(Failed::ForNow);
        }
        let fetched = self.fetcher.fetch(link, PICTURE_BYTES_MAX).await;
        let image = fetched.map_err(|error| {
            if error.may_pass() {
                self.failures.set(self.failures.get() + 1);
                Failed::ForNow
            } else {
                Failed::Refused(error)
            }
        })?;
        let temporary = self.folder.join(format!(".{chat_id}{NEW}"));
        let picture = Downloaded { chat_id: chat_id.to_owned(), kind: image.kind, temporary };
        let path = self.path(&picture);
        // A folder of that name is noticed here, because the name is reported before the file gets it.
        if path.is_dir() {
            return Err(Failed::Disk(path, io::ErrorKind::IsADirectory.into()));
        }
        let temporary = picture.temporary.clone();
        // A thread for blocking work waits for the disk, so that several files are written at a time.
        let written = spawn_blocking(move || write_durably(&temporary, &image.bytes)).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            self.failures.set(self.failures.get() + 1);
            return Err(Failed::Disk(path, error));
        }
        self.failures.set(0);
        Ok(picture)
    }

    /// Gives a picture its name, which is on the disk from the next [`Self::sync`] on. A contact keeps one
    /// file, whatever the types of its pictures.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn keep(&self, picture: &Downloaded) -> io::Result<()> {
        fs::rename(&picture.temporary, self.path(picture))?;
        for other in Kind::ALL.into_iter().filter(|kind| *kind != picture.kind) {
            let earlier = self.folder.join(name(&picture.chat_id, other));
            match fs::remove_file(&earlier) {
                Err(error) if error.kind() != io::ErrorKind::NotFound && !earlier.is_dir() => {
                    return Err(error);
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Waits until the names of all pictures are on the disk.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn sync(&self) -> io::Result<()> {
        sync_folder(&self.folder.join(NEW))
    }

    /// The path that a picture gets.
    pub fn path(&self, picture: &Downloaded) -> PathBuf {
        self.folder.join(picture.name())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let chat_id = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(NEW));
    chat_id.is_some_and(|chat_id| ChatId::parse(chat_id).is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;
    use crate::sandbox::Sandbox;

    fn names(folder: &Path) -> Vec<String> {
        let names =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    }

    #[tokio::test]
    async fn a_contact_has_one_file() {
        let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let origin = format!("http://{}", sandbox.address());
        let temporary = TempDir::new().unwrap();
        let folder = temporary.path().join("a/b");
        fs::create_dir_all(&folder).unwrap();
        for name in ["15551230001.png", ".15551230007.new", ".keep.new", "note.txt"] {
            fs::write(folder.join(name), name).unwrap();
        }
        let pictures = Pictures::open(folder.clone(), origin.parse().unwrap()).unwrap();
        let link = format!("{origin}/v/t61.24694-24/1_2_3_n.jpg?oh=x&oe=7FFFFFFF");
        let picture = pictures.download("15551230001", &link).await.unwrap();
        assert!(pictures.has("15551230001.png") && !pictures.has(&picture.name()));
        pictures.keep(&picture).unwrap();
        drop(picture);
        assert_eq!(names(&folder), [".keep.new", ".lock", "15551230001.jpg", "note.txt"]);
        assert!(pictures.has("15551230001.jpg"));
        let saved = fs::metadata(folder.join("15551230001.jpg")).unwrap();
        assert_eq!(saved.permissions().mode() & 0o777, 0o600);

        let elsewhere = pictures.download("15551230002", "https://cdn.example.com/a.jpg").await;
        assert!(matches!(elsewhere, Err(Failed::Refused(FetchError::NotAllowed))));
        let expired = pictures.download("15551230002", &link.replace("7FFFFFFF", "1")).await;
        assert!(matches!(expired, Err(Failed::Refused(FetchError::Status(403)))));
        drop(sandbox);
        for _ in 0..=FAILURES_MAX {
            assert!(matches!(pictures.download("15551230002", &link).await, Err(Failed::ForNow)));
        }
        assert_eq!(pictures.failures.get(), FAILURES_MAX);
        assert_eq!(names(&folder), [".keep.new", ".lock", "15551230001.jpg", "note.txt"]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Pictures::open(file.path().join("pictures"), PictureHosts::default()).unwrap_err();
        assert!(error.contains("pictures: "), "{error}");
    }

    #[test]
    fn one_process_at_a_time_uses_a_folder_that_is_private() {
        let temporary = TempDir::new().unwrap();
        let folder = temporary.path().join("pictures");
        let open = || Pictures::open(folder.clone(), "http://127.0.0.1:9".parse().unwrap());
        let first = open().unwrap();
        let error = open().unwrap_err();
        assert!(error.contains("same --pictures") && error.contains("pictures/.lock"), "{error}");
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, FOLDER_MODE);
        drop(first);
        open().unwrap();
    }
}
