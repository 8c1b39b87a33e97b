//! The pictures of the stand-in: links to them, and which contacts have a new one.
//!
//! A link leads to the sandbox itself and has the form of WhatsApp's. The image behind it comes from
//! `cdn`.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{contact_of, reply};

/// Lifetime of a link, 9.87 days in seconds, which is that of real links from 2024 to 2026.
pub(super) const LINK_LIFE_SECONDS: i64 = 852_768;

/// Maximum number of contacts whose pictures can change. The pictures of further contacts stay the same.
const CONTACTS_MAX: usize = 20_000;
/// Maximum length of the name of such a contact, in bytes: several times that of a real one. The picture of a
/// contact with a longer name stays the same.
const NAME_BYTES_MAX: usize = 256;
/// Maximum number of files whose contact is known. Downloads of further files belong to no contact.
const FILES_MAX: usize = 20_000;
/// The folder of the files, as WhatsApp has it.
pub(super) const FOLDER: &str = "/v/t61.24694-24";

pub(super) const HELP: &str = "\
Pictures (no token needed):

  POST   /_sandbox/changes  {\"count\":100}  or  {\"chat_ids\":[\"15551230001\"]}
      gives new pictures: with chat_ids, to these contacts; with count, to that many of the
      contacts that were looked up and have their usual picture, those with the fewest changes
      first. Up to 20000 contacts whose names have at most 256 bytes can change. The answer names
      the changed contacts:
      {\"changed\":[\"15551230001\"]}
";

/// The pictures of one run.
pub(super) struct Pictures {
    /// Scheme, host and port of every link.
    origin: String,
    /// The contacts that were given a link to their usual picture, each with the number of its changes.
    changes: Mutex<BTreeMap<String, u32>>,
    /// The contact that was last given a link to a file.
    owners: Mutex<BTreeMap<String, String>>,
}

impl Pictures {
    pub(super) fn new(origin: String) -> Self {
        Self { origin, changes: Mutex::default(), owners: Mutex::default() }
    }

    /// The answer with the usual picture of a contact.
    pub(super) fn usual(&self, contact: &str, life_seconds: i64) -> Response {
        let mut changes = self.changes.lock();
        let known = changes.get(contact).copied();
        if known.is_none() && changes.len() < CONTACTS_MAX && is_short(contact) {
            changes.insert(contact.to_owned(), 0);
        }
        drop(changes);
        match known {
            None | Some(0) => self.named(contact, contact, life_seconds),
            Some(count) => self.named(contact, &format!("{contact}, change {count}"), life_seconds),
        }
    }

    /// The answer for a contact with the picture `name`. Its link is new with each answer; the file in the
    /// link depends on `name` alone.
    pub(super) fn named(&self, contact: &str, name: &str, life_seconds: i64) -> Response {
        let file = file(name);
        let mut owners = self.owners.lock();
        if let Some(owner) = owners.get_mut(&file) {
            contact.clone_into(owner);
        } else if owners.len() < FILES_MAX && is_short(contact) {
            owners.insert(file, contact.to_owned());
        }
        drop(owners);
        reply::with_link(&self.link(name, life_seconds))
    }

    /// The contact that was last given a link to `file`.
    pub(super) fn owner(&self, file: &str) -> Option<String> {
        self.owners.lock().get(file).cloned()
    }

    /// A link in the form of WhatsApp's: the file is that of the picture, `oh` signs this link, and `oe` is
    /// its expiry.
    fn link(&self, name: &str, life_seconds: i64) -> String {
        const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let sign = |_| char::from(SIGNS[rand::random_range(0..SIGNS.len())]);
        let oh: String = (0..50).map(sign).collect();
        let oe = reply::now_seconds().saturating_add(life_seconds).max(0);
        let cat = 100 + number(name, 2) % 12;
        let query = format!("ccb=11-4&oh=01_{oh}&oe={oe:X}&_nc_sid=5e03e0&_nc_cat={cat}");
        format!("{}{FOLDER}/{}?{query}", self.origin, file(name))
    }

    /// Counts a change for the contacts of `order`, and returns them.
    fn change(&self, order: &Order) -> Vec<String> {
        let mut changes = self.changes.lock();
        let contacts: Vec<String> = match order {
            Order::ChatIds(chat_ids) => {
                let room = CONTACTS_MAX.saturating_sub(changes.len());
                let contacts = chat_ids.iter().map(|id| contact_of(id));
                let (known, new): (Vec<_>, Vec<_>) =
                    contacts.partition(|contact| changes.contains_key(*contact));
                let new = new.into_iter().filter(|contact| is_short(contact)).take(room);
                known.into_iter().chain(new).map(str::to_owned).collect()
            }
            Order::Count(count) => {
                let mut contacts: Vec<_> = changes.iter().map(|(contact, count)| (*count, contact)).collect();
                contacts.sort_unstable();
                contacts.into_iter().take(*count).map(|(_, contact)| contact.clone()).collect()
            }
        };
        for contact in &contacts {
            *changes.entry(contact.clone()).or_default() += 1;
        }
        contacts
    }
}

/// The file of the picture `name`.
fn file(name: &str) -> String {
    format!("{:09}_{:015}_{:019}_n.jpg", number(name, 9), number(name, 15), number(name, 19))
}

/// A number of at most so many digits that depends on `name` alone.
fn number(name: &str, digits: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, digits).hash(&mut hasher);
    hasher.finish() % 10_u64.pow(digits)
}

fn is_short(contact: &str) -> bool {
    contact.len() <= NAME_BYTES_MAX
}

/// The contacts that get a new picture.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Order {
    Count(usize),
    ChatIds(Vec<String>),
}

#[derive(Serialize)]
struct Changed {
    changed: Vec<String>,
}

pub(super) fn routes(pictures: Arc<Pictures>) -> Router {
    Router::new().route("/_sandbox/changes", post(change)).with_state(pictures)
}

async fn change(State(pictures): State<Arc<Pictures>>, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(order) => Json(Changed { changed: pictures.change(&order) }).into_response(),
        Err(error) => reply::message(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sandbox;
    use super::super::tests::{client, look_up, start};
    use super::*;

    fn pictures() -> Pictures {
        Pictures::new("http://127.0.0.1:9".to_owned())
    }

    async fn link(sandbox: &Sandbox, chat_id: &str) -> String {
        let (_, body) = look_up(sandbox, chat_id).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        body["data"]["profilePictureURL"].as_str().unwrap().to_owned()
    }

    async fn file(sandbox: &Sandbox, chat_id: &str) -> String {
        link(sandbox, chat_id).await.split('?').next().unwrap().to_owned()
    }

    async fn changed(sandbox: &Sandbox, order: &'static str) -> Vec<String> {
        let url = format!("http://{}/_sandbox/changes", sandbox.address());
        let answer = client().post(url).body(order).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{order}");
        let answer: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        serde_json::from_value(answer["changed"].clone()).unwrap()
    }

    #[test]
    fn a_link_keeps_its_file_and_renews_its_signature() {
        let pictures = pictures();
        let [first, second, other] = ["a", "a", "b"].map(|name| pictures.link(name, 60));
        assert_ne!(first, second);
        assert_eq!(first.split('?').next(), second.split('?').next());
        assert_ne!(first.split('?').next(), other.split('?').next());
        assert!(first.starts_with("http://127.0.0.1:9/v/t61.24694-24/"), "{first}");
    }

    /// `ends`: when it should, give or take the minute this test may take.
    fn check_end(life_seconds: i64, ends: i64) {
        let link = pictures().link("a", life_seconds);
        let (_, rest) = link.split_once("&oe=").unwrap();
        let oe = i64::from_str_radix(rest.split('&').next().unwrap(), 16).unwrap();
        assert!(oe.abs_diff(ends) < 60, "{life_seconds}: {oe}");
    }

    #[test]
    fn a_link_ends_after_the_life_it_is_given() {
        let now = reply::now_seconds();
        check_end(LINK_LIFE_SECONDS, now + LINK_LIFE_SECONDS);
        check_end(0, now);
        check_end(-3600, now - 3600);
        check_end(i64::MAX, i64::MAX);
        check_end(i64::MIN, 0);
    }

    #[test]
    fn contacts_with_long_names_and_too_many_contacts_are_not_noted() {
        let pictures = pictures();
        let [longest, longer] = [NAME_BYTES_MAX, NAME_BYTES_MAX + 1].map(|length| "1".repeat(length));
        for contact in [&longest, &longer] {
            pictures.usual(contact, 60);
        }
        let order = Order::ChatIds(vec![longest.clone(), longer]);
        assert_eq!(pictures.change(&order), std::slice::from_ref(&longest));
        assert_eq!(pictures.change(&Order::Count(9)), [longest]);
        for contact in 1..=CONTACTS_MAX {
            pictures.usual(&contact.to_string(), 60);
        }
        assert_eq!(pictures.change(&Order::Count(usize::MAX)).len(), CONTACTS_MAX);
        assert!(pictures.change(&Order::ChatIds(vec!["x".to_owned()])).is_empty());
    }

    #[tokio::test]
    async fn as_many_pictures_change_as_are_asked_for() {
        let sandbox = start().await;
        let mut before = Vec::new();
        for contact in ["1", "2", "3"] {
            before.push(file(&sandbox, contact).await);
        }
        assert_eq!(changed(&sandbox, r#"{"count":2}"#).await, ["1", "2"]);
        assert_eq!(changed(&sandbox, r#"{"count":1}"#).await, ["3"]);
        assert_eq!(changed(&sandbox, r#"{"chat_ids":["2@c.us","9"]}"#).await, ["2", "9"]);
        let first = file(&sandbox, "1").await;
        assert_eq!(file(&sandbox, "1").await, first);
        assert_ne!(first, before[0]);
        assert_ne!(file(&sandbox, "3").await, before[2]);
        assert_eq!(changed(&sandbox, r#"{"count":9}"#).await.len(), 4);
        assert_ne!(file(&sandbox, "1").await, first);
    }
}
