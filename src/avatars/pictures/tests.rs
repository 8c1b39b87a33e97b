//! The way of a request over the whole stack, with an upstream and a CDN that follow scripts, on a clock that
//! a test stops.

mod backlog;
mod guard;
mod rejection;
mod renewal;
mod sharing;
mod sockets;
mod waiting;

use std::{
    collections::HashMap,
    hash::RandomState,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use ::image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use futures_util::future::BoxFuture;
use http::{HeaderMap, header::IF_NONE_MATCH};
use parking_lot::Mutex;
use tokio::time::sleep;
use tower::Service;

use super::{images::Download, *};
use crate::{
    avatars::fetch::{FetchError, Image, Kind},
    domain::{Absence, AttemptError, CacheInfo, Finding, Lookup, NotFound, PictureLink},
    stack::{RateSettings, Settings as StackSettings, stack},
    telemetry::Metrics,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// The lifetime of a link.
const LINK_LIFE: Duration = Duration::from_secs(10 * 24 * 60 * 60);

fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_768_000_000)
}

/// A link of the contact, which the `number`th answer for it holds. The picture stays the same for the same
/// `version`.
fn link(chat: &str, version: u32, number: u32) -> Finding {
    let end = (wall() + LINK_LIFE).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    link_at("https://pps.whatsapp.net", chat, version, number, end)
}

fn link_at(origin: &str, chat: &str, version: u32, number: u32, end: u64) -> Finding {
    let name = format!("{chat}_{version}_1_n.jpg");
    let text = format!("{origin}/v/t61/{name}?oh=01_{number}&oe={end:X}");
    Finding::Picture(PictureLink::parse(&text, wall()).unwrap())
}

/// Whether a link is the `number`th of its contact.
fn is_number(link: &str, number: u32) -> bool {
    link.contains(&format!("oh=01_{number}&"))
}

fn jpeg() -> Image {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let pixels = DynamicImage::ImageRgb8(RgbImage::from_pixel(100, 100, Rgb([200, 10, 10])));
    pixels.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    Image { kind: Kind::Jpeg, bytes: bytes.into_inner() }
}

/// The answer to an attempt, and how long it takes. `None` panics.
type Reply = (Duration, Option<Result<Finding, LookupError>>);
/// The end of a download, and how long it takes. `None` panics.
type File = (Duration, Option<Result<Image, FetchError>>);

/// The reply to an attempt for a contact, by its number.
type Script = dyn Fn(&str, u32) -> Reply + Send + Sync;

/// Answers look-ups by a script, which gets the contact and the number of its attempt, from 1.
#[derive(Clone)]
struct Upstream {
    script: Arc<Script>,
    attempts: Arc<Mutex<HashMap<String, u32>>>,
    clock: Clock,
}

impl Service<Lookup> for Upstream {
    type Response = Answer;
    type Error = AttemptError;
    type Future = BoxFuture<'static, Result<Answer, AttemptError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AttemptError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, lookup: Lookup) -> Self::Future {
        let chat = lookup.key.chat.as_str().to_owned();
        let number = {
            let mut attempts = self.attempts.lock();
            let number = attempts.entry(chat.clone()).or_default();
            *number += 1;
            *number
        };
        let (this, (after, outcome)) = (self.clone(), (self.script)(&chat, number));
        Box::pin(async move {
            sleep(after).await;
            let finding = outcome.expect("this attempt panics on purpose").map_err(AttemptError::from)?;
            Ok(Answer { finding, fetched: this.clock.now(), took: after, cache: CacheInfo::FETCHED })
        })
    }
}

/// Downloads by a script, which gets the link.
#[derive(Clone)]
struct Cdn {
    script: Arc<dyn Fn(&str) -> File + Send + Sync>,
    links: Arc<Mutex<Vec<String>>>,
}

impl Download for Cdn {
    fn download(&self, link: String) -> BoxFuture<'static, Result<Image, FetchError>> {
        let (after, outcome) = (self.script)(&link);
        self.links.lock().push(link);
        Box::pin(async move {
            sleep(after).await;
            outcome.expect("this download panics on purpose")
        })
    }
}

/// The pictures above an upstream and a CDN.
struct Front<F> {
    pictures: Pictures<F>,
    upstream: Upstream,
    cdn: Cdn,
    metrics: Metrics,
    hasher: RandomState,
}

/// Without a rate limit.
fn front(
    upstream: impl Fn(&str, u32) -> Reply + Send + Sync + 'static,
    cdn: impl Fn(&str) -> File + Send + Sync + 'static,
) -> Front<impl LookupService> {
    front_with(RateSettings { per_second: 0.0, burst: 0 }, Mode::Bytes, upstream, cdn)
}

fn front_with(
    rate: RateSettings,
    mode: Mode,
    upstream: impl Fn(&str, u32) -> Reply + Send + Sync + 'static,
    cdn: impl Fn(&str) -> File + Send + Sync + 'static,
) -> Front<impl LookupService> {
    let cdn = Cdn { script: Arc::new(cdn), links: Arc::default() };
    let source = (mode == Mode::Bytes).then(|| Arc::new(cdn.clone()) as Arc<dyn Download>);
    Front { cdn, ..above(rate, source, upstream) }
}

/// The pictures with this source of downloads, and the upstream below them.
fn above(
    rate: RateSettings,
    source: Option<Arc<dyn Download>>,
    script: impl Fn(&str, u32) -> Reply + Send + Sync + 'static,
) -> Front<impl LookupService> {
    let clock = Clock::following_tokio(wall());
    let mut metrics = Metrics::new(&[]);
    let avatars = metrics.with_avatars();
    let upstream = Upstream { script: Arc::new(script), attempts: Arc::default(), clock };
    let settings = StackSettings { rate, ..StackSettings::default() };
    let (_, stack) = stack(settings, clock, &metrics.lookups, None, upstream.clone());
    let pictures = Pictures::from_source(&Settings::default(), stack, clock, source, avatars);
    let cdn = Cdn { script: Arc::new(refuse), links: Arc::default() };
    Front { pictures, upstream, cdn, metrics, hasher: RandomState::new() }
}

impl<F: LookupService> Front<F> {
    fn wanted(&self, chat: u64, size: Size) -> Wanted {
        Wanted {
            instance: Instance::parse("shop").unwrap(),
            credential: Credential::new("token".into(), &self.hasher),
            chat: ChatId::parse(&(15_550_000_000 + chat).to_string()).unwrap(),
            size,
        }
    }

    async fn show(&self, chat: u64) -> Shown {
        self.pictures.show(self.wanted(chat, Size::S96), &Seen::default()).await
    }

    /// Checks that the metrics have these lines.
    fn check_metrics(&self, lines: &[&str]) {
        let text = self.metrics.text(crate::telemetry::MetricsForm::Prometheus);
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "{line}: {text}");
        }
    }

    fn attempts(&self) -> u32 {
        self.upstream.attempts.lock().values().sum()
    }

    fn downloads(&self) -> usize {
        self.cdn.links.lock().len()
    }
}

/// A browser that has the image with this tag.
fn with(tag: &EntityTag) -> Seen {
    let mut headers = HeaderMap::new();
    headers.insert(IF_NONE_MATCH, tag.header().clone());
    Seen::of(&headers)
}

/// The tag of a picture that is not stale.
fn fresh_tag(shown: &Shown) -> EntityTag {
    match shown {
        Shown::Picture { tag, is_stale: false, .. } => tag.clone(),
        other => panic!("{other:?}"),
    }
}

/// What a request got, in one word.
fn word(shown: &Shown) -> &'static str {
    match shown {
        Shown::Picture { is_stale: false, .. } => "picture",
        Shown::Picture { is_stale: true, .. } => "stale",
        Shown::Unchanged { .. } => "unchanged",
        Shown::Link { .. } => "link",
        Shown::Absent { .. } => "absent",
        Shown::NotYet => "not yet",
        Shown::Failed(_) => "failed",
        Shown::NoImage => "no image",
    }
}

fn at_once(outcome: Result<Finding, LookupError>) -> Reply {
    (Duration::ZERO, Some(outcome))
}

fn image_at_once(_: &str) -> File {
    (Duration::ZERO, Some(Ok(jpeg())))
}

fn refuse(_: &str) -> File {
    (Duration::ZERO, Some(Err(FetchError::Status(403))))
}

fn unavailable() -> LookupError {
    LookupError::Unavailable { retry_after: None, again: crate::domain::Again::No }
}
