//! The look-up for an image in a browser, paced so that it takes only turns that no other call needs.
//!
//! Like a stream, it waits outside the flight, and looks into memory again before it starts. Unlike a stream,
//! it comes first among those that take spare turns, does not wait for the end of an obstacle such as a
//! cool-down, and ends when no turn comes in time: a page shows another image then.

use std::{future::ready, time::Duration};

use futures_util::{FutureExt, future::Either};
use tokio::{
    select,
    time::{Instant, sleep_until},
};
use tower::Service;

use super::{Stack, ask::LookupService, cache::ServeFuture, rate::Spare, stream::Claims};
use crate::domain::{Answer, Lookup, LookupError, Purpose};

/// The longest time without a look at memory, at the flights and at the obstacles.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The shortest wait after a turn that was gone. The longest is [`LOOK_AGAIN`].
const GONE_WAIT_MIN: Duration = Duration::from_millis(1);

type Found = Result<Answer, LookupError>;

/// See [`Stack::avatar`].
pub fn look_up<F: LookupService>(stack: &Stack<F>, lookup: Lookup) -> ServeFuture {
    let lookup = Lookup { own_purpose: Purpose::Avatar, batch: None, place: None, ..lookup };
    match stack.serve.recall(lookup) {
        Either::Left(found) => Either::Left(ready(found)),
        Either::Right((lookup, _)) => {
            let stack = stack.clone();
            Either::Right(Box::pin(find(stack, lookup)))
        }
    }
}

/// Looks up what memory did not have: in a flight in progress, in the store, and then from Hypersender.
async fn find<F: LookupService>(stack: Stack<F>, lookup: Lookup) -> Found {
    let instance = &lookup.key.scope.instance;
    let queue = match stack.pace.obstacles.rates.avatars(instance) {
        Ok(queue) => queue,
        Err(error) => return stack.serve.give_up(error, &lookup),
    };
    let claims = stack.pace.lanes.claims_of_avatar(instance, queue);
    let mut avatar = Avatar { stack, lookup, claims, gone_until: None };
    if avatar.stack.serve.has_store() {
        if let Some(found) = avatar.in_progress().await {
            return found;
        }
        if let Some(found) = avatar.stored().await {
            return found;
        }
    }
    avatar.in_turn().await
}

/// A look-up that waits for its turn.
struct Avatar<F> {
    stack: Stack<F>,
    lookup: Lookup,
    claims: Claims,
    /// The end of the wait after a turn that was gone. Usually the next spare turn says the same. Otherwise,
    /// without this wait, the look-up would start again and again.
    gone_until: Option<Instant>,
}

impl<F: LookupService> Avatar<F> {
    /// The result of memory, or of a flight in progress; `None` when there is neither. A flight needs no
    /// turn, so the place in the queue is left.
    async fn in_progress(&mut self) -> Option<Found> {
        let joining = Lookup { joins_only: true, ..self.lookup.clone() };
        let mut joined = match self.stack.serve.call(joining) {
            Either::Left(found) => return Some(found.into_inner()),
            Either::Right(joined) => joined,
        };
        // It is ready at once when there is no flight.
        let found = if let Some(found) = (&mut joined).now_or_never() {
            found
        } else {
            self.claims.leave();
            joined.await
        };
        Some(found).filter(|found| !matches!(found, Err(LookupError::NoTurnYet { .. })))
    }

    /// The answer of the store, which is read once, before any turn is waited for. A store that does not
    /// answer costs the look-up one time-out.
    async fn stored(&mut self) -> Option<Found> {
        let deadline = self.lookup.deadline.latest().unwrap_or_else(Instant::now);
        let read = self.stack.serve.recall_group(std::slice::from_ref(&self.lookup), deadline).await;
        self.lookup.without_store = read.is_err();
        read.ok()?.into_iter().next().flatten()
    }

    /// Waits for a turn, and asks Hypersender.
    async fn in_turn(mut self) -> Found {
        loop {
            if let Some(found) = self.in_progress().await {
                return found;
            }
            let now = Instant::now();
            if let Some(error) = self.refusal(now) {
                self.claims.leave();
                return self.stack.serve.give_up(error, &self.lookup);
            }
            let Some(until) = self.wait_for_turn(now) else {
                match self.start().await {
                    Err(LookupError::NoTurnYet { wait }) => {
                        self.gone_until = Some(Instant::now() + wait.clamp(GONE_WAIT_MIN, LOOK_AGAIN));
                        continue;
                    }
                    found => return found,
                }
            };
            select! {
                biased;
                () = self.claims.granted() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// The reason for which Hypersender cannot be asked for this contact now, or cannot be asked in time.
    fn refusal(&mut self, now: Instant) -> Option<LookupError> {
        let Lookup { key, deadline, .. } = &self.lookup;
        let obstacles = &self.stack.pace.obstacles;
        if let Some(obstacle) = obstacles.of(&key.scope, now).or_else(|| obstacles.of_key(key, now)) {
            return Some(obstacle.error);
        }
        let turn = self.spare(now).at;
        let latest = deadline.latest_start().filter(|latest| *latest > now);
        if latest.is_some_and(|latest| turn <= latest) {
            return None;
        }
        // Permits are claimed when there is a turn.
        if turn <= now && self.claims.is_first() {
            return Some(LookupError::DeadlineExceeded);
        }
        // The turn of the first look-up in the queue, or the one after it.
        let next = if turn > now { turn } else { obstacles.spare(&key.scope, now).at };
        Some(LookupError::RateLimited { wait: next.saturating_duration_since(now) })
    }

    /// Waits for the first place in the queue, a spare turn and a permit of each kind; `None` when the
    /// look-up has all of them. Otherwise the instant to look again.
    fn wait_for_turn(&mut self, now: Instant) -> Option<Instant> {
        let end = self.lookup.deadline.latest_start().unwrap_or(now);
        let look_again = end.min(now + LOOK_AGAIN);
        if !self.claims.is_first() {
            return Some(look_again);
        }
        let gone_until = self.gone_until.unwrap_or(now);
        let turn = self.spare(now).at.max(gone_until);
        if turn > now {
            self.claims.leave_permits();
            return Some(turn.min(look_again));
        }
        (!self.claims.has_permits()).then_some(look_again)
    }

    /// Starts the look-up, unless memory has its answer by now. The permits are held until it ends. The place
    /// stays held when the turn was gone.
    async fn start(&mut self) -> Found {
        let found = self.stack.serve.call(Lookup { place: self.claims.place(), ..self.lookup.clone() }).await;
        self.claims.leave_permits();
        found
    }

    fn spare(&self, now: Instant) -> Spare {
        self.stack.pace.obstacles.rates.spare_of_avatar(&self.lookup.key.scope.instance, now)
    }
}
