//! `sync`: a contact list that is kept up to date, also when it is killed at any moment.

mod list;

use std::{collections::BTreeMap, fs};

use rand::RngExt;
use serde_json::Value;

use self::list::List;
use crate::support::{Launch, Service, closed_address, marks};

#[tokio::test]
async fn a_second_sync_reports_nothing_and_asks_nothing() {
    let list = List::start(40, &["--rate", "0"]).await;
    let first = list.sync(&[]).await;
    assert_eq!(first.code, 0, "{first:?}");
    assert_eq!(first.stderr, "40 contacts: 0 up to date, 40 looked up; 40 changes");
    assert_eq!((list.changes().len(), list.sandbox.calls()), (40, 40));

    let second = list.sync(&[]).await;
    assert_eq!(second.stderr, "40 contacts: 40 up to date, 0 looked up; 0 changes");
    assert_eq!((second.code, list.changes().len(), list.sandbox.calls()), (0, 40, 40));
}

#[tokio::test]
async fn only_changed_pictures_are_reported() {
    let list = List::start(40, &["--rate", "0", "--refresh-floor", "0"]).await;
    list.sync(&[]).await;
    let expected = list.change_pictures(7).await;
    let ended = list.sync(&["--max-age", "0"]).await;
    assert_eq!(ended.stderr, "40 contacts: 0 up to date, 40 looked up; 7 changes", "{ended:?}");
    assert_eq!(list.sandbox.calls(), 80);
    let changes = list.changes().split_off(40);
    let mut reported: Vec<_> = changes.iter().map(|change| change["chat_id"].as_str().unwrap()).collect();
    reported.sort_unstable();
    assert_eq!(reported, expected);
    for change in &changes {
        assert_ne!(change["fingerprint"], change["previous"]["fingerprint"], "{change}");
    }
}

#[tokio::test]
async fn an_outage_leaves_every_contact_due() {
    let flags = ["--rate", "0", "--refresh-floor", "0", "--attempts", "1"];
    let list = List::start(10, &flags).await;
    list.sync(&[]).await;
    let before = list.state();
    list.script(r#"{"status":503}"#).await;
    let ended = list.sync(&["--max-age", "0"]).await;
    let numbers = "10 contacts: 0 up to date, 0 looked up; 0 changes; 10 answers are older than --max-age, \
                   and are asked for again by the next sync";
    assert_eq!((ended.code, ended.stderr.as_str()), (1, numbers));
    assert_eq!(list.state(), before, "nothing was checked");
}

#[tokio::test]
async fn pictures_are_saved_and_replaced() {
    let list = List::start(6, &["--rate", "0", "--refresh-floor", "0"]).await;
    let with_pictures = list.with_pictures();
    let with_pictures: Vec<_> = with_pictures.iter().map(String::as_str).collect();
    let ended = list.sync(&with_pictures).await;
    assert_eq!((ended.code, list.pictures().len()), (0, 6), "{ended:?}");
    let before = list.pictures();
    for image in before.values() {
        let image = image::load_from_memory(image).unwrap();
        assert_eq!((image.width(), image.height()), (640, 640));
    }
    let changed = list.change_pictures(2).await;
    list.sync(&[&with_pictures[..], &["--max-age", "0"]].concat()).await;
    let after = list.pictures();
    let differ: Vec<_> = after.keys().filter(|name| after[*name] != before[*name]).cloned().collect();
    assert_eq!(differ, changed.iter().map(|chat_id| format!("{chat_id}.jpg")).collect::<Vec<_>>());

    // A picture that was deleted is saved again, although its contact was checked just now.
    fs::remove_file(list.files.path("pictures") + "/" + &differ[0]).unwrap();
    let ended = list.sync(&with_pictures).await;
    assert!(ended.stderr.contains("5 up to date, 1 looked up; 0 changes; 1 pictures saved"), "{ended:?}");

    // Without the origin of the sandbox, its pictures are refused.
    let elsewhere = list.files.path("elsewhere");
    let ended = list.sync(&["--pictures", &elsewhere]).await;
    assert!(ended.code == 1 && ended.stderr.contains("6 pictures were refused"), "{ended:?}");
    assert!(ended.stderr.contains("not allowed by --picture-hosts"), "{ended:?}");
    // With it, they are saved at once, although their contacts were checked just now.
    let with_elsewhere = ["--pictures", &elsewhere, with_pictures[2], with_pictures[3]];
    let ended = list.sync(&with_elsewhere).await;
    assert!(ended.stderr.contains("0 up to date, 6 looked up; 0 changes; 6 pictures saved"), "{ended:?}");
    assert_eq!(ended.code, 0);
}

#[tokio::test]
async fn a_sync_may_be_killed_at_any_moment() {
    for (contacts, kills, rate, pictures) in [(300, 20, "30", false), (30, 5, "10", true)] {
        let list = List::start(contacts, &["--rate", rate, "--burst", "1"]).await;
        let with_pictures = if pictures { list.with_pictures() } else { Vec::new() };
        let arguments: Vec<_> = with_pictures.iter().map(String::as_str).collect();
        for kill in 0..kills {
            let process = list.launch(&arguments).spawn();
            if kill == 0 {
                list.until_state().await;
            } else {
                let most = 2 * u64::try_from(contacts / kills).unwrap();
                list.until_calls(list.sandbox.calls() + rand::rng().random_range(0..=most)).await;
            }
            // Dropping the process kills it with SIGKILL.
            drop(process);
            let kept = list.state().unwrap()["contacts"].as_object().unwrap().len();
            assert!(kept > 0 && (kill > 0 || kept < contacts), "{kept} contacts were kept");
        }
        let ended = list.sync(&arguments).await;
        assert_eq!(ended.code, 0, "{ended:?}");

        let state = list.state().unwrap();
        assert_eq!(state["contacts"].as_object().unwrap().len(), contacts);
        let mut reported = BTreeMap::<String, Vec<Value>>::new();
        for change in list.changes() {
            reported.entry(change["chat_id"].as_str().unwrap().to_owned()).or_default().push(change);
        }
        assert_eq!(reported.len(), contacts, "each change is reported at least once");
        for (chat_id, changes) in &reported {
            assert_eq!(changes[0]["fingerprint"], state["contacts"][chat_id]["fingerprint"], "{chat_id}");
        }
        let asked = list.asked().await;
        assert_eq!(asked.len(), contacts);
        assert!(asked.values().all(|times| *times == 1), "a contact was asked for twice: {asked:?}");
        if pictures {
            assert_eq!(list.pictures().len(), contacts);
            for image in list.pictures().values() {
                image::load_from_memory(image).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn two_syncs_of_a_list_do_not_run_together() {
    let list = List::start(50, &["--rate", "1", "--burst", "1"]).await;
    let first = list.launch(&[]).spawn();
    list.until_calls(1).await;
    let second = list.sync(&[]).await;
    assert!(second.code == 2 && second.stderr.contains("another sync of the same list"), "{second:?}");
    // A link to the list leads to the same state.
    let link = list.files.path("link.csv");
    std::os::unix::fs::symlink("contacts.csv", &link).unwrap();
    let by_link = Launch::of(&["sync", &link]).run().await;
    assert!(by_link.code == 2 && by_link.stderr.contains("another sync of the same list"), "{by_link:?}");
    drop(first);
    let third = list.launch(&["--timeout", "1s"]).spawn();
    list.until_calls(2).await;
    drop(third);
}

#[tokio::test]
async fn a_list_that_is_up_to_date_needs_no_service() {
    let list = List::start(10_000, &[]).await;
    let now = crate::support::unix_seconds();
    let contacts = list.numbers().into_iter().map(|number| {
        (number, serde_json::json!({"checked": now, "outcome": "picture", "fingerprint": "1_2_3_n.jpg"}))
    });
    let contacts: serde_json::Map<_, _> = contacts.collect();
    let state = serde_json::json!({"version": 1, "contacts": contacts}).to_string();
    list.files.write("contacts.csv.state", &state);
    let closed = closed_address().await;
    let ended = list.launch(&["--max-age", "1d"]).variable("HYPERSENDER_GRPC_LISTEN", &closed).run().await;
    assert_eq!(ended.stderr, "10000 contacts: 10000 up to date, 0 looked up; 0 changes");
    assert_eq!((ended.code, list.sandbox.calls(), list.changes().len()), (0, 0, 0));
    // After that age, it does.
    let ended = list.launch(&["--max-age", "0"]).variable("HYPERSENDER_GRPC_LISTEN", &closed).run().await;
    assert!(ended.code == 2 && ended.stderr.contains("cannot connect"), "{ended:?}");
}

#[tokio::test]
async fn a_list_is_kept_for_one_instance() {
    let list = List::start(3, &["--rate", "0"]).await;
    assert_eq!(list.sync(&[]).await.code, 0);
    let other = list.sync(&["--instance", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"]).await;
    assert_eq!(other.code, 2, "{other:?}");
    assert!(
        other.stderr.contains("contacts.csv.state: the state is that of another --instance"),
        "{other:?}"
    );
    assert_eq!((list.sandbox.calls(), list.changes().len()), (3, 3));
}

#[tokio::test]
async fn inputs_that_cannot_be_used_are_errors_and_ask_nothing() {
    let list = List::start(3, &[]).await;
    for (name, text, arguments, word) in [
        ("contacts.csv.state", "{", &[][..], "contacts.csv.state: the state is damaged"),
        ("contacts.csv.state", r#"{"version":9}"#, &[], "move the file away"),
        ("contacts.csv.state", "", &["--chat-id-column", "phone"], "--chat-id-column"),
        ("blocked", "a file", &["--pictures", "BLOCKED"], "blocked/pictures: "),
    ] {
        let path = list.files.write(name, text);
        let folder = format!("{path}/pictures");
        let arguments: Vec<_> =
            arguments.iter().map(|one| if *one == "BLOCKED" { &folder } else { *one }).collect();
        let ended = list.sync(&arguments).await;
        assert!(ended.code == 2 && ended.stderr.contains(word), "{ended:?}");
        assert_eq!(marks::any_in(&ended.stderr), None);
        fs::remove_file(path).unwrap();
    }
    let missing = Launch::of(&["sync", "/nowhere/contacts.csv"]).run().await;
    assert!(missing.code == 2 && missing.stderr.starts_with("error: /nowhere/contacts.csv: "), "{missing:?}");
    for path in ["/dev/null", "/"] {
        let ended = Launch::of(&["sync", path]).run().await;
        assert!(ended.code == 2 && ended.stderr.contains("not a regular file"), "{ended:?}");
    }
    let before = fs::read(list.files.path("contacts.csv")).unwrap();
    std::os::unix::fs::symlink("contacts.csv", list.files.path("link.csv")).unwrap();
    for name in [
        "contacts.csv",
        "link.csv",
        "contacts.csv.state",
        "contacts.csv.state.lock",
        "contacts.csv.state.new",
    ] {
        let ended = list.launch_to(&list.files.path(name), &[]).run().await;
        assert!(ended.code == 2 && ended.stderr.contains("is the list, its state or its lock"), "{ended:?}");
    }
    assert_eq!((fs::read(list.files.path("contacts.csv")).unwrap(), list.state()), (before, None));
    assert_eq!(list.sandbox.calls(), 0);
}

#[tokio::test]
async fn a_full_disk_ends_the_sync_and_notes_no_check() {
    let list = List::start(5, &["--rate", "0"]).await;
    let with_pictures = list.with_pictures();
    let with_pictures: Vec<_> = with_pictures.iter().map(String::as_str).collect();
    let ended = list.launch_to("/dev/full", &with_pictures).run().await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("error: cannot write the changes: No space left on device"), "{ended:?}");
    assert!(list.state().is_none() && list.pictures().is_empty());
    // With room, each change is reported.
    assert_eq!(list.sync(&[]).await.code, 0);
    assert_eq!(list.changes().len(), 5);
}

#[tokio::test]
async fn a_picture_that_cannot_be_written_stops_no_other() {
    let list = List::start(40, &["--rate", "0"]).await;
    let [first, second, ..] = &list.numbers()[..] else { unreachable!() };
    // Folders have the names of a picture and of a temporary file.
    let folder = list.files.path("pictures");
    let taken = [format!("{folder}/{first}.jpg/x"), format!("{folder}/.{second}.new/x")];
    for path in &taken {
        fs::create_dir_all(path).unwrap();
    }
    let with_pictures = list.with_pictures();
    let with_pictures: Vec<_> = with_pictures.iter().map(String::as_str).collect();
    let ended = list.sync(&with_pictures).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    for number in [first, second] {
        assert!(ended.stderr.contains(&format!("pictures/{number}.jpg: ")), "{ended:?}");
    }
    let summary =
        "0 up to date, 40 looked up; 40 changes; 38 pictures saved; 2 pictures could not be written";
    assert!(ended.stderr.contains(summary), "{ended:?}");
    assert_eq!(list.state().unwrap()["contacts"].as_object().unwrap().len(), 40);
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
    let hidden = names.iter().filter(|name| name.to_str().unwrap().starts_with('.'));
    // The lock, and the folder with the name of a temporary file.
    assert_eq!((names.len(), hidden.count()), (38 + 1 + 2, 2), "{names:?}");
    let change = list.changes().into_iter().find(|change| change["chat_id"] == **first).unwrap();
    assert_eq!(change["file"], Value::Null);
    // Only these two are due, and are saved once their names are free.
    for path in &taken {
        fs::remove_dir_all(path.strip_suffix("/x").unwrap()).unwrap();
    }
    let ended = list.sync(&with_pictures).await;
    assert!(ended.stderr.contains("38 up to date, 2 looked up; 0 changes; 2 pictures saved"), "{ended:?}");
    assert_eq!((ended.code, list.pictures().len()), (0, 40));
}

#[tokio::test]
async fn pictures_by_https_need_certificates_at_the_start() {
    let list = List::start(1, &[]).await;
    let empty = list.files.write("empty.pem", "");
    let folder = list.files.path("pictures");
    let without = |flags: &[&str]| {
        list.launch(flags).variable("SSL_CERT_FILE", &empty).variable("SSL_CERT_DIR", "/nowhere").run()
    };
    let ended = without(&["--pictures", &folder]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("the certificate store of this machine cannot be used"), "{ended:?}");
    assert_eq!((list.sandbox.calls(), list.state()), (0, None));
    // A sandbox needs none.
    let with_pictures = list.with_pictures();
    let with_pictures: Vec<_> = with_pictures.iter().map(String::as_str).collect();
    assert_eq!(without(&with_pictures).await.code, 0);
}

#[tokio::test]
async fn some_contacts_may_fail() {
    let list = List::start(0, &["--attempts", "1"]).await;
    let text = "chat_id\n15551230001\n15551230004\n15551230006\n15551230010\nsomebody\n+15551230001\n";
    list.files.write("contacts.csv", text);
    let ended = list.sync(&[]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains("contacts.csv: no chat id in line 6\n"), "{ended:?}");
    let summary = "4 contacts: 0 up to date, 3 looked up; 3 changes; 1 look-ups failed";
    assert!(ended.stderr.contains(summary), "{ended:?}");
    assert_eq!(marks::any_in(&ended.stderr), None);
    let changes = list.changes();
    let outcome = |chat_id: &str| changes.iter().find(|change| change["chat_id"] == chat_id);
    assert_eq!(outcome("15551230001").unwrap()["outcome"], "picture");
    assert_eq!(outcome("15551230004").unwrap()["outcome"], "none");
    assert_eq!(outcome("15551230006").unwrap()["reason"], "NOT_ON_WHATSAPP");
    assert_eq!(outcome("15551230010"), None);
    // The next sync looks up the one that failed, and no other.
    let ended = list.sync(&[]).await;
    assert!(
        ended.stderr.contains("4 contacts: 3 up to date, 0 looked up; 0 changes; 1 look-ups failed"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn without_a_file_changes_are_printed() {
    let service = Service::start(&[]).await;
    let files = crate::support::Files::new();
    let contacts = files.write("contacts.csv", "phone\n15551230001\n");
    let address = service.address().to_string();
    let arguments = ["sync", &contacts, "--address", &address, "--chat-id-column", "Phone"];
    let ended = Launch::of(&arguments).run().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let change: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(change["requested_chat_id"], "15551230001");
    assert!(!ended.stdout.contains("http"), "{ended:?}");
}
