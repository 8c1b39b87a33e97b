//! [`State`]: the outcome of the last check of each contact, in a file beside the list.
//!
//! The file is never damaged: it is replaced as a whole. Only one process uses it at a time.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::files::{lock, replace, with_ending};

/// The version of the file's format. A change that older programs cannot read raises it.
const VERSION: u32 = 1;

/// How far the clocks of this machine and of the service may differ, in seconds. A check that is later than
/// now by more was noted while a clock was wrong.
const CLOCK_SKEW_MAX: u64 = 300;

/// The last check of a contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When Hypersender gave the outcome, in Unix seconds. An error has the time at which it arrived.
    pub checked: u64,
    /// The outcome.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The name of the file with the picture, if it was saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Whether the picture cannot be saved, because its file is too large or no image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The contact has this picture.
    Picture {
        /// The fingerprint of the picture.
        fingerprint: String,
    },
    /// The contact has no picture, or hides it.
    None,
    /// The look-up failed, and would fail again.
    Error {
        /// The reason in the contract, such as `NOT_ON_WHATSAPP`.
        reason: String,
    },
}

impl Outcome {
    /// The fingerprint, where there is a picture.
    pub fn fingerprint(&self) -> Option<&str> {
        match self {
            Self::Picture { fingerprint } => Some(fingerprint),
            Self::None | Self::Error { .. } => None,
        }
    }
}

impl Entry {
    /// Whether the contact was checked within `max_age` before `now`.
    pub fn is_recent(&self, max_age: Duration, now: u64) -> bool {
        self.is_possible(now) && now.saturating_sub(self.checked) < max_age.as_secs()
    }

    /// Whether the check can have been before `now`. One that cannot says nothing about the order of answers.
    pub fn is_possible(&self, now: u64) -> bool {
        self.checked <= now.saturating_add(CLOCK_SKEW_MAX)
    }
}

/// The wall clock in Unix seconds.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// The instance that was asked; empty for the default instance of the service.
    #[serde(default)]
    instance: String,
    contacts: BTreeMap<String, Entry>,
}

/// The checks of all contacts, by canonical chat id.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    instance: String,
    contacts: BTreeMap<String, Entry>,
    /// The lock is the system's, and ends with the process.
    _lock: File,
}

impl State {
    /// Locks and reads the state of the list at `list` in this instance; an empty one is the default of the
    /// service. A list without a state has an empty one. Instances see different pictures, because privacy
    /// settings depend on who asks, so a state belongs to one of them.
    ///
    /// # Errors
    ///
    /// The reason why the state cannot be used, for the user.
    pub fn open(list: &Path, instance: &str) -> Result<Self, String> {
        let [path, lock_path, _] = paths(list);
        let lock = lock(&lock_path, "another sync of the same list")?;
        let contacts = match fs::read(&path) {
            Ok(bytes) => read(&bytes, instance).map_err(|fault| {
                format!(
                    "{}: {fault}; move the file away to start without it: every contact is then looked up and reported again",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        Ok(Self { path, instance: instance.to_owned(), contacts, _lock: lock })
    }

    /// The last check of a contact.
    pub fn get(&self, chat_id: &str) -> Option<&Entry> {
        self.contacts.get(chat_id)
    }

    /// The number of contacts that were checked once.
    pub fn len(&self) -> usize {
        self.contacts.len()
    }

    /// Notes a check. It is kept from the next [`Self::save`] on.
    pub fn set(&mut self, chat_id: String, entry: Entry) {
        self.contacts.insert(chat_id, entry);
    }

    /// Replaces the file. Whenever the process is interrupted, either the old file or the new one is there.
    ///
    /// # Errors
    ///
    /// Those of the file system, for the user.
    pub fn save(&mut self) -> Result<(), String> {
        let (instance, contacts) = (self.instance.clone(), std::mem::take(&mut self.contacts));
        let stored = Stored { version: VERSION, instance, contacts };
        let bytes = serde_json::to_vec(&stored);
        self.contacts = stored.contacts;
        let bytes = bytes.map_err(|error| error.to_string());
        let replaced = bytes.and_then(|bytes| {
            replace(&self.path, &with_ending(&self.path, ".new"), &bytes).map_err(|error| error.to_string())
        });
        replaced.map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}

/// The files of the state of the list at `list`: the state, its lock, and the state that is being written.
pub fn paths(list: &Path) -> [PathBuf; 3] {
    [".state", ".state.lock", ".state.new"].map(|ending| with_ending(list, ending))
}

fn read(bytes: &[u8], instance: &str) -> Result<BTreeMap<String, Entry>, String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    // The text of the error is not used, because it may hold a number.
    let damaged = |error: serde_json::Error| {
        format!("the state is damaged (line {}, column {})", error.line(), error.column())
    };
    let Versioned { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(format!("the state has version {version}, and this program reads version {VERSION}"));
    }
    let stored: Stored = serde_json::from_slice(bytes).map_err(damaged)?;
    if stored.instance != instance {
        return Err(
            "the state is that of another --instance; use a copy of the list for this instance".to_owned()
        );
    }
    Ok(stored.contacts)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn entry(outcome: Outcome) -> Entry {
        Entry { checked: 1_764_000_000, outcome, file: None, refused: false }
    }

    #[test]
    fn a_state_is_kept_from_run_to_run() {
        let folder = TempDir::new().unwrap();
        let list = folder.path().join("contacts.csv");
        let mut state = State::open(&list, "").unwrap();
        assert_eq!(state.get("1"), None);
        let picture = Entry {
            file: Some("1.jpg".to_owned()),
            ..entry(Outcome::Picture { fingerprint: "1_2_3_n.jpg".to_owned() })
        };
        let error = Entry { refused: true, ..entry(Outcome::Error { reason: "NOT_ON_WHATSAPP".to_owned() }) };
        state.set("1".to_owned(), picture.clone());
        state.set("2@c.us".to_owned(), entry(Outcome::None));
        state.set("3".to_owned(), error.clone());
        state.save().unwrap();
        drop(state);
        let state = State::open(&list, "").unwrap();
        assert_eq!(state.get("1"), Some(&picture));
        assert_eq!(state.get("2@c.us"), Some(&entry(Outcome::None)));
        assert_eq!(state.get("3"), Some(&error));
        let text = fs::read_to_string(folder.path().join("contacts.csv.state")).unwrap();
        assert!(text.starts_with(
            r#"{"version":1,"instance":"","contacts":{"1":{"checked":1764000000,"outcome":"picture","#
        ));
        assert!(!folder.path().join("contacts.csv.state.new").exists());
    }

    #[test]
    fn a_state_that_cannot_be_read_is_an_error_that_says_what_to_do() {
        let folder = TempDir::new().unwrap();
        let list = folder.path().join("contacts.csv");
        let path = folder.path().join("contacts.csv.state");
        for (text, word) in [
            ("", "damaged"),
            (r#"{"version":1,"contacts":{"15551230001":{"checked":1,"outco"#, "damaged"),
            (r#"{"version":1,"contacts":{"15551230001":{"checked":1,"outcome":"other"}}}"#, "damaged"),
            (r#"{"version":2,"people":[]}"#, "version 2"),
        ] {
            fs::write(&path, text).unwrap();
            let error = State::open(&list, "").unwrap_err();
            assert!(error.contains("contacts.csv.state") && error.contains(word), "{error}");
            assert!(error.contains("move the file away") && !error.contains("1555"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_state_belongs_to_one_instance() {
        let folder = TempDir::new().unwrap();
        let list = folder.path().join("contacts.csv");
        for (kept, other) in [("", "a"), ("a", ""), ("a", "b")] {
            let mut state = State::open(&list, kept).unwrap();
            state.set("1".to_owned(), entry(Outcome::None));
            state.save().unwrap();
            drop(state);
            let error = State::open(&list, other).unwrap_err();
            assert!(error.contains("contacts.csv.state: the state is that of another --instance"), "{error}");
            assert!(error.contains("copy of the list") && error.contains("move the file away"), "{error}");
            assert!(State::open(&list, kept).unwrap().get("1").is_some());
            fs::remove_file(folder.path().join("contacts.csv.state")).unwrap();
        }
    }

    #[test]
    fn one_process_at_a_time_uses_a_state() {
        let folder = TempDir::new().unwrap();
        let list = folder.path().join("contacts.csv");
        let first = State::open(&list, "").unwrap();
        assert!(State::open(&list, "").unwrap_err().contains("another sync"));
        assert!(State::open(&folder.path().join("others.csv"), "").is_ok());
        drop(first);
        assert!(State::open(&list, "").is_ok());
    }

    #[test]
    fn a_check_is_recent_for_its_age_and_never_when_it_is_in_the_far_future() {
        let entry = entry(Outcome::None);
        let hour = Duration::from_secs(3600);
        for (later, expected) in [
            (0, true),
            (3599, true),
            (3600, false),
            (-1, true),
            (-300, true),
            (-301, false),
            (-99_999, false),
        ] {
            assert_eq!(
                entry.is_recent(hour, entry.checked.saturating_add_signed(later)),
                expected,
                "{later}"
            );
        }
        assert!(!entry.is_recent(Duration::ZERO, entry.checked));
    }
}
