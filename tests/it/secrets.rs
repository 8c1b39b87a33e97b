//! Tokens, numbers and links stay out of logs and status texts, at every level.

use std::time::Duration;

use futures_util::future::join_all;
use hypersender_grpc::grpc::contact::GetProfilePictureRequest;
use tonic::Request;

use crate::support::{Authority, Launch, Reply, Service, Upstream, about};

/// Each looks like nothing else, so that it is found wherever it leaks, whole or in part.
const TOKEN: &str = "7|Zq9markedtoken";
const NUMBER: &str = "4917099887766";
const SIGNATURE: &str = "01_Q5AaMarkedSignature";
const FILE: &str = "778899001122";
const WORDS: &str = "Marked words of upstream";

fn marked_link() -> String {
    format!("https://pps.whatsapp.net/v/t61.24694-24/{FILE}_n.jpg?oh={SIGNATURE}&oe=7FFFFFFF")
}

fn replies() -> Vec<Reply> {
    let words = |status: u16| Reply::json(status, format!(r#"{{"message":"{WORDS} {NUMBER} {TOKEN}"}}"#));
    let link = marked_link();
    let jid = format!(r#"{{"errors":{{"messages":["{WORDS}"],"jid":"{NUMBER}@c.us","exists":false}}}}"#);
    let mut replies: Vec<_> = [200, 400, 401, 403, 404, 500, 502, 503].map(words).into();
    replies.extend([
        words(429).header("Retry-After", 60),
        Reply::picture(&link),
        Reply::picture(&link.replace("7FFFFFFF", "1")),
        Reply::picture(&link.replace("https", "ftp")),
        Reply::picture(&format!("{link} {WORDS}")),
        Reply::json(200, r#"{"data":{"profilePictureURL":null}}"#),
        Reply::json(200, format!(r#"{{"data":{{"profilePictureURL":["{link}"]}}}}"#)),
        Reply::json(200, format!(r#"{{"data":"{link}"#)),
        Reply::json(202, format!(r#"{{"queued":true,"queued_request_link":"{link}"}}"#)),
        Reply::json(422, jid),
        Reply::json(422, format!(r#"{{"session":"{NUMBER}","status":"{WORDS}"}}"#)),
        Reply::html(302).header("Location", &link),
        Reply::picture(&link).header("s-request-id", WORDS),
        Reply::picture(&link).header("Set-Cookie", TOKEN),
        Reply::picture(&link).half(),
        Reply::raw(format!("{WORDS} {NUMBER}\r\n\r\n")).closing(),
        Reply::cut(),
        Reply::reset(),
    ]);
    replies
}

/// The first line that holds what must not be seen, in any of the forms it may have.
fn leak(text: &str) -> Option<&str> {
    let bytes = |mark: &str, form: fn(u8) -> String| mark.bytes().map(form).collect::<Vec<_>>();
    let forms = |mark: &str| {
        let hex = bytes(mark, |byte| format!("{byte:02x}")).concat();
        let decimal = bytes(mark, |byte| byte.to_string()).join(", ");
        [mark.to_owned(), mark.replace('|', "%7C"), hex, decimal]
    };
    let forms: Vec<_> =
        [TOKEN, NUMBER, SIGNATURE, FILE, WORDS, &TOKEN[2..]].into_iter().flat_map(forms).collect();
    text.lines().find(|line| forms.iter().any(|form| line.contains(form)))
}

#[test]
fn a_leak_is_found_in_all_its_forms() {
    for text in [
        &format!("x\nbearer {TOKEN}\n"),
        "chat_id=4917099887766%40c.us",
        "7%7CZq9markedtoken",
        "[52, 57, 49, 55, 48, 57, 57, 56, 56, 55, 55, 54, 54]",
        "34393137303939383837373636",
        "path=/v/t61.24694-24/778899001122_n.jpg",
    ] {
        assert!(leak(text).is_some(), "{text}");
    }
    assert_eq!(leak("key=5f0a33c1\nstatus=429"), None);
}

fn assert_clean(what: &str, text: &str) {
    assert_eq!(leak(text), None, "stands in {what}");
}

fn loudly(launch: Launch) -> Launch {
    launch.variable("HYPERSENDER_GRPC_LOG", "trace").variable("HYPERSENDER_WHATSAPP_API_KEY", TOKEN)
}

/// Makes the calls of one service and checks what it logs until it ends.
async fn check(launch: Launch, hurry: bool) {
    let mut service = loudly(launch).start().await;
    let mut client = service.client().await;
    for chat_id in
        [NUMBER.to_owned(), format!("{NUMBER}@lid"), format!("{NUMBER}x"), format!("+{NUMBER}@C.US")]
    {
        let mut request = Request::new(about(&chat_id));
        if hurry {
            request.set_timeout(Duration::from_millis(300));
        }
        if let Err(status) = client.get_profile_picture(request).await {
            assert_clean("a status", &format!("{status:?} {}", String::from_utf8_lossy(status.details())));
        }
    }
    let request = GetProfilePictureRequest { instance: format!("/{NUMBER}"), ..about(NUMBER) };
    let status = client.get_profile_picture(request).await.unwrap_err();
    assert_clean("a status", &format!("{status:?} {}", String::from_utf8_lossy(status.details())));
    service.signal("INT").await;
    assert_eq!(service.exit_code().await, 0);
    assert!(service.logs().contains(r#""level":"TRACE""#), "trace is on");
    assert_clean("the logs", &service.logs());
    assert_clean("standard output", &service.stdout());
}

#[tokio::test]
async fn no_answer_of_upstream_brings_a_secret_into_logs_or_errors() {
    let checks = replies().into_iter().map(|reply| async {
        let upstream = Upstream::start([reply]).await;
        check(Service::asking(&upstream).flags(&["--attempts", "2"]), false).await;
    });
    join_all(checks).await;
}

#[tokio::test]
async fn no_upstream_at_all_does_either() {
    check(Service::asking_at("http://127.0.0.1:9/"), false).await;
    let upstream = Upstream::start([Reply::hang()]).await;
    check(Service::asking(&upstream), true).await;
    check(Service::asking(&upstream).flags(&["--attempt-timeout", "100ms"]), false).await;
    check(Launch::serve().flags(&["--sandbox"]), false).await;
}

#[tokio::test]
async fn nor_does_tls() {
    let [trust, other] = [Authority::new(), Authority::new()];
    let file = trust.file();
    for authority in [&trust, &other] {
        let upstream =
            Upstream::start_tls([Reply::picture(&marked_link())], authority.server("localhost", false));
        let launch = Service::asking(&upstream.await);
        check(launch.variable("SSL_CERT_FILE", file.path().to_str().unwrap()), false).await;
    }
}
