//! Results, and what is kept of them.

use std::{collections::HashMap, fs, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tonic_types::{ErrorDetails, StatusExt, pb};

use super::*;
use crate::{
    grpc::contact::{CacheInfo, ProfilePicture, UnchangedPicture},
    sandbox::Sandbox,
};

const CHAT: &str = "15551230001";
const HOUR: Duration = Duration::from_secs(3600);

/// A contact list in a folder of its own.
struct List {
    folder: TempDir,
    hosts: Option<String>,
}

impl List {
    fn new(hosts: Option<String>) -> Self {
        Self { folder: TempDir::new().unwrap(), hosts }
    }

    /// Opens everything, as each run does.
    fn open(&self) -> Keeper {
        let path = |name: &str| self.folder.path().join(name);
        let open = |hosts: &String| Pictures::open(path("pictures"), hosts.parse().unwrap()).unwrap();
        Keeper {
            state: State::open(&path("contacts.csv"), "").unwrap(),
            changes: Changes::open(Some(&path("changes.ndjson"))).unwrap(),
            pictures: self.hosts.as_ref().map(open),
            max_age: HOUR,
            counts: Counts::default(),
            unwritten: Vec::new(),
        }
    }

    /// Keeps one result in a run of its own, and returns the numbers and the changes of that run.
    async fn keep(&self, outcome: profile_picture_result::Outcome, at: u64) -> (Counts, Vec<Value>) {
        self.keep_cached(outcome, at, None).await
    }

    /// The same for an answer from the cache.
    async fn keep_cached(
        &self,
        outcome: profile_picture_result::Outcome,
        at: u64,
        cache_info: Option<CacheInfo>,
    ) -> (Counts, Vec<Value>) {
        let before = self.changes().len();
        let mut keeper = self.open();
        let contact = Contact { chat_id: CHAT.to_owned(), written: format!("+{CHAT}") };
        let outcome = Some(outcome);
        let result = ProfilePictureResult { outcome, cache_info, ..ProfilePictureResult::default() };
        keeper.keep(vec![Found { contact, result, at }]).await.unwrap();
        (keeper.counts, self.changes().split_off(before))
    }

    fn changes(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("changes.ndjson")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn picture(url: &str, fingerprint: &str) -> profile_picture_result::Outcome {
    profile_picture_result::Outcome::ProfilePicture(ProfilePicture {
        state: ProfilePictureState::Present.into(),
        url: url.to_owned(),
        fingerprint: fingerprint.to_owned(),
        ..ProfilePicture::default()
    })
}

fn absent() -> profile_picture_result::Outcome {
    in_state(ProfilePictureState::NotAvailable.into())
}

fn in_state(state: i32) -> profile_picture_result::Outcome {
    profile_picture_result::Outcome::ProfilePicture(ProfilePicture { state, ..ProfilePicture::default() })
}

fn unchanged() -> profile_picture_result::Outcome {
    profile_picture_result::Outcome::Unchanged(UnchangedPicture::default())
}

fn error(reason: &str, wait: Option<Duration>) -> profile_picture_result::Outcome {
    let mut details = ErrorDetails::with_error_info(reason, "hypersender-grpc", HashMap::new());
    if wait.is_some() {
        details.set_retry_info(wait);
    }
    let status = tonic::Status::with_error_details(tonic::Code::NotFound, "x", details);
    profile_picture_result::Outcome::Error(prost::Message::decode(status.details()).unwrap())
}

#[tokio::test]
async fn a_change_is_reported_once_and_each_check_is_noted() {
    let list = List::new(None);
    for (at, outcome, expected) in [
        (100, picture("https://h/1?oh=x", "a"), Some("picture")),
        (200, picture("https://h/1?oh=y", "a"), None),
        (300, unchanged(), None),
        (400, picture("https://h/2", "b"), Some("picture")),
        (500, absent(), Some("none")),
        (600, absent(), None),
        (700, error("NOT_ON_WHATSAPP", None), Some("error")),
        (800, error("NOT_ON_WHATSAPP", None), None),
        (900, picture("https://h/2", "b"), Some("picture")),
    ] {
        let (counts, changes) = list.keep(outcome, at).await;
        assert_eq!((counts.checked, counts.failed), (1, 0), "{at}");
        let outcomes: Vec<_> = changes.iter().map(|change| change["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, Vec::from_iter(expected), "{at}");
        let keeper = list.open();
        assert!(keeper.is_up_to_date(CHAT, HOUR, at) && !keeper.is_up_to_date(CHAT, HOUR, at + 3600), "{at}");
    }
    let text = fs::read_to_string(list.folder.path().join("changes.ndjson")).unwrap();
    assert!(!text.contains("https://"), "{text}");
    let changes = list.changes();
    assert_eq!((&changes[0]["previous"], &changes[0]["file"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&changes[1]["fingerprint"], &changes[1]["previous"]["fingerprint"]),
        (&"b".into(), &"a".into())
    );
    assert_eq!(
        (&changes[3]["reason"], &changes[3]["previous"]["outcome"]),
        (&"NOT_ON_WHATSAPP".into(), &"none".into())
    );
}

#[tokio::test]
async fn a_result_that_says_nothing_about_the_contact_is_no_check() {
    let list = List::new(None);
    list.keep(picture("https://h/1", "a"), 100).await;
    for outcome in [
        error("UPSTREAM_UNAVAILABLE", Some(Duration::from_secs(1))),
        error("RATE_LIMITED", Some(Duration::from_secs(1))),
        error("DEADLINE_EXCEEDED", None),
        error("INTERNAL", None),
        error("UPSTREAM_RESPONSE_INVALID", None),
        error("NOT_CACHED", None),
        error("REASON_OF_A_LATER_VERSION", None),
        profile_picture_result::Outcome::Error(pb::Status::default()),
        in_state(ProfilePictureState::Unspecified.into()),
        in_state(99),
    ] {
        let (counts, changes) = list.keep(outcome, 200).await;
        assert_eq!(counts, Counts { failed: 1, ..Counts::default() });
        assert!(changes.is_empty());
        assert_eq!(list.open().state.get(CHAT).map(|entry| entry.checked), Some(100));
        assert_eq!(list.open().known_fingerprint(CHAT).as_deref(), Some("a"));
    }
    let (counts, _) = List::new(None).keep(unchanged(), 100).await;
    assert_eq!(counts.failed, 1, "nothing is known that could be unchanged");
}

/// An answer of this age with this status, and a picture that was fetched at that time.
fn cached(
    fingerprint: &str,
    fetched: i64,
    status: CacheStatus,
    age: i64,
) -> (profile_picture_result::Outcome, CacheInfo) {
    let mut outcome = picture("https://h/1", fingerprint);
    if let profile_picture_result::Outcome::ProfilePicture(picture) = &mut outcome {
        picture.fetch_time = Some(Timestamp { seconds: fetched, nanos: 0 });
    }
    let age = Some(prost_types::Duration { seconds: age, nanos: 1 });
    (outcome, CacheInfo { status: status.into(), age, ..CacheInfo::default() })
}

#[tokio::test]
async fn a_check_has_the_time_at_which_hypersender_answered() {
    use CacheStatus::{Hit, Stale};
    let list = List::new(None);
    for (at, (outcome, cache), change, outdated, checked) in [
        (10_000, cached("a", 9_000, Hit, 1_000), Some("a"), 0, 9_000),
        // The same answer in an outage, when it is older than an hour.
        (13_000, cached("a", 9_000, Stale, 4_000), None, 1, 9_000),
        // A stale answer within the hour is a check.
        (13_000, cached("a", 9_500, Stale, 3_500), None, 0, 9_500),
        // One of another replica, which has seen a later picture.
        (20_000, cached("b", 12_000, Stale, 8_000), Some("b"), 1, 12_000),
        // One of a replica that has not.
        (20_000, cached("a", 9_500, Stale, 10_500), None, 1, 12_000),
        (20_000, cached("b", 11_000, Hit, 9_000), None, 0, 12_000),
        (20_000, cached("c", 20_100, Hit, 0), Some("c"), 0, 20_100),
        // The clock of the service is far ahead.
        (21_000, cached("d", 99_000, Hit, 0), Some("d"), 0, 21_000),
    ] {
        let (counts, changes) = list.keep_cached(outcome, at, Some(cache)).await;
        let names: Vec<_> = changes.iter().map(|change| change["fingerprint"].as_str().unwrap()).collect();
        assert_eq!((names, counts.outdated), (Vec::from_iter(change), outdated), "{at} {checked}");
        assert_eq!((counts.checked, counts.failed), (1 - outdated, 0), "{at} {checked}");
        let keeper = list.open();
        assert_eq!(keeper.state.get(CHAT).map(|entry| entry.checked), Some(checked));
        assert_eq!(keeper.is_up_to_date(CHAT, HOUR, at), at - 3_600 < checked, "{at} {checked}");
    }
    assert_eq!(list.changes()[1]["time"], "1970-01-01T03:20:00Z");
}

#[tokio::test]
async fn a_check_that_a_wrong_clock_has_noted_hides_no_change() {
    let list = List::new(None);
    list.keep(picture("https://h/1", "a"), 1_000_000).await;
    let (counts, changes) = list.keep(picture("https://h/2", "b"), 1_000).await;
    assert_eq!((counts.checked, changes.len()), (1, 1));
    assert_eq!(list.open().state.get(CHAT).map(|entry| entry.checked), Some(1_000));
}

#[tokio::test]
async fn a_picture_is_downloaded_when_it_is_new_or_missing() {
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let origin = format!("http://{}", sandbox.address());
    let link = |name: u8| format!("{origin}/v/t61.24694-24/{name}_2_3_n.jpg?oh=x&oe=7FFFFFFF");
    // A contact that was checked without pictures is looked up again when they are wanted.
    let mut list = List::new(None);
    list.keep(picture(&link(1), "a"), 100).await;
    assert!(list.open().is_up_to_date(CHAT, HOUR, 100));
    list.hosts = Some(origin.clone());
    let file = list.folder.path().join("pictures").join(format!("{CHAT}.jpg"));
    assert!(!list.open().is_up_to_date(CHAT, HOUR, 100));
    assert_eq!(list.open().known_fingerprint(CHAT), None);

    let (counts, changes) = list.keep(picture(&link(1), "a"), 100).await;
    assert_eq!((counts.saved, changes.len()), (1, 0));
    let first = fs::read(&file).unwrap();
    assert!(list.open().is_up_to_date(CHAT, HOUR, 100));
    assert_eq!(list.open().known_fingerprint(CHAT).as_deref(), Some("a"));
    assert_eq!(list.keep(unchanged(), 200).await.0.saved, 0);
    assert_eq!(list.keep(picture(&link(1), "a"), 300).await.0.saved, 0);

    let (counts, changes) = list.keep(picture(&link(2), "b"), 400).await;
    assert_eq!((counts.saved, &changes[0]["file"]), (1, &format!("{CHAT}.jpg").into()));
    assert_ne!(fs::read(&file).unwrap(), first);
    fs::remove_file(&file).unwrap();
    assert!(!list.open().is_up_to_date(CHAT, HOUR, 400));
    assert_eq!(list.keep(picture(&link(2), "b"), 500).await.0.saved, 1);

    // The file of an earlier picture does not count for a new one that cannot be downloaded.
    drop(sandbox);
    let (counts, changes) = list.keep(picture(&link(3), "c"), 600).await;
    assert_eq!((counts.unsaved, &changes[0]["file"]), (1, &Value::Null));
    assert!(file.exists() && !list.open().is_up_to_date(CHAT, HOUR, 600));
}

#[tokio::test]
async fn a_picture_that_is_refused_is_tried_again_with_the_next_check_only() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", server.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = server.accept().await.unwrap();
            let page = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npage";
            if stream.read(&mut [0; 4096]).await.unwrap() > 0 {
                stream.write_all(page).await.unwrap();
            }
        }
    });
    let list = List::new(Some(origin.clone()));
    let page = || picture(&format!("{origin}/default-avatar.png"), "d");
    let (counts, changes) = list.keep(page(), 100).await;
    assert_eq!(counts.refusal, Some(FetchError::NotAnImage));
    assert_eq!((counts.refused, counts.checked, &changes[0]["file"]), (1, 1, &Value::Null));
    let keeper = list.open();
    assert!(keeper.is_up_to_date(CHAT, HOUR, 100) && !keeper.is_up_to_date(CHAT, HOUR, 3700));
    assert_eq!(keeper.known_fingerprint(CHAT), None);
    drop(keeper);
    let (counts, changes) = list.keep(page(), 3700).await;
    assert_eq!((counts.refused, changes.len()), (1, 0));
}

#[tokio::test]
async fn a_picture_whose_link_is_refused_stays_due_until_a_link_is_good() {
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let origin = format!("http://{}", sandbox.address());
    let link = |expiry: &str| format!("{origin}/v/t61.24694-24/1_2_3_n.jpg?oh=x&oe={expiry}");
    let mut list = List::new(Some("*.whatsapp.net".to_owned()));
    for (hosts, expiry, refusal) in [
        ("*.whatsapp.net", "7FFFFFFF", Some(FetchError::NotAllowed)),
        (&*origin, "1", Some(FetchError::Status(403))),
        (&*origin, "7FFFFFFF", None),
    ] {
        list.hosts = Some(hosts.to_owned());
        assert!(!list.open().is_up_to_date(CHAT, HOUR, 100));
        let (counts, _) = list.keep(picture(&link(expiry), "a"), 100).await;
        assert_eq!((counts.refusal, counts.saved), (refusal, usize::from(refusal.is_none())));
        assert_eq!(list.open().is_up_to_date(CHAT, HOUR, 100), refusal.is_none(), "{hosts} {expiry}");
    }
}

#[tokio::test]
async fn the_state_holds_nothing_that_is_not_written_before() {
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let list = List::new(Some(format!("http://{}", sandbox.address())));
    let link = format!("http://{}/v/t61.24694-24/1_2_3_n.jpg?oh=x&oe=7FFFFFFF", sandbox.address());
    let found = || {
        let contact = Contact { chat_id: CHAT.to_owned(), written: CHAT.to_owned() };
        let outcome = Some(picture(&link, "a"));
        vec![Found { contact, result: ProfilePictureResult { outcome, ..Default::default() }, at: 100 }]
    };
    let path = |name: &str| list.folder.path().join(name);
    // A disk that is full takes no change, so that neither picture nor state are kept.
    let mut keeper = list.open();
    keeper.changes = Changes::open(Some("/dev/full".as_ref())).unwrap();
    assert!(keeper.keep(found()).await.unwrap_err().contains("cannot write the changes"));
    assert!(!path("contacts.csv.state").exists() && !path(&format!("pictures/{CHAT}.jpg")).exists());
    drop(keeper);
    list.open().keep(found()).await.unwrap();
    assert_eq!((list.changes().len(), path("contacts.csv.state").exists()), (1, true));
}

#[tokio::test]
async fn a_picture_that_cannot_get_its_name_leaves_its_contact_due() {
    let sandbox = Sandbox::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let list = List::new(Some(format!("http://{}", sandbox.address())));
    let link = format!("http://{}/v/t61.24694-24/1_2_3_n.jpg?oh=x&oe=7FFFFFFF", sandbox.address());
    let taken = list.folder.path().join("pictures").join(format!("{CHAT}.jpg"));
    let mut keeper = list.open();
    let contact = Contact { chat_id: CHAT.to_owned(), written: CHAT.to_owned() };
    let result = ProfilePictureResult { outcome: Some(picture(&link, "a")), ..Default::default() };
    let mut all = vec![keeper.check(Found { contact, result, at: 100 }).unwrap()];
    let downloaded = keeper.download(&mut all).await;
    assert_eq!((downloaded.len(), keeper.counts.unwritten), (1, 0));
    // The name is taken between the download and the renaming.
    fs::create_dir(&taken).unwrap();
    keeper.keep_pictures(&downloaded, &mut all).unwrap();
    drop(downloaded);
    assert_eq!((keeper.counts.saved, keeper.counts.unwritten, &all[0].entry.file), (0, 1, &None));
    assert!(keeper.unwritten[0].contains(&format!("pictures/{CHAT}.jpg: ")), "{:?}", keeper.unwritten);
    drop(keeper);
    // It is taken before.
    let (counts, changes) = list.keep(picture(&link, "a"), 100).await;
    assert_eq!((counts.checked, counts.saved, counts.unwritten), (1, 0, 1));
    assert_eq!(changes[0]["file"], Value::Null);
    assert!(!list.open().is_up_to_date(CHAT, HOUR, 100));
    let names = fs::read_dir(taken.parent().unwrap()).unwrap().count();
    assert_eq!(names, 2, "the folder and the lock; no temporary file stays");
}
