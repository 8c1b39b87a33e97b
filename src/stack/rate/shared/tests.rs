//! Turns and pauses on a real server that fails at times.

use std::sync::Arc;

use super::*;
use crate::{
    domain::{CacheControl, ChatId, Credential, Deadline, Lookup, StoreLoss},
    stack::store::{Place, Server as Address, Settings, testing::Server},
};

const SECOND: Duration = Duration::from_secs(1);
/// The pause that Hypersender asks for. The tries to share it take 1.5 s.
const PAUSE: Duration = Duration::from_secs(30);
/// The time for what happens in the background.
const SOON: Duration = Duration::from_secs(20);

async fn replica(server: &Server) -> Shared {
    let address = Address::at("127.0.0.1", server.port(), "test");
    // A slow machine must not detach the store.
    let settings = Settings { place: Place::Server(address), timeout: 2 * SECOND, replicas: 2 };
    let store = Store::open(settings, Arc::default()).await.unwrap();
    let limit = Limit { interval: SECOND, slack: Duration::ZERO };
    Shared::new(limit, store, shop(), Instant::now())
}

fn shop() -> Instance {
    Instance::parse("shop").unwrap()
}

fn lookup() -> Lookup {
    let credential = Credential::new("token".into(), &std::hash::RandomState::new());
    let deadline = Deadline::at(Instant::now() + SOON);
    let chat = ChatId::parse("15551230001").unwrap();
    let lookup = Lookup::new(shop(), credential, chat, CacheControl::default(), deadline);
    Lookup { store_loss: Some(StoreLoss::default()), ..lookup }
}

/// Waits until `replica` finds that the instance pauses.
async fn pauses(replica: &Shared) {
    let start = Instant::now();
    let far = || Booked::shared(Instant::now() + 2 * LOOK_AHEAD);
    while !replica.comes_in_pause(&mut Asking::of(&lookup()), &far()).await {
        assert!(start.elapsed() < SOON, "the pause is not shared");
    }
}

/// A turn that comes when the caller's time is nearly over would be lost to all callers.
#[tokio::test]
async fn a_turn_leaves_time_for_the_way_to_the_store() {
    let server = Server::start();
    let one = replica(&server).await;
    let mut asking = Asking::of(&lookup());
    let now = Instant::now();
    let first = one.turn(&mut asking, now, now + SOON).await.unwrap();
    let second = one.turn(&mut asking, now, now + SOON).await.unwrap();
    assert!(second.at >= first.at + SECOND - LOOK_AHEAD, "{:?}", second.at - first.at);
    let third = second.at + SECOND;
    // A machine that stalls makes the trip longer, which changes neither answer.
    one.trips.took(SECOND / 2);
    assert!(one.turn(&mut asking, Instant::now(), third + SECOND / 4).await.is_err());
    assert!(one.turn(&mut asking, Instant::now(), third + 2 * SECOND).await.is_ok());
}

#[tokio::test]
async fn a_pause_is_shared_by_a_lookup_that_asks_the_store_no_longer() {
    let server = Server::start();
    let (one, other) = (replica(&server).await, replica(&server).await);
    let mut asking = Asking::of(&lookup());
    asking.give_up();
    let wait = one.pushed_back(&mut asking, Some(PAUSE)).await;
    assert!(wait <= PAUSE && wait > PAUSE / 2, "{wait:?}");
    pauses(&other).await;
}

#[tokio::test]
async fn a_pause_is_shared_although_the_first_try_fails() {
    let server = Server::start();
    let (one, other) = (replica(&server).await, replica(&server).await);
    let killed: u64 = server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    assert!(killed >= 2, "the connections of both replicas");
    let mut asking = Asking::of(&lookup());
    let wait = one.pushed_back(&mut asking, Some(PAUSE)).await;
    assert!(wait <= PAUSE && wait > PAUSE / 2, "{wait:?}");
    assert!(!asking.goes_on(), "the look-up does not ask the store again");
    pauses(&other).await;
}

#[tokio::test]
async fn a_pause_that_began_while_the_store_was_away_is_shared_on_its_return() {
    let mut server = Server::start();
    let (one, other) = (replica(&server).await, replica(&server).await);
    server.kill();
    while matches!(one.store.attachment(), Attachment::Attached { .. }) {
        one.ask(&mut Asking::of(&lookup()), TurnMode::Look, Instant::now()).await;
    }
    let wait = one.pushed_back(&mut Asking::of(&lookup()), Some(PAUSE)).await;
    assert!(wait <= PAUSE && wait > PAUSE / 2, "{wait:?}");
    server.restart();
    // This process asks for no turn, and so tells the store nothing by itself.
    pauses(&other).await;
}

#[test]
fn the_attempts_of_a_fetch_lose_one_time_out_together() {
    let first = lookup();
    let again = first.clone();
    Asking::of(&first).give_up();
    assert!(!Asking::of(&again).goes_on(), "an attempt after that of the failure");
    assert!(Asking::of(&lookup()).goes_on(), "another fetch");
}
