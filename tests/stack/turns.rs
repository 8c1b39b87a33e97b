//! The turns of the rate limit, shared by callers, batches, streams and the refreshes of all three.

mod batches;
mod joined;
mod refreshes;
mod spare;

use std::time::Duration;

use hypersender_grpc::{
    domain::LookupError,
    stack::{RateSettings, Settings},
};
use tokio::{task::JoinHandle, time::sleep};

use crate::support::*;

fn limited(per_second: f64, burst: u32) -> Settings {
    Settings { rate: RateSettings { per_second, burst }, ..plain() }
}

/// Asks for one contact as a stream does: when there is no spare turn, it waits for the next one.
async fn ask_in_stream(front: &Front, ask: Ask) -> Outcome {
    loop {
        match front.ask(ask.clone().in_stream()).await {
            Err(LookupError::NoTurnYet { wait }) => sleep(wait).await,
            outcome => return outcome,
        }
    }
}

/// Streams that ask for new contacts for ever, each for one at a time. The numbers begin at 1,000.
fn greedy_streams(front: &Front, streams: usize) -> Vec<JoinHandle<()>> {
    let stream = |stream: usize| {
        let front = front.clone();
        tokio::spawn(async move {
            for chat in 0.. {
                // A failure is the result of its contact.
                let _ = ask_in_stream(&front, contact(1_000 * (stream + 1) + chat)).await;
                tokio::task::yield_now().await;
            }
        })
    };
    (0..streams).map(stream).collect()
}

/// The times of callers that ask for these contacts now, in order.
async fn waits(front: &Front, chats: impl IntoIterator<Item = usize>) -> Vec<Duration> {
    let start = front.time();
    let callers: Vec<_> = chats
        .into_iter()
        .map(|chat| {
            let front = front.clone();
            tokio::spawn(async move {
                front.ask(contact(chat)).await.unwrap();
                front.time() - start
            })
        })
        .collect();
    let mut waits = Vec::new();
    for caller in callers {
        waits.push(caller.await.unwrap());
    }
    waits.sort();
    waits
}
