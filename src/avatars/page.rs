//! The page of the sandbox: it shows the test numbers with their avatars, and controls the sandbox. It exists
//! with `--sandbox` only.
//!
//! A page in another tab must not control the sandbox. Actions are POST requests of the page itself, and
//! while the page exists, the whole port answers only to names of this machine ([`guard`]).
//!
//! Not here: the images, which come from the sealed addresses like those of any other page.

mod contacts;
mod control;
mod document;
mod guard;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State, rejection::JsonRejection},
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS},
    },
    middleware::{from_fn, map_response},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::HeaderName;
use serde::{Deserialize, Serialize};

use self::{
    contacts::{AddressOf, Contact, Contacts},
    control::{Control, Counts, Unreachable},
    document::Document,
};
use crate::{
    domain::Instance,
    grpc::Credentials,
    stack::{Clock, LookupService, Stack},
};

/// Maximum size of the body of an action, in bytes. A larger one is refused with 413.
const ACTION_BYTES_MAX: usize = 1024;
const ICON: &str = include_str!("page/icon.svg");

/// The sandbox that the page shows and controls.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The address of its control endpoints.
    pub control: SocketAddr,
    /// The instance that is asked.
    pub instance: Instance,
    /// The test numbers.
    pub numbers: Vec<SandboxNumber>,
}

/// A test number.
#[derive(Clone, Copy, Debug)]
pub struct SandboxNumber {
    /// The number.
    pub number: &'static str,
    /// The picture it has, or the fault.
    pub about: &'static str,
}

/// The parts that answer requests of the page.
struct Page<F> {
    contacts: Contacts<F>,
    control: Control,
    document: Document,
}

/// The routes of the page. [`loopback_only`] protects them, like all other routes of the port.
pub fn routes<F: LookupService>(
    sandbox: Sandbox,
    stack: Stack<F>,
    credentials: &Credentials,
    addresses: super::sealed::Addresses,
    clock: Clock,
) -> Router {
    let address = move |instance: &_, chat: &_| addresses.url(instance, chat, clock.now().wall);
    with_addresses(sandbox, stack, credentials, Box::new(address))
}

/// The same routes, with another source of sealed addresses.
fn with_addresses<F: LookupService>(
    sandbox: Sandbox,
    stack: Stack<F>,
    credentials: &Credentials,
    address_of: AddressOf,
) -> Router {
    let control = Control::new(sandbox.control);
    let contacts = Contacts::new(sandbox, stack, credentials, address_of);
    let page = Arc::new(Page { contacts, control, document: Document::new() });
    let actions = Router::new()
        .route("/_page/ask", post(ask::<F>))
        .route("/_page/change", post(change::<F>))
        .layer(DefaultBodyLimit::max(ACTION_BYTES_MAX))
        .layer(from_fn(guard::same_origin));
    Router::new()
        .route("/", get(document::<F>))
        .route("/_page/state", get(state::<F>))
        .route("/_page/icon.svg", get(async || ([(CONTENT_TYPE, "image/svg+xml")], ICON)))
        .merge(actions)
        .layer(map_response(guarded))
        .with_state(page)
}

/// Wraps all routes of the port so that only requests with a loopback name in `Host` are answered.
pub fn loopback_only(routes: Router) -> Router {
    routes.layer(from_fn(guard::loopback))
}

/// The headers of every answer of the page.
async fn guarded(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

async fn document<F: LookupService>(State(page): State<Arc<Page<F>>>) -> Response {
    page.document.answer()
}

/// The state that the page shows.
#[derive(Serialize)]
struct Shown {
    contacts: Vec<Contact>,
    /// `None` when the sandbox does not answer.
    upstream: Option<Counts>,
}

/// The state of all contacts. It asks nobody but the sandbox for its counts.
async fn state<F: LookupService>(State(page): State<Arc<Page<F>>>) -> Json<Shown> {
    let (contacts, upstream) = futures_util::join!(page.contacts.all(), page.control.counts());
    Json(Shown { contacts, upstream: upstream.ok() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    number: String,
    /// Whether a stored answer is refused, however new it is.
    #[serde(default)]
    again: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    number: String,
}

/// Looks the contact up, as a caller would.
async fn ask<F: LookupService>(
    State(page): State<Arc<Page<F>>>,
    order: Result<Json<Ask>, JsonRejection>,
) -> Result<Json<Contact>, Refused> {
    let Json(Ask { number, again }) = order?;
    page.contacts.ask(&number, again).await.map(Json).ok_or(Refused::NumberUnknown)
}

/// Gives the contact another picture. The service does not learn of it before it asks again.
async fn change<F: LookupService>(
    State(page): State<Arc<Page<F>>>,
    order: Result<Json<Change>, JsonRejection>,
) -> Result<StatusCode, Refused> {
    let Json(Change { number }) = order?;
    if !page.contacts.has(&number) {
        return Err(Refused::NumberUnknown);
    }
    page.control.change(&number).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Why an action is not taken.
enum Refused {
    /// The body of the request is not what the action takes.
    Body(JsonRejection),
    /// The number is not one of the test numbers.
    NumberUnknown,
    /// The sandbox did not answer.
    Unreachable,
}

impl From<JsonRejection> for Refused {
    fn from(rejection: JsonRejection) -> Self {
        Self::Body(rejection)
    }
}

impl From<Unreachable> for Refused {
    fn from(_: Unreachable) -> Self {
        Self::Unreachable
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Body(rejection) => guard::refusal(rejection.status(), &rejection.body_text()),
            Self::NumberUnknown => {
                guard::refusal(StatusCode::NOT_FOUND, "number: it is not one of the test numbers")
            }
            Self::Unreachable => guard::refusal(StatusCode::BAD_GATEWAY, "the sandbox does not answer"),
        }
    }
}

#[cfg(test)]
mod tests;
