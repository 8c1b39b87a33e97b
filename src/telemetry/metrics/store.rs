//! [`Store`]: the metrics of the shared store. A process without a store does not export them.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{counters, histogram};

/// In seconds. An operation has 0.1 s unless it is configured otherwise.
const BOUNDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// An operation of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads what is known of a contact, and takes the lease of its fetch.
    Read,
    /// Reads the answers of a group of contacts.
    ReadGroup,
    /// Writes an answer.
    Write,
    /// Writes a cool-down.
    Fail,
    /// Renews a lease.
    Renew,
    /// Releases a lease.
    Release,
    /// Writes that a token was rejected.
    Reject,
    /// Reads whether tokens were rejected.
    Scopes,
    /// Finds out whether the store answers.
    Probe,
    /// Takes a turn of the rate limit.
    Turn,
    /// Gives a turn back.
    GiveBack,
    /// Begins the pause of an instance after a 429.
    PushBack,
    /// Sends a message to the other replicas.
    Publish,
    /// Receives a message of another replica.
    Receive,
}

/// The end of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOutcome {
    /// It was done.
    Ok,
    /// The store refused it, or could not be reached.
    Failed,
    /// The store did not reply in time.
    TimedOut,
    /// A message could not be read.
    Unreadable,
}

/// What a read found of the answer for a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredAnswer {
    /// A fresh answer.
    Hit,
    /// An answer after the end of its lifetime.
    Stale,
    /// None that counts.
    Miss,
    /// One that this process cannot read.
    Unreadable,
}

/// What came of the wish for the lease of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseResult {
    /// This process fetches.
    Taken,
    /// Another replica fetches, and this process waits for its answer.
    Waited,
    /// This process waited, and fetches now, because the other replica ended without an answer.
    TakenOver,
}

impl Operation {
    /// The number of operations.
    pub const COUNT: usize = Self::ALL.len();

    const ALL: [(Self, &'static str); 14] = [
        (Self::Read, "read"),
        (Self::ReadGroup, "read_group"),
        (Self::Write, "write"),
        (Self::Fail, "fail"),
        (Self::Renew, "renew"),
        (Self::Release, "release"),
        (Self::Reject, "reject"),
        (Self::Scopes, "scopes"),
        (Self::Probe, "probe"),
        (Self::Turn, "turn"),
        (Self::GiveBack, "give_back"),
        (Self::PushBack, "push_back"),
        (Self::Publish, "publish"),
        (Self::Receive, "receive"),
    ];
}

impl StoreOutcome {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Ok, "ok"),
        (Self::Failed, "failed"),
        (Self::TimedOut, "timed_out"),
        (Self::Unreadable, "unreadable"),
    ];
}

/// The handles of the store. Those of [`Store::default`] are not exported.
#[derive(Debug)]
pub struct Store {
    operations: [[Counter; StoreOutcome::ALL.len()]; Operation::ALL.len()],
    seconds: Histogram,
    attached: Gauge,
    answers: [Counter; 4],
    leases: [Counter; 3],
    clock_offset: Gauge<f64, AtomicU64>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

impl Store {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let operations = Family::<[(&'static str, &'static str); 2], Counter>::default();
        registry.register(
            "hypersender_store_operations",
            "Operations of the shared store by outcome; none are tried while the store is away, but \
             for probes",
            operations.clone(),
        );
        let counter = |operation, outcome| {
            operations.get_or_create_owned(&[("operation", operation), ("outcome", outcome)])
        };
        let operations = Operation::ALL
            .map(|(_, operation)| StoreOutcome::ALL.map(|(_, outcome)| counter(operation, outcome)));
        let seconds = histogram(BOUNDS);
        registry.register(
            "hypersender_store_operation_seconds",
            "Time of the operations of the shared store, those that failed included",
            seconds.clone(),
        );
        let (attached, clock_offset) = (Gauge::default(), Gauge::default());
        registry.register(
            "hypersender_store_attached",
            "1 while the shared store answers, 0 while the process goes on without it",
            attached.clone(),
        );
        registry.register(
            "hypersender_store_clock_offset_seconds",
            "How far the clock of the shared store is ahead of this machine's",
            clock_offset.clone(),
        );
        let answers = (
            "hypersender_store_answers",
            "Answers looked for in the shared store: fresh, stale, none, or one that cannot be read; an answer \
             that the look-up knew already is not counted",
        );
        let leases = (
            "hypersender_leases",
            "Leases of fetches: taken, waited for while another replica fetches, and taken over from one that \
             ended without an answer",
        );
        Self {
            operations,
            seconds,
            attached,
            answers: counters(registry, answers, "result", ["hit", "stale", "miss", "unreadable"]),
            leases: counters(registry, leases, "result", ["taken", "waited", "taken_over"]),
            clock_offset,
        }
    }

    /// Counts an operation that took `time`.
    pub fn operation(&self, operation: Operation, outcome: StoreOutcome, time: Duration) {
        self.operations[operation as usize][outcome as usize].inc();
        self.seconds.observe(time.as_secs_f64());
    }

    /// Counts a message of another replica. Messages take no time to wait for.
    pub fn received(&self, outcome: StoreOutcome) {
        self.operations[Operation::Receive as usize][outcome as usize].inc();
    }

    /// Notes whether the store answers.
    pub fn attached(&self, is_attached: bool) {
        self.attached.set(is_attached.into());
    }

    /// Counts an answer that was looked for.
    pub fn answer(&self, found: StoredAnswer) {
        self.answers[found as usize].inc();
    }

    /// Counts a wish for a lease.
    pub fn lease(&self, result: LeaseResult) {
        self.leases[result as usize].inc();
    }

    /// Notes how far the clock of the store is ahead, in seconds.
    pub fn clock_offset(&self, seconds: f64) {
        self.clock_offset.set(seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_and_each_outcome_has_its_own_counter() {
        for (index, (operation, _)) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index);
        }
        for (index, (outcome, _)) in StoreOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }
}
