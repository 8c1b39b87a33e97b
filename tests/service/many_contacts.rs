//! `get` for many contacts: where they come from, how the answers are printed, and streams that break.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::support::{End, Ended, Files, Launch, ScriptedStreams, Service, closed_address};

const PICTURE: &str = "15551230001";
const ABSENT: &str = "15551230004";
const NOT_ON_WHATSAPP: &str = "15551230006";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// The contacts of the results, which must be different.
fn places(results: &[Value]) -> BTreeSet<u64> {
    let places: BTreeSet<_> = results.iter().map(|one| one["index"].as_u64().unwrap_or(0)).collect();
    assert_eq!(places.len(), results.len(), "a contact has two results");
    places
}

async fn get(address: &str, arguments: &[&str]) -> Ended {
    Launch::of(&["get", "--address", address]).flags(arguments).run().await
}

#[tokio::test]
async fn each_contact_has_a_line_of_json_in_a_pipe() {
    let service = Service::start(&[]).await;
    let address = service.address().to_string();
    let ended = get(&address, &[PICTURE, ABSENT, PICTURE]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let results = lines(&ended.stdout);
    assert_eq!(places(&results), BTreeSet::from([0, 1, 2]));
    for result in &results {
        let picture = &result["profilePicture"];
        assert_eq!(picture["url"].is_string(), result["requestedChatId"] == PICTURE, "{result}");
    }
    let ended = get(&address, &[PICTURE, NOT_ON_WHATSAPP, "somebody"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.stderr, "error: 2 of 3 look-ups failed");
    assert!(ended.stdout.contains(r#""reason":"NOT_ON_WHATSAPP""#), "{ended:?}");
    assert!(ended.stdout.contains(r#""reason":"CHAT_ID_INVALID""#), "{ended:?}");
}

#[tokio::test]
async fn the_form_of_the_answers_can_be_chosen() {
    let service = Service::start(&[]).await;
    let address = service.address().to_string();
    let array = get(&address, &[PICTURE, ABSENT, "--output", "json"]).await.stdout;
    let array: Vec<Value> = serde_json::from_str(&array).unwrap();
    assert_eq!(array.iter().map(|one| &one["requestedChatId"]).collect::<Vec<_>>(), [PICTURE, ABSENT]);
    let one = get(&address, &[PICTURE, "--output", "ndjson"]).await.stdout;
    assert_eq!(lines(&one)[0]["requestedChatId"], PICTURE);

    let arguments = [PICTURE, ABSENT, NOT_ON_WHATSAPP, "--output", "table"];
    let table = get(&address, &arguments).await.stdout;
    assert!(table.starts_with("CHAT ID      RESULT     CACHE"), "{table}");
    assert!(table.contains("15551230004  none       HIT"), "{table}");
    assert!(table.contains("NOT_ON_WHATSAPP: "), "{table}");
    assert!(!table.contains("http://") && !table.contains('\u{1b}'), "{table}");
    let coloured = Launch::of(&["get", "--address", &address]).flags(&arguments);
    let coloured = coloured.variable("CLICOLOR_FORCE", "1").run().await.stdout;
    assert!(coloured.contains('\u{1b}'), "{coloured}");

    let ended = get(&address, &[PICTURE, "--output", "xml"]).await;
    assert!(ended.code == 78 && ended.stderr.contains("neither json, ndjson nor table"), "{ended:?}");
}

#[tokio::test]
async fn contacts_are_read_from_standard_input() {
    let (service, files) = (Service::start(&[]).await, Files::new());
    let address = service.address().to_string();
    let from = async |text: &str| {
        let input = files.write("numbers.txt", text);
        Launch::of(&["get", "-", "--address", &address]).stdin_from(&input).run().await
    };
    let ended = from(&format!("# numbers\n\n{PICTURE}\r\n  {ABSENT}  \n")).await;
    assert_eq!((ended.code, lines(&ended.stdout).len()), (0, 2), "{ended:?}");
    let one = from(&format!("{PICTURE}\n")).await;
    assert!(one.stdout.starts_with("{\n  \"profilePicture\": {"), "{one:?}");
    let none = from("# nobody\n").await;
    assert!(none.code == 2 && none.stderr.contains("no contact"), "{none:?}");
}

#[tokio::test]
async fn a_stream_that_breaks_is_resumed_for_what_is_missing() {
    let wait = |code, seconds| {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(seconds)));
        End::Status(Status::with_error_details(code, "busy", details))
    };
    let breaks = [
        (0, wait(Code::ResourceExhausted, 10)),
        (2, End::Status(Status::unavailable("gone"))),
        (1, End::Cut),
        (1, End::Ok),
        (0, wait(Code::Unavailable, 10)),
    ];
    let service = ScriptedStreams::start(breaks).await;
    let ended = get(&service.address(), &["11111", "22222", "33333", "44444", "55555"]).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let results = lines(&ended.stdout);
    assert_eq!(places(&results), (0..5).collect());
    for result in &results {
        let digit = (result["index"].as_u64().unwrap_or(0) + 1).to_string();
        assert_eq!(result["requestedChatId"], digit.repeat(5), "{result}");
    }
    let requests = service.requests();
    let asked: Vec<_> = requests.iter().map(|request| request.chat_ids.len()).collect();
    assert_eq!((asked.len(), &asked[..3]), (6, &[5, 5, 3][..]), "{asked:?}");
    assert!(asked.is_sorted_by(|one, next| one >= next), "{asked:?}");
}

#[tokio::test]
async fn a_stream_that_a_proxy_ends_is_resumed() {
    let by_proxy = |code| End::Status(Status::new(code, "upstream reset"));
    for end in [
        End::Reset,
        by_proxy(Code::Internal),
        by_proxy(Code::Unknown),
        by_proxy(Code::Cancelled),
        by_proxy(Code::Aborted),
    ] {
        let service = ScriptedStreams::start([(1, end.clone())]).await;
        let ended = get(&service.address(), &["11111", "22222", "33333"]).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{end:?}: {ended:?}");
        assert_eq!(places(&lines(&ended.stdout)), (0..3).collect());
        let asked: Vec<_> = service.requests().iter().map(|request| request.chat_ids.len()).collect();
        // A reset may overtake results.
        assert_eq!((asked.len(), asked[0]), (2, 3), "{end:?}");
    }
}

#[tokio::test]
async fn a_refusal_that_lasts_ends_the_look_ups() {
    let refused = |code| End::Status(Status::new(code, "no"));
    for code in [Code::Unauthenticated, Code::PermissionDenied, Code::InvalidArgument, Code::Unimplemented] {
        let service = ScriptedStreams::start([(0, refused(code))]).await;
        let ended = get(&service.address(), &["11111", "22222"]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
        assert_eq!(ended.stderr, format!("error: {code:?}: no"));
        assert_eq!(service.requests().len(), 1);
    }
    let service = ScriptedStreams::start([(1, refused(Code::FailedPrecondition))]).await;
    let ended = get(&service.address(), &["11111", "22222", "33333"]).await;
    assert_eq!((ended.code, lines(&ended.stdout).len()), (1, 1), "{ended:?}");
    assert_eq!(ended.stderr, "error: 2 of 3 contacts have no result: FailedPrecondition: no");
    let closed = closed_address().await;
    assert_eq!(get(&closed, &["11111", "22222"]).await.code, 2);
}

#[tokio::test]
async fn more_contacts_than_a_stream_takes_go_into_several() {
    let (service, files) = (ScriptedStreams::start([]).await, Files::new());
    let numbers: Vec<_> = (0..10_001).map(|number| format!("155577{number:05}")).collect();
    let input = files.write("numbers.txt", &numbers.join("\n"));
    let get = Launch::of(&["get", "-", "--address", &service.address()]);
    let ended = get.stdin_from(&input).run().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(places(&lines(&ended.stdout)), (0..10_001).collect());
    let asked: Vec<_> = service.requests().iter().map(|request| request.chat_ids.len()).collect();
    assert_eq!(asked, [10_000, 1]);
}
