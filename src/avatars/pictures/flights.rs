//! [`Flights`]: work that all requests for the same thing share. It runs in a task of its own, so it goes on
//! when the requests have left.

use std::{collections::HashMap, fmt, future::Future, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

/// Maximum number of pieces of work of a kind in progress.
const FLIGHTS_MAX: usize = 1024;

/// The work in progress, by key. Clones share it.
pub struct Flights<K, V>(Arc<Mutex<HashMap<K, Waiter<V>>>>);

/// One that waits for the outcome of shared work.
pub struct Waiter<V>(watch::Receiver<Option<V>>);

/// The end of a piece of work. The work is no longer in progress when this is dropped, also by a panic.
struct Landing<K: Eq + Hash, V> {
    flights: Flights<K, V>,
    key: K,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// Joins the work for `key`, or starts what `start` returns. `None` when there is too much work in
    /// progress, and when `start` returns none. `start` must not use these flights.
    pub fn join<W>(&self, key: &K, start: impl FnOnce() -> Option<W>) -> Option<Waiter<V>>
    where
        W: Future<Output = V> + Send + 'static,
    {
        let mut flights = self.0.lock();
        if let Some(waiter) = flights.get(key) {
            return Some(waiter.clone());
        }
        if flights.len() >= FLIGHTS_MAX {
            return None;
        }
        let work = start()?;
        let (sender, receiver) = watch::channel(None);
        let waiter = Waiter(receiver);
        flights.insert(key.clone(), waiter.clone());
        let landing = Landing { flights: self.clone(), key: key.clone() };
        // A runtime that is closing drops the task at once, and with it `landing`, which takes the lock.
        drop(flights);
        tokio::spawn(async move {
            let landing = landing;
            let value = work.await;
            sender.send_replace(Some(value));
            drop(landing);
        });
        Some(waiter)
    }
}

impl<V: Clone> Waiter<V> {
    /// The outcome; `None` when the work has panicked.
    pub async fn landed(mut self) -> Option<V> {
        let value = self.0.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }
}

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> Clone for Waiter<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights(..)")
    }
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.0.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        time::Duration,
    };

    use futures_util::future::join_all;
    use tokio::time::{sleep, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn counted(runs: &Arc<AtomicUsize>) -> impl Future<Output = usize> + Send + use<> {
        let runs = runs.clone();
        async move {
            sleep(SECOND).await;
            runs.fetch_add(1, Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_done_once_for_all_that_join_and_again_later() {
        let (flights, runs) = (Flights::new(), Arc::default());
        let join = || flights.join(&"key", || Some(counted(&runs))).unwrap().landed();
        assert_eq!(join_all((0..100).map(|_| join())).await, [Some(0); 100]);
        assert_eq!(join().await, Some(1));
        assert!(flights.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_when_all_that_wait_have_left() {
        let (flights, runs) = (Flights::new(), Arc::default());
        let waiter = flights.join(&"key", || Some(counted(&runs))).unwrap();
        assert!(timeout(SECOND / 2, waiter.landed()).await.is_err());
        sleep(SECOND).await;
        assert_eq!(runs.load(Relaxed), 1);
    }

    fn join(flights: &Flights<&'static str, usize>) -> Waiter<usize> {
        flights.join(&"key", || None::<std::future::Ready<usize>>).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_the_work_and_no_later_one() {
        let (flights, runs) = (Flights::new(), Arc::default());
        let failing = async {
            sleep(SECOND).await;
            panic!("this work panics on purpose")
        };
        let waiters = [flights.join(&"key", || Some(failing)).unwrap(), join(&flights)];
        assert_eq!(join_all(waiters.map(Waiter::landed)).await, [None, None]);
        assert_eq!(flights.join(&"key", || Some(counted(&runs))).unwrap().landed().await, Some(0));
    }

    /// Joins a flight when it is dropped, as a request does whose connection ends.
    struct JoinsLast(Flights<&'static str, usize>);

    impl Drop for JoinsLast {
        fn drop(&mut self) {
            self.0.join(&"key", || Some(std::future::ready(0)));
        }
    }

    #[test]
    fn work_that_begins_while_the_runtime_closes_blocks_nothing() {
        let flights = Flights::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let last = JoinsLast(flights.clone());
        runtime.block_on(async {
            tokio::spawn(async move {
                let _last = last;
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
        });
        drop(runtime);
        assert!(flights.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn work_in_progress_is_bounded() {
        let (flights, runs) = (Flights::new(), Arc::default());
        for key in 0..FLIGHTS_MAX {
            assert!(flights.join(&key, || Some(counted(&runs))).is_some());
        }
        assert!(flights.join(&FLIGHTS_MAX, || Some(counted(&runs))).is_none());
        assert!(flights.join(&0, || Some(counted(&runs))).is_some(), "more may join");
        sleep(2 * SECOND).await;
        assert!(flights.join(&FLIGHTS_MAX, || Some(counted(&runs))).is_some());
        assert_eq!(runs.load(Relaxed), FLIGHTS_MAX);
    }
}
