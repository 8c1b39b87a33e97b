//! [`Shared`]: the turns of an instance that all replicas take from the store together, and the share of this
//! replica while the store does not answer.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::{Spare, asking::Asking, booked::Booked, detached::Detached, limit::Limit, trips::Trips};
use crate::{
    domain::Instance,
    stack::store::{Attachment, Store, TurnMode, TurnReply, TurnRequest},
};

/// Replicas find one after the other that the store is back. So the share of this replica holds beside the
/// turns of the store for as long as it was away, at most this long ...
const HELD_MAX: Duration = Duration::from_secs(30);
/// ... and this much longer.
const HELD_MORE: Duration = Duration::from_secs(1);
/// How long before a turn the store is asked whether a pause has begun, so that the turn is not late when the
/// reply takes its time. It is less than the 100 ms within which a pause holds on all replicas (rule 48).
const LOOK_AHEAD: Duration = Duration::from_millis(50);

/// The turns of one instance.
#[derive(Debug)]
pub struct Shared {
    store: Store,
    instance: Instance,
    limit: Limit,
    detached: Mutex<Detached>,
    /// The end of the last pause, until Hypersender answers after it.
    unanswered: Mutex<Option<Instant>>,
    trips: Trips,
}

impl Shared {
    /// Turns of `instance` in a process that began at `started`.
    pub fn new(limit: Limit, store: Store, instance: Instance, started: Instant) -> Self {
        let detached = Mutex::new(Detached::new(limit, store.replicas(), started));
        Self { store, instance, limit, detached, unanswered: Mutex::default(), trips: Trips::default() }
    }

    /// The distance of two turns, once the burst is used up.
    pub fn interval(&self) -> Duration {
        self.limit.interval
    }

    /// Reserves the next turn if it comes by `latest`. Otherwise reserves none and returns the time until it
    /// would come.
    pub async fn turn(&self, asking: &mut Asking, now: Instant, latest: Instant) -> Result<Booked, Duration> {
        if !self.is_asked(asking) {
            return self.turn_alone(now, latest);
        }
        let is_held = self.is_held(now);
        if is_held {
            let turn = self.detached.lock().next_turn(now);
            if turn > latest {
                return Err(turn - now);
            }
        }
        // A caller whose time is over only learns the wait.
        let mode = if latest < now { TurnMode::Look } else { TurnMode::Book };
        // A turn at the very end of the caller's time would be lost to all: on the way to the store and back,
        // the time runs out.
        let asked = now.max(latest.checked_sub(self.trips.longest()).unwrap_or(now)).min(latest);
        let Some(reply) = self.ask(asking, mode, asked).await else {
            return self.turn_alone(Instant::now(), latest);
        };
        let turn = reply.turn?;
        if latest > now && turn > latest {
            self.give_back(&Booked::shared(turn));
            return Err(turn - now);
        }
        if !is_held {
            return Ok(Booked::shared(turn));
        }
        // Reserved from its turn of the store on. Counted from now, the share could be used up before.
        match self.detached.lock().turn(turn, latest) {
            Ok(own) => Ok(Booked { at: own, shared: Some(turn), own: Some(own) }),
            Err(wait) => {
                self.give_back(&Booked::shared(turn));
                Err(wait + turn.saturating_duration_since(now))
            }
        }
    }

    /// Takes a spare turn that is free now, for a retry that waits or for others. Otherwise returns the time
    /// until one would come.
    pub async fn spare_turn(
        &self,
        asking: &mut Asking,
        now: Instant,
        is_retry: bool,
    ) -> Result<(), Duration> {
        if !self.is_asked(asking) {
            return self.spare_turn_alone(now, is_retry);
        }
        let (is_held, ahead) = (self.is_held(now), self.ahead(is_retry));
        if is_held {
            let next = self.detached.lock().next_spare(now);
            if next > now {
                return Err(next - now);
            }
        }
        // The turn of a retry that waits is not for others.
        if !ahead.is_zero() {
            return Err(self.spare(now).at - now);
        }
        let Some(reply) = self.ask(asking, TurnMode::Spare, now).await else {
            return self.spare_turn_alone(Instant::now(), is_retry);
        };
        reply.turn?;
        if is_held {
            // Another look-up may have taken it meanwhile. The turn of the store is taken in any case.
            let _ = self.detached.lock().spare_turn(now, is_retry);
        }
        Ok(())
    }

    /// Gives back a reserved turn that has not come yet.
    pub fn give_back(&self, booked: &Booked) {
        let now = Instant::now();
        if let Some(turn) = booked.shared.filter(|turn| *turn > now) {
            self.store.give_back(&self.instance, turn, self.request(TurnMode::Look, now));
        }
        if let Some(turn) = booked.own {
            self.detached.lock().give_back(turn, now);
        }
    }

    /// Waits for a turn. Returns whether it has come in a pause, so that it is lost.
    pub async fn comes_in_pause(&self, asking: &mut Asking, booked: &Booked) -> bool {
        let is_far = booked.at > Instant::now() + LOOK_AHEAD;
        sleep_until(booked.at - LOOK_AHEAD).await;
        // What the reply to a near turn said of a pause is new enough.
        if is_far && self.is_asked(asking) {
            // The reply is part of the horizon.
            self.ask(asking, TurnMode::Look, Instant::now()).await;
        }
        sleep_until(booked.at).await;
        let now = Instant::now();
        self.spare(now).paused_until > now
    }

    /// The next spare turn, and the end of the pause, as far as they are known.
    pub fn spare(&self, now: Instant) -> Spare {
        let horizon = self.store.horizon(&self.instance);
        let mut detached = self.detached.lock();
        let paused_until = horizon.map_or(now, |horizon| horizon.paused_until).max(detached.paused_until());
        let is_attached = matches!(self.store.attachment(), Attachment::Attached { .. });
        if !is_attached {
            detached.learn(horizon);
        }
        let own = (!is_attached || self.is_held(now)).then(|| detached.next_spare(now));
        let next = horizon.filter(|_| is_attached).map_or(now, |horizon| horizon.spare_at).max(paused_until);
        let shared = match detached.retries() {
            0 => next,
            ahead => next.max(now) + self.limit.interval.saturating_mul(ahead),
        };
        Spare { at: own.map_or(shared, |own| own.max(shared)), paused_until }
    }

    /// Notes that Hypersender refuses requests as too many. Returns the time until the end of the pause.
    pub async fn pushed_back(&self, asking: &mut Asking, asked: Option<Duration>) -> Duration {
        let request = self.request(TurnMode::Look, Instant::now());
        if self.is_asked(asking) {
            let answered = self.unanswered.lock().is_none();
            if let Ok(until) = self.store.push_back(&self.instance, asked, answered, request).await {
                self.detached.lock().pause(until);
                self.note_pause(until);
                return until.saturating_duration_since(Instant::now());
            }
            asking.give_up();
        }
        let now = Instant::now();
        let (wait, horizon) = {
            let mut detached = self.detached.lock();
            (detached.pushed_back(now, asked), detached.horizon())
        };
        self.store.remember(&self.instance, horizon);
        // The look-up waits for the store no longer. The other replicas must hear of the pause all the same.
        self.store.share_pause(&self.instance, now + wait, request);
        self.note_pause(now + wait);
        wait
    }

    /// Notes that Hypersender answers.
    pub fn answered(&self) {
        let now = Instant::now();
        self.unanswered.lock().take_if(|until| *until <= now);
        self.detached.lock().answered();
    }

    pub fn retry_waits(&self) {
        self.detached.lock().retry_waits();
    }

    pub fn retry_left(&self) {
        self.detached.lock().retry_left();
    }

    pub fn is_idle(&self, now: Instant) -> bool {
        self.detached.lock().is_idle(now)
            && self.unanswered.lock().is_none_or(|until| until + HELD_MAX <= now)
    }

    /// Whether the store is asked.
    fn is_asked(&self, asking: &Asking) -> bool {
        asking.goes_on() && matches!(self.store.attachment(), Attachment::Attached { .. })
    }

    /// Whether the share of this replica holds beside the turns of the store.
    fn is_held(&self, now: Instant) -> bool {
        match self.store.attachment() {
            Attachment::Attached { returned: None } => false,
            Attachment::Attached { returned: Some((end, away)) } => {
                now < end + away.min(HELD_MAX) + HELD_MORE
            }
            Attachment::Detached { .. } => true,
        }
    }

    /// The time of the turns of the retries that wait. They come before those of others.
    fn ahead(&self, is_retry: bool) -> Duration {
        let retries = if is_retry { 0 } else { self.detached.lock().retries() };
        self.limit.interval.saturating_mul(retries)
    }

    async fn ask(&self, asking: &mut Asking, mode: TurnMode, latest: Instant) -> Option<TurnReply> {
        let began = Instant::now();
        let Ok(reply) = self.store.turn(&self.instance, self.request(mode, latest)).await else {
            asking.give_up();
            return None;
        };
        self.trips.took(began.elapsed());
        self.note_pause(reply.paused_until);
        Some(reply)
    }

    fn request(&self, mode: TurnMode, latest: Instant) -> TurnRequest {
        let Limit { interval, slack } = self.limit;
        TurnRequest { mode, interval, slack, latest }
    }

    fn turn_alone(&self, now: Instant, latest: Instant) -> Result<Booked, Duration> {
        self.alone(|detached| detached.turn(now, latest)).map(|turn| Booked {
            at: turn,
            shared: None,
            own: Some(turn),
        })
    }

    fn spare_turn_alone(&self, now: Instant, is_retry: bool) -> Result<(), Duration> {
        self.alone(|detached| detached.spare_turn(now, is_retry))
    }

    /// Takes a turn from the share of this replica.
    fn alone<T>(&self, take: impl FnOnce(&mut Detached) -> Result<T, Duration>) -> Result<T, Duration> {
        let known = self.store.horizon(&self.instance);
        let mut detached = self.detached.lock();
        detached.learn(known);
        let taken = take(&mut detached)?;
        let horizon = detached.horizon();
        drop(detached);
        self.store.remember(&self.instance, horizon);
        Ok(taken)
    }

    fn note_pause(&self, until: Instant) {
        if until > Instant::now() {
            *self.unanswered.lock() = Some(until);
        }
    }
}

#[cfg(test)]
mod tests;
