//! [`Many`]: the metrics of batches and streams.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// A method whose response has many results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManyMethod {
    /// `BatchGetProfilePictures`.
    Batch,
    /// `StreamProfilePictures`.
    Stream,
}

/// The kind of one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultKind {
    /// A picture with a link.
    Picture,
    /// The contact has no picture that the instance can see.
    NotAvailable,
    /// The caller has the picture already.
    Unchanged,
    /// An error.
    Failed,
}

impl ManyMethod {
    const ALL: [(Self, &'static str); 2] = [(Self::Batch, "batch"), (Self::Stream, "stream")];
}

impl ResultKind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Picture, "picture"),
        (Self::NotAvailable, "not_available"),
        (Self::Unchanged, "unchanged"),
        (Self::Failed, "failed"),
    ];
}

/// The results of batches and streams, and the streams in progress.
#[derive(Debug)]
pub struct Many {
    results: [[Counter; ResultKind::ALL.len()]; ManyMethod::ALL.len()],
    streams: Gauge,
    slow_readers: Counter,
}

impl Default for Many {
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

impl Many {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let results = Family::<[(&'static str, &'static str); 2], Counter>::default();
        registry.register(
            "hypersender_results",
            "Results of batches and streams by kind; a failed one has an error of its own",
            results.clone(),
        );
        let (streams, slow_readers) = (Gauge::default(), Counter::default());
        registry.register("hypersender_streams", "Streams in progress", streams.clone());
        registry.register(
            "hypersender_streams_slow_reader",
            "Streams that were reset because their client did not read for 5 minutes",
            slow_readers.clone(),
        );
        let counter = |method, kind| results.get_or_create_owned(&[("method", method), ("outcome", kind)]);
        let results =
            ManyMethod::ALL.map(|(_, method)| ResultKind::ALL.map(|(_, kind)| counter(method, kind)));
        Self { results, streams, slow_readers }
    }

    /// Counts a result.
    pub fn result(&self, method: ManyMethod, kind: ResultKind) {
        self.results[method as usize][kind as usize].inc();
    }

    /// Counts a stream that begins.
    pub fn stream_began(&self) {
        self.streams.inc();
    }

    /// Counts a stream that ends.
    pub fn stream_ended(&self) {
        self.streams.dec();
    }

    /// Counts a stream that is reset because its client does not read.
    pub fn slow_reader(&self) {
        self.slow_readers.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_and_each_kind_has_its_own_counter() {
        for (index, (method, _)) in ManyMethod::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index);
        }
        for (index, (kind, _)) in ResultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }
}
