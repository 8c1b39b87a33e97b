//! Results, and what is kept of them.

use std::{collections::HashMap, fs, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::{
    grpc::contact::{ProfilePicture, UnchangedPicture},
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
            state: State::open(&path("contacts.csv")).unwrap(),
            changes: Changes::open(Some(&path("changes.ndjson"))).unwrap(),
            pictures: self.hosts.as_ref().map(open),
            counts: Counts::default(),
        }
    }

    /// Keeps one result in a run of its own, and returns the numbers and the changes of that run.
    async fn keep(&self, outcome: profile_picture_result::Outcome, at: u64) -> (Counts, Vec<Value>) {
        let before = self.changes().len();
        let mut keeper = self.open();
        let contact = Contact { chat_id: CHAT.to_owned(), written: format!("+{CHAT}") };
        let result = ProfilePictureResult { outcome: Some(outcome), ..ProfilePictureResult::default() };
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
    let state = ProfilePictureState::NotAvailable.into();
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
async fn a_failure_that_may_pass_is_no_check() {
    let list = List::new(None);
    list.keep(picture("https://h/1", "a"), 100).await;
    for outcome in [
        error("UPSTREAM_UNAVAILABLE", Some(Duration::from_secs(1))),
        error("RATE_LIMITED", Some(Duration::from_secs(1))),
        error(DEADLINE_EXCEEDED, None),
        profile_picture_result::Outcome::Error(pb::Status::default()),
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
    let list = List::new(Some("*.whatsapp.net".to_owned()));
    let foreign = || picture("https://cdn.example.com/default-avatar.png", "d");
    let (counts, changes) = list.keep(foreign(), 100).await;
    assert_eq!(counts.refusal, Some(FetchError::NotAllowed));
    assert_eq!((counts.refused, counts.checked, &changes[0]["file"]), (1, 1, &Value::Null));
    let keeper = list.open();
    assert!(keeper.is_up_to_date(CHAT, HOUR, 100) && !keeper.is_up_to_date(CHAT, HOUR, 3700));
    assert_eq!(keeper.known_fingerprint(CHAT), None);
    drop(keeper);
    let (counts, changes) = list.keep(foreign(), 3700).await;
    assert_eq!((counts.refused, changes.len()), (1, 0));
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
    // A picture that cannot get its name leaves its change to be reported again.
    fs::create_dir(path(&format!("pictures/{CHAT}.jpg"))).unwrap();
    let error = list.open().keep(found()).await.unwrap_err();
    assert!(error.contains("cannot save a picture in "), "{error}");
    assert_eq!((list.changes().len(), path("contacts.csv.state").exists()), (1, false));
    fs::remove_dir(path(&format!("pictures/{CHAT}.jpg"))).unwrap();
    list.open().keep(found()).await.unwrap();
    assert_eq!((list.changes().len(), path("contacts.csv.state").exists()), (2, true));
}
