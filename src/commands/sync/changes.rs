//! [`Changes`]: the output for the user's own programs, one line of JSON for each change. It holds no link.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use humantime::format_rfc3339_seconds;
use serde::Serialize;

use super::{
    files::{MODE, try_lock},
    state::Outcome,
};

/// The beginning of every line.
const LINE_BEGIN: &[u8] = b"{\"time\":\"";

/// Maximum length of an unfinished line that is removed, in bytes. The lines here are far shorter, so a
/// longer one is not one of them.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// The end of the year 9999, after which RFC 3339 has no times, in Unix seconds.
const TIME_MAX: u64 = 253_402_300_799;

/// A contact whose outcome differs from that of its last check.
#[derive(Serialize)]
pub struct Change<'a> {
    /// The time of the check, in RFC 3339.
    time: String,
    /// The canonical form.
    chat_id: &'a str,
    /// The text in the contact list.
    requested_chat_id: &'a str,
    #[serde(flatten)]
    outcome: &'a Outcome,
    /// The name of the saved picture in the folder of the pictures; null when it was not saved.
    file: Option<&'a str>,
    /// The outcome of the last check; null when there was none.
    previous: Option<&'a Outcome>,
}

impl<'a> Change<'a> {
    /// The change of a contact that was checked at this time, in Unix seconds.
    pub fn new(
        checked: u64,
        chat_id: &'a str,
        requested_chat_id: &'a str,
        outcome: &'a Outcome,
        file: Option<&'a str>,
        previous: Option<&'a Outcome>,
    ) -> Self {
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(checked.min(TIME_MAX)));
        let time = format_rfc3339_seconds(time.unwrap_or(SystemTime::UNIX_EPOCH)).to_string();
        Self { time, chat_id, requested_chat_id, outcome, file, previous }
    }
}

/// Where changes are written to.
#[derive(Debug)]
pub enum Changes {
    /// A file, at whose end lines are added.
    File(File),
    /// Standard output.
    Output,
}

impl Changes {
    /// Opens the file at `path`, or standard output without one, and locks a file. A last line that an
    /// interrupted sync did not finish is removed; its change is not in the state, so it is reported again.
    ///
    /// # Errors
    ///
    /// The reason why the file cannot be used, for the user.
    pub fn open(path: Option<&Path>) -> Result<Self, String> {
        let Some(path) = path else { return Ok(Self::Output) };
        let fault = |error: io::Error| format!("{}: {error}", path.display());
        let mut options = OpenOptions::new();
        let opened = options.create(true).read(true).append(true).mode(MODE).open(path);
        let mut file = opened.map_err(fault)?;
        // A pipe or a device has no earlier lines.
        if file.metadata().map_err(fault)?.is_file() {
            try_lock(&file, path, "another sync with the same --out")?;
            mend(&mut file).map_err(fault)?;
        }
        Ok(Self::File(file))
    }

    /// Writes the changes, and waits until a file has them on the disk.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write(&mut self, changes: &[Change]) -> io::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for change in changes {
            serde_json::to_writer(&mut lines, change)?;
            lines.push(b'\n');
        }
        match self {
            Self::File(file) => {
                file.write_all(&lines)?;
                match file.sync_data() {
                    // A pipe or a device cannot be synced.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                    synced => synced,
                }
            }
            Self::Output => {
                let mut output = io::stdout().lock();
                output.write_all(&lines)?;
                output.flush()
            }
        }
    }
}

/// Removes the unfinished line at the end of a file, if it is one of ours, and ends any other one.
fn mend(file: &mut File) -> io::Result<()> {
    let end = file.metadata()?.len();
    let begin = end.saturating_sub(LINE_BYTES_MAX);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(begin))?;
    Read::take(&mut *file, LINE_BYTES_MAX).read_to_end(&mut tail)?;
    let line = match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => &tail[at + 1..],
        None if begin == 0 => &tail[..],
        // The beginning of the line is not known.
        None => return file.write_all(b"\n"),
    };
    if line.is_empty() {
        return Ok(());
    }
    let compared = line.len().min(LINE_BEGIN.len());
    if line[..compared] == LINE_BEGIN[..compared] {
        file.set_len(end - line.len() as u64)
    } else {
        file.write_all(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use serde_json::Value;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_line_says_what_has_changed() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("changes.ndjson");
        let picture = |name: &str| Outcome::Picture { fingerprint: name.to_owned() };
        let (new, old, none) = (picture("new"), picture("old"), Outcome::None);
        let error = Outcome::Error { reason: "NOT_ON_WHATSAPP".to_owned() };
        let mut changes = Changes::open(Some(&path)).unwrap();
        let first = Change::new(1_764_000_000, "1", "+1", &new, Some("1.jpg"), Some(&old));
        changes.write(&[first, Change::new(u64::MAX, "2", "2", &none, None, None)]).unwrap();
        changes.write(&[]).unwrap();
        changes.write(&[Change::new(0, "3", "3", &error, None, Some(&none))]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert!(text.lines().all(|line| line.as_bytes().starts_with(LINE_BEGIN)), "{text}");
        let [picture, none, error] = &lines[..] else { panic!("{text}") };
        assert_eq!(
            [picture, none, error].map(|line| line["time"].as_str().unwrap()),
            ["2025-11-24T16:00:00Z", "9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z"]
        );
        assert_eq!((&picture["chat_id"], &picture["requested_chat_id"]), (&"1".into(), &"+1".into()));
        assert_eq!((&picture["outcome"], &picture["fingerprint"]), (&"picture".into(), &"new".into()));
        assert_eq!((&picture["file"], &picture["previous"]["fingerprint"]), (&"1.jpg".into(), &"old".into()));
        assert_eq!((&none["outcome"], &none["previous"]), (&"none".into(), &Value::Null));
        assert_eq!(
            (&error["reason"], &error["previous"]["outcome"]),
            (&"NOT_ON_WHATSAPP".into(), &"none".into())
        );
    }

    #[test]
    fn an_unfinished_line_is_removed_and_no_other() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("changes.ndjson");
        let long = format!("{{\"time\":\"{}", "x".repeat(10_000));
        let long_after = format!("{}\n{long}", "y".repeat(5_000));
        let longest = format!("{{\"time\":\"{}", "x".repeat(70_000));
        for (before, after) in [
            ("", String::new()),
            ("{\"time\":\"1\"}\n", "{\"time\":\"1\"}\n".to_owned()),
            ("{\"time\":\"1\"}\n{\"ti", "{\"time\":\"1\"}\n".to_owned()),
            ("{\"time\":\"1\",\"chat", String::new()),
            ("{", String::new()),
            ("a note of mine", "a note of mine\n".to_owned()),
            (&long, String::new()),
            (&long_after, format!("{}\n", "y".repeat(5_000))),
            (&longest, format!("{longest}\n")),
        ] {
            fs::write(&path, before).unwrap();
            Changes::open(Some(&path)).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_new_file_is_private_and_an_earlier_one_keeps_its_permissions() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("changes.ndjson");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        drop(Changes::open(Some(&path)).unwrap());
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        drop(Changes::open(Some(&path)).unwrap());
        assert_eq!(mode(), 0o640);
    }

    #[test]
    fn one_process_at_a_time_writes_to_a_file() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("changes.ndjson");
        let first = Changes::open(Some(&path)).unwrap();
        let error = Changes::open(Some(&path)).unwrap_err();
        assert!(error.contains("same --out") && error.contains("changes.ndjson"), "{error}");
        drop(first);
        assert!(Changes::open(Some(&path)).is_ok());
    }
}
