//! [`Turns`]: the turns of one instance, and how each purpose waits for them.
//!
//! | purpose | its turn |
//! | --- | --- |
//! | caller | the next one, reserved at once if it comes in time |
//! | batch | one that is free now; with a place the next one, reserved ahead |
//! | retry of a batch | the same; it takes a place of its own if there is one |
//! | avatar | a spare one that is free now, before all streams |
//! | stream | a spare one that is free now, while no avatar waits |
//! | retry of an avatar or a stream | the next spare one, before all avatars |
//! | probe of the breaker for a batch, an avatar or a stream | that of a caller |
//! | refresh | one that is free now |
//! | refresh for a batch, an avatar or a stream | a spare one that is free now, while no avatar waits |
//!
//! The purpose of a flight changes while it waits. A flight that waits on low terms decides again when its
//! purpose rises. A turn that is reserved stays reserved when the purpose falls.
//!
//! A batch, an avatar or a stream that finds no turn does not wait here, where it holds a flight (rules 37,
//! 39 and 59). Retries come first, because they do hold one. There are few of them, and streams that give way
//! cause none, so avatars get nearly all spare turns while they wait. That holds within a process: replicas
//! do not know of each other's avatars, so a stream of another replica takes its share of the spare turns.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use super::{Spare, asking::Asking, booked::Booked, source::Source};
use crate::{
    domain::{BatchTurns, Lookup, LookupError, Purpose, QueuePlace},
    stack::keyed::Idle,
};

/// Maximum number of turns that the batches of one instance together have booked and not yet begun (rule 37).
/// Turns that are free at once, such as those of the burst, are not booked. Callers behind the batches wait
/// for at most this many of their turns, however many batches there are.
const BOOKED_MAX: usize = 20;

/// The time between a turn and its attempt: the timer, and the tasks that run before.
const START_TIME: Duration = Duration::from_millis(5);

/// The turns of one instance.
#[derive(Debug)]
pub struct Turns {
    source: Source,
    /// The places of the look-ups of batches that may book a turn ahead.
    bookings: Arc<Semaphore>,
    /// The retries of avatars and streams take spare turns in the order in which they came.
    retries: tokio::sync::Mutex<()>,
    /// The first place in the queue of the avatars for spare turns. The semaphore is fair, so its waiters are
    /// the queue. While the place is taken, streams and refreshes take no spare turn.
    avatars: Arc<Semaphore>,
    /// One refresh at a time may be about to take a spare turn.
    refresh: Arc<Semaphore>,
}

impl Idle for Turns {
    fn is_idle(&self, now: Instant) -> bool {
        // A batch or an avatar that has or awaits a place holds the semaphore.
        Arc::strong_count(&self.bookings) == 1
            && Arc::strong_count(&self.avatars) == 1
            && self.source.is_idle(now)
    }
}

impl Turns {
    pub fn new(source: Source) -> Self {
        Self {
            source,
            bookings: bookings(),
            retries: tokio::sync::Mutex::default(),
            avatars: Arc::new(Semaphore::new(1)),
            refresh: Arc::new(Semaphore::new(1)),
        }
    }

    /// The places of the look-ups of batches that may book a turn ahead.
    pub fn bookings(&self) -> Arc<Semaphore> {
        self.bookings.clone()
    }

    /// The first place in the queue of the avatars.
    pub fn avatars(&self) -> Arc<Semaphore> {
        self.avatars.clone()
    }

    /// The next spare turn of a stream or a refresh.
    pub fn spare(&self, now: Instant) -> Spare {
        let Spare { at, paused_until } = self.source.spare(now);
        let ahead = self.ahead();
        Spare { at: if ahead.is_zero() { at } else { at.max(now) + ahead }, paused_until }
    }

    /// The next spare turn of the first avatar in the queue.
    pub fn spare_of_avatar(&self, now: Instant) -> Spare {
        self.source.spare(now)
    }

    /// The time of the turn of the first avatar that waits. Those behind it are not known.
    fn ahead(&self) -> Duration {
        let waits = self.avatars.available_permits() == 0;
        if waits { self.source.interval() } else { Duration::ZERO }
    }

    /// The place of a refresh that would take a spare turn now, if there is one.
    pub fn place_of_refresh(&self, now: Instant) -> Option<QueuePlace> {
        if self.spare(now).at > now {
            return None;
        }
        self.refresh.clone().try_acquire_owned().ok().map(QueuePlace::new)
    }

    /// Notes that Hypersender refuses requests as too many. Returns the time until the end of the pause.
    pub async fn pushed_back(&self, asking: &mut Asking, asked: Option<Duration>) -> Duration {
        self.source.pushed_back(asking, asked).await
    }

    /// Notes that Hypersender answers.
    pub fn answered(&self) {
        self.source.answered();
    }

    /// Takes a turn for `lookup`, and waits for it.
    ///
    /// # Errors
    ///
    /// [`LookupError::RateLimited`] when no turn comes in time, [`LookupError::NoTurnYet`] when a batch, an
    /// avatar or a stream has to wait outside, and [`LookupError::DeadlineExceeded`] when no attempt could
    /// end in time.
    pub async fn wait(&self, lookup: &Lookup, asking: &mut Asking) -> Result<(), LookupError> {
        // The place of a retry of a batch. It is left when the turn comes.
        let mut place = None;
        loop {
            let now = Instant::now();
            let booked = match terms(lookup) {
                Purpose::SpareRefresh => {
                    let turn = self.spare_turn(asking, now).await;
                    turn.map_err(|wait| LookupError::RateLimited { wait })?
                }
                Purpose::Refresh => self.turn(asking, now, now).await?,
                purpose @ (Purpose::Stream | Purpose::Avatar) if lookup.resent == 0 => {
                    // A turn of a stream that has left would be lost to the others.
                    latest_start(lookup, now)?;
                    let turn = if purpose == Purpose::Avatar {
                        self.turn_of_avatar(asking, now).await
                    } else {
                        self.spare_turn(asking, now).await
                    };
                    turn.map_err(|wait| LookupError::NoTurnYet { wait })?
                }
                Purpose::Stream | Purpose::Avatar if self.turn_of_retry(lookup, asking).await? => {
                    return Ok(());
                }
                Purpose::Stream | Purpose::Avatar => continue,
                Purpose::Batch => self.turn_of_batch(lookup, asking, now, &mut place).await?,
                Purpose::Caller => self.turn(asking, now, latest_start(lookup, now)?).await?,
            };
            // The timer rounds up to the next millisecond, so a turn that is free now must not wait for it.
            if booked.at <= Instant::now() {
                return Ok(());
            }
            // A pause that has begun during the wait holds for this call, too.
            let is_paused = select! {
                is_paused = self.source.comes_in_pause(asking, &booked) => is_paused,
                () = left(lookup) => {
                    self.source.give_back(&booked);
                    return Err(LookupError::DeadlineExceeded);
                }
            };
            if !is_paused {
                return Ok(());
            }
        }
    }

    /// The next turn, if it comes by `latest`. One for which the caller has to wait comes somewhat before,
    /// because it would be lost to all callers if the attempt began after its time.
    async fn turn(&self, asking: &mut Asking, now: Instant, latest: Instant) -> Result<Booked, LookupError> {
        let latest = latest.checked_sub(START_TIME).map_or(now, |early| early.max(now)).min(latest);
        self.source.turn(asking, now, latest).await.map_err(|wait| LookupError::RateLimited { wait })
    }

    /// A spare turn that is free now, unless an avatar waits for it. Otherwise the time until one would come.
    async fn spare_turn(&self, asking: &mut Asking, now: Instant) -> Result<Booked, Duration> {
        if !self.ahead().is_zero() {
            return Err(self.spare(now).at - now);
        }
        self.turn_of_avatar(asking, now).await
    }

    /// The same for an avatar, which gives way to no other one.
    async fn turn_of_avatar(&self, asking: &mut Asking, now: Instant) -> Result<Booked, Duration> {
        self.source.spare_turn(asking, now).await.map(|()| Booked::own(now))
    }

    /// A turn for a look-up of a batch.
    async fn turn_of_batch(
        &self,
        lookup: &Lookup,
        asking: &mut Asking,
        now: Instant,
        place: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<Booked, LookupError> {
        let Some(batch) = &lookup.batch else {
            // A look-up of a batch has joined the flight of another side.
            return self.turn(asking, now, latest_start(lookup, now)?).await;
        };
        let latest = lookup.deadline.latest_start().ok_or(LookupError::DeadlineExceeded)?;
        if lookup.resent > 0 && place.is_none() {
            // It waits for no place, because look-ups that have a place may wait for its flight.
            *place = self.bookings.clone().try_acquire_owned().ok();
        }
        let has_place = place.is_some() || lookup.place.as_ref().is_some_and(QueuePlace::is_held);
        let until = if has_place { latest } else { now.min(latest) };
        let wait = match self.source.turn(asking, now, until).await {
            Ok(booked) => return Ok(booked),
            // The turn would be free, and the time is over.
            Err(Duration::ZERO) => return Err(LookupError::DeadlineExceeded),
            Err(wait) => wait,
        };
        let turn = now + wait;
        if turn > latest && batch.latest_start().is_none_or(|latest| turn > latest) {
            return Err(self.put_off(wait, batch));
        }
        // A turn that comes after the end of this flight is one for a later flight.
        let wait = if turn > latest { turn - latest } else { wait };
        Err(LookupError::NoTurnYet { wait })
    }

    /// The refusal of a look-up of a batch, with a wait of its own: one interval after the one before.
    fn put_off(&self, wait: Duration, batch: &BatchTurns) -> LookupError {
        let later = self.source.interval().saturating_mul(batch.refuse());
        LookupError::RateLimited { wait: wait.saturating_add(later) }
    }

    /// Takes the next spare turn for a retry of an avatar or a stream. Returns whether it has come; otherwise
    /// the terms of the look-up must be read again.
    async fn turn_of_retry(&self, lookup: &Lookup, asking: &mut Asking) -> Result<bool, LookupError> {
        let latest = latest_start(lookup, Instant::now())?;
        let _waits = WaitingRetry::new(self);
        select! {
            biased;
            () = lookup.deadline.changed() => Ok(false),
            turn = self.first_spare_turn(lookup, asking) => turn.map(|()| true),
            () = sleep_until(latest) => match lookup.deadline.latest_start() {
                Some(later) if later > latest => Ok(false),
                Some(_) | None => Err(LookupError::DeadlineExceeded),
            },
        }
    }

    /// Waits behind the retries that came before, and then for the next spare turn.
    async fn first_spare_turn(&self, lookup: &Lookup, asking: &mut Asking) -> Result<(), LookupError> {
        let _first = self.retries.lock().await;
        loop {
            let now = Instant::now();
            let latest = latest_start(lookup, now)?;
            let missing = self.source.spare_turn_of_retry(asking, now).await;
            match missing {
                Ok(()) => return Ok(()),
                Err(wait) if now + wait > latest => return Err(LookupError::NoTurnYet { wait }),
                Err(wait) => sleep_until(now + wait).await,
            }
        }
    }
}

/// The purpose whose terms hold for the turn of the look-up.
fn terms(lookup: &Lookup) -> Purpose {
    match lookup.purpose() {
        // The callers of the instance are refused until the probe ends, so it does not wait longer than they
        // would.
        Purpose::Batch | Purpose::Avatar | Purpose::Stream if lookup.is_probe => Purpose::Caller,
        purpose @ (Purpose::SpareRefresh
        | Purpose::Refresh
        | Purpose::Stream
        | Purpose::Avatar
        | Purpose::Batch
        | Purpose::Caller) => purpose,
    }
}

/// Resolves when nobody waits for the look-up any longer.
async fn left(lookup: &Lookup) {
    while lookup.deadline.latest().is_some() {
        lookup.deadline.changed().await;
    }
}

/// The latest instant at which an attempt may start.
fn latest_start(lookup: &Lookup, now: Instant) -> Result<Instant, LookupError> {
    let latest = lookup.deadline.latest_start();
    latest.filter(|latest| *latest >= now).ok_or(LookupError::DeadlineExceeded)
}

/// A retry of an avatar or a stream that waits for a spare turn. All others that take spare turns come after
/// it.
struct WaitingRetry<'a>(&'a Turns);

impl<'a> WaitingRetry<'a> {
    fn new(turns: &'a Turns) -> Self {
        turns.source.retry_waits();
        Self(turns)
    }
}

impl Drop for WaitingRetry<'_> {
    fn drop(&mut self) {
        self.0.source.retry_left();
    }
}

/// The places of the look-ups of batches of an instance.
pub fn bookings() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(BOOKED_MAX))
}
