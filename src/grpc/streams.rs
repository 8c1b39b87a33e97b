//! [`Streams`]: how many streams may be in progress, and the end of all of them when the server stops.
//! [`OwnPace`]: the mark of a response whose stream watches its own reader.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::{
    domain::{Caller, Instance, StreamLimit},
    telemetry::ManyMetrics,
};

/// Maximum number of streams in progress of a caller that the callers file names.
const CALLER_STREAMS_MAX: usize = 4;

/// How many streams may be in progress.
#[derive(Clone, Copy, Debug)]
pub struct StreamSettings {
    /// Over all instances.
    pub all: usize,
    /// For one instance.
    pub per_instance: usize,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self { all: 256, per_instance: 16 }
    }
}

/// The streams of the server. Clones share them.
#[derive(Clone, Debug)]
pub struct Streams(Arc<State>);

#[derive(Debug)]
struct State {
    settings: StreamSettings,
    counts: Mutex<Counts>,
    stopping: watch::Sender<bool>,
    metrics: Arc<ManyMetrics>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_instance: HashMap<Instance, usize>,
    by_caller: HashMap<Arc<str>, usize>,
}

impl Streams {
    /// No stream is in progress.
    #[must_use]
    pub fn new(settings: StreamSettings, metrics: Arc<ManyMetrics>) -> Self {
        let (counts, stopping) = (Mutex::default(), watch::Sender::new(false));
        Self(Arc::new(State { settings, counts, stopping, metrics }))
    }

    /// Ends every stream, now and later: none starts a further look-up.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
    }

    /// A receiver whose value becomes `true` when the streams must end.
    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.0.stopping.subscribe()
    }

    /// Counts a stream of `caller` for `instance`, until the permit is dropped.
    ///
    /// # Errors
    ///
    /// The limit that is reached.
    pub(super) fn begin(&self, instance: &Instance, caller: &Caller) -> Result<StreamPermit, StreamLimit> {
        let StreamSettings { all, per_instance } = self.0.settings;
        let caller = caller.name().map(Arc::from);
        let counts = &mut *self.0.counts.lock();
        if counts.all >= all {
            return Err(StreamLimit::Server);
        }
        if counts.by_instance.get(instance).is_some_and(|count| *count >= per_instance) {
            return Err(StreamLimit::Instance);
        }
        let of_caller = |caller: &Arc<str>| counts.by_caller.get(caller).copied().unwrap_or_default();
        if caller.as_ref().is_some_and(|caller| of_caller(caller) >= CALLER_STREAMS_MAX) {
            return Err(StreamLimit::Caller);
        }
        counts.all += 1;
        *counts.by_instance.entry(instance.clone()).or_default() += 1;
        if let Some(caller) = &caller {
            *counts.by_caller.entry(caller.clone()).or_default() += 1;
        }
        self.0.metrics.stream_began();
        Ok(StreamPermit { streams: self.clone(), instance: instance.clone(), caller })
    }
}

/// A stream that counts as in progress.
#[derive(Debug)]
pub struct StreamPermit {
    streams: Streams,
    instance: Instance,
    caller: Option<Arc<str>>,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let state = &*self.streams.0;
        let counts = &mut *state.counts.lock();
        counts.all -= 1;
        release(&mut counts.by_instance, &self.instance);
        if let Some(caller) = &self.caller {
            release(&mut counts.by_caller, caller);
        }
        state.metrics.stream_ended();
    }
}

/// Subtracts one, and forgets a name whose count is zero.
fn release<K: Eq + Hash>(counts: &mut HashMap<K, usize>, name: &K) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

/// The mark of a response whose stream watches its own reader, in the extensions of the response. The server
/// does not count the chunks of such a response as waiting, and resets the HTTP/2 stream when `reset` is
/// notified.
#[derive(Clone, Debug, Default)]
pub struct OwnPace {
    /// Notified once, when the reader has not opened its window for too long.
    pub reset: Arc<Notify>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Allowed;

    #[test]
    fn each_limit_counts_the_streams_in_progress() {
        let streams = Streams::new(StreamSettings { all: 6, per_instance: 5 }, Arc::default());
        let [one, other] = ["one", "other"].map(|name| Instance::parse(name).unwrap());
        let named = Caller::new("app", Allowed::All);
        let mut open: Vec<_> = (0..4).map(|_| streams.begin(&one, &named).unwrap()).collect();
        assert_eq!(streams.begin(&one, &named).err(), Some(StreamLimit::Caller));
        open.push(streams.begin(&one, &Caller::ANYONE).unwrap());
        assert_eq!(streams.begin(&one, &Caller::ANYONE).err(), Some(StreamLimit::Instance));
        open.push(streams.begin(&other, &Caller::ANYONE).unwrap());
        assert_eq!(streams.begin(&other, &Caller::ANYONE).err(), Some(StreamLimit::Server));
        open.remove(0);
        assert!(streams.begin(&other, &named).is_ok(), "a stream that ends makes room");
        open.clear();
        let counts = streams.0.counts.lock();
        assert_eq!(counts.all, 0);
        assert!(counts.by_instance.is_empty() && counts.by_caller.is_empty(), "no name is kept");
    }
}
