//! Answers that a stored link replaces, and answers that it must not hide.

use hypersender_grpc::grpc::contact::{CacheStatus, ProfilePictureState};

use crate::support::{CHAT, Fault, Reply, Service, Upstream, about, link, picture};

/// Every stored answer expires at once, so that every call asks upstream.
const ALWAYS_EXPIRED: &[&str] =
    &["--cache-ttl", "0", "--cache-absent-ttl", "0", "--stale-while-revalidate", "0", "--refresh-floor", "0"];
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Checks two calls. The first one gets a link. The second one, after the reply `next`, gets either the same
/// link as a stale answer or an error with this reason.
async fn check(row: &str, next: Reply, expected: Result<(), &str>) {
    let stored = link("stored", DAY_SECONDS);
    let upstream = Upstream::start([Reply::picture(&stored), next]).await;
    let service = Service::asking(&upstream).flags(ALWAYS_EXPIRED).start().await;
    let mut client = service.client().await;
    client.get_profile_picture(about(CHAT)).await.unwrap();
    let told = client.get_profile_picture(about(CHAT)).await;
    match (told, expected) {
        (Ok(response), Ok(())) => {
            let response = response.into_inner();
            let cache = response.cache_info.unwrap();
            assert_eq!(cache.status(), CacheStatus::Stale, "{row}");
            let ttl = cache.ttl.unwrap();
            assert!(ttl.seconds <= 0 && ttl.nanos <= 0, "{row}: {ttl:?}");
            assert_eq!(picture(&response).url, stored, "{row}");
        }
        (Err(status), Err(reason)) => assert_eq!(Fault::from(&status).reason, reason, "{row}"),
        (told, _) => panic!("{row}: {told:?}"),
    }
    assert!(upstream.calls() > 1, "{row}: upstream was not asked again");
}

fn state(state: &str) -> Reply {
    Reply::json(422, format!(r#"{{"session":"default","status":"{state}"}}"#))
}

#[tokio::test]
async fn a_stored_link_stands_in_for_answers_that_say_nothing_about_the_contact() {
    check("null", Reply::json(200, r#"{"data":{"profilePictureURL":null}}"#), Ok(())).await;
    check("a dead link", Reply::picture(&link("new", 30)), Ok(())).await;
    check("a rate limit", Reply::status(429).header("Retry-After", 9), Ok(())).await;
    for status in [408, 500, 502, 503, 520] {
        check(&status.to_string(), Reply::status(status), Ok(())).await;
    }
    check("no answer", Reply::cut(), Ok(())).await;
    check("half an answer", Reply::picture(&link("new", DAY_SECONDS)).half(), Ok(())).await;
    check("HTML", Reply::html(200), Ok(())).await;
    check("403 in HTML", Reply::html(403), Ok(())).await;
    check("a redirect", Reply::html(302).header("Location", "/login"), Ok(())).await;
    check("no link", Reply::picture("ftp://h/a.jpg"), Ok(())).await;
    check("a queued request", Reply::json(202, r#"{"queued":true}"#), Ok(())).await;
    check("an instance that starts", state("STARTING"), Ok(())).await;
    check("an instance that is not connected", state("SCAN_QR_CODE"), Ok(())).await;
}

#[tokio::test]
async fn a_stored_link_masks_no_answer_about_contact_request_or_credentials() {
    check("404", Reply::status(404), Err("UPSTREAM_NOT_FOUND")).await;
    let missing = r#"{"errors":{"exists":false}}"#;
    check("not on WhatsApp", Reply::json(422, missing), Err("NOT_ON_WHATSAPP")).await;
    check("400", Reply::status(400), Err("UPSTREAM_REJECTED_REQUEST")).await;
    let fields = r#"{"errors":{"chat_id":["x"]}}"#;
    check("rejected fields", Reply::json(422, fields), Err("UPSTREAM_REJECTED_REQUEST")).await;
    check("401", Reply::status(401), Err("UPSTREAM_CREDENTIALS_REJECTED")).await;
    check("403", Reply::status(403), Err("UPSTREAM_CREDENTIALS_REJECTED")).await;
}

#[tokio::test]
async fn a_second_null_displaces_the_stored_link() {
    let null = Reply::json(200, r#"{"data":{"profilePictureURL":null}}"#);
    let stored = Reply::picture(&link("stored", DAY_SECONDS));
    let upstream = Upstream::start([stored, null]).await;
    let service = Service::asking(&upstream).flags(ALWAYS_EXPIRED).start().await;
    let mut client = service.client().await;
    let (present, absent) = (ProfilePictureState::Present, ProfilePictureState::NotAvailable);
    for state in [present, present, absent] {
        let response = client.get_profile_picture(about(CHAT)).await.unwrap().into_inner();
        assert_eq!(picture(&response).state(), state);
    }
}
