//! Answers with a picture, and answers without one.

use std::time::Duration;

use super::{Told, UNAVAILABLE, check, check_with};
use crate::support::{
    DOCUMENTED_ABSENCE, DOCUMENTED_PICTURE, Reply, Service, Upstream, about, link, patiently, picture,
};

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// The link in the documented answer.
const DOCUMENTED_LINK: &str = "https://pps.whatsapp.net/v/t61.24694-24/374498176_337577482181161_7091117586184162691_n.jpg?ccb=11-4&oh=01_Q5Aa3gEERUGD4fegyplSv2MnHmt_UIA9JnpjREhSJMNVWZC-RA&oe=6970FAAA&_nc_sid=5e03e0&_nc_cat=104";

fn present(link: &str) -> Told {
    Told::Link(link.to_owned())
}

#[tokio::test]
async fn a_living_link_is_passed_on_as_it_is() {
    let fresh = link("374498176", 9 * DAY_SECONDS);
    check("fresh", [Reply::picture(&fresh)], present(&fresh), 1).await;
    let lasting = "https://pps.whatsapp.net/v/t61/1_2_3_n.jpg";
    check("without an end", [Reply::picture(lasting)], present(lasting), 1).await;
    let unreadable = "https://pps.whatsapp.net/v/t61/1_2_3_n.jpg?e=end";
    check("with an end nobody can read", [Reply::picture(unreadable)], present(unreadable), 1).await;
    let elsewhere = "http://cdn.example.com:8080/default-avatar.png";
    check("on another host", [Reply::picture(elsewhere)], present(elsewhere), 1).await;
}

#[tokio::test]
async fn only_the_documented_place_of_an_answer_matters() {
    let fresh = link("374498176", DAY_SECONDS);
    let json = |text: &str| [Reply::json(200, text.replace("LINK", &fresh))];
    check("no message", json(r#"{"data":{"profilePictureURL":"LINK"}}"#), present(&fresh), 1).await;
    let other =
        r#"{"message":"Profile picture not available.","data":{"profilePictureURL":"LINK","x":[]},"y":1}"#;
    check("another message and more fields", json(other), present(&fresh), 1).await;
    let escaped = json(r#"{"data":{"profilePictureURL":"LINK"}}"#).map(|_| {
        Reply::json(200, format!(r#"{{"data":{{"profilePictureURL":"{}"}}}}"#, fresh.replace('/', r"\/")))
    });
    check("slashes as PHP escapes them", escaped, present(&fresh), 1).await;
    let not_queued = r#"{"queued":false,"data":{"profilePictureURL":"LINK"}}"#;
    check("not queued", json(not_queued), present(&fresh), 1).await;
}

#[tokio::test]
async fn a_dead_link_is_asked_for_once_more_and_then_passed_on() {
    let dead = link("374498176", 30);
    let fresh = link("374498176", DAY_SECONDS);
    check("documented", [Reply::json(200, DOCUMENTED_PICTURE)], present(DOCUMENTED_LINK), 2).await;
    check("in its last minute", [Reply::picture(&dead)], present(&dead), 2).await;
    check("a living one next", [Reply::picture(&dead), Reply::picture(&fresh)], present(&fresh), 2).await;
    check("an error next", [Reply::picture(&dead), Reply::status(503)], present(&dead), 2).await;
    check("no answer next", [Reply::picture(&dead), Reply::cut()], present(&dead), 2).await;
}

#[tokio::test]
async fn the_documented_example_has_ended_and_says_so() {
    let upstream = Upstream::start([Reply::json(200, DOCUMENTED_PICTURE)]).await;
    let service = Service::asking(&upstream).start().await;
    let response =
        service.client().await.get_profile_picture(about("15551230001")).await.unwrap().into_inner();
    let ended = humantime::parse_rfc3339("2026-01-21T16:11:22Z").unwrap();
    assert_eq!(picture(&response).expire_time, Some(prost_types::Timestamp::from(ended)));
    assert_eq!(picture(&response).fingerprint, "374498176_337577482181161_7091117586184162691_n.jpg");
}

#[tokio::test]
async fn no_link_is_an_answer() {
    check("documented", [Reply::json(200, DOCUMENTED_ABSENCE)], Told::Absence, 1).await;
    let empty = r#"{"data":{"profilePictureURL":""}}"#;
    check("an empty string", [Reply::json(200, empty)], Told::Absence, 1).await;
    let other = r#"{"message":"Profile picture retrieved successfully.","data":{"profilePictureURL":null}}"#;
    check("another message", [Reply::json(200, other)], Told::Absence, 1).await;
}

#[tokio::test]
async fn a_link_to_a_host_that_is_not_allowed_goes_nowhere() {
    let hosts = ["--link-hosts", "pps.whatsapp.net,*.example.org"];
    let fresh = link("374498176", DAY_SECONDS);
    check_with(&hosts, "allowed", [Reply::picture(&fresh)], present(&fresh), 1).await;
    for elsewhere in ["https://cdn.example.com/default-avatar.png", "https://example.org/a_n.jpg"] {
        check_with(&hosts, elsewhere, [Reply::picture(elsewhere)], Told::Absence, 1).await;
    }
}

#[tokio::test]
async fn a_second_attempt_may_bring_the_picture() {
    let fresh = link("374498176", DAY_SECONDS);
    let then = |first: Reply| [first, Reply::picture(&fresh)];
    check("500", then(Reply::status(500)), present(&fresh), 2).await;
    check("502", then(Reply::html(502)), present(&fresh), 2).await;
    check("starting", then(Reply::json(422, r#"{"session":"x","status":"STARTING"}"#)), present(&fresh), 2)
        .await;
    check("cut", then(Reply::cut()), present(&fresh), 2).await;
    check("half", then(Reply::picture(&fresh).half()), present(&fresh), 2).await;
    check("503 after its wait", then(Reply::status(503).header("Retry-After", 1)), present(&fresh), 2).await;
    check("429 after its wait", then(Reply::status(429).header("Retry-After", 1)), present(&fresh), 2).await;
    check("429 after a wait of ours", then(Reply::status(429)), present(&fresh), 2).await;
}

#[tokio::test]
async fn a_500_gets_one_more_attempt_among_others() {
    let fresh = Reply::picture(&link("374498176", DAY_SECONDS));
    let [bad, worse] = [500, 502].map(Reply::status);
    check("twice", [bad.clone(), bad.clone(), fresh.clone()], UNAVAILABLE, 2).await;
    check("around a 502", [bad.clone(), worse.clone(), bad.clone(), fresh.clone()], UNAVAILABLE, 3).await;
    check("after a 502", [worse, bad.clone(), bad, fresh], UNAVAILABLE, 3).await;
}

#[tokio::test]
async fn a_slow_answer_is_an_answer() {
    let fresh = link("374498176", DAY_SECONDS);
    let slow = Reply::picture(&fresh).after(Duration::from_millis(300));
    patiently("a slow answer", check("slow", [slow], present(&fresh), 1)).await;
}
