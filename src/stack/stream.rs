//! [`LookupStream`]: the look-ups of many contacts of one instance, paced so that they take only the turns
//! that no other call needs.
//!
//! A flight lives for seconds, and a contact of a stream may wait for minutes. So the contacts wait here, and
//! a look-up starts only when Hypersender can be asked at once. The turn itself is taken further inside, by
//! the rate limit.

mod contacts;
mod ending;
mod lane;
mod obstacle;
mod pace;
mod queue;
mod stored;
#[cfg(test)]
mod tests;

use std::{fmt, panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt, future::Either};
use tokio::{
    task::{JoinSet, yield_now},
    time::{Instant, sleep_until, timeout_at},
};
use tower::Service;

pub use self::{
    contacts::{Contacts, Forecast, Found},
    lane::{Claims, Lanes},
    obstacle::Obstacles,
    pace::Pace,
};
use self::{
    ending::Ending,
    obstacle::Obstacle,
    queue::{Pending, Queue},
    stored::Reading,
};
use super::{Stack, ask::LookupService};
use crate::{
    domain::{Answer, Deadline, Key, Lookup, LookupError, Purpose, QueuePlace, Scope},
    telemetry::in_this_call,
};

/// The most look-ups of a stream in progress, on the wire or joined to a flight (rule 41). More would not be
/// faster, and each takes some kilobytes.
const IN_PROGRESS_MAX: usize = 64;
/// The number of contacts after which a stream lets other tasks run.
const YIELD_AFTER: usize = 256;
/// The wait after a refusal because this server is at a limit.
const OVERLOADED_WAIT: Duration = Duration::from_secs(1);
/// The shortest wait after another refusal. The longest is [`LOOK_AGAIN`].
const REFUSED_WAIT_MIN: Duration = Duration::from_millis(1);
/// The longest time without a look at the obstacles. They may begin and end earlier than they say.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The look-ups of a stream. They go on only while [`LookupStream::next`] is polled.
pub struct LookupStream<F> {
    stack: Stack<F>,
    contacts: Contacts,
    scope: Scope,
    /// The number of contacts that were looked for in memory.
    scanned: usize,
    /// The number of contacts looked at since other tasks could run.
    looked_at: usize,
    reading: Reading,
    queue: Queue,
    claims: Claims,
    /// The look-ups in progress. Each runs in a task of its own, so that it gives back its permits when it
    /// ends, even while the stream is not polled.
    in_progress: JoinSet<(Pending, Result<Answer, LookupError>)>,
    /// The end of the wait after a refusal because this server is at a limit.
    overloaded_until: Option<Instant>,
    /// The end of the wait after another refusal. Usually the states that a stream reads say the same.
    /// Otherwise, without this wait, a refused stream would ask again and again.
    refused_until: Option<Instant>,
    /// Whether no further look-up starts.
    is_stopped: bool,
}

/// The next thing that a stream does.
enum Step {
    Return(Option<Result<Found, LookupError>>),
    /// Look for the next step at once.
    Again,
    /// Let other tasks run first.
    Yield,
    /// Wait for the group that is read from the store, or until this instant.
    Read(Instant),
    /// Wait for a claim, for a look-up in progress, or until this instant.
    Wait(Instant),
}

impl<F: LookupService> LookupStream<F> {
    pub(super) fn new(stack: Stack<F>, contacts: Contacts) -> Self {
        let claims = stack.pace.lanes.claims(&contacts.instance);
        let scope = Scope { instance: contacts.instance.clone(), credential: contacts.credential.id() };
        Self {
            stack,
            contacts,
            scope,
            scanned: 0,
            looked_at: 0,
            reading: Reading::default(),
            queue: Queue::default(),
            claims,
            in_progress: JoinSet::new(),
            overloaded_until: None,
            refused_until: None,
            is_stopped: false,
        }
    }

    /// The next result; `None` after the last one. If it is dropped before it resolves, no result is lost.
    ///
    /// # Errors
    ///
    /// An error that concerns every contact: a rejected token, an instance that is not connected, or
    /// [`LookupError::DeadlineExceeded`] at [`Contacts::deadline`]. It ends the stream.
    pub async fn next(&mut self) -> Option<Result<Found, LookupError>> {
        loop {
            let ended = match self.step() {
                Step::Return(result) => return result,
                Step::Again => None,
                Step::Yield => {
                    self.looked_at = 0;
                    yield_now().await;
                    None
                }
                Step::Read(until) => {
                    if let Ok(missed) = timeout_at(until, self.reading.ended()).await {
                        self.queue_missed(missed);
                    }
                    None
                }
                Step::Wait(until) => {
                    let (in_progress, claims) = (&mut self.in_progress, &mut self.claims);
                    tokio::select! {
                        biased;
                        // It is an error only when the runtime stops.
                        Some(ended) = in_progress.join_next() => ended.ok(),
                        () = claims.granted() => None,
                        () = sleep_until(until) => None,
                    }
                }
            };
            if let Some(result) = ended.and_then(|(pending, result)| self.settle(pending, result)) {
                return Some(result);
            }
        }
    }

    /// Gives up the place in the queue for spare turns, if the stream has one. Call this before a time in
    /// which [`LookupStream::next`] is not polled, so that other streams do not wait for this one.
    pub fn leave_queue(&mut self) {
        self.claims.leave();
    }

    /// Starts no further look-up. The results of those in progress still come.
    pub fn stop(&mut self) {
        self.is_stopped = true;
        self.reading.clear();
        self.queue.clear();
        self.leave_queue();
    }

    /// When Hypersender is asked next, as far as it is known now.
    #[must_use]
    pub fn forecast(&self) -> Forecast {
        let (obstacles, now) = (&self.stack.pace.obstacles, Instant::now());
        let next_turn = self.queue.ready_at(now).map(|ready_at| {
            let turn = obstacles.spare(&self.scope, now).at.max(ready_at);
            self.obstacle(now).map_or(turn, |obstacle| obstacle.until.max(turn))
        });
        Forecast { next_turn, paused_until: obstacles.paused_until(&self.scope, now) }
    }

    fn step(&mut self) -> Step {
        let now = Instant::now();
        if !self.is_stopped
            && let Some(step) = self.look_in_memory().or_else(|| self.read_store(now))
        {
            return step;
        }
        if self.queue.is_empty() || self.in_progress.len() >= IN_PROGRESS_MAX {
            self.claims.leave();
            let is_over = self.queue.is_empty() && self.in_progress.is_empty();
            return if is_over { Step::Return(None) } else { self.wait(now, self.contacts.deadline) };
        }
        if self.contacts.deadline <= now {
            return Step::Return(Some(self.end(LookupError::DeadlineExceeded)));
        }
        if !self.has_time(now) {
            return self.wait(now, self.contacts.deadline);
        }
        if let Some(obstacle) = self.obstacle(now) {
            self.claims.leave();
            return self.wait_out(obstacle, now);
        }
        self.queue.end_obstacle();
        if let Some(until) = self.refused_until.filter(|until| *until > now) {
            self.claims.leave();
            return self.wait(now, until);
        }
        self.find_ready(now).or_else(|| self.wait_for_turn(now)).unwrap_or_else(|| self.start())
    }

    /// Serves the contacts that have a usable answer, then waits for the end of `obstacle` (rule 40).
    fn wait_out(&mut self, obstacle: Obstacle, now: Instant) -> Step {
        let Obstacle { error, until } = obstacle;
        while !self.is_tired() {
            let Some(pending) = self.queue.pop_unswept() else {
                // Another call for the same instance and token has met an error that ends a stream.
                return match Ending::of(&error, true) {
                    Ending::EndsStream => Step::Return(Some(self.end(error))),
                    Ending::Result
                    | Ending::NoTurn
                    | Ending::Refused
                    | Ending::Overloaded
                    | Ending::CoolsDown
                    | Ending::Failed => self.wait(now, until),
                };
            };
            match self.stack.serve.call(self.lookup(&pending, None)) {
                Either::Left(ready) => return found(&pending, ready.into_inner()),
                Either::Right(_) => {}
            }
            match self.stored(&pending, error.clone()) {
                Ok(answer) => return found(&pending, Ok(answer)),
                Err(_) => self.queue.push_back(pending),
            }
        }
        Step::Yield
    }

    /// Brings a contact to the front of the queue that does not cool down; `None` when there is one.
    fn find_ready(&mut self, now: Instant) -> Option<Step> {
        loop {
            if let Err(until) = self.queue.bring_ready(now) {
                self.claims.leave();
                return Some(self.wait(now, until.unwrap_or(now)));
            }
            if self.is_tired() {
                return Some(Step::Yield);
            }
            let mut pending = self.queue.pop_front()?;
            let Some(Obstacle { error, until }) = self.stack.pace.obstacles.of_key(&self.key(&pending), now)
            else {
                self.queue.push_front(pending);
                return None;
            };
            match self.stored(&pending, error) {
                Err(_) if !pending.cool_down() => {
                    pending.cools_until = Some(until);
                    self.queue.push_back(pending);
                }
                result => return Some(found(&pending, result)),
            }
        }
    }

    /// Waits for the first place in the queue, a permit of each kind and a spare turn (rules 38 and 39);
    /// `None` when the stream has all of them.
    fn wait_for_turn(&mut self, now: Instant) -> Option<Step> {
        if !self.claims.is_first() {
            return Some(self.wait(now, self.contacts.deadline));
        }
        let turn = self.stack.pace.obstacles.spare(&self.scope, now).at;
        if turn > now {
            self.claims.leave_permits();
            return Some(self.wait(now, turn));
        }
        (!self.claims.has_permits()).then(|| self.wait(now, self.contacts.deadline))
    }

    /// Starts the look-up of the first contact, unless memory has it by now.
    fn start(&mut self) -> Step {
        let Some(pending) = self.queue.pop_front() else {
            return Step::Again;
        };
        match self.stack.serve.call(self.lookup(&pending, self.claims.place())) {
            Either::Left(ready) => found(&pending, ready.into_inner()),
            Either::Right(answer) => {
                let permits = self.claims.board();
                self.in_progress.spawn(in_this_call(async move {
                    let result = AssertUnwindSafe(answer).catch_unwind().await;
                    drop(permits);
                    (pending, result.unwrap_or(Err(LookupError::Internal)))
                }));
                Step::Again
            }
        }
    }

    /// Gives a look-up that has ended back to the queue, or returns its result.
    fn settle(
        &mut self,
        mut pending: Pending,
        result: Result<Answer, LookupError>,
    ) -> Option<Result<Found, LookupError>> {
        let now = Instant::now();
        let contact = pending.contact as usize;
        let Err(error) = result else {
            return Some(Ok(Found { contact, result }));
        };
        let ending = Ending::of(&error, self.has_time(now));
        let is_result = match ending {
            Ending::EndsStream => return Some(self.end(error)),
            Ending::Result => true,
            Ending::Failed => pending.fail(),
            Ending::CoolsDown => pending.cool_down(),
            Ending::NoTurn | Ending::Refused => {
                let wait = error.retry_after().unwrap_or_default();
                self.refused_until = Some(now + wait.clamp(REFUSED_WAIT_MIN, LOOK_AGAIN));
                false
            }
            Ending::Overloaded => {
                self.overloaded_until = Some(now + OVERLOADED_WAIT);
                false
            }
        };
        if is_result {
            return Some(Ok(Found { contact, result: Err(error) }));
        }
        // The caller asks again for a contact that has no result when the stream is stopped.
        if !self.is_stopped {
            // The failure that begins the contact's cool-down is counted already.
            let cooling = self.stack.pace.obstacles.of_key(&self.key(&pending), now);
            pending.cools_until = cooling.map(|cooling| cooling.until);
            if ending == Ending::NoTurn {
                self.queue.push_front(pending);
            } else {
                self.queue.push_back(pending);
            }
        }
        None
    }

    /// Ends the stream with `error`.
    fn end(&mut self, error: LookupError) -> Result<Found, LookupError> {
        self.stop();
        self.in_progress = JoinSet::new();
        Err(error)
    }

    fn obstacle(&self, now: Instant) -> Option<Obstacle> {
        let overloaded = self.overloaded_until.filter(|until| *until > now);
        let overloaded = overloaded.map(|until| Obstacle { error: LookupError::Overloaded, until });
        self.stack.pace.obstacles.of(&self.scope, now).or(overloaded)
    }

    fn stored(&self, pending: &Pending, error: LookupError) -> Result<Answer, LookupError> {
        self.stack.serve.in_place_of(error, &self.key(pending), &self.contacts.control)
    }

    fn wait(&self, now: Instant, until: Instant) -> Step {
        // After the deadline, the end of a look-up is all that is left to wait for.
        let ends = [until, self.contacts.deadline].into_iter().filter(|end| *end > now);
        Step::Wait(ends.fold(now + LOOK_AGAIN, Instant::min))
    }

    fn has_time(&self, now: Instant) -> bool {
        Deadline::at(self.contacts.deadline).leaves_time_at(now)
    }

    /// Counts a contact that is looked at. Returns whether it is time to let other tasks run.
    fn is_tired(&mut self) -> bool {
        self.looked_at += 1;
        self.looked_at > YIELD_AFTER
    }

    fn key(&self, pending: &Pending) -> Key {
        Key { scope: self.scope.clone(), chat: self.contacts.chats[pending.contact as usize].clone() }
    }

    fn lookup(&self, pending: &Pending, place: Option<QueuePlace>) -> Lookup {
        let Contacts { instance, credential, chats, control, deadline } = &self.contacts;
        let chat = chats[pending.contact as usize].clone();
        let deadline = Deadline::at(*deadline);
        let mut lookup = Lookup::new(instance.clone(), credential.clone(), chat, *control, deadline);
        lookup.own_purpose = Purpose::Stream;
        lookup.place = place;
        lookup
    }
}

fn found(pending: &Pending, result: Result<Answer, LookupError>) -> Step {
    Step::Return(Some(Ok(Found { contact: pending.contact as usize, result })))
}

impl<F> fmt::Debug for LookupStream<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupStream").field("contacts", &self.contacts.chats.len()).finish_non_exhaustive()
    }
}
