//! The news of the replicas: publishing, and a subscription on a connection of its own.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use redis::{Client, aio::PubSub};
use tokio::{
    sync::mpsc::{self, Sender},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    super::engine::{Failed, Heard},
    Repeat, Valkey,
    fault::Fault,
    target::CONNECT_MAX,
};

/// The most messages that wait for the receiver. With more, the subscription begins again: the receiver
/// then reads the records of the scopes, which makes up for lost messages.
pub const WAITING_MAX: usize = 1024;
/// The wait before the second attempt to subscribe; it doubles with every further one.
const BACK_OFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait between two attempts. A replica that returns must hear soon what it has missed.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// A subscription receives nothing for hours. This often it is confirmed, or else given up: a server that is
/// frozen keeps its connections.
const CONFIRM_EVERY: Duration = Duration::from_secs(5);

impl Valkey {
    /// Sends a message to all replicas.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    pub async fn publish(&self, message: Vec<u8>) -> Result<(), Failed> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(&self.channel).arg(message);
        self.link.call(&command, Repeat::Harmless).await?;
        Ok(())
    }

    /// The messages of all replicas, those of this process included. A task subscribes, again and again,
    /// until the receiver is dropped.
    pub fn subscribe(&self) -> mpsc::Receiver<Heard> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        // A message to one node of a cluster reaches the subscribers of all.
        let (nodes, channel) = (self.link.target().nodes().to_vec(), self.channel.clone());
        tokio::spawn(async move {
            let ended = sender.clone();
            tokio::select! {
                () = ended.closed() => {}
                () = hear(&nodes, &channel, &sender) => {}
            }
        });
        receiver
    }
}

/// Subscribes for ever, to one node after the other.
async fn hear(nodes: &[Client], channel: &str, sender: &Sender<Heard>) {
    let mut back_off = BACK_OFF_MIN;
    for node in nodes.iter().cycle() {
        match subscribe(node, channel).await {
            Ok(subscription) if sender.try_send(Heard::Subscribed).is_ok() => {
                back_off = BACK_OFF_MIN;
                forward(subscription, channel, sender).await;
            }
            // The receiver is too slow.
            Ok(_) => {}
            Err(failed) => {
                let _ = sender.try_send(Heard::NotSubscribed(failed));
            }
        }
        sleep(back_off.mul_f64(rand::random_range(0.5..1.0))).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

async fn subscribe(node: &Client, channel: &str) -> Result<PubSub, Failed> {
    let subscribe = async {
        let mut subscription = node.get_async_pubsub().await?;
        subscription.subscribe(channel).await?;
        Ok::<_, redis::RedisError>(subscription)
    };
    match timeout(CONNECT_MAX, subscribe).await {
        Ok(subscribed) => subscribed.map_err(|error| Failed::from(Fault::from(&error))),
        Err(_) => Err(Failed { cause: "no reply in time".into() }),
    }
}

/// Passes messages on until the connection is lost or the receiver is too slow.
async fn forward(subscription: PubSub, channel: &str, sender: &Sender<Heard>) {
    let (mut sink, mut messages) = subscription.split();
    let mut confirm = interval(CONFIRM_EVERY);
    confirm.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { return };
                let message = Heard::Message(message.get_payload_bytes().to_vec());
                if sender.try_send(message).is_err() {
                    return;
                }
            }
            _ = confirm.tick() => {
                // To subscribe to the same channel changes nothing, and needs no further right.
                let confirmed = timeout(CONNECT_MAX, sink.subscribe(channel).map(|result| result.is_ok()));
                if confirmed.await != Ok(true) {
                    return;
                }
            }
        }
    }
}
