//! The test numbers, like the test cards of payment providers. One table is both their behaviour and their
//! help text.
//!
//! Deliberately not here: answers that a test chooses while it runs, which are in `control`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;

use super::pictures::{LINK_LIFE_SECONDS, Pictures};
use super::{Sandbox, reply};
use Behaviour::{Body, FailsOnce, Hangs, Html, Link, Picture, RateLimited, Slow};

#[derive(Clone, Copy)]
enum Behaviour {
    /// A fresh link that expires after so many seconds.
    Picture(i64),
    Link(&'static str),
    Body(StatusCode, &'static str),
    Html,
    RateLimited,
    FailsOnce,
    Slow,
    Hangs,
}

const USUAL: Behaviour = Picture(LINK_LIFE_SECONDS);

#[rustfmt::skip] // A table is read by its columns.
const TABLE: [(&str, &str, Behaviour); 15] = [
    ("15551230001", "a picture", USUAL),
    ("15551230002", "a picture whose link expires in 5 minutes", Picture(300)),
    ("15551230003", "a picture whose link has expired: the example in the vendor's documentation", Link(DOCUMENTED_LINK)),
    ("15551230004", "no picture: a null link", Body(StatusCode::OK, NO_PICTURE)),
    ("15551230005", "a default image on a host other than WhatsApp's", Link("https://cdn.example.com/default-avatar.png")),
    ("15551230006", "422, the number is not on WhatsApp (exists: false)", Body(StatusCode::UNPROCESSABLE_ENTITY, NOT_ON_WHATSAPP)),
    ("15551230007", "401, with any token", Body(StatusCode::UNAUTHORIZED, reply::UNAUTHENTICATED)),
    ("15551230008", "429 with Retry-After: 5 and X-RateLimit-* headers", RateLimited),
    ("15551230009", "500 for the first look-up after the start, then a picture", FailsOnce),
    ("15551230010", "503, always", Body(StatusCode::SERVICE_UNAVAILABLE, r#"{"message":"Service Unavailable"}"#)),
    ("15551230011", "a picture, after 3 seconds", Slow),
    ("15551230012", "never answers", Hangs),
    ("15551230013", "200 with HTML in place of JSON", Html),
    ("15551230014", "202, the request is queued", Body(StatusCode::ACCEPTED, QUEUED)),
    ("15551230015", "422, the instance is not connected (SCAN_QR_CODE)", Body(StatusCode::UNPROCESSABLE_ENTITY, NOT_CONNECTED)),
];

/// The example in the vendor's documentation. It expired on 2026-01-21.
const DOCUMENTED_LINK: &str = "https://pps.whatsapp.net/v/t61.24694-24/\
    374498176_337577482181161_7091117586184162691_n.jpg?ccb=11-4\
    &oh=01_Q5Aa3gEERUGD4fegyplSv2MnHmt_UIA9JnpjREhSJMNVWZC-RA&oe=6970FAAA&_nc_sid=5e03e0&_nc_cat=104";

const NOT_ON_WHATSAPP: &str = r#"{"message":"The given data was invalid.","errors":{"messages":["The number is not on WhatsApp."],"jid":"15551230006@s.whatsapp.net","exists":false},"statusCode":422}"#;

const QUEUED: &str = r#"{"queued":true,"message":"Request queued.","queued_request_uuid":"0b9f6c1e-53d2-4a57-8e0c-2f1d7a4b6c98","queued_request_link":"https://app.hypersender.com/api/whatsapp/v2/queued-requests/0b9f6c1e-53d2-4a57-8e0c-2f1d7a4b6c98"}"#;

const NOT_CONNECTED: &str = r#"{"error":"Session status is not as expected. Try again later or restart the session","session":"default","status":"SCAN_QR_CODE","expected":["WORKING"]}"#;

pub(super) const NO_PICTURE: &str =
    r#"{"message":"Profile picture not available.","data":{"profilePictureURL":null}}"#;

/// Answers as the table says, and holds the state of one run.
pub(super) struct Numbers {
    failed_once: AtomicBool,
    pictures: Arc<Pictures>,
}

impl Numbers {
    pub(super) fn new(pictures: Arc<Pictures>) -> Self {
        Self { failed_once: AtomicBool::new(false), pictures }
    }

    /// The answer for a contact. One that is not in the table has a picture.
    pub(super) async fn answer(&self, contact: &str) -> Response {
        let row = TABLE.iter().find(|(number, ..)| *number == contact);
        match row.map_or(USUAL, |(.., behaviour)| *behaviour) {
            Picture(life_seconds) => return self.pictures.usual(contact, life_seconds),
            Link(link) => return reply::with_link(link),
            Body(status, body) => return reply::json(status, body),
            Html => return reply::html(StatusCode::OK),
            RateLimited => return reply::rate_limited(5),
            FailsOnce if !self.failed_once.swap(true, Ordering::Relaxed) => {
                return reply::message(StatusCode::INTERNAL_SERVER_ERROR, "Server Error");
            }
            FailsOnce => {}
            Slow => tokio::time::sleep(Duration::from_secs(3)).await,
            Hangs => std::future::pending().await,
        }
        self.pictures.usual(contact, LINK_LIFE_SECONDS)
    }
}

/// Each number with the description of its answer.
pub(super) fn numbers() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE.into_iter().map(|(number, says, _)| (number, says))
}

/// The table as text, with the token to use and an instance to ask.
pub(super) fn help() -> String {
    let rows: Vec<_> = numbers().map(|(number, says)| format!("  {number}  {says}\n")).collect();
    format!(
        "Use the token {} and any instance, for example {}.\n\n\
         Test numbers (with or without an @ part; every other number has a picture):\n\n{}",
        Sandbox::TOKEN,
        Sandbox::INSTANCE,
        rows.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::{asking, look_up, start};
    use super::*;

    async fn check(number: &str, status: u16, body: &str) {
        let (got, text) = look_up(&start().await, number).await;
        assert_eq!(got, status, "{number}");
        assert!(text.contains(body), "{number}: {text}");
    }

    #[tokio::test]
    async fn each_number_answers_as_the_table_says() {
        check("15551230001", 200, "http://127.0.0.1:").await;
        check("15551230002@c.us", 200, "/v/t61.24694-24/").await;
        check("15551230003", 200, "&oe=6970FAAA&").await;
        check("15551230004@lid", 200, r#"{"profilePictureURL":null}}"#).await;
        check("15551230005", 200, "://cdn.example.com/").await;
        check("15551230006", 422, r#""exists":false"#).await;
        check("15551230007", 401, r#"{"message":"Unauthenticated."}"#).await;
        check("15551230010", 503, r#"{"message":"Service "#).await;
        check("15551230013", 200, "<!DOCTYPE html>").await;
        check("15551230014", 202, r#"{"queued":true,"#).await;
        check("15551230015", 422, r#""status":"SCAN_QR_CODE""#).await;
        check("4917012345678", 200, "/v/t61.24694-24/").await;
    }

    #[tokio::test]
    async fn the_rate_limit_tells_when_to_come_back() {
        let answer = asking(&start().await, "15551230008").send().await.unwrap();
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["retry-after"], "5");
        let reset = answer.headers()["x-ratelimit-reset"].to_str().unwrap();
        assert!(reset.parse::<u64>().unwrap() > 1_700_000_000);
    }

    #[tokio::test]
    async fn the_first_look_up_of_0009_fails_and_the_next_does_not() {
        let sandbox = start().await;
        assert_eq!(look_up(&sandbox, "15551230009").await.0, 500);
        assert_eq!(look_up(&sandbox, "15551230009@c.us").await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn the_slow_number_takes_its_time_and_the_hanging_one_all_of_it() {
        let numbers = Numbers::new(Arc::new(Pictures::new("http://127.0.0.1:9".to_owned())));
        let start = tokio::time::Instant::now();
        numbers.answer("15551230011").await;
        assert_eq!(start.elapsed().as_secs(), 3);
        let day = Duration::from_secs(86_400);
        let hanging = tokio::time::timeout(day, numbers.answer("15551230012"));
        assert!(hanging.await.is_err());
    }
}
