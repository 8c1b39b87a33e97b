//! [`Demand`]: callers of several replicas who always want more than the rate limit allows. [`burst`]:
//! callers who use up the burst at once. [`Stalls`]: how late this machine is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hypersender_grpc::domain::LookupError;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{Front, contact};

/// Callers who ask for one new contact after the other.
pub struct Demand {
    shared: Arc<Shared>,
    callers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    answered: AtomicUsize,
    errors: std::sync::Mutex<Vec<LookupError>>,
}

impl Demand {
    /// Lets `callers` of each replica ask. No two demands of a test have the same `number`.
    pub fn of<'a>(fronts: impl IntoIterator<Item = &'a Front>, callers: usize, number: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let mut next = 0;
        let mut begin = |front: &Front| {
            let (front, shared) = (front.clone(), shared.clone());
            next += 1;
            let first = 100_000 * (100 * number + next);
            tokio::spawn(async move {
                for chat in first.. {
                    if shared.is_over.load(Relaxed) {
                        return;
                    }
                    match front.ask(contact(chat)).await {
                        Ok(_) => _ = shared.answered.fetch_add(1, Relaxed),
                        Err(error) => shared.errors.lock().unwrap().push(error),
                    }
                }
            })
        };
        let callers = fronts.into_iter().flat_map(|front| vec![front; callers]).map(&mut begin).collect();
        Self { shared, callers }
    }

    /// Lets no caller ask again, and waits for those who wait. Returns the number of answers and all errors.
    pub async fn end(self) -> (usize, Vec<LookupError>) {
        self.shared.is_over.store(true, Relaxed);
        for caller in self.callers {
            caller.await.unwrap();
        }
        let errors = std::mem::take(&mut *self.shared.errors.lock().unwrap());
        (self.shared.answered.load(Relaxed), errors)
    }
}

/// Measures for how long this process was stopped at most.
pub struct Stalls {
    longest: Arc<AtomicU64>,
    meter: JoinHandle<()>,
}

impl Stalls {
    pub fn measure() -> Self {
        let longest = Arc::new(AtomicU64::new(0));
        let noted = longest.clone();
        let pause = Duration::from_millis(5);
        let meter = tokio::spawn(async move {
            loop {
                let began = Instant::now();
                sleep(pause).await;
                let late = began.elapsed().saturating_sub(pause);
                noted.fetch_max(u64::try_from(late.as_micros()).unwrap(), Relaxed);
            }
        });
        Self { longest, meter }
    }

    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.load(Relaxed))
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.meter.abort();
    }
}

/// The times that callers wait who ask for as many contacts as the burst allows, at once.
pub async fn burst(front: &Front, first: usize) -> Vec<Duration> {
    let start = front.time();
    let ask = |chat| {
        let front = front.clone();
        tokio::spawn(async move {
            front.ask(contact(chat)).await.unwrap();
            front.time() - start
        })
    };
    let callers: Vec<_> = (first..first + 20).map(ask).collect();
    let mut waits = Vec::new();
    for caller in callers {
        waits.push(caller.await.unwrap());
    }
    waits.sort();
    waits
}
