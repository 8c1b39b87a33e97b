//! A connection as its peer sees it, frame by frame.

mod own_pace;
mod peer;

use std::sync::atomic::Ordering::SeqCst;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use self::peer::{
    ACK, DATA, END_STREAM, MAX_STREAM, PING, PRIORITY, Peer, RST_STREAM, WINDOW_UPDATE, call, frame, headers,
};
use super::*;

#[tokio::test(start_paused = true)]
async fn only_a_peer_that_leaves_answers_unread_is_closed() {
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113, 6.5.2).
    for (window, closed) in [(0_u32, true), (1, true), (65_535, false)] {
        let mut peer = Peer::with_settings(&[&[0, 4][..], &window.to_be_bytes()].concat()).await;
        let begin = Instant::now();
        peer.send(&call(1)).await;
        // This is before the server closes the connection because a PING is not acknowledged.
        let ended = timeout(PING_INTERVAL + PING_TIMEOUT / 2, &mut peer.served).await;
        assert_eq!(ended.is_ok(), closed, "a window of {window}");
        assert!(begin.elapsed() >= Duration::from_secs(30), "a window of {window}");
    }
}

/// Runs on a worker of the multi-threaded scheduler, as in production. If each call had a task of its
/// own, that scheduler would run the connection after each call.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_that_came_together_are_answered_in_one_write() {
    const CALLS: u32 = 20;
    let mut peer = Peer::connect().await;
    let first = |round: u32| 1 + round * 2 * CALLS;
    for round in 0..10 {
        let before = peer.writes.load(SeqCst);
        let calls: Vec<_> = (0..CALLS).flat_map(|index| call(first(round) + 2 * index)).collect();
        peer.send(&calls).await;
        peer.answers(CALLS as usize).await;
        // The first write may be an acknowledgement of settings.
        let writes = peer.writes.load(SeqCst) - before;
        assert!(writes <= 1 + usize::from(round == 0), "{writes} writes for {CALLS} answers");
    }
}

#[tokio::test]
async fn a_call_that_was_on_its_way_when_the_connection_was_told_to_go_is_answered() {
    let mut peer = Peer::connect().await;
    peer.leaving.send_replace(true);
    assert_eq!(peer.goaway().await, MAX_STREAM, "no call is refused yet");
    let ping = peer.until(|kind, flags| kind == PING && flags != ACK).await;
    peer.send(&call(1)).await;
    peer.answers(1).await;
    peer.send(&frame(PING, ACK, 0, &ping)).await;
    assert_eq!(peer.goaway().await, 1, "the call that was answered");
    drop(peer.stream);
    peer.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_outlives_all_that_crosses_the_last_goaway() {
    let window_update = frame(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1]);
    let message = frame(DATA, END_STREAM, 3, &[0; 5]);
    for crossing in [
        vec![],
        [headers(3), window_update.clone(), message.clone()].concat(),
        [call(3), window_update].concat(),
        [headers(3), frame(RST_STREAM, 0, 3, &[0, 0, 0, 8])].concat(),
        [headers(3), frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]), message].concat(),
    ] {
        let mut peer = Peer::connect().await;
        peer.open.send_replace(false);
        peer.send(&call(1)).await;
        peer.leaving.send_replace(true);
        let ping = peer.until(|kind, flags| kind == PING && flags != ACK).await;
        // gRPC's C core writes the acknowledgement before the calls that it has queued.
        peer.send(&[frame(PING, ACK, 0, &ping), crossing.clone()].concat()).await;
        assert_eq!(peer.goaway().await, 1, "{crossing:?}");
        peer.open.send_replace(true);
        peer.answers(1).await;
        drop(peer.stream);
        peer.served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_acknowledges_nothing_gets_the_last_goaway_and_is_closed() {
    let mut peer = Peer::connect().await;
    let begin = Instant::now();
    peer.leaving.send_replace(true);
    assert_eq!(peer.goaway().await, MAX_STREAM);
    assert_eq!(peer.goaway().await, 0);
    assert_eq!(begin.elapsed().as_secs(), LEAVING_TIMEOUT.as_secs());
    // The stream of this call is above the last stream of the GOAWAY, so the peer knows that the call was
    // not processed.
    peer.send(&call(1)).await;
    peer.served.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    let mut rest = Vec::new();
    peer.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_is_answered_though_its_peer_acknowledges_nothing() {
    let mut peer = Peer::connect().await;
    peer.open.send_replace(false);
    peer.send(&call(1)).await;
    peer.leaving.send_replace(true);
    assert_eq!(peer.goaway().await, MAX_STREAM);
    assert_eq!(peer.goaway().await, 1);
    sleep(10 * LEAVING_TIMEOUT).await;
    peer.open.send_replace(true);
    peer.answers(1).await;
    drop(peer.stream);
    peer.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_in_the_middle_of_a_frame_is_closed_once_no_call_is_in_flight() {
    for in_flight in [false, true] {
        let mut peer = Peer::connect().await;
        peer.open.send_replace(false);
        let whole = if in_flight { call(1) } else { vec![] };
        peer.send(&[whole, headers(3)[..12].to_vec()].concat()).await;
        // The connection reads the frames in this time.
        sleep(Duration::from_millis(1)).await;
        peer.leaving.send_replace(true);
        let closed = timeout(2 * LEAVING_TIMEOUT, &mut peer.served).await;
        assert_eq!(closed.is_err(), in_flight);
        peer.open.send_replace(true);
        if in_flight {
            peer.answers(1).await;
            peer.served.await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_closed_when_the_server_leaves() {
    let mut peer = Peer::connect().await;
    // The peer sends PINGs until their acknowledgements fill the connection, so that no GOAWAY can be
    // written.
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(1024);
    while timeout(Duration::from_millis(1), peer.stream.write_all(&pings)).await.is_ok() {}
    let begin = Instant::now();
    peer.leaving.send_replace(true);
    peer.served.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_less_time_to_begin_once_the_server_is_leaving() {
    let (leaving, listening) = watch::channel(false);
    let begin = Instant::now();
    opening_timeout(listening.clone()).await;
    assert_eq!(begin.elapsed().as_secs(), OPENING_TIMEOUT.as_secs());
    leaving.send_replace(true);
    opening_timeout(listening).await;
    assert_eq!(begin.elapsed().as_secs(), (OPENING_TIMEOUT + LEAVING_TIMEOUT).as_secs());
}
