//! The file against real files in temporary folders. Common parts are here; the tests are in the files below.

mod damage;
mod kill;
mod outcomes;
mod places;
mod space;

use std::{path::PathBuf, time::Duration};

use tempfile::TempDir;

use super::{
    super::engine::{Epoch, LeaseId, Leased, Names, Seen, Write, Written},
    *,
};

/// More than any test stores.
const ROOM: u64 = 1 << 30;
const EPOCH: Epoch = [7; 16];
const LEASE: LeaseId = [1; 16];
const HOUR: Duration = Duration::from_secs(3600);

/// A folder of its own, and the path of the file in it.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    (folder, path)
}

fn open(path: &Path) -> File {
    File::open(path, ROOM).unwrap()
}

/// The names of the contact of this number, all in one scope.
fn names(contact: u64) -> Names {
    Names {
        scope: "s:1".to_owned(),
        scope_failure: "f:scope".to_owned(),
        answer: format!("a:{contact}"),
        lease: format!("l:{contact}"),
        failure: format!("f:{contact}"),
    }
}

/// A sealed value: version, time, and a text that depends on both, so that a damaged one is recognised.
fn value(asked: StoreTime, text: &str) -> Vec<u8> {
    let mut value = vec![1];
    value.extend(asked.millis().to_be_bytes());
    value.extend(text.as_bytes());
    value
}

fn answer<'a>(names: &'a Names, value: &'a [u8]) -> Write<'a> {
    Write { names, value, ttl: HOUR, epoch: EPOCH, is_new_epoch: true, unreadable: None, lease: LEASE }
}

async fn now(file: &File) -> StoreTime {
    file.read(&names(0), Seen::default(), None).await.unwrap().now
}

async fn store(file: &File, contact: u64, text: &str) -> Vec<u8> {
    let value = value(now(file).await, text);
    let written = file.write(answer(&names(contact), &value)).await.unwrap().1;
    assert_eq!(written, Written::Stored);
    value
}

async fn stored(file: &File, contact: u64) -> Option<Vec<u8>> {
    file.read(&names(contact), Seen::default(), None).await.unwrap().answer
}

fn earlier(time: StoreTime, span: Duration) -> StoreTime {
    StoreTime::from_millis(time.millis() - u64::try_from(span.as_millis()).unwrap())
}

/// The damaged files that were moved aside.
fn moved_aside(path: &Path) -> Vec<PathBuf> {
    let files = path.parent().unwrap().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let is_moved = |file: &PathBuf| {
        let name = file.to_string_lossy().into_owned();
        name.contains(".damaged-") && !["-wal", "-shm", "-journal"].iter().any(|end| name.ends_with(end))
    };
    files.filter(is_moved).collect()
}
