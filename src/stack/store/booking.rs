//! The turns of an instance that all replicas share: taken from the store, given back, and announced.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep};

use super::{
    TurnReply, TurnRequest, Unavailable,
    attachment::Done,
    engine::{self, TurnMode},
    horizon::{Horizon, HorizonRecord, UNSHARED},
    keys::{InstanceTag, instance_tag},
    news::TurnNews,
    parts::Parts,
    time::StoreTime,
    unshared::Pause,
};
use crate::{domain::Instance, telemetry::StoreOperation as Operation};

/// The longest time in a reply or a message that is believed. It keeps every instant in the range of the
/// clock; turns are a day apart at most.
const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The pauses before the tries to share the pause of an instance, in ms. The first try is made at once.
const SHARE_AFTER_MS: [u64; 5] = [0, 100, 200, 400, 800];

/// Takes a turn; see [`super::Store::turn`].
pub async fn turn(
    parts: &Arc<Parts>,
    instance: &Instance,
    request: TurnRequest,
) -> Result<TurnReply, Unavailable> {
    let tag = instance_tag(instance);
    let name = parts.scopes.instance_of(tag);
    let known = parts.horizons.get(&name);
    let work = parts.backend.turn(&name, sent(known, request));
    let done = parts.guard.run(Operation::Turn, work).await?;
    let reply = note(parts, name, known, &done);
    if matches!((request.mode, done.value.turn), (TurnMode::Book, Ok(wait)) if wait > 2 * request.interval) {
        announce(parts, tag, &done.value);
    }
    Ok(reply)
}

/// Begins a pause; see [`super::Store::push_back`].
pub async fn push_back(
    parts: &Arc<Parts>,
    instance: &Instance,
    asked: Option<Duration>,
    answered: bool,
    request: TurnRequest,
) -> Result<Instant, Unavailable> {
    let tag = instance_tag(instance);
    let name = parts.scopes.instance_of(tag);
    let known = parts.horizons.get(&name);
    let work = parts.backend.push_back(&name, asked, answered, sent(known, request));
    let done = parts.guard.run(Operation::PushBack, work).await?;
    let reply = note(parts, name, known, &done);
    announce(parts, tag, &done.value);
    Ok(reply.paused_until)
}

/// Shares a pause in the background; see [`super::Store::share_pause`].
pub fn share_pause(parts: &Arc<Parts>, instance: &Instance, until: Instant, request: TurnRequest) {
    let pause = Pause { until, request };
    parts.unshared.add(instance, pause, Instant::now());
    share(parts, instance.clone(), pause);
}

/// Shares the pauses that began while the store was away, or that could not be shared.
pub fn share_pauses(parts: &Arc<Parts>) {
    for (instance, pause) in parts.unshared.all(Instant::now()) {
        share(parts, instance, pause);
    }
}

fn share(parts: &Arc<Parts>, instance: Instance, Pause { until, request }: Pause) {
    let parts_too = parts.clone();
    parts.in_background(async move {
        for pause in SHARE_AFTER_MS {
            sleep(Duration::from_millis(pause)).await;
            let rest = until.saturating_duration_since(Instant::now());
            // While the store is away, its return shares the pause.
            if rest.is_zero() || !parts_too.guard.is_attached() {
                return;
            }
            // An earlier try may have been carried out. The same pause again changes nothing, as long as it
            // does not begin the growth of the pauses again.
            if push_back(&parts_too, &instance, Some(rest), false, request).await.is_ok() {
                parts_too.unshared.shared(&instance, until);
                return;
            }
        }
    });
}

/// Gives a turn back in the background; see [`super::Store::give_back`].
pub fn give_back(parts: &Arc<Parts>, instance: &Instance, turn: Instant, request: TurnRequest) {
    let (name, parts_too) = (parts.scopes.instance(instance), parts.clone());
    parts.in_background(async move {
        let turn_in = turn.saturating_duration_since(Instant::now());
        let work = parts_too.backend.give_back(&name, turn_in, request.interval, request.slack);
        let _ = parts_too.guard.run(Operation::GiveBack, work).await;
    });
}

/// Notes turns that this process took by itself; see [`super::Store::remember`].
pub fn remember(parts: &Parts, instance: &Instance, horizon: Horizon) {
    let (name, now) = (parts.scopes.instance(instance), Instant::now());
    if parts.backend.shares_turns() {
        parts.horizons.raise(name, horizon, now);
        return;
    }
    let time = |instant| parts.clock.at(instant);
    if let (Some(free_at), Some(spare_at), Some(paused_until)) =
        (time(horizon.free_at), time(horizon.spare_at), time(horizon.paused_until))
    {
        parts.backend.remember(&name, HorizonRecord { free_at, spare_at, paused_until });
    }
    parts.horizons.set(name, horizon, now);
}

/// Takes over the turns that the file had at the start. The clock of a file is that of this machine.
pub fn recall(parts: &Parts) {
    let (now, wall) = (Instant::now(), SystemTime::now().duration_since(SystemTime::UNIX_EPOCH));
    if parts.clock.at(now).is_none() && !parts.backend.shares_turns() {
        let micros = wall.unwrap_or_default().as_micros();
        parts.clock.learn(now, StoreTime::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)));
    }
    // A time that this machine's clock cannot represent is in the past.
    let instant = |time| parts.clock.instant(time).unwrap_or(now);
    for (name, record) in parts.backend.horizons() {
        let horizon = Horizon {
            free_at: instant(record.free_at),
            spare_at: instant(record.spare_at),
            paused_until: instant(record.paused_until),
            changes: UNSHARED,
        };
        parts.horizons.set(name, horizon, now);
    }
}

/// Notes the news of another replica.
pub fn hear(parts: &Parts, tag: InstanceTag, news: TurnNews) {
    let now = Instant::now();
    parts.horizons.hear(parts.scopes.instance_of(tag), ahead(now, news), now);
}

/// The request as it is sent, together with the turns that this process knows.
fn sent(known: Option<Horizon>, request: TurnRequest) -> engine::TurnRequest {
    let now = Instant::now();
    let from_now = |at: Instant| at.saturating_duration_since(now);
    let TurnRequest { mode, interval, slack, latest } = request;
    engine::TurnRequest {
        mode,
        interval,
        slack,
        patience: from_now(latest),
        known_free_in: known.map(|known| from_now(known.free_at)).unwrap_or_default(),
        known_pause: known.map(|known| from_now(known.paused_until)).unwrap_or_default(),
        known_changes: known.map(|known| known.changes).unwrap_or_default(),
    }
}

/// Notes the reply to a request that was sent together with the turns in `sent`.
fn note(parts: &Parts, name: String, sent: Option<Horizon>, done: &Done<engine::TurnReply>) -> TurnReply {
    let reply = &done.value;
    let moment = parts.learn(done, reply.now);
    let horizon = ahead(moment, news(reply));
    parts.horizons.reply(name, horizon, sent, done.began, done.ended);
    let turn = reply.turn.map(|wait| moment + wait.min(TIME_MAX));
    TurnReply { turn, paused_until: horizon.paused_until }
}

fn announce(parts: &Arc<Parts>, tag: InstanceTag, reply: &engine::TurnReply) {
    parts.announce(Some(news(reply).encode(parts.process, tag)));
}

fn news(reply: &engine::TurnReply) -> TurnNews {
    let engine::TurnReply { free_in, spare_in, pause, changes, .. } = *reply;
    TurnNews { free_in, spare_in, pause, changes }
}

fn ahead(moment: Instant, news: TurnNews) -> Horizon {
    let at = |time: Duration| moment + time.min(TIME_MAX);
    let TurnNews { free_in, spare_in, pause, changes } = news;
    Horizon { free_at: at(free_in), spare_at: at(spare_in), paused_until: at(pause), changes }
}
