//! The turns of an instance. Their rules are tested where the scripts are compared with the limiter of a
//! process.

use super::{
    super::super::engine::{TurnMode, TurnReply, TurnRequest},
    *,
};

const SECOND: Duration = Duration::from_secs(1);

fn request(mode: TurnMode) -> TurnRequest {
    TurnRequest {
        mode,
        interval: SECOND,
        slack: 3 * SECOND,
        patience: Duration::ZERO,
        known_free_in: Duration::ZERO,
        known_pause: Duration::ZERO,
        known_changes: 0,
    }
}

async fn turn(valkey: &Valkey, request: TurnRequest) -> TurnReply {
    valkey.turn(TAG, request).await.unwrap()
}

#[tokio::test]
async fn a_turn_is_booked_and_given_back() {
    let server = Server::start();
    let (one, other) = (valkey(&server), valkey(&server));
    let first = turn(&one, request(TurnMode::Book)).await;
    assert_eq!(first.turn, Ok(Duration::ZERO));
    assert_eq!((first.free_in, first.pause), (4 * SECOND, Duration::ZERO));
    let refused = turn(&other, request(TurnMode::Book)).await;
    let wait = refused.turn.unwrap_err();
    assert!(wait <= SECOND, "{wait:?}");
    let patient = TurnRequest { patience: 30 * SECOND, ..request(TurnMode::Book) };
    let waited = turn(&other, patient).await.turn.unwrap();
    assert!(waited > Duration::ZERO && waited <= SECOND, "{waited:?}");
    other.give_back(TAG, waited, SECOND, 3 * SECOND).await.unwrap();
    let looked = turn(&one, request(TurnMode::Look)).await.turn.unwrap_err();
    assert!(looked <= waited, "{looked:?}");
    let spare = turn(&one, request(TurnMode::Spare)).await;
    assert!(spare.turn.is_err(), "{spare:?}");
}

#[tokio::test]
async fn a_pause_holds_for_all() {
    let server = Server::start();
    let (one, other) = (valkey(&server), valkey(&server));
    let look = request(TurnMode::Look);
    let pause = one.push_back(TAG, Some(60 * SECOND), false, look).await.unwrap().pause;
    assert_eq!(pause, 60 * SECOND);
    let patient = TurnRequest { patience: 30 * SECOND, ..request(TurnMode::Book) };
    let refused = turn(&other, patient).await;
    assert!(refused.turn.unwrap_err() > 30 * SECOND, "{refused:?}");
    assert!(refused.pause > 30 * SECOND && refused.pause <= 60 * SECOND, "{refused:?}");
    // Without a hint the pauses grow. The pause that there is holds.
    let same = other.push_back(TAG, None, true, look).await.unwrap().pause;
    assert!(same > 30 * SECOND && same <= 60 * SECOND, "{same:?}");
}

#[tokio::test]
async fn a_store_that_lost_its_turns_takes_those_that_are_known() {
    let server = Server::start();
    let valkey = valkey(&server);
    let known = TurnRequest {
        known_free_in: 13 * SECOND,
        known_pause: 5 * SECOND,
        known_changes: 7,
        ..request(TurnMode::Look)
    };
    let reply = turn(&valkey, known).await;
    assert_eq!((reply.free_in, reply.pause, reply.turn), (13 * SECOND, 5 * SECOND, Err(10 * SECOND)));
}
