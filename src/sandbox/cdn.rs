//! The CDN of the stand-in: the images that links lead to, and faults of downloads on demand.
//!
//! Not here: the links themselves and which contact has which picture, which are in `pictures`.

mod draw;
mod fault;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::calls::Calls;
use super::pictures::{FOLDER, Pictures};
use super::{contact_of, reply};
use fault::Fault;

/// Maximum number of scripts; a further one is refused with 400.
const SCRIPTS_MAX: usize = 1_000;
/// Maximum number of images that are drawn at a time. Requests for more images wait.
const DRAWN_MAX: usize = 2;
/// The private address that a redirect leads to where the script names none: the one at which clouds keep the
/// credentials of a machine.
const PRIVATE: &str = "http://169.254.169.254/";

pub(super) const HELP: &str = "\
Images, and faults of their downloads (no token needed):

  GET    /v/t61.24694-24/{file}?...  the image that a link leads to: a JPEG of 640 x 640,
      or 403 when the link has expired
  POST   /_sandbox/cdn  {\"chat_id\":\"15551230001\",\"times\":1,\"fault\":\"expired\"}
      sets the outcome of downloads. The oldest script that matches and has downloads left is used.
      At most 1000 scripts. The answer is 204, or 400 with the reason. One of fault, delay_ms and
      drip_ms is needed; every other field may be left out:
        chat_id   downloads that match: those of the contact that was last given a link to
                  the file                                       (default: all)
        file      downloads that match: the last part of the link's path  (default: all)
        times     number of downloads                            (default: no limit)
        delay_ms  time before the answer                         (default: 0)
        drip_ms   time before each of the 16 parts of the body   (default: 0)
        location  target of a redirect                  (default: http://169.254.169.254/)
        fault     expired      403 \"URL signature expired\", whatever the link says
                  not_found    404
                  gone         410
                  unavailable  503
                  redirect     302 to location
                  cut          the connection ends in the middle of the image
                  hang         no answer is ever sent
                  html, svg, gif  another type, named in Content-Type
                  text         text, with the Content-Type of a JPEG
                  bomb         a small JPEG that claims 60000 x 60000 pixels
                  large        an image of 2 MiB
  DELETE /_sandbox/cdn  removes these scripts
";

/// The images of one run.
pub(super) struct Cdn {
    calls: Arc<Calls>,
    pictures: Arc<Pictures>,
    scripts: Mutex<Vec<Script>>,
    drawing: Semaphore,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    chat_id: Option<String>,
    file: Option<String>,
    times: Option<NonZeroU32>,
    fault: Option<Fault>,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    drip_ms: u64,
    location: Option<String>,
}

/// The parameters of a link that are checked.
#[derive(Deserialize)]
struct Signature {
    oh: Option<String>,
    oe: Option<String>,
}

impl Cdn {
    pub(super) fn new(calls: Arc<Calls>, pictures: Arc<Pictures>) -> Self {
        Self { calls, pictures, scripts: Mutex::default(), drawing: Semaphore::new(DRAWN_MAX) }
    }

    /// The oldest script that matches, if one does. This uses up one of the times that the script applies.
    fn next_script(&self, file: &str, contact: Option<&str>) -> Option<Script> {
        let mut scripts = self.scripts.lock();
        let index = scripts.iter().position(|script| script.concerns(file, contact))?;
        let script = scripts[index].clone();
        if let Some(times) = script.times {
            match NonZeroU32::new(times.get() - 1) {
                None => drop(scripts.remove(index)),
                left => scripts[index].times = left,
            }
        }
        Some(script)
    }

    /// The image of `file`, as a JPEG.
    async fn draw(&self, file: &str) -> Result<Vec<u8>, StatusCode> {
        // Drawing takes milliseconds, so it is done on a thread for blocking work.
        let _permit = self.drawing.acquire().await;
        let file = file.to_owned();
        match tokio::task::spawn_blocking(move || draw::jpeg(&file)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(_)) | Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The answer without a fault.
    async fn usual(&self, file: &str, signature: &Signature) -> Response {
        if !signature.is_valid() {
            return fault::expired();
        }
        if !is_file(file) {
            return StatusCode::NOT_FOUND.into_response();
        }
        match self.draw(file).await {
            Ok(bytes) => jpeg(bytes),
            Err(status) => status.into_response(),
        }
    }
}

impl Script {
    /// # Errors
    ///
    /// The fields that do not belong together.
    fn check(&self) -> Result<(), String> {
        if self.fault.is_none() && self.delay_ms == 0 && self.drip_ms == 0 {
            return Err("fault, delay_ms or drip_ms: one of them is needed".to_owned());
        }
        if self.drip_ms > 0 && self.fault == Some(Fault::Cut) {
            return Err("drip_ms: a download that is cut short cannot drip".to_owned());
        }
        let Some(location) = &self.location else {
            return Ok(());
        };
        if self.fault != Some(Fault::Redirect) {
            return Err("location: only a redirect has one".to_owned());
        }
        // A target that is sent as a header; the client decides everything else about it.
        HeaderValue::from_str(location)
            .map(drop)
            .map_err(|_| "location: it cannot stand in a header".to_owned())
    }

    fn concerns(&self, file: &str, contact: Option<&str>) -> bool {
        let chat_id = self.chat_id.as_deref().map(contact_of);
        self.file.as_deref().is_none_or(|name| name == file)
            && chat_id.is_none_or(|chat_id| Some(chat_id) == contact)
    }

    async fn play(self, cdn: &Cdn, file: &str, signature: &Signature) -> Response {
        tokio::time::sleep(Duration::from_millis(self.delay_ms)).await;
        let answer = match self.fault {
            None => cdn.usual(file, signature).await,
            Some(fault) => {
                let location = self.location.as_deref().unwrap_or(PRIVATE);
                match cdn.draw(file).await {
                    Ok(image) => fault.answer(image, location).await,
                    Err(status) => status.into_response(),
                }
            }
        };
        if self.drip_ms == 0 {
            answer
        } else {
            fault::drip(answer, Duration::from_millis(self.drip_ms)).await
        }
    }
}

impl Signature {
    fn is_valid(&self) -> bool {
        let end = self.oe.as_deref().and_then(|oe| i64::from_str_radix(oe, 16).ok());
        self.oh.is_some() && end.is_some_and(|end| end > reply::now_seconds())
    }
}

pub(super) fn routes(cdn: Arc<Cdn>) -> Router {
    Router::new()
        .route(&format!("{FOLDER}/{{file}}"), get(image))
        .route("/_sandbox/cdn", post(add_script).delete(forget))
        .with_state(cdn)
}

async fn image(
    State(cdn): State<Arc<Cdn>>,
    Path(file): Path<String>,
    Query(signature): Query<Signature>,
) -> Response {
    let contact = cdn.pictures.owner(&file);
    cdn.calls.count_image(contact.as_deref());
    match cdn.next_script(&file, contact.as_deref()) {
        Some(script) => script.play(&cdn, &file, &signature).await,
        None => cdn.usual(&file, &signature).await,
    }
}

async fn add_script(State(cdn): State<Arc<Cdn>>, body: Bytes) -> Response {
    let script = serde_json::from_slice::<Script>(&body).map_err(|error| error.to_string());
    let script = script.and_then(|script| script.check().map(|()| script));
    let mut scripts = cdn.scripts.lock();
    let reason = match script {
        Ok(_) if scripts.len() >= SCRIPTS_MAX => format!("there are {SCRIPTS_MAX} scripts already"),
        Ok(script) => {
            scripts.push(script);
            return StatusCode::NO_CONTENT.into_response();
        }
        Err(reason) => reason,
    };
    reply::message(StatusCode::BAD_REQUEST, &reason)
}

async fn forget(State(cdn): State<Arc<Cdn>>) -> StatusCode {
    cdn.scripts.lock().clear();
    StatusCode::NO_CONTENT
}

fn jpeg(bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("image/jpeg"))], bytes).into_response()
}

/// Whether the sandbox makes links to such a file.
fn is_file(file: &str) -> bool {
    let numbers = file.strip_suffix("_n.jpg").map(|numbers| numbers.split('_').collect::<Vec<_>>());
    let is_number = |number: &&str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|numbers| numbers.len() == 3 && numbers.iter().all(is_number))
}

#[cfg(test)]
mod tests;
