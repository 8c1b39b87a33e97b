//! The routes of the port: the sealed address, the plain address, and the page of the sandbox.
//!
//! The addresses are read here and not by axum's router, because a part of an address must be decoded
//! strictly, and because every path gets the same kind of answer.

mod host;
mod in_progress;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
};
use http::{Extensions, Method, request::Parts as Head};
use tracing::debug;

use self::{host::names_one_host, in_progress::InProgress};
use super::{
    etag::{Seen, Tagger},
    image::Size,
    page::{self, Sandbox},
    pictures::{Pictures, Shown, Wanted},
    query::Query,
    reply::{Answer, Asked, refuse, show},
    sealed::Addresses,
    status::Refused,
};
use crate::{
    domain::{ChatId, Refusal, percent_decoded},
    grpc::Credentials,
    server::Callers,
    stack::{Clock, LookupService},
    telemetry::AvatarMetrics,
};

/// Maximum number of requests in progress over all connections, of which one instance may hold half. A
/// further one gets the silhouette and 503 at once. A request is in progress until its response begins.
const REQUESTS_MAX: usize = 1024;

/// The parts that answer requests.
pub struct Parts<F> {
    /// Finds the images.
    pub pictures: Pictures<F>,
    /// Opens sealed addresses.
    pub addresses: Addresses,
    /// The tokens of the instances.
    pub credentials: Arc<Credentials>,
    /// The callers of the plain address; with `None`, there is no plain address.
    pub callers: Option<Callers>,
    /// Reads the time.
    pub clock: Clock,
    /// The counters.
    pub metrics: Arc<AvatarMetrics>,
    /// The sandbox that the page shows and controls; with `None`, there is no page.
    pub sandbox: Option<Sandbox>,
}

/// Finds the images: [`Pictures`], or a stand-in for it in tests.
trait Show: Send + Sync + 'static {
    fn show(&self, wanted: Wanted, seen: &Seen) -> impl Future<Output = Shown> + Send;
    fn tagger(&self) -> &Tagger;
}

impl<F: LookupService> Show for Pictures<F> {
    fn show(&self, wanted: Wanted, seen: &Seen) -> impl Future<Output = Shown> + Send {
        Self::show(self, wanted, seen)
    }

    fn tagger(&self) -> &Tagger {
        Self::tagger(self)
    }
}

/// The routes of the port.
pub fn routes<F: LookupService>(parts: Parts<F>) -> Router {
    let Parts { pictures, addresses, credentials, callers, clock, metrics, sandbox } = parts;
    let page = sandbox.map(|sandbox| {
        page::routes(sandbox, pictures.stack().clone(), &credentials, addresses.clone(), clock)
    });
    let in_progress = InProgress::new(REQUESTS_MAX);
    let images = Images { pictures, addresses, credentials, callers, clock, metrics, in_progress };
    match page {
        None => images.routes(),
        Some(page) => page::loopback_only(page.merge(images.routes())),
    }
}

/// Answers every request that is not for the page.
struct Images<P> {
    pictures: P,
    addresses: Addresses,
    credentials: Arc<Credentials>,
    callers: Option<Callers>,
    clock: Clock,
    metrics: Arc<AvatarMetrics>,
    in_progress: InProgress,
}

impl<P: Show> Images<P> {
    fn routes(self) -> Router {
        let respond = async |State(images): State<Arc<Self>>, request: Request| {
            // A body is not read.
            images.respond(&request.into_parts().0).await
        };
        Router::new().fallback(respond).with_state(Arc::new(self))
    }

    async fn respond(&self, head: &Head) -> Response {
        let address = Address::of(head.uri.path());
        let query = Query::parse(head.uri.query());
        let seen = Seen::of(&head.headers);
        let asked = Asked {
            query: query.as_ref().unwrap_or(&Query::DEFAULT),
            is_head: head.method == Method::HEAD,
            seen: &seen,
            is_known: self.callers.is_some() && matches!(address, Address::Plain { .. }),
            tagger: self.pictures.tagger(),
        };
        // An address that is not served is refused before a parameter that is not valid.
        let wanted = self.wanted(&address, head, asked.query.size);
        let (response, outcome) = match wanted
            .and_then(|wanted| query.as_ref().map(|_| wanted).map_err(|bad| Refused::Query(*bad)))
        {
            Ok(wanted) => self.show(wanted, &asked).await,
            Err(refused) => {
                debug!(why = refused.to_string(), "refused a request for an image");
                refuse(&refused, &asked)
            }
        };
        self.metrics.answered(response.status().as_u16(), outcome);
        response
    }

    async fn show(&self, wanted: Wanted, asked: &Asked<'_>) -> Answer {
        let instance = wanted.instance.clone();
        let Some(_permit) = self.in_progress.begin(&instance) else {
            return refuse(&Refused::Overloaded, asked);
        };
        let contact = asked.tagger.contact(&instance, &wanted.chat);
        show(self.pictures.show(wanted, asked.seen).await, contact, asked)
    }

    /// The contact of the address, if the request may see it.
    fn wanted(&self, address: &Address<'_>, head: &Head, size: Size) -> Result<Wanted, Refused> {
        if !names_one_host(head) {
            return Err(Refused::Host);
        }
        if head.method != Method::GET && head.method != Method::HEAD {
            return Err(Refused::Method);
        }
        match (address, &self.callers) {
            (Address::Sealed(sealed), _) => {
                let (instance, chat) = self.addresses.open(sealed, self.clock.now().wall)?;
                let credential = self.credentials.own(&instance).cloned();
                let credential = credential.ok_or(Refusal::InstanceNotConfigured)?;
                Ok(Wanted { instance, credential, chat, size })
            }
            (Address::Plain { instance, chat }, Some(callers)) => {
                let caller = callers.by_token(&head.headers).map_err(Refusal::CallerUnknown)?;
                let mut call = Extensions::new();
                call.insert(caller);
                let instance = percent_decoded(instance).ok_or(Refusal::InstanceInvalid)?;
                let (instance, credential) = self.credentials.resolve(&instance, &call)?;
                let chat = ChatId::parse(&percent_decoded(chat).ok_or(Refusal::ChatIdInvalid)?)?;
                Ok(Wanted { instance, credential, chat, size })
            }
            (Address::Plain { .. }, None) | (Address::Other, _) => Err(Refused::Unknown),
        }
    }
}

/// The path of a request. Its parts are still encoded.
enum Address<'a> {
    /// `/avatars/{sealed}`.
    Sealed(&'a str),
    /// `/instances/{instance}/contacts/{chat_id}/avatar`, without empty parts.
    Plain { instance: &'a str, chat: &'a str },
    /// Another path.
    Other,
}

impl<'a> Address<'a> {
    fn of(path: &'a str) -> Self {
        if let Some(sealed) = path.strip_prefix("/avatars/") {
            return Self::Sealed(sealed);
        }
        let parts = path.strip_prefix("/instances/").and_then(|rest| rest.split_once("/contacts/"));
        let parts = parts.and_then(|(instance, rest)| Some((instance, rest.strip_suffix("/avatar")?)));
        match parts {
            Some((instance, chat)) if !instance.is_empty() && !chat.is_empty() => {
                Self::Plain { instance, chat }
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
