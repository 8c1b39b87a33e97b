//! Memory of the cache: the resident bytes per entry, the estimate of the cache, and whether its bounds hold.
//!
//! Each row runs in a separate process, because a row would reuse the memory that an earlier one freed. The
//! benchmark fails if a bound does not hold.

use std::{
    env, fs,
    process::{Command, ExitCode},
    sync::Arc,
};

use hypersender_grpc::stack::CacheSettings;
use tokio::task::JoinSet;

mod upstream;

// The allocator of the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of keys. Each one is looked up once.
const KEYS: usize = 1_000_000;
/// The number of concurrent callers, on as many threads as the service has.
const CALLERS: usize = 32;
/// The most resident bytes per entry at that number, with the payload.
const ENTRY_BYTES_MAX: usize = 400;
/// The percentage by which the resident memory may exceed the bound. The cache counts its content, not the
/// fragmentation.
const BYTES_OVER_MAX: usize = 15;

struct Row {
    name: &'static str,
    entries: usize,
    bytes: usize,
}

const ROWS: [Row; 3] = [
    Row { name: "1,000,000 entries", entries: KEYS, bytes: 1 << 40 },
    Row { name: "100,000 entries", entries: 100_000, bytes: 96 << 20 },
    Row { name: "64 MiB", entries: KEYS, bytes: 64 << 20 },
];

fn main() -> ExitCode {
    if let Some(row) = env::args().nth(1).and_then(|name| ROWS.into_iter().find(|row| row.name == name)) {
        return run(&row);
    }
    println!("{KEYS} keys, each with a link of {} bytes: with its key 196 bytes\n", upstream::LINK_BYTES);
    println!(
        "{:<18} {:>9} {:>13} {:>13} {:>12}",
        "bound", "entries", "believed MiB", "resident MiB", "bytes/entry"
    );
    let program = env::current_exe().expect("this program has a path");
    let run = |row: &Row| Command::new(&program).arg(row.name).status().is_ok_and(|status| status.success());
    // All rows run, even if one fails.
    let kept = ROWS.iter().map(run).filter(|kept| *kept).count();
    if kept == ROWS.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(row: &Row) -> ExitCode {
    let settings = CacheSettings { entries: row.entries, bytes: row.bytes, ..CacheSettings::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().expect("it starts");
    let callers = Arc::new(upstream::callers(settings, CALLERS));
    // The memory that the first call allocates belongs to no entry.
    runtime.block_on(callers.call(0));
    let before = resident();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for first in 0..CALLERS {
            let callers = callers.clone();
            tasks.spawn(async move {
                for number in (first..KEYS).step_by(CALLERS) {
                    callers.call(number).await;
                }
            });
        }
        tasks.join_all().await;
    });
    let resident = resident().saturating_sub(before);
    assert_eq!(callers.asked(), KEYS);

    let (entries, believed) = (callers.cache().len(), callers.cache().bytes());
    let per_entry = resident / entries.max(1);
    println!("{:<18} {entries:>9} {:>13} {:>13} {per_entry:>12}", row.name, believed >> 20, resident >> 20);
    let bounds = [
        (entries <= row.entries, "more entries than allowed"),
        (believed <= row.bytes, "the cache believes that it takes more bytes than allowed"),
        (resident <= row.bytes / 100 * (100 + BYTES_OVER_MAX), "more bytes are resident than allowed"),
        (entries < KEYS || per_entry <= ENTRY_BYTES_MAX, "an entry takes more bytes than it may"),
    ];
    let broken =
        bounds.iter().filter(|(kept, _)| !kept).inspect(|(_, what)| println!("  BROKEN: {what}")).count();
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    /// The size of a page, the unit of proc(5), on the machines of the benchmark.
    const PAGE_BYTES: usize = 4096;
    let statm = fs::read_to_string("/proc/self/statm").expect("this bench needs Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("proc(5): the second number is what is resident") * PAGE_BYTES
}
