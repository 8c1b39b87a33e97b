//! [`World`]: a store and a [`Fetch`] that fills it. It records whether two fetches of the same chat ran at
//! the same time.

use std::{
    hash::RandomState,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use hypersender_grpc::domain::{
    Absence, Answer, CacheControl, CacheInfo, ChatId, Credential, Deadline, Finding, Instance, Lookup,
    LookupError, Now, Purpose,
};
use shuttle::future::yield_now;
use shuttle_tokio::time::Instant;
use tower::Service;

use crate::{ask::Boxed, flight::Flight};

pub type Outcome = Result<Answer, LookupError>;

/// The flight as production builds it, above a [`Fetch`].
pub type Fetches = Boxed<Flight<Fetch>>;

/// The behaviour of the fetches, or of the first fetch only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Answer,
    PanicAtFirst,
    RefuseAtFirst,
    /// A flight with streams alone finds no spare turn. Its terms are read in the middle of the fetch.
    RefuseStreams,
}

/// The state that callers and fetches share.
#[derive(Clone, Debug)]
pub struct World(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    flights_max: usize,
    start: Instant,
    instance: Instance,
    credential: Credential,
    /// A lock of std. With shuttle's lock the scheduler could change tasks during a panic, and every other
    /// task would seem to panic, too.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    /// The number of requests to upstream. It numbers the answers.
    asked: usize,
    /// For each chat, the number of the stored answer.
    stored: [Option<usize>; CHATS],
    running: [bool; CHATS],
    side_by_side: bool,
    gate_closed: bool,
}

const CHATS: usize = 4;
/// The bound of a wait. In a fair order, every possible event has happened after this number of yields.
const YIELDS_MAX: usize = 10_000;
/// The deadline of the callers: longer than any test takes and shorter than the life of a flight.
const PATIENCE: Duration = Duration::from_secs(10);

impl World {
    /// A world and its flight, which has room for `max` fetches.
    pub fn with_flights(max: usize, plan: Plan) -> (Fetches, Self) {
        let world = Self(Arc::new(Shared {
            flights_max: max,
            start: Instant::now(),
            instance: Instance::parse("model").unwrap(),
            credential: Credential::new("token".into(), &RandomState::new()),
            state: Mutex::new(State {
                plan,
                asked: 0,
                stored: [None; CHATS],
                running: [false; CHATS],
                side_by_side: false,
                gate_closed: false,
            }),
        }));
        (Boxed(Flight::new(max, Arc::default(), Fetch(world.clone()))), world)
    }

    pub fn flights_max(&self) -> usize {
        self.0.flights_max
    }

    pub fn asked(&self) -> usize {
        self.state().asked
    }

    pub fn stored(&self, chat: usize) -> Option<usize> {
        self.state().stored[chat]
    }

    /// Whether two fetches of the same chat have run at the same time.
    pub fn had_side_by_side(&self) -> bool {
        self.state().side_by_side
    }

    /// From now on, fetches wait before their answer until the gate opens.
    pub fn close_gate(&self) {
        let mut state = self.state();
        state.plan = Plan::Answer;
        state.gate_closed = true;
    }

    pub fn open_gate(&self) {
        self.state().gate_closed = false;
    }

    /// Waits until this number of fetches is running.
    pub async fn until_running(&self, count: usize) {
        for _ in 0..YIELDS_MAX {
            if self.state().running.iter().filter(|running| **running).count() == count {
                return;
            }
            yield_now().await;
        }
        panic!("fetches that should run do not: a flight is left in the map or in the count");
    }

    /// The look-up of a caller that has seen the answer number `seen` and wants a newer one.
    pub fn lookup(&self, chat: usize, seen: Option<usize>) -> Lookup {
        let id = ChatId::parse(&format!("{chat:05}")).unwrap();
        let Shared { instance, credential, start, .. } = &*self.0;
        let deadline = Deadline::at(*start + PATIENCE);
        let control = CacheControl::default();
        let lookup = Lookup::new(instance.clone(), credential.clone(), id, control, deadline);
        Lookup { seen: seen.map(|number| self.told_at(number)), ..lookup }
    }

    pub fn answer(&self, number: usize) -> Answer {
        let fetched = Now { instant: self.told_at(number), wall: SystemTime::UNIX_EPOCH };
        let finding = Finding::Absent(Absence::Null);
        Answer { finding, fetched, took: Duration::ZERO, cache: CacheInfo::FETCHED }
    }

    pub fn number(&self, answer: &Answer) -> usize {
        usize::try_from(answer.fetched.instant.duration_since(self.0.start).as_secs()).unwrap()
    }

    fn told_at(&self, number: usize) -> Instant {
        self.0.start + Duration::from_secs(number as u64)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn take_off(&self, chat: usize) -> Running {
        let mut state = self.state();
        state.side_by_side |= state.running[chat];
        state.running[chat] = true;
        Running { world: self.clone(), chat }
    }

    async fn ask(&self, chat: usize, lookup: &Lookup) -> Outcome {
        if self.state().plan == Plan::RefuseStreams {
            yield_now().await;
            if lookup.purpose() == Purpose::Stream {
                yield_now().await;
                return Err(LookupError::NoTurnYet { wait: Duration::ZERO });
            }
        }
        let (number, plan) = {
            let mut state = self.state();
            state.asked += 1;
            (state.asked, state.plan)
        };
        yield_now().await;
        match plan {
            // This bypasses the panic hook, since the panic is no failure of the test.
            Plan::PanicAtFirst if number == 1 => resume_unwind(Box::new("planned")),
            Plan::RefuseAtFirst if number == 1 => {
                return Err(LookupError::RateLimited { wait: Duration::from_secs(1) });
            }
            _ => {}
        }
        // The wait is bounded, so that a superfluous fetch makes the test fail and not hang.
        for _ in 0..YIELDS_MAX {
            if !self.state().gate_closed {
                break;
            }
            yield_now().await;
        }
        self.state().stored[chat] = Some(number);
        yield_now().await;
        Ok(self.answer(number))
    }
}

/// A fetch in progress. Dropping it ends the fetch.
struct Running {
    world: World,
    chat: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.world.state().running[self.chat] = false;
    }
}

/// Asks upstream and stores the answer, like `cache::Fill`. It does not ask if the store has a newer answer
/// than the one that the caller has seen.
#[derive(Clone, Debug)]
pub struct Fetch(World);

impl Service<Lookup> for Fetch {
    type Response = Answer;
    type Error = LookupError;
    type Future = BoxFuture<'static, Outcome>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, lookup: Lookup) -> Self::Future {
        let world = self.0.clone();
        Box::pin(async move {
            let chat = lookup.key.chat.as_str().parse().unwrap();
            let _running = world.take_off(chat);
            yield_now().await;
            let stored = world.stored(chat);
            match stored.filter(|number| Some(world.told_at(*number)) > lookup.seen) {
                Some(number) => Ok(world.answer(number)),
                None => world.ask(chat, &lookup).await,
            }
        })
    }
}
