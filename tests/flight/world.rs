//! [`World`]: a store and a [`Fetch`] that fills it, which notices when two fetches of a chat run side by side.

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
    LookupError, Now,
};
use shuttle::future::yield_now;
use shuttle_tokio::time::Instant;
use tower::Service;

use crate::{ask::Boxed, flight::Flight};

pub type Outcome = Result<Answer, LookupError>;

/// The flight as production builds it, above a [`Fetch`].
pub type Fetches = Boxed<Flight<Fetch>>;

/// What fetches do; the first of them alone, where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Answer,
    PanicAtFirst,
    RefuseAtFirst,
}

/// What callers and fetches share.
#[derive(Clone, Debug)]
pub struct World(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    flights_max: usize,
    start: Instant,
    instance: Instance,
    credential: Credential,
    /// Std's: shuttle's lock is a place to change tasks, and in the middle of a panic all of them would seem to panic.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    /// How often upstream was asked; the answers are numbered by it.
    asked: usize,
    /// The number of the answer that is stored, by chat.
    stored: [Option<usize>; CHATS],
    running: [bool; CHATS],
    side_by_side: bool,
    gate_closed: bool,
}

const CHATS: usize = 4;
/// In a fair order everything that can happen has happened by then.
const YIELDS_MAX: usize = 10_000;
/// Longer than any test takes, shorter than the life of a flight.
const PATIENCE: Duration = Duration::from_secs(10);

impl World {
    /// A world, and a flight in it with room for `max` fetches.
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

    /// Whether two fetches of one chat ever ran at once.
    pub fn had_side_by_side(&self) -> bool {
        self.state().side_by_side
    }

    /// From now on fetches answer, but stop short of it until the gate opens.
    pub fn close_gate(&self) {
        let mut state = self.state();
        state.plan = Plan::Answer;
        state.gate_closed = true;
    }

    pub fn open_gate(&self) {
        self.state().gate_closed = false;
    }

    /// Waits for as many fetches to stop at the gate.
    pub async fn until_running(&self, count: usize) {
        for _ in 0..YIELDS_MAX {
            if self.state().running.iter().filter(|running| **running).count() == count {
                return;
            }
            yield_now().await;
        }
        panic!("fetches that should run do not: a flight is left in the map or in the count");
    }

    /// A patient caller's question, who saw the answer of number `seen` and wants another.
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

    async fn ask(&self, chat: usize) -> Outcome {
        let (number, plan) = {
            let mut state = self.state();
            state.asked += 1;
            (state.asked, state.plan)
        };
        yield_now().await;
        match plan {
            // Past the panic hook: it is no failure of the test.
            Plan::PanicAtFirst if number == 1 => resume_unwind(Box::new("planned")),
            Plan::RefuseAtFirst if number == 1 => {
                return Err(LookupError::RateLimited { wait: Duration::from_secs(1) });
            }
            _ => {}
        }
        // Open or not, it goes on some time: else a fetch too many would hang the test instead of failing it.
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

/// A fetch in progress, however it ends.
struct Running {
    world: World,
    chat: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.world.state().running[self.chat] = false;
    }
}

/// Asks and stores, unless a newer answer than the caller saw has come in between: what `cache::Fill` does.
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
                None => world.ask(chat).await,
            }
        })
    }
}
