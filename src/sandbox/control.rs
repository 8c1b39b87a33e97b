//! Control of the stand-in while it runs: contacts whose picture a test chooses, and scripted faults. No
//! token is needed, because only loopback reaches it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use parking_lot::Mutex;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::numbers::NO_PICTURE;
use super::pictures::{LINK_LIFE_SECONDS, Pictures};
use super::{contact_of, reply};

/// Maximum number of contacts that are set; a further one is refused with 400.
const CONTACTS_MAX: usize = 10_000;
/// Maximum number of scripts; a further one is refused with 400.
const SCRIPTS_MAX: usize = 1_000;

pub(super) const HELP: &str = "\
Control (no token needed; the answer is 204, or 400 with the reason):

  PUT    /_sandbox/contacts/{chat_id}  {\"picture\":\"beach\",\"link_life_seconds\":120}
      sets the picture of a contact, in place of the table above. At most 10000 contacts.
        picture            any name: the same name is the same file; null: no picture
                           (default: the usual picture of the contact)
        link_life_seconds  lifetime of its links; may be 0 or negative  (default: 9.87 days)
  POST   /_sandbox/script  {\"chat_id\":\"15551230001\",\"times\":3,\"status\":503}
      sets the answer of look-ups, even of those without a valid token. The oldest script that
      matches and has look-ups left is used. At most 1000 scripts. Every field may be left out:
        instance, chat_id  look-ups that match                       (default: all)
        times              number of look-ups                        (default: no limit)
        status             200 to 599                                (default: 200)
        headers            such as {\"Retry-After\":\"5\"}; they replace the usual ones of that name
        body               text                   (default: a picture for 200, else a message)
        delay_ms           time before the answer                    (default: 0)
        hang               true: no answer is ever sent              (default: false)
        close              true: the connection is closed without an answer  (default: false)
  DELETE /_sandbox/script  removes all scripts and contacts, and keeps changed pictures
";

pub(super) struct Control {
    wishes: Mutex<Wishes>,
    pictures: Arc<Pictures>,
}

#[derive(Default)]
struct Wishes {
    contacts: HashMap<String, Contact>,
    scripts: Vec<Script>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contact {
    /// The outer `Option` says whether the field is given; the inner one is the name, or null.
    #[serde(default, deserialize_with = "given")]
    #[expect(clippy::option_option, reason = "left out, null and a name are three things")]
    picture: Option<Option<String>>,
    link_life_seconds: Option<i64>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    instance: Option<String>,
    chat_id: Option<String>,
    times: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "final_status")]
    status: StatusCode,
    #[serde(default, deserialize_with = "sendable_headers")]
    headers: HeaderMap,
    body: Option<String>,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    hang: bool,
    #[serde(default)]
    close: bool,
}

impl Control {
    pub(super) fn new(pictures: Arc<Pictures>) -> Self {
        Self { wishes: Mutex::default(), pictures }
    }

    /// The answer of the first script that matches, if one does. This uses up one of the times that the
    /// script applies.
    pub(super) async fn scripted(&self, instance: &str, contact: Option<&str>) -> Option<Response> {
        let script = self.wishes.lock().next_script(instance, contact)?;
        Some(script.play(contact.unwrap_or_default(), &self.pictures).await)
    }

    pub(super) fn contact(&self, contact: &str) -> Option<Response> {
        let wishes = self.wishes.lock();
        Some(wishes.contacts.get(contact)?.answer(contact, &self.pictures))
    }
}

impl Wishes {
    fn next_script(&mut self, instance: &str, contact: Option<&str>) -> Option<Script> {
        let mut scripts = self.scripts.iter();
        let index = scripts.position(|script| script.concerns(instance, contact))?;
        let script = self.scripts[index].clone();
        if let Some(times) = script.times {
            match NonZeroU32::new(times.get() - 1) {
                None => drop(self.scripts.remove(index)),
                left => self.scripts[index].times = left,
            }
        }
        Some(script)
    }
}

impl Contact {
    fn answer(&self, contact: &str, pictures: &Pictures) -> Response {
        let life_seconds = self.link_life_seconds.unwrap_or(LINK_LIFE_SECONDS);
        match &self.picture {
            None => pictures.usual(contact, life_seconds),
            Some(Some(name)) => pictures.named(contact, name, life_seconds),
            Some(None) => reply::json(StatusCode::OK, NO_PICTURE),
        }
    }
}

impl Script {
    fn concerns(&self, instance: &str, contact: Option<&str>) -> bool {
        let chat_id = self.chat_id.as_deref();
        self.instance.as_deref().is_none_or(|name| name == instance)
            && chat_id.is_none_or(|chat_id| Some(contact_of(chat_id)) == contact)
    }

    async fn play(self, contact: &str, pictures: &Pictures) -> Response {
        tokio::time::sleep(Duration::from_millis(self.delay_ms)).await;
        if self.hang {
            std::future::pending::<()>().await;
        }
        if self.close {
            return reply::cut();
        }
        let reason = self.status.canonical_reason().unwrap_or("Unknown Error");
        let mut answer = match (self.body, self.status) {
            (Some(body), status) => reply::json(status, body),
            (None, StatusCode::OK) => pictures.usual(contact, LINK_LIFE_SECONDS),
            (None, status) => reply::message(status, reason),
        };
        answer.headers_mut().extend(self.headers);
        answer
    }
}

pub(super) fn routes(control: Arc<Control>) -> Router {
    Router::new()
        .route("/_sandbox/contacts/{chat_id}", put(put_contact))
        .route("/_sandbox/script", post(add_script).delete(forget))
        .with_state(control)
}

async fn put_contact(
    State(control): State<Arc<Control>>,
    Path(chat_id): Path<String>,
    body: Bytes,
) -> Response {
    let contact = match serde_json::from_slice(&body) {
        Ok(contact) => contact,
        Err(error) => return refusal(&error.to_string()),
    };
    let mut wishes = control.wishes.lock();
    let key = contact_of(&chat_id);
    if wishes.contacts.len() >= CONTACTS_MAX && !wishes.contacts.contains_key(key) {
        return refusal(&format!("there are {CONTACTS_MAX} contacts already"));
    }
    wishes.contacts.insert(key.to_owned(), contact);
    StatusCode::NO_CONTENT.into_response()
}

async fn add_script(State(control): State<Arc<Control>>, body: Bytes) -> Response {
    let script = match serde_json::from_slice(&body) {
        Ok(script) => script,
        Err(error) => return refusal(&error.to_string()),
    };
    let mut wishes = control.wishes.lock();
    if wishes.scripts.len() >= SCRIPTS_MAX {
        return refusal(&format!("there are {SCRIPTS_MAX} scripts already"));
    }
    wishes.scripts.push(script);
    StatusCode::NO_CONTENT.into_response()
}

async fn forget(State(control): State<Arc<Control>>) -> StatusCode {
    *control.wishes.lock() = Wishes::default();
    StatusCode::NO_CONTENT
}

fn refusal(reason: &str) -> Response {
    reply::message(StatusCode::BAD_REQUEST, reason)
}

#[expect(clippy::option_option, reason = "left out, null and a name are three things")]
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// Reads a status. A 1xx status is refused: it only announces an answer, and none would follow.
fn final_status<'de, D: Deserializer<'de>>(value: D) -> Result<StatusCode, D::Error> {
    let number = u16::deserialize(value)?;
    let status = StatusCode::from_u16(number).ok();
    let status = status.filter(|_| (200..600).contains(&number));
    status.ok_or_else(|| D::Error::custom("status: must be 200 to 599"))
}

/// Reads headers. Those that frame the body are refused, because the server writes them itself.
fn sendable_headers<'de, D: Deserializer<'de>>(value: D) -> Result<HeaderMap, D::Error> {
    let pairs = HashMap::<String, String>::deserialize(value)?;
    let headers = HeaderMap::try_from(&pairs);
    let headers = headers.map_err(|error| D::Error::custom(format!("headers: {error}")))?;
    match [CONTENT_LENGTH, TRANSFER_ENCODING].map(|name| headers.contains_key(name)) {
        [false, false] => Ok(headers),
        _ => Err(D::Error::custom("headers: those that frame the body cannot be scripted")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sandbox;
    use super::super::tests::{asking, client, look_up, start};
    use super::*;

    /// Sends `order`, which is a method and the path behind `/_sandbox/`.
    async fn steer(sandbox: &Sandbox, order: &str, body: &'static str) -> (u16, String) {
        let (method, path) = order.split_once(' ').unwrap();
        let url = format!("http://{}/_sandbox/{path}", sandbox.address());
        let request = client().request(method.parse().unwrap(), url).body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn script(sandbox: &Sandbox, body: &'static str) {
        let done = (204, String::new());
        assert_eq!(steer(sandbox, "POST script", body).await, done, "{body}");
    }

    /// The answer for a contact up to the query of its link, which changes with each answer.
    async fn file(sandbox: &Sandbox, chat_id: &str) -> String {
        let (_, body) = look_up(sandbox, chat_id).await;
        body.split("?ccb").next().unwrap().to_owned()
    }

    async fn check_refused(order: &str, body: &'static str, named: &str) {
        let (status, text) = steer(&start().await, order, body).await;
        assert_eq!(status, 400, "{body}");
        assert!(text.contains(named), "{body}: {text}");
    }

    #[tokio::test]
    async fn what_cannot_be_understood_is_refused_by_name() {
        let framed = r#"{"headers":{"Content-Length":"9"}}"#;
        check_refused("PUT contacts/1", r#"{"image":"x"}"#, "`image`").await;
        check_refused("PUT contacts/1", r#"{"link_life_seconds":"x"}"#, "i64").await;
        check_refused("PUT contacts/1", "", "EOF").await;
        check_refused("POST script", r#"{"state":503}"#, "`state`").await;
        check_refused("POST script", r#"{"status":100}"#, "status").await;
        check_refused("POST script", r#"{"times":0}"#, "nonzero").await;
        check_refused("POST script", r#"{"headers":{"a b":"c"}}"#, "headers").await;
        check_refused("POST script", framed, "headers").await;
    }

    #[tokio::test]
    async fn a_contact_has_the_picture_it_was_given_until_all_is_forgotten() {
        let sandbox = start().await;
        let usual = file(&sandbox, "15551230004").await;
        steer(&sandbox, "PUT contacts/15551230004@c.us", r#"{"picture":"a"}"#).await;
        let first = file(&sandbox, "15551230004").await;
        steer(&sandbox, "PUT contacts/15551230004", r#"{"picture":"b"}"#).await;
        let second = file(&sandbox, "15551230004@lid").await;
        assert!(usual.contains("null") && first.contains("/v/t61.24694-24/"));
        assert_ne!(first, second);
        steer(&sandbox, "PUT contacts/15551230004", r#"{"picture":null}"#).await;
        assert_eq!(file(&sandbox, "15551230004").await, usual);

        let usual = file(&sandbox, "7").await;
        steer(&sandbox, "PUT contacts/7", r#"{"link_life_seconds":-9000000000}"#).await;
        assert!(look_up(&sandbox, "7").await.1.contains("&oe=0&"));
        assert_eq!(file(&sandbox, "7").await, usual);
        assert_eq!(steer(&sandbox, "DELETE script", "").await.0, 204);
        assert!(!look_up(&sandbox, "7").await.1.contains("&oe=0&"));
    }

    #[tokio::test]
    async fn the_oldest_script_that_fits_wins_as_often_as_it_may() {
        let sandbox = start().await;
        script(&sandbox, r#"{"instance":"another","status":500}"#).await;
        script(&sandbox, r#"{"chat_id":"1@c.us","times":2,"status":503}"#).await;
        script(&sandbox, r#"{"times":1,"status":418,"body":"tea"}"#).await;
        let unavailable = (503, r#"{"message":"Service Unavailable"}"#.to_owned());
        assert_eq!(look_up(&sandbox, "1").await, unavailable);
        assert_eq!(look_up(&sandbox, "1@lid").await, unavailable);
        assert_eq!(look_up(&sandbox, "1").await, (418, "tea".to_owned()));
        assert_eq!(look_up(&sandbox, "1").await.0, 200);
    }

    #[tokio::test]
    async fn a_script_needs_no_token_and_may_replace_any_header() {
        let sandbox = start().await;
        script(&sandbox, r#"{"status":403,"headers":{"Content-Type":"a/b"}}"#).await;
        let request = asking(&sandbox, "1").bearer_auth("wrong");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.headers()["content-type"], "a/b");
    }

    #[tokio::test]
    async fn a_script_can_close_hang_and_delay() {
        let sandbox = start().await;
        script(&sandbox, r#"{"times":1,"close":true}"#).await;
        script(&sandbox, r#"{"times":1,"hang":true}"#).await;
        script(&sandbox, r#"{"times":1,"delay_ms":1500}"#).await;
        let closed = asking(&sandbox, "1").send().await.unwrap_err();
        assert!(closed.is_request() && !closed.is_timeout());
        let impatient = asking(&sandbox, "1").timeout(Duration::from_millis(500));
        assert!(impatient.send().await.unwrap_err().is_timeout());
        let start = tokio::time::Instant::now();
        assert_eq!(look_up(&sandbox, "1").await.0, 200);
        assert!(start.elapsed() > Duration::from_secs(1));
        assert_eq!(sandbox.calls(), 3);
    }
}
