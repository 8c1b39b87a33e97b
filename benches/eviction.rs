//! The value of the order of eviction: the hit ratio of this cache, of exact LRU and of moka on artificial
//! traces.
//!
//! The benchmark fails if the hit ratio of this cache is more than a point below that of LRU.

use std::{num::NonZeroUsize, process::ExitCode};

use hypersender_grpc::stack::CacheSettings;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

mod upstream;

const REQUESTS: usize = 1_000_000;
const KEYS: usize = 100_000;
/// Room for one key in ten.
const ENTRIES: usize = KEYS / 10;
const EXPONENT: f64 = 0.9;
/// The points by which the hit ratio of this cache may be below that of LRU.
const BEHIND_MAX: f64 = 1.0;
const SEED: u64 = 25;

/// A function that returns the next key.
type Trace = fn(&mut dyn Rng, &[f64], usize) -> usize;

const TRACES: [(&str, Trace); 3] = [
    ("Zipf 0.9", |random, zipf, _| popular(random, zipf)),
    // Every third request is for a key that never comes again, like in a walk through a list.
    ("with one-off keys", |random, zipf, at| if at % 3 == 0 { KEYS + at } else { popular(random, zipf) }),
    // Popularity changes. An order that only counts requests does not follow it.
    ("drifting", |random, zipf, at| (popular(random, zipf) + at / 100) % KEYS),
];

fn main() -> ExitCode {
    let zipf = zipf();
    println!("{REQUESTS} requests, {KEYS} keys, room for {ENTRIES}: hits in percent\n");
    println!("{:<18} {:>10} {:>10} {:>10}", "trace", "this cache", "LRU", "moka");
    let mut kept = true;
    for (name, next) in TRACES {
        let mut random = StdRng::seed_from_u64(SEED);
        let trace: Vec<_> = (0..REQUESTS).map(|at| next(&mut random, &zipf, at)).collect();
        let (ours, lru, moka) = (ours(&trace), lru(&trace), moka(&trace));
        println!("{name:<18} {ours:>10.2} {lru:>10.2} {moka:>10.2}");
        if ours < lru - BEHIND_MAX {
            println!("  BROKEN: more than {BEHIND_MAX} behind LRU");
            kept = false;
        }
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The share of requests for the first key, for the first two keys, and so on. The n-th key gets 1/n^0.9 of
/// the requests of the first one.
#[expect(clippy::cast_precision_loss, reason = "there are few keys")]
fn zipf() -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums: Vec<_> = (1..=KEYS)
        .map(|rank| {
            sum += (rank as f64).powf(-EXPONENT);
            sum
        })
        .collect();
    for share in &mut sums {
        *share /= sum;
    }
    sums
}

fn popular(random: &mut dyn Rng, zipf: &[f64]) -> usize {
    let share = random.random::<f64>();
    zipf.partition_point(|sum| *sum < share).min(KEYS - 1)
}

/// The hit ratio of the whole stack. A look-up without a request to upstream is a hit.
fn ours(trace: &[usize]) -> f64 {
    let callers = upstream::callers(CacheSettings { entries: ENTRIES, ..CacheSettings::default() }, 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it starts");
    runtime.block_on(async {
        for number in trace {
            callers.call(*number).await;
        }
    });
    assert!(callers.cache().len() <= ENTRIES);
    percent(trace.len() - callers.asked())
}

fn lru(trace: &[usize]) -> f64 {
    let mut cache = lru::LruCache::new(NonZeroUsize::new(ENTRIES).expect("there is room"));
    percent(trace.iter().filter(|number| cache.put(**number, ()).is_some()).count())
}

fn moka(trace: &[usize]) -> f64 {
    let cache = moka::sync::Cache::new(ENTRIES as u64);
    let hit = |number: &&usize| {
        let hit = cache.get(*number).is_some();
        if !hit {
            cache.insert(**number, ());
        }
        // moka delays its housekeeping, which a trace without pauses would never run.
        cache.run_pending_tasks();
        hit
    };
    percent(trace.iter().filter(hit).count())
}

#[expect(clippy::cast_precision_loss, reason = "there are few requests")]
fn percent(hits: usize) -> f64 {
    hits as f64 * 100.0 / REQUESTS as f64
}
