//! [`run`]: feeds random inputs to a check, and [`Corpus`]: alters valid inputs. `make fuzz` runs the checks.
//!
//! Each input is made from a seed of its own, the one of the input before plus one, so that a single input
//! can be repeated. The checks are the ignored tests in the files `fuzz.rs` next to the code that they feed.

use std::{
    env, fs,
    ops::Range,
    process,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

/// The time for each check, in seconds, unless `FUZZ_SECONDS` is set.
const SECONDS: u64 = 600;
/// Maximum time for one input.
const INPUT_TIME_MAX: Duration = Duration::from_secs(5);
/// An input that takes this time is taken for one that never ends, and the process is aborted.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// Maximum growth of the memory of the process during a check, in KiB. Other checks may run beside it.
const GROWTH_KIB_MAX: u64 = 128 * 1024;
/// Maximum number of alterations of one input.
const ALTERATIONS_MAX: usize = 12;
/// Maximum number of copies of a part of an input.
const COPIES_MAX: usize = 200;
/// Numbers at the limits of their types, and of images.
const LIMITS: [u64; 12] =
    [0, 1, 0x7F, 0x80, 0xFF, 2047, 2048, 2049, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF];

/// Feeds inputs to `check` until the time is over, but at least one, and prints the figures. `check` makes an
/// input from the random numbers, and returns whether it was accepted.
///
/// `FUZZ_SECONDS` has the time, and `FUZZ_SEED` the seed of the first input, which is random without it.
pub fn run(name: &'static str, mut check: impl FnMut(&mut Random) -> bool) {
    let first = setting("FUZZ_SEED").unwrap_or_else(rand::random);
    let time = Duration::from_secs(setting("FUZZ_SECONDS").unwrap_or(SECONDS));
    eprintln!("{name}: begins with FUZZ_SEED={first} and takes {} s", time.as_secs());
    let (kib, begin, current) = (peak_kib(), Instant::now(), Current::watched(name, first));
    let (mut inputs, mut accepted, mut slowest) = (0_u64, 0_u64, (Duration::ZERO, first));
    while inputs == 0 || begin.elapsed() < time {
        let seed = first.wrapping_add(inputs);
        current.seed.store(seed, Ordering::Relaxed);
        let start = Instant::now();
        accepted += u64::from(check(&mut Random::new(seed)));
        slowest = slowest.max((start.elapsed(), seed));
        assert!(slowest.0 < INPUT_TIME_MAX, "the input took {:?}", slowest.0);
        inputs += 1;
    }
    let growth = peak_kib() - kib;
    eprintln!(
        "{name}: {inputs} inputs, {accepted} accepted, slowest {:?} (FUZZ_SEED={}), {growth} KiB more memory",
        slowest.0, slowest.1
    );
    assert!(growth < GROWTH_KIB_MAX, "memory grew by {growth} KiB");
}

/// The number in a variable of the environment.
fn setting(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number")))
}

/// The peak of the memory of the process so far.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The input that is checked now. When its check panics or never ends, its seed is printed.
struct Current {
    name: &'static str,
    seed: Arc<AtomicU64>,
}

impl Current {
    fn watched(name: &'static str, first: u64) -> Self {
        let seed = Arc::new(AtomicU64::new(first));
        let watched = Arc::downgrade(&seed);
        thread::spawn(move || watch(name, &watched));
        Self { name, seed }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if thread::panicking() {
            report(self.name, self.seed.load(Ordering::Relaxed));
        }
    }
}

/// Aborts the process when the seed stays the same. Ends with the check.
fn watch(name: &str, seed: &Weak<AtomicU64>) {
    let mut last = None;
    while let Some(now) = seed.upgrade().map(|seed| seed.load(Ordering::Relaxed)) {
        if last.replace(now) == Some(now) {
            eprintln!("{name}: an input took {HANGS_AFTER:?}");
            report(name, now);
            process::abort();
        }
        thread::sleep(HANGS_AFTER);
    }
}

fn report(name: &str, seed: u64) {
    eprintln!("{name}: FUZZ_SECONDS=0 FUZZ_SEED={seed} repeats this input alone");
}

/// Random numbers from a seed.
pub struct Random(SmallRng);

impl Random {
    fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// A number from zero to less than `end`, or zero.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end.max(1))
    }

    /// Whether the case comes that comes once in `cases`.
    pub fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }

    /// One of `all`, which are not empty.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.random()
    }

    /// Up to `max` bytes, and rather few.
    pub fn bytes(&mut self, max: usize) -> Vec<u8> {
        let count = self.few(max);
        let mut bytes = vec![0; count];
        self.0.fill(&mut bytes[..]);
        bytes
    }

    /// A number of up to `max`. Small ones are as frequent as large ones.
    fn few(&mut self, max: usize) -> usize {
        let bits = self.below(usize::BITS as usize - max.leading_zeros() as usize + 1);
        self.below((1_usize << bits).min(max + 1))
    }

    /// A part of `length` bytes.
    fn part(&mut self, length: usize) -> Range<usize> {
        let start = self.below(length + 1);
        start..start + self.few(length - start)
    }
}

/// Valid inputs, and the means to alter them.
pub struct Corpus {
    /// The valid inputs, at least one.
    pub valid: Vec<Vec<u8>>,
    /// Parts that have a meaning, at least one.
    pub words: &'static [&'static [u8]],
    /// Maximum number of bytes of an input.
    pub bytes_max: usize,
}

impl Corpus {
    /// A valid input, or an altered one, or random bytes.
    pub fn draw(&self, random: &mut Random) -> Vec<u8> {
        if random.one_in(32) {
            return random.bytes(self.bytes_max.min(4096));
        }
        let mut input = random.pick(&self.valid).clone();
        for _ in 0..random.few(ALTERATIONS_MAX) {
            self.alter(&mut input, random);
            input.truncate(self.bytes_max);
        }
        input
    }

    /// Alters `input` at one place.
    fn alter(&self, input: &mut Vec<u8>, random: &mut Random) {
        let at = random.below(input.len());
        let part = random.part(input.len());
        match random.below(12) {
            0 => input.truncate(at),
            1 => drop(input.drain(part)),
            2 => {
                let copies = random.few(COPIES_MAX).min(self.bytes_max / part.len().max(1));
                let repeated = input[part.clone()].repeat(copies);
                insert(input, part.end, &repeated);
            }
            3 => {
                let other = random.pick(&self.valid);
                let from = random.part(other.len());
                let inserted = &other[from];
                drop(input.splice(part, inserted.iter().copied()));
            }
            4 => {
                let other = random.pick(&self.valid);
                let rest = &other[random.below(other.len())..];
                input.truncate(at);
                input.extend_from_slice(rest);
            }
            5 => {
                let inserted = random.bytes(64);
                insert(input, at, &inserted);
            }
            6 => {
                let word = random.pick(self.words);
                insert(input, at, word);
            }
            7 => {
                let word = random.pick(self.words);
                overwrite(input, at, word);
            }
            8 => {
                let limit = random.pick(&LIMITS).to_be_bytes();
                let mut number = limit[8 - *random.pick(&[1, 2, 3, 4])..].to_vec();
                if random.one_in(2) {
                    number.reverse();
                }
                overwrite(input, at, &number);
            }
            9 => {
                let byte = *random.pick(&[0, 0xFF, b'A', b'0']);
                input[part].fill(byte);
            }
            10 => overwrite(input, at, &random.bytes(1)),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, inserted: &[u8]) {
    drop(input.splice(at..at, inserted.iter().copied()));
}

/// Replaces the bytes from `at`, as many as there are.
fn overwrite(input: &mut [u8], at: usize, by: &[u8]) {
    for (byte, by) in input[at..].iter_mut().zip(by) {
        *byte = *by;
    }
}

#[test]
fn a_seed_gives_the_same_inputs_again_and_they_are_many() {
    let corpus = Corpus { valid: vec![vec![7; 100], vec![8; 50]], words: &[b"word"], bytes_max: 1000 };
    let draw = |seed| corpus.draw(&mut Random::new(seed));
    let inputs: Vec<_> = (0..1000).map(draw).collect();
    assert_eq!(inputs, (0..1000).map(draw).collect::<Vec<_>>());
    assert!(inputs.iter().all(|input| input.len() <= 1000));
    let different: std::collections::HashSet<_> = inputs.iter().collect();
    assert!(different.len() > 500, "{}", different.len());
    assert!(inputs.iter().any(|input| *input == corpus.valid[0]), "some are valid");
    assert!(inputs.iter().any(|input| input.windows(4).any(|part| part == b"word")));
}

#[test]
#[should_panic(expected = "refused")]
fn a_check_that_panics_ends_the_run() {
    run("a check that panics", |_| panic!("refused"));
}
