//! [`Load`]: look-ups of contacts that no replica knows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep},
};

use super::replicas::{INSTANCES, REPLICAS, Replicas};

/// How long load is offered.
const TIME: Duration = Duration::from_secs(10);
/// The most look-ups in progress. With more, the load waits, so that a server that is too slow is not buried.
const IN_PROGRESS_MAX: usize = 20_000;
/// Time for the answers to be written.
const WRITING: Duration = Duration::from_millis(300);
/// One contact in so many is asked for on two replicas at once, so that one of them waits for the other.
const TWICE: usize = 50;
const SEED: u64 = 25;

/// How often contacts are asked for.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many contacts a second.
    PerSecond(u32),
    /// As many as so many callers can, each of which has one look-up in progress.
    Callers(usize),
}

/// A load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub pace: Pace,
    /// The number of contacts of an instance that are asked for together, of one replica.
    pub together: usize,
}

/// What was asked for.
#[derive(Debug)]
pub struct Offered {
    /// The number of contacts.
    pub contacts: usize,
    /// The time in which they were asked for.
    pub time: Duration,
    /// The number of look-ups without an answer.
    pub unanswered: u64,
}

impl Load {
    /// Asks for contacts, and waits until all are answered and written.
    pub async fn offer(self, replicas: &Arc<Replicas>) -> Offered {
        let begun = Instant::now();
        let (contacts, unanswered) = match self.pace {
            Pace::PerSecond(rate) => evenly(replicas, rate, self.together).await,
            Pace::Callers(callers) => at_once(replicas, callers).await,
        };
        let time = begun.elapsed().min(TIME);
        sleep(WRITING).await;
        Offered { contacts, time, unanswered }
    }
}

/// Asks for `rate` contacts a second.
#[expect(clippy::cast_precision_loss, reason = "there are few contacts")]
async fn evenly(replicas: &Replicas, rate: u32, together: usize) -> (usize, u64) {
    let (mut random, mut asks, mut unanswered) = (StdRng::seed_from_u64(SEED), JoinSet::new(), 0);
    let (begun, mut asked) = (Instant::now(), 0);
    let mut ticks = interval(Duration::from_millis(1));
    while begun.elapsed() < TIME {
        ticks.tick().await;
        let due = begun.elapsed().as_secs_f64() * f64::from(rate);
        while (asked as f64) < due && asks.len() < IN_PROGRESS_MAX {
            let (replica, instance) = (random.random_range(0..REPLICAS), random.random_range(0..INSTANCES));
            for _ in 0..together {
                asked += 1;
                asks.spawn(replicas.ask(replica, instance, asked));
                if asked.is_multiple_of(TWICE) {
                    asks.spawn(replicas.ask(replica + 1, instance, asked));
                }
            }
        }
        while let Some(ended) = asks.try_join_next() {
            unanswered += u64::from(!matches!(ended, Ok(Ok(_))));
        }
    }
    while let Some(ended) = asks.join_next().await {
        unanswered += u64::from(!matches!(ended, Ok(Ok(_))));
    }
    (asked, unanswered)
}

/// Asks for a contact after the other, as each of the callers.
async fn at_once(replicas: &Arc<Replicas>, callers: usize) -> (usize, u64) {
    let counted = Arc::new((AtomicUsize::new(0), AtomicU64::new(0)));
    let callers = (0..callers).map(|caller| {
        let (replicas, counted) = (replicas.clone(), counted.clone());
        async move {
            let mut random = StdRng::seed_from_u64(caller as u64);
            let begun = Instant::now();
            while begun.elapsed() < TIME {
                let number = counted.0.fetch_add(1, Relaxed);
                let instance = random.random_range(0..INSTANCES);
                if replicas.ask(caller, instance, number).await.is_err() {
                    counted.1.fetch_add(1, Relaxed);
                }
            }
        }
    });
    callers.collect::<JoinSet<_>>().join_all().await;
    (counted.0.load(Relaxed), counted.1.load(Relaxed))
}
