//! [`LookupBatch`]: the look-ups of a batch, paced so that those which wait for a turn hold no flight.
//!
//! Each look-up starts once at once: it may be answered, join a flight, or take a turn that is free. One that
//! finds no turn waits here for a place, with which it may book a turn ahead (rule 37). The turns themselves
//! are taken further inside, by the rate limit, which also refuses.

mod stored;

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use futures_util::{
    StreamExt,
    future::{BoxFuture, Either},
    stream::FuturesUnordered,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use tower::Service;

use super::{Stack, ask::LookupService, claim::Claim, rate::Rates};
use crate::domain::{Answer, BatchTurns, Lookup, LookupError, Purpose, QueuePlace};

/// Maximum number of turns that a batch has booked and not yet begun (rule 37). Turns that are free at once,
/// such as those of the burst, are not booked.
const BOOKED_MAX: usize = 5;

/// The longest wait for a turn that is too far ahead for a flight. The turn may be nearer than it seems.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

type Found = Result<Answer, LookupError>;

/// The bounds that all batches of this process share, so that they leave room to other calls.
#[derive(Debug)]
pub struct Bounds {
    flights: Arc<Semaphore>,
    rates: Rates,
}

impl Bounds {
    /// Batches get half of the `flights` of the process, and never less than 1 (rule 37).
    pub fn new(flights: usize, rates: Rates) -> Self {
        let half = (flights / 2).clamp(1, Semaphore::MAX_PERMITS);
        Self { flights: Arc::new(Semaphore::new(half)), rates }
    }
}

/// A batch that is answered from memory as far as possible.
pub struct LookupBatch<F> {
    found: Vec<Option<Found>>,
    /// The other look-ups, with the stack that they need; `None` when there are none.
    rest: Option<(Stack<F>, VecDeque<Pending>)>,
}

/// A look-up that is not answered yet.
#[derive(Debug)]
struct Pending {
    /// Its index in the batch.
    contact: usize,
    lookup: Lookup,
    /// Whether it has started with a place.
    had_place: bool,
}

impl<F: LookupService> LookupBatch<F> {
    pub(super) fn begin(stack: &Stack<F>, lookups: impl Iterator<Item = Lookup>) -> Self {
        let mut missed = VecDeque::new();
        let found = lookups.enumerate().map(|(contact, lookup)| {
            let lookup = Lookup { own_purpose: Purpose::Batch, ..lookup };
            match stack.serve.recall(lookup) {
                Either::Left(found) => Some(found),
                Either::Right((lookup, _)) => {
                    missed.push_back(Pending { contact, lookup, had_place: false });
                    None
                }
            }
        });
        let found = found.collect();
        Self { found, rest: (!missed.is_empty()).then(|| (stack.clone(), missed)) }
    }

    /// Whether memory had every answer.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.rest.is_none()
    }

    /// Looks up what memory did not have, in the shared store first (rule 36). Returns a result for each
    /// look-up, in their order. It ends shortly after the deadline of the look-ups at the latest. When it is
    /// dropped, no further look-up starts.
    pub async fn finish(mut self) -> Vec<Found> {
        if let Some((stack, mut missed)) = self.rest.take() {
            stored::read(&stack.serve, &mut missed, &mut self.found).await;
            if let Some(first) = missed.front().map(|first| first.lookup.clone()) {
                Run::new(stack, &first, missed, &mut self.found).await_all().await;
            }
        }
        self.results()
    }

    /// The results, in the order of the look-ups. One that memory did not have is an internal error.
    #[must_use]
    pub fn results(self) -> Vec<Found> {
        self.found.into_iter().map(|found| found.unwrap_or(Err(LookupError::Internal))).collect()
    }
}

impl<F> fmt::Debug for LookupBatch<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupBatch").field("contacts", &self.found.len()).finish_non_exhaustive()
    }
}

/// The look-ups that need more than memory.
struct Run<'a, F> {
    stack: Stack<F>,
    found: &'a mut [Option<Found>],
    /// The look-ups that have not started.
    unstarted: VecDeque<Pending>,
    /// The look-ups that found no turn and start again with a place.
    queue: VecDeque<Pending>,
    in_progress: FuturesUnordered<BoxFuture<'static, (Pending, Found)>>,
    turns: BatchTurns,
    /// The places of the batch, and those of all batches of its instance. A place is one of each.
    own_places: Arc<Semaphore>,
    places: Arc<Semaphore>,
    own_place: Claim,
    place: Claim,
    flight: Claim,
    /// The end of the wait until a flight can reach the next turn.
    out_of_reach_until: Option<Instant>,
    /// The instant after which no look-up waits for a place, because no attempt could end in time.
    latest_start: Instant,
    end: Instant,
}

impl<'a, F: LookupService> Run<'a, F> {
    /// `first` stands for all of them: they have one instance and one deadline.
    fn new(
        stack: Stack<F>,
        first: &Lookup,
        missed: VecDeque<Pending>,
        found: &'a mut [Option<Found>],
    ) -> Self {
        let end = first.deadline.latest().unwrap_or_else(Instant::now);
        let latest_start = first.deadline.latest_start();
        let places = stack.batches.rates.bookings(&first.key.scope.instance);
        Self {
            stack,
            found,
            unstarted: missed,
            queue: VecDeque::new(),
            in_progress: FuturesUnordered::new(),
            turns: BatchTurns::new(latest_start),
            own_places: Arc::new(Semaphore::new(BOOKED_MAX)),
            places,
            own_place: Claim::None,
            place: Claim::None,
            flight: Claim::None,
            out_of_reach_until: None,
            latest_start: latest_start.unwrap_or(end),
            end,
        }
    }

    async fn await_all(mut self) {
        loop {
            let now = Instant::now();
            if now >= self.end {
                self.give_up();
            }
            while self.start_next(now) {}
            let waits = !(self.unstarted.is_empty() && self.queue.is_empty());
            if !waits && self.in_progress.is_empty() {
                return;
            }
            let until = self.look_again(now);
            tokio::select! {
                biased;
                Some((pending, found)) = self.in_progress.next() => self.settle(pending, found),
                () = self.own_place.granted() => {}
                () = self.place.granted() => {}
                () = self.flight.granted() => {}
                () = sleep_until(until), if waits => {}
            }
        }
    }

    /// Starts a look-up. Returns whether there was one that could start.
    fn start_next(&mut self, now: Instant) -> bool {
        if !self.unstarted.is_empty() {
            return self.has_flight()
                && self.unstarted.pop_front().is_some_and(|next| self.start(next, None));
        }
        if self.queue.is_empty() || self.out_of_reach_until.is_some_and(|until| until > now) {
            self.leave();
            return false;
        }
        // After the latest start the rate limit refuses the look-up, whether it has a place or not.
        if now < self.latest_start && !self.has_place() || !self.has_flight() {
            return false;
        }
        let permits = [&mut self.own_place, &mut self.place].map(Claim::take);
        let place = QueuePlace::of(permits.into_iter().flatten().collect());
        self.queue.pop_front().is_some_and(|next| self.start(next, Some(place)))
    }

    /// Claims a place. Returns whether the batch has it. Its own is claimed first, so that a batch which
    /// waits for one of its own holds none of the others.
    fn has_place(&mut self) -> bool {
        self.own_place.is_held(&self.own_places) && self.place.is_held(&self.places)
    }

    /// Claims one of the flights. It is claimed last, so that a batch which waits for a place holds none.
    fn has_flight(&mut self) -> bool {
        self.flight.is_held(&self.stack.batches.flights)
    }

    /// Gives up every claim, except what look-ups in progress have.
    fn leave(&mut self) {
        (self.own_place, self.place, self.flight) = (Claim::None, Claim::None, Claim::None);
    }

    /// Starts a look-up, unless memory has its answer by now. Returns true.
    fn start(&mut self, mut pending: Pending, place: Option<QueuePlace>) -> bool {
        pending.had_place = place.is_some();
        let batch = Some(self.turns.clone());
        match self.stack.serve.call(Lookup { batch, place, ..pending.lookup.clone() }) {
            Either::Left(found) => self.found[pending.contact] = Some(found.into_inner()),
            Either::Right(fetch) => {
                let flight = self.flight.take();
                self.in_progress.push(Box::pin(async move {
                    let found = fetch.await;
                    drop(flight);
                    (pending, found)
                }));
            }
        }
        true
    }

    /// Notes the end of a look-up, which waits for a turn or has its result.
    fn settle(&mut self, pending: Pending, found: Found) {
        match found {
            Err(LookupError::NoTurnYet { wait }) if pending.had_place => {
                self.queue.push_front(pending);
                self.out_of_reach_until = Some(Instant::now() + wait.min(LOOK_AGAIN));
            }
            Err(LookupError::NoTurnYet { .. }) => self.queue.push_back(pending),
            found => self.found[pending.contact] = Some(found),
        }
    }

    /// Ends the look-ups that could not start before the deadline, because other batches have all flights.
    fn give_up(&mut self) {
        for Pending { contact, lookup, .. } in self.unstarted.drain(..).chain(self.queue.drain(..)) {
            self.found[contact] = Some(self.stack.serve.give_up(LookupError::Overloaded, &lookup));
        }
        self.leave();
    }

    /// The instant at which something changes without an event.
    fn look_again(&self, now: Instant) -> Instant {
        let instants = [self.out_of_reach_until, Some(self.latest_start), Some(self.end)];
        instants.into_iter().flatten().filter(|until| *until > now).min().unwrap_or(self.end)
    }
}
