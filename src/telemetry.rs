//! Logs, [`Metrics`] and [`Traces`].
//!
//! Tokens, phone numbers, chat ids and links never reach a log line. A line names a key by its [`KeyName`].
//! The lines of libraries below INFO hold headers and URLs, and no setting enables them.

mod codes;
mod metrics;
mod outcome;
mod traces;

use std::{
    error::Error,
    fmt,
    hash::{BuildHasher, RandomState},
    io::{self, IsTerminal},
    iter::successors,
    sync::LazyLock,
};

use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, filter_fn},
    fmt::{MakeWriter, layer},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub use self::codes::code_of;
pub use self::metrics::{
    Attempt, AvatarOutcome, Avatars as AvatarMetrics, Call as CallInProgress, Calls as CallMetrics,
    DownloadOutcome, End as EndTime, Form as MetricsForm, Kind as MethodKind, LeaseResult,
    Lookups as LookupMetrics, Many as ManyMetrics, ManyMethod, Method, Metrics, Operation as StoreOperation,
    Phase as BreakerPhase, Received as ReceivedMessages, ResultKind, Store as StoreMetrics, StoreOutcome,
    StoredAnswer,
};
pub use self::traces::{
    AttemptSpan, BatchSettings as TraceBatchSettings, CallLink, CallSpan, Protocol as TraceProtocol,
    Settings as TraceSettings, Traces, in_this_call, trace_answer,
};
use crate::domain::Key;

/// How logs are written.
#[derive(Debug)]
pub struct Settings {
    /// The shape of a line; `None` means text on a terminal and JSON elsewhere.
    pub format: Option<Format>,
    /// The lines that are logged, in the directives of tracing's `EnvFilter`.
    pub filter: EnvFilter,
}

impl Default for Settings {
    fn default() -> Self {
        Self { format: None, filter: EnvFilter::new("info") }
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One flat JSON object per line.
    Json,
}

/// Starts logging to standard error, with colours if `colour` is true. Standard output stays free for
/// answers. Only the first call has an effect.
pub fn start(settings: Settings, colour: bool) {
    let terminal = io::stderr().is_terminal();
    let format = settings.format.unwrap_or(if terminal { Format::Text } else { Format::Json });
    start_with(format, settings.filter, colour, io::stderr);
}

fn start_with<W>(format: Format, filter: EnvFilter, ansi: bool, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter.and(filter_fn(may_be_logged).with_max_level_hint(LevelFilter::TRACE));
    let lines = layer().with_ansi(ansi).with_writer(writer);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        Format::Text => lines.with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    // A second call leaves the subscriber of the first one in place.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

/// Whether a line may be logged at all, independently of the filter. Only the content of our own lines is
/// known: h2, for example, repeats a caller's malformed path at DEBUG.
fn may_be_logged(line: &Metadata<'_>) -> bool {
    let is_own = line.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
    is_own || *line.level() <= Level::INFO
}

/// An error and the errors that caused it.
pub fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

/// An error and its causes in one line. The text of many errors leaves out the cause.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    sources(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The name of a key in a log line: a keyed hash of 8 digits, which differs in each process. It is enough to
/// follow one contact through the lines of one process, and it does not reveal the number.
#[derive(Clone, Copy, Debug)]
pub struct KeyName(u32);

impl From<&Key> for KeyName {
    fn from(key: &Key) -> Self {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let hash = HASHER.hash_one(key);
        Self(u32::try_from(hash >> 32).expect("32 bits are left of 64"))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}
