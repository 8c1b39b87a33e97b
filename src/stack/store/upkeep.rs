//! The tasks in the background of a store, which end with it: the probe of a store that is away, the check of
//! the scopes, and the writing of rejections. The reading of news is in `hearing`.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{
    attachment::{Guard, Pauses},
    booking,
    engine::Failed,
    hearing,
    news::returned,
    parts::Parts,
    revocation::{announce_all, check_scopes, write_rejections},
};
use crate::telemetry::StoreOperation as Operation;

/// The time between two checks of the scopes, so that a message that was lost does no lasting harm.
const CHECK: Duration = Duration::from_secs(30);
/// The pause after a rejection could not be written, while the store is not away, and the least time between
/// two announcements of all rejections.
const RETRY: Duration = Duration::from_secs(1);

/// Starts the tasks. They end when the set is dropped.
pub fn start(parts: &Arc<Parts>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let own = parts.clone();
    tasks.spawn(async move {
        stay_attached(&own.guard, || back(&own), || attached(&own)).await;
    });
    tasks.spawn(check(parts.clone()));
    tasks.spawn(reject(parts.clone()));
    if let Some(messages) = parts.backend.subscribe() {
        tasks.spawn(announce_again(parts.clone()));
        tasks.spawn(hearing::hear(parts.clone(), messages));
    }
    tasks
}

/// Finds out whether the store accepts writes, and learns its clock.
pub async fn probe(parts: &Parts) -> Result<(), Failed> {
    let done = parts.guard.attempt(Operation::Probe, parts.backend.probe()).await?;
    parts.learn(&done, done.value);
    Ok(())
}

/// Attaches the store each time it is `back`, and then calls `attached`. The pauses go on growing while it is
/// not there to stay: with a right missing, for instance, the probe succeeds and other operations fail.
async fn stay_attached<F: Future<Output = Result<(), Failed>>>(
    guard: &Guard,
    back: impl Fn() -> F,
    attached: impl Fn(),
) {
    let mut pauses = Pauses::new();
    loop {
        guard.away().await;
        pauses.detached(guard.attachment());
        sleep(pauses.next()).await;
        while back().await.is_err() {
            sleep(pauses.next()).await;
        }
        pauses.attached(Instant::now());
        guard.attach();
        attached();
    }
}

/// A store that is back must not serve what was fetched with a token that was rejected meanwhile. So what
/// this process knows is written, and what others know is read, before the first look-up.
async fn back(parts: &Arc<Parts>) -> Result<(), Failed> {
    probe(parts).await?;
    write_rejections(parts).await?;
    check_scopes(parts).await?;
    write_rejections(parts).await
}

/// Makes up for what this process could not share, and did not hear, while the store was away.
fn attached(parts: &Arc<Parts>) {
    // A rejection may have been added since they were written.
    parts.rejections.write_again();
    // Those that were written on return could not be announced.
    parts.announce_again.notify_one();
    parts.announce(Some(returned(parts.process)));
    booking::share_pauses(parts);
}

async fn check(parts: Arc<Parts>) {
    let mut ticks = interval_at(Instant::now() + CHECK, CHECK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if parts.guard.is_attached() {
            // The next check follows soon.
            let _ = check_scopes(&parts).await;
        }
    }
}

/// Announces rejections again, at most once in [`RETRY`]. No announcement causes another one.
async fn announce_again(parts: Arc<Parts>) {
    loop {
        parts.announce_again.notified().await;
        // While the store is away, its return announces them.
        while parts.guard.is_attached() && announce_all(&parts).await.is_err() {
            sleep(RETRY).await;
        }
        sleep(RETRY).await;
    }
}

async fn reject(parts: Arc<Parts>) {
    loop {
        parts.rejections.added().await;
        // While the store is away, the rejections wait for its return.
        while parts.guard.is_attached() && write_rejections(&parts).await.is_err() {
            sleep(RETRY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// How often a store is attached in an hour whose operations fail whenever it has been attached for
    /// `stays`, although its probe succeeds.
    async fn attachments(stays: Duration) -> u32 {
        let (guard, end) = (Guard::new(Duration::from_secs(1), Arc::default()), Instant::now() + 60 * MINUTE);
        let failing = async {
            let mut count = 0;
            while Instant::now() < end {
                sleep(Duration::from_millis(10)).await;
                if guard.is_attached() {
                    count += 1;
                    sleep(stays).await;
                    while guard.is_attached() {
                        let failed = ready(Err::<(), _>(Failed { cause: "NOPERM".into() }));
                        assert!(guard.run(Operation::Turn, failed).await.is_err());
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            }
            count
        };
        tokio::select! {
            count = failing => count,
            () = stay_attached(&guard, || ready(Ok(())), || ()) => unreachable!("it has no end"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_stays_is_attached_ever_more_rarely() {
        let count = attachments(Duration::ZERO).await;
        assert!((60..=130).contains(&count), "{count} in an hour: every half minute");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_stayed_for_a_while_is_looked_for_soon() {
        let count = attachments(MINUTE).await;
        assert!((58..=60).contains(&count), "{count} in an hour: every minute and a second");
    }
}
