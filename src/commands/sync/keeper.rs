//! [`Keeper`]: the consequences of results for the state, the changes and the pictures, and the order in
//! which these three are written.
//!
//! A check has the time at which Hypersender gave the answer, because the service also answers from its
//! cache. While Hypersender fails, the service gives stored answers that are older than it was asked for.
//! Such an answer is reported if it is news, and its contact stays due. An answer that is older than the last
//! check is no news. The service is not asked to leave stale answers out: it would then pass on a first "no
//! picture", which may be a failure of Hypersender's, in place of the picture that it keeps.
//!
//! Changes are written first, then pictures, then the state. Whenever the program is interrupted, a change
//! that the state holds has been reported; the other ones are reported again.

use std::{io, path::Path, time::Duration};

use futures_util::{StreamExt, stream};
use prost_types::Timestamp;

use super::{
    changes::{Change, Changes},
    contacts::Contact,
    pictures::{Downloaded, Failed, Pictures},
    state::{Entry, Outcome, State},
};
use crate::{
    avatars::FetchError,
    commands::reasons::about_contact,
    grpc::contact::{CacheStatus, ProfilePictureResult, ProfilePictureState, profile_picture_result},
};

/// Maximum number of pictures that are downloaded at a time.
const DOWNLOADS_MAX: usize = 8;
/// Maximum number of pictures that cannot be written and are named.
const UNWRITTEN_NAMED_MAX: usize = 5;

/// The state, the changes and the pictures of one contact list.
#[derive(Debug)]
pub struct Keeper {
    /// The last checks.
    pub state: State,
    /// The output.
    pub changes: Changes,
    /// The folder of the pictures, if they are saved.
    pub pictures: Option<Pictures>,
    /// The age up to which an answer is a check.
    pub max_age: Duration,
    /// The numbers so far.
    pub counts: Counts,
    /// The first pictures that could not be written, with their paths and the errors, for the user.
    pub unwritten: Vec<String>,
}

/// The numbers of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Contacts with an outcome that is recent.
    pub checked: usize,
    /// Contacts whose only answer is older than was asked for.
    pub outdated: usize,
    /// Contacts whose look-up failed for a reason that says nothing about them.
    pub failed: usize,
    /// Changes that were reported.
    pub changes: usize,
    /// Pictures that were saved.
    pub saved: usize,
    /// Pictures that could not be saved for a reason that may pass.
    pub unsaved: usize,
    /// Pictures whose file could not be written.
    pub unwritten: usize,
    /// Pictures that are not saved, because of their link or their file.
    pub refused: usize,
    /// Why the last of them was refused.
    pub refusal: Option<FetchError>,
}

/// A result that is to be kept.
#[derive(Debug)]
pub struct Found {
    /// The contact.
    pub contact: Contact,
    /// Its result.
    pub result: ProfilePictureResult,
    /// When the result arrived, in Unix seconds.
    pub at: u64,
}

/// A contact with an outcome.
struct Checked {
    contact: Contact,
    previous: Option<Entry>,
    entry: Entry,
    /// Whether the outcome is older than was asked for.
    outdated: bool,
    /// The link to a picture that is to be downloaded.
    link: Option<String>,
}

impl Keeper {
    /// Whether a contact needs no look-up: its last check was within `max_age` seconds before `now`, and its
    /// picture is saved or cannot be.
    pub fn is_up_to_date(&self, chat_id: &str, max_age: Duration, now: u64) -> bool {
        self.state
            .get(chat_id)
            .is_some_and(|entry| entry.is_recent(max_age, now) && self.has_picture_of(entry))
    }

    /// The fingerprint with which a look-up needs no link.
    pub fn known_fingerprint(&self, chat_id: &str) -> Option<String> {
        let entry = self.state.get(chat_id).filter(|entry| !entry.refused && self.has_picture_of(entry))?;
        entry.outcome.fingerprint().map(str::to_owned)
    }

    /// Whether the folder has all of the contact that it should have.
    fn has_picture_of(&self, entry: &Entry) -> bool {
        let Some(pictures) = &self.pictures else { return true };
        let is_saved = || entry.file.as_ref().is_some_and(|name| pictures.has(name));
        entry.outcome.fingerprint().is_none() || entry.refused || is_saved()
    }

    /// Keeps results. When it returns, all of them are on the disk.
    ///
    /// # Errors
    ///
    /// The reason why they cannot be written, for the user.
    pub async fn keep(&mut self, found: Vec<Found>) -> Result<(), String> {
        let mut all: Vec<Checked> = found.into_iter().filter_map(|found| self.check(found)).collect();
        let downloaded = self.download(&mut all).await;

        let changes = all.iter().filter_map(Checked::change).collect::<Vec<_>>();
        let written = self.changes.write(&changes);
        written.map_err(|error| format!("cannot write the changes: {error}"))?;
        self.counts.changes += changes.len();

        self.keep_pictures(&downloaded, &mut all)?;
        if all.is_empty() {
            return Ok(());
        }
        let outdated = all.iter().filter(|checked| checked.outdated).count();
        self.counts.outdated += outdated;
        self.counts.checked += all.len() - outdated;
        for Checked { contact, entry, .. } in all {
            self.state.set(contact.chat_id, entry);
        }
        self.state.save()
    }

    /// The new entry of a contact; `None` where the result says nothing new about it.
    fn check(&mut self, Found { contact, result, at }: Found) -> Option<Checked> {
        let previous = self.state.get(&contact.chat_id).cloned();
        let outdated = is_outdated(&result, self.max_age);
        let Some(Meaning { outcome, link, given }) = meaning(result, previous.as_ref()) else {
            self.counts.failed += 1;
            return None;
        };
        let last = previous.as_ref().filter(|last| last.outcome == outcome);
        let mut entry = Entry { checked: given.unwrap_or(at), outcome, file: None, refused: false };
        if !entry.is_possible(at) {
            entry.checked = at;
        }
        let known = previous.as_ref().filter(|last| last.is_possible(at)).map_or(0, |last| last.checked);
        if entry.checked < known && last.is_none() {
            self.counts.outdated += 1;
            return None;
        }
        entry.checked = entry.checked.max(known);
        // A saved file belongs to its fingerprint.
        entry.file = last.and_then(|last| last.file.clone());
        entry.refused = last.is_some_and(|last| last.refused) && link.is_none();
        let link = link.filter(|_| self.pictures.is_some() && !self.has_picture_of(&entry));
        Some(Checked { contact, previous, entry, outdated, link })
    }

    /// Gives pictures their names. One that cannot have its name is missing in its entry, and stops no other.
    fn keep_pictures(&mut self, downloaded: &[Downloaded], all: &mut [Checked]) -> Result<(), String> {
        let Some(pictures) = self.pictures.as_ref().filter(|_| !downloaded.is_empty()) else { return Ok(()) };
        let mut faults = Vec::new();
        for picture in downloaded {
            if let Err(error) = pictures.keep(picture) {
                faults.push((pictures.path(picture), error));
                let entries = all.iter_mut().filter(|one| one.contact.chat_id == picture.chat_id());
                entries.for_each(|one| one.entry.file = None);
            }
        }
        let synced = pictures.sync();
        synced
            .map_err(|error| format!("cannot save pictures in {}: {error}", pictures.folder().display()))?;
        self.counts.saved += downloaded.len() - faults.len();
        for (path, error) in faults {
            self.cannot_write(&path, &error);
        }
        Ok(())
    }

    fn cannot_write(&mut self, path: &Path, error: &io::Error) {
        self.counts.unwritten += 1;
        if self.unwritten.len() < UNWRITTEN_NAMED_MAX {
            self.unwritten.push(format!("cannot write {}: {error}", path.display()));
        }
    }

    /// Downloads the pictures that are missing, and notes the result of each in its entry.
    async fn download(&mut self, all: &mut [Checked]) -> Vec<Downloaded> {
        let Some(pictures) = &self.pictures else { return Vec::new() };
        let wanted = all.iter_mut().filter_map(|checked| {
            let link = checked.link.take()?;
            Some((&checked.contact.chat_id, link, &mut checked.entry))
        });
        let downloads = wanted.map(async |(chat_id, link, entry)| {
            let downloaded = pictures.download(chat_id, &link).await;
            entry.file = downloaded.as_ref().ok().map(Downloaded::name);
            entry.refused = downloaded.as_ref().is_err_and(Failed::is_of_file);
            downloaded
        });
        let mut downloads = stream::iter(downloads.collect::<Vec<_>>()).buffer_unordered(DOWNLOADS_MAX);
        let (mut all, mut faults) = (Vec::new(), Vec::new());
        while let Some(downloaded) = downloads.next().await {
            match downloaded {
                Ok(picture) => all.push(picture),
                Err(Failed::ForNow) => self.counts.unsaved += 1,
                Err(Failed::Refused(error)) => {
                    self.counts.refused += 1;
                    self.counts.refusal = Some(error);
                }
                Err(Failed::Disk(path, error)) => faults.push((path, error)),
            }
        }
        drop(downloads);
        for (path, error) in faults {
            self.cannot_write(&path, &error);
        }
        all
    }
}

impl Checked {
    fn change(&self) -> Option<Change<'_>> {
        let previous = self.previous.as_ref().map(|previous| &previous.outcome);
        let Contact { chat_id, written } = &self.contact;
        let file = self.entry.file.as_deref();
        let Entry { checked, outcome, .. } = &self.entry;
        (previous != Some(outcome)).then(|| Change::new(*checked, chat_id, written, outcome, file, previous))
    }
}

/// Whether the service had only an answer that is older than `max_age`.
fn is_outdated(result: &ProfilePictureResult, max_age: Duration) -> bool {
    result.cache_info.as_ref().is_some_and(|cache| {
        let age = cache.age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
        cache.status() == CacheStatus::Stale && age > max_age
    })
}

/// The statement of a result about its contact.
struct Meaning {
    outcome: Outcome,
    /// The link to the picture.
    link: Option<String>,
    /// When Hypersender gave the answer, in Unix seconds, if the result says so.
    given: Option<u64>,
}

/// The meaning of a result. `None` where it says nothing about the contact.
fn meaning(result: ProfilePictureResult, previous: Option<&Entry>) -> Option<Meaning> {
    use profile_picture_result::Outcome as Given;
    match result.outcome? {
        Given::ProfilePicture(picture) => {
            let given = seconds(picture.fetch_time);
            match ProfilePictureState::try_from(picture.state) {
                Ok(ProfilePictureState::Present) => {
                    let outcome = Outcome::Picture { fingerprint: picture.fingerprint };
                    Some(Meaning { outcome, link: Some(picture.url), given })
                }
                Ok(ProfilePictureState::NotAvailable) => {
                    Some(Meaning { outcome: Outcome::None, link: None, given })
                }
                // A state of a later version of the contract.
                Ok(ProfilePictureState::Unspecified) | Err(_) => None,
            }
        }
        // Only a contact whose fingerprint was sent is unchanged.
        Given::Unchanged(unchanged) => {
            let outcome = previous?.outcome.clone();
            outcome.fingerprint()?;
            Some(Meaning { outcome, link: None, given: seconds(unchanged.fetch_time) })
        }
        Given::Error(error) => {
            let reason = about_contact(&error)?;
            Some(Meaning { outcome: Outcome::Error { reason }, link: None, given: None })
        }
    }
}

fn seconds(time: Option<Timestamp>) -> Option<u64> {
    time.and_then(|time| u64::try_from(time.seconds).ok())
}

#[cfg(test)]
mod tests;
