//! A process that is killed loses at most its last second, and never the file. The process is this test
//! binary itself, which runs one test with a variable set.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write as _},
    process::{Command, Stdio},
    thread,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::*;

/// The variable that makes a child of this binary: the path of its file.
const CHILD: &str = "STORE_FILE_TEST_CHILD";
const ROUNDS: u64 = 200;
/// Two answers follow each other within some milliseconds. A longer time between them is one in which the
/// process did not run, and counts as this long.
const STALL: Duration = Duration::from_millis(50);
/// Children at a time.
const LANES: u64 = 8;

/// The value of a contact, which is the same in every process.
fn expected(contact: u64) -> Vec<u8> {
    value(StoreTime::from_millis(1000), &format!("{contact:0>20}").repeat(20))
}

/// Writes until it is killed, and prints the number of each answer that is stored. Without the variable it
/// does nothing.
#[tokio::test]
async fn child() {
    let Some(path) = env::var_os(CHILD) else { return };
    let file = File::open(Path::new(&path), ROOM).unwrap();
    // A parent that has died kills nobody.
    let end = Instant::now() + Duration::from_secs(20);
    let mut contact = 0;
    while stored(&file, contact).await.is_some() {
        contact += 1;
    }
    while Instant::now() < end {
        let value = expected(contact);
        let written = file.write(answer(&names(contact), &value)).await.unwrap().1;
        assert_eq!(written, Written::Stored);
        let mut out = std::io::stdout();
        // The first line break ends what the test harness has printed.
        writeln!(out, "\nstored {contact}").unwrap();
        contact += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs a child for about `life`, kills it, and returns when each answer was stored, and when it was killed.
fn run_and_kill(path: &Path, life: Duration) -> (BTreeMap<u64, Instant>, Instant) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "stack::store::file::tests::kill::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = thread::spawn(move || {
        let stored = lines.map_while(Result::ok).filter_map(|line| {
            let contact = line.strip_prefix("stored ")?.parse::<u64>().ok()?;
            Some((contact, Instant::now()))
        });
        stored.collect::<BTreeMap<_, _>>()
    });
    thread::sleep(life);
    let killed = Instant::now();
    child.kill().unwrap();
    child.wait().unwrap();
    (reader.join().unwrap(), killed)
}

/// The time that the process ran after it had stored an answer. While the machine stalls it does not run.
fn age(acknowledged: &BTreeMap<u64, Instant>, contact: u64, killed: Instant) -> Duration {
    let moments: Vec<_> = acknowledged.range(contact..).map(|(_, at)| *at).chain([killed]).collect();
    moments.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0]).min(STALL)).sum()
}

/// What all rounds of a lane saw.
#[derive(Debug, Default)]
struct Seen {
    stored: usize,
    lost: usize,
    /// The age of the oldest answer that was lost.
    oldest: Duration,
}

async fn lane(lane: u64) -> Seen {
    let (_folder, path) = folder();
    let mut random = StdRng::seed_from_u64(lane);
    let mut seen = Seen::default();
    let mut total = 0;
    for round in 0..ROUNDS / LANES {
        // Some live through commits; most are killed while the file is opened or begun.
        let life = if round % 8 == 7 { 1000..2500 } else { 0..300 };
        let life = Duration::from_millis(random.random_range(life));
        let child_path = path.clone();
        let run = tokio::task::spawn_blocking(move || run_and_kill(&child_path, life));
        let (acknowledged, killed) = run.await.unwrap();
        let file = open(&path);
        assert_eq!(moved_aside(&path), Vec::<PathBuf>::new());
        let end = acknowledged.last_key_value().map_or(total, |(contact, _)| contact + 1);
        let mut found = 0;
        // The last one may have been stored without being acknowledged.
        for contact in 0..end + 10 {
            if let Some(value) = stored(&file, contact).await {
                assert_eq!(value, expected(contact));
                assert_eq!(found, contact, "an answer is there, but not the one before");
                found += 1;
                continue;
            }
            assert!(contact >= total, "an answer of an earlier process is lost");
            if acknowledged.contains_key(&contact) {
                let age = age(&acknowledged, contact, killed);
                // A machine that is slow everywhere gets another second.
                assert!(age < Duration::from_secs(2), "lost after {age:?}");
                seen.lost += 1;
                seen.oldest = seen.oldest.max(age);
            }
        }
        file.close().await;
        seen.stored += acknowledged.len();
        total = found;
    }
    seen
}

#[tokio::test]
async fn a_killed_process_loses_its_last_second_at_most() {
    let lanes: Vec<_> = (0..LANES).map(|number| tokio::spawn(lane(number))).collect();
    let mut seen = Seen::default();
    for lane in lanes {
        let Seen { stored, lost, oldest } = lane.await.unwrap();
        seen.stored += stored;
        seen.lost += lost;
        seen.oldest = seen.oldest.max(oldest);
    }
    println!("{ROUNDS} kills: {seen:?}");
    assert!(seen.stored > 1000, "{seen:?}");
}
