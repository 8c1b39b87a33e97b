//! [`move_aside`]: a damaged file is kept, so that it can be examined, and makes room for a new one.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The files that SQLite puts beside a database. One that is left behind would be replayed into the new file.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];
/// How many damaged files are kept. A disk that damages every file would be filled by them.
const KEPT: usize = 3;

/// Moves a file and its companions to `PATH.damaged-<time>`, and deletes the oldest of more than 3 such
/// files. Returns the new name of the file.
///
/// The file goes first: SQLite ignores a companion of a file that does not exist.
pub fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let target = free_name(path);
    match fs::rename(path, &target) {
        Ok(()) => {}
        // The operator removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for companion in COMPANIONS {
        let from = with(path, companion);
        if fs::rename(&from, with(&target, companion)).is_err() && from.exists() {
            fs::remove_file(&from)?;
        }
    }
    // Too many files on the disk are no reason to fail.
    let _ = remove_oldest(path);
    Ok(target)
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

fn free_name(path: &Path) -> PathBuf {
    // Colons are not allowed in names everywhere.
    let time = humantime::format_rfc3339_micros(SystemTime::now()).to_string().replace(':', "");
    with(path, &format!(".damaged-{time}"))
}

fn remove_oldest(path: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let begin = format!("{}.damaged-", name.to_string_lossy());
    let names = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let is_main = |name: &String| {
        name.starts_with(&begin) && !COMPANIONS.iter().any(|companion| name.ends_with(companion))
    };
    let mut damaged: Vec<_> = names.filter(is_main).collect();
    // The time is part of the name.
    damaged.sort();
    let excess = damaged.len().saturating_sub(KEPT);
    for name in &damaged[..excess] {
        let file = folder.join(name);
        for end in COMPANIONS {
            let _ = fs::remove_file(with(&file, end));
        }
        fs::remove_file(file)?;
    }
    Ok(())
}
