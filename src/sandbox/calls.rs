//! The counts of look-ups and of downloads, with which a test sees the requests that went upstream.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Serialize;

/// Maximum number of chat ids, of instances, and of contacts with downloads, that are counted one by one. A
/// further one counts in the total only.
const NAMES_MAX: usize = 20_000;

/// Maximum length of a name that is counted, in bytes: several times that of a real one. A longer name counts
/// in the total only.
const NAME_BYTES_MAX: usize = 256;

pub(super) const HELP: &str = "\
The counts of look-ups and of downloads of images, refused ones included (no token needed):

  GET    /_sandbox/calls  {\"calls\":2,\"by_chat_id\":{\"15551230001\":2},\"by_instance\":{...},
                           \"images\":1,\"images_by_contact\":{\"15551230001\":1}}
      Names are counted as they are written, up to 20000 chat ids and 20000 instances of at most
      256 bytes. All others count in the total only. A download counts for the contact that was
      last given a link to the file, up to 20000 contacts.
  DELETE /_sandbox/calls  resets the counts
";

#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<Tally>);

#[derive(Clone, Debug, Default, Serialize)]
struct Tally {
    calls: u64,
    by_chat_id: BTreeMap<String, u64>,
    by_instance: BTreeMap<String, u64>,
    images: u64,
    images_by_contact: BTreeMap<String, u64>,
}

impl Calls {
    pub(super) fn count(&self, instance: &str, chat_id: Option<&str>) {
        let mut tally = self.0.lock();
        tally.calls += 1;
        count_name(&mut tally.by_instance, instance);
        if let Some(chat_id) = chat_id {
            count_name(&mut tally.by_chat_id, chat_id);
        }
    }

    /// Counts the download of an image, of `contact` if that is known.
    pub(super) fn count_image(&self, contact: Option<&str>) {
        let mut tally = self.0.lock();
        tally.images += 1;
        if let Some(contact) = contact {
            count_name(&mut tally.images_by_contact, contact);
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.0.lock().calls
    }
}

pub(super) fn routes(calls: Arc<Calls>) -> Router {
    Router::new().route("/_sandbox/calls", get(tell).delete(zero)).with_state(calls)
}

async fn tell(State(calls): State<Arc<Calls>>) -> Json<Tally> {
    Json(calls.0.lock().clone())
}

async fn zero(State(calls): State<Arc<Calls>>) -> StatusCode {
    *calls.0.lock() = Tally::default();
    StatusCode::NO_CONTENT
}

fn count_name(counts: &mut BTreeMap<String, u64>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count += 1;
    } else if counts.len() < NAMES_MAX && name.len() <= NAME_BYTES_MAX {
        counts.insert(name.to_owned(), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_count_in_the_total_only() {
        let calls = Calls::default();
        for number in 0..=NAMES_MAX {
            calls.count("one", Some(&number.to_string()));
        }
        calls.count(&"x".repeat(NAME_BYTES_MAX + 1), Some("0"));
        let tally = calls.0.lock();
        assert_eq!(tally.calls, 20_002);
        assert_eq!(tally.by_chat_id.len(), NAMES_MAX);
        assert_eq!(tally.by_chat_id["0"], 2);
        assert_eq!(tally.by_instance, BTreeMap::from([("one".to_owned(), 20_001)]));
    }
}
