//! [`LookUps`]: look-ups of any number of contacts at a running service, for `get` and `sync`.
//!
//! Contacts are divided into streams, which run one after the other. A stream that breaks is resumed: the
//! contacts that have no result yet are asked for again, so that each of them gets one result.

mod ended;

use std::{collections::HashMap, error::Error, time::Duration};

use prost_types::Duration as Seconds;
use secrecy::ExposeSecret;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::{Request, Status, Streaming, metadata::MetadataValue, transport::Channel};
use tonic_types::StatusExt;

use self::ended::Ended;
use super::{
    channel::{connect, connect_lazily},
    unreachable::explain_call,
    warn,
};
use crate::{
    config::Asking,
    grpc::contact::{
        CacheControl, ProfilePictureResult, StreamProfilePicturesRequest, StreamProfilePicturesResponse,
        StreamProgress, contact_service_client::ContactServiceClient,
        stream_profile_pictures_response::Event as Message,
    },
};

/// Maximum number of contacts in a stream; the service refuses more.
const STREAM_MAX: usize = 10_000;
/// Maximum size of the contacts and fingerprints in a request, with room for the tags around them: the
/// service refuses a message of more than 2 MiB.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Maximum number of events that wait for their reader. When there are more, the stream is not read on.
pub const EVENTS_MAX: usize = 64;
/// The service sends a message every 10 s at least. After this much silence the connection counts as dead,
/// and the next stream uses a new one.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Streams in a row that bring no result before the look-ups are given up. The pauses between them take two
/// to three minutes together. A stream that is silent takes [`SILENCE_MAX`] in addition.
const FRUITLESS_MAX: u32 = 10;
/// The pause before a stream is resumed: at first, and at most after doubling. A random part of it, of up to
/// a half, is left out, so that many clients do not come back together.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A contact to look up.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The chat id, as the caller wrote it.
    pub chat_id: String,
    /// The fingerprint that the caller already has, if any.
    pub fingerprint: Option<String>,
}

impl Wanted {
    fn bytes(&self) -> usize {
        // The chat id is also the key of the fingerprint.
        16 + 2 * self.chat_id.len() + self.fingerprint.as_ref().map_or(0, String::len)
    }
}

/// News of the look-ups.
#[derive(Debug)]
pub enum Event {
    /// The result for the contact at this position of the list. Each position gets one at most.
    Found(usize, Box<ProfilePictureResult>),
    /// The state of the stream, while there are no results.
    Progress(StreamProgress),
    /// The stream broke, and is resumed after this pause.
    Resuming(Duration),
}

/// Look-ups at a running service, by one caller.
pub struct LookUps {
    asking: Asking,
    channel: Channel,
    bearer: Option<MetadataValue<tonic::metadata::Ascii>>,
    cache_control: Option<CacheControl>,
    /// Whether the service has ever answered. Until then, a connection that breaks leads to no such service.
    has_answered: bool,
    /// [`SILENCE_MAX`], except in tests.
    silence_max: Duration,
}

impl LookUps {
    /// Connects to the service. With `max_age`, older answers are not accepted from its cache.
    ///
    /// # Errors
    ///
    /// The reason why there is no connection, for the user.
    pub async fn connect(asking: Asking, max_age: Option<Duration>) -> Result<Self, String> {
        let target = &asking.target;
        if asking.token.is_some() && target.tls.is_none() && !target.address.is_this_machine() {
            warn("the token travels in plain text; encrypt the connection with --tls-ca");
        }
        let channel = connect(target).await?;
        let bearer = asking.token.as_ref().map(|token| {
            let bearer = format!("Bearer {}", token.expose_secret()).parse();
            let mut bearer: MetadataValue<_> = bearer.expect("a token is visible ASCII");
            bearer.set_sensitive(true);
            bearer
        });
        let seconds = |age: Duration| i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let cache_control = max_age.map(|age| CacheControl {
            max_age: Some(Seconds { seconds: seconds(age), nanos: 0 }),
            ..CacheControl::default()
        });
        let has_answered = false;
        Ok(Self { asking, channel, bearer, cache_control, has_answered, silence_max: SILENCE_MAX })
    }

    /// A client for calls.
    pub fn client(&self) -> ContactServiceClient<Channel> {
        ContactServiceClient::new(self.channel.clone())
    }

    /// The service, and how it is asked.
    pub fn asking(&self) -> &Asking {
        &self.asking
    }

    /// A request with the token of the caller.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }

    /// The text of a failed call, for the user.
    pub fn explain(&self, status: &Status) -> String {
        explain_call(&self.asking.target, status).unwrap_or_else(|| explain(status))
    }

    /// Looks up the contacts, and sends news of them until all have a result, or until the receiver is
    /// dropped.
    ///
    /// # Errors
    ///
    /// The reason why some contacts have no result, for the user.
    pub async fn run(&mut self, wanted: &[Wanted], events: mpsc::Sender<Event>) -> Result<(), String> {
        let mut missing: Vec<usize> = (0..wanted.len()).collect();
        let mut fruitless = 0;
        while !missing.is_empty() {
            let part = part(wanted, &missing);
            let mut open: Vec<bool> = vec![true; part];
            let ended = self.stream(wanted, &missing[..part], &mut open, &events).await;
            let before = missing.len();
            let mut open = open.into_iter();
            missing.retain(|_| open.next().unwrap_or(true));
            let is_fruitful = missing.len() < before;
            let (status, pause) = match ended {
                Ended::Left => return Ok(()),
                Ended::Broken(_, status) if !self.has_answered && is_of_connection(&status) => {
                    return Err(self.explain(&status));
                }
                Ended::Broken(pause, status) => (Some(status), pause),
                Ended::Silent => {
                    self.leave_connection();
                    (None, None)
                }
                // The service promises a result for each contact; without them all, the stream broke.
                Ended::Whole if before - missing.len() < part => (None, None),
                Ended::Whole => {
                    fruitless = 0;
                    continue;
                }
                Ended::Refused(status) => return Err(self.explain(&status)),
            };
            fruitless = if is_fruitful { 1 } else { fruitless + 1 };
            if fruitless > FRUITLESS_MAX {
                return Err(match status {
                    Some(status) => self.explain(&status),
                    None => format!("{} ends its streams early, or is silent", self.asking.target.address),
                });
            }
            let pause = pause.unwrap_or_default().max(back_off(fruitless));
            if events.send(Event::Resuming(pause)).await.is_err() {
                return Ok(());
            }
            sleep(pause).await;
        }
        Ok(())
    }

    /// Makes the next stream open a connection of its own. The present one may look alive although nothing
    /// comes through it, for example when a proxy acknowledges PINGs for a service that hangs.
    fn leave_connection(&mut self) {
        // A target that was connected to once has no fault. If it had one, the old connection would stay.
        if let Ok(channel) = connect_lazily(&self.asking.target) {
            self.channel = channel;
        }
    }

    /// One stream for the contacts at `places` of `wanted`. Clears the flag of each one that gets a result.
    async fn stream(
        &mut self,
        wanted: &[Wanted],
        places: &[usize],
        open: &mut [bool],
        events: &mpsc::Sender<Event>,
    ) -> Ended {
        let request = self.request(self.message(wanted, places));
        let mut client = self.client();
        let mut stream = match timeout(self.silence_max, client.stream_profile_pictures(request)).await {
            Ok(Ok(response)) => {
                self.has_answered = true;
                response.into_inner()
            }
            Ok(Err(status)) => {
                self.has_answered |= !is_of_connection(&status);
                return Ended::by(status);
            }
            Err(_) => return Ended::Silent,
        };
        loop {
            let event = match next(&mut stream, self.silence_max).await {
                Ok(Message::Result(result)) => {
                    let index = usize::try_from(result.index).unwrap_or(usize::MAX);
                    match open.get_mut(index) {
                        Some(open) if *open => *open = false,
                        // A second result, or one for another list.
                        Some(_) | None => continue,
                    }
                    Event::Found(places[index], Box::new(result))
                }
                Ok(Message::Progress(progress)) => Event::Progress(progress),
                Err(ended) => return ended,
            };
            if events.send(event).await.is_err() {
                return Ended::Left;
            }
        }
    }

    fn message(&self, wanted: &[Wanted], places: &[usize]) -> StreamProfilePicturesRequest {
        let part = || places.iter().map(|place| &wanted[*place]);
        let known = part().filter_map(|one| Some((one.chat_id.clone(), one.fingerprint.clone()?)));
        StreamProfilePicturesRequest {
            instance: self.asking.instance.clone(),
            chat_ids: part().map(|one| one.chat_id.clone()).collect(),
            cache_control: self.cache_control,
            known_fingerprints: known.collect::<HashMap<_, _>>(),
        }
    }
}

/// The next message of a stream, or its end.
async fn next(
    stream: &mut Streaming<StreamProfilePicturesResponse>,
    silence_max: Duration,
) -> Result<Message, Ended> {
    loop {
        match timeout(silence_max, stream.message()).await {
            Ok(Ok(Some(StreamProfilePicturesResponse { event: Some(event) }))) => return Ok(event),
            // An event of a later version of the contract.
            Ok(Ok(Some(StreamProfilePicturesResponse { event: None }))) => {}
            Ok(Ok(None)) => return Err(Ended::Whole),
            Ok(Err(status)) => return Err(Ended::by(status)),
            Err(_) => return Err(Ended::Silent),
        }
    }
}

/// Whether a call failed because of its connection, and not by an answer.
fn is_of_connection(status: &Status) -> bool {
    status.source().is_some()
}

/// The number of contacts at the beginning of `missing` that fit into one stream: one at least.
fn part(wanted: &[Wanted], missing: &[usize]) -> usize {
    let mut bytes = 0;
    let fits = missing.iter().take(STREAM_MAX).take_while(|place| {
        bytes += wanted[**place].bytes();
        bytes <= REQUEST_BYTES_MAX
    });
    fits.count().max(1)
}

/// The pause before the next stream, after so many streams in a row that brought nothing.
fn back_off(fruitless: u32) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1 << fruitless.saturating_sub(1).min(10)).min(PAUSE_MAX);
    doubled.mul_f64(rand::random_range(0.5..=1.0))
}

/// The text of a status, with its reason and wait.
pub fn explain(status: &Status) -> String {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| format!(" ({})", info.reason));
    let wait = details.retry_info().and_then(|info| info.retry_delay);
    let wait = wait.map(|wait| format!("; ask again in {}", humantime::format_duration(wait)));
    format!(
        "{:?}{}: {}{}",
        status.code(),
        reason.unwrap_or_default(),
        status.message(),
        wait.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(count: usize, letters: usize) -> (Vec<Wanted>, Vec<usize>) {
        let one = Wanted { chat_id: "1".repeat(letters), fingerprint: None };
        (vec![one; count], (0..count).collect())
    }

    #[test]
    fn a_stream_holds_as_much_as_the_service_takes() {
        for (count, letters, expected) in
            [(1, 11, 1), (9_999, 11, 9_999), (10_001, 11, 10_000), (3, 300_000, 1), (2, 3_000_000, 1)]
        {
            let (wanted, missing) = wanted(count, letters);
            assert_eq!(part(&wanted, &missing), expected, "{count} {letters}");
        }
    }

    #[test]
    fn pauses_grow_and_differ() {
        for (fruitless, most) in [(1, 500), (2, 1_000), (3, 2_000), (9, 30_000), (99, 30_000)] {
            let most = Duration::from_millis(most);
            let pause = back_off(fruitless);
            assert!(pause <= most && pause >= most / 2, "{fruitless}: {pause:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_silent_is_resumed_on_another_connection() {
        // The peer takes connections and says nothing, as a proxy in front of a service that hangs.
        let peer = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = peer.local_addr().unwrap().to_string().parse().unwrap();
        let target = crate::config::Target { address, timeout: Duration::from_secs(60), tls: None };
        let asking = Asking { instance: String::new(), target, token: None };
        let mut look_ups = LookUps::connect(asking, None).await.unwrap();
        look_ups.silence_max = Duration::from_millis(1);
        let (sender, mut events) = mpsc::channel(EVENTS_MAX);
        let (wanted, _) = wanted(1, 11);
        let look_ups = tokio::spawn(async move { look_ups.run(&wanted, sender).await });
        let first = peer.accept().await.unwrap();
        assert!(matches!(events.recv().await, Some(Event::Resuming(_))));
        let second = peer.accept().await.unwrap();
        drop(events);
        assert_eq!(look_ups.await.unwrap(), Ok(()));
        drop((first, second));
    }

    #[tokio::test]
    async fn a_peer_that_never_answers_is_given_up_at_once() {
        // The peer ends each connection, as the port of a service with TLS does.
        let peer = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = peer.local_addr().unwrap().to_string().parse().unwrap();
        let target = crate::config::Target { address, timeout: Duration::from_secs(60), tls: None };
        let closing = tokio::spawn(async move { while peer.accept().await.is_ok() {} });
        let asking = Asking { instance: String::new(), target, token: None };
        let mut look_ups = LookUps::connect(asking, None).await.unwrap();
        let (sender, mut events) = mpsc::channel(EVENTS_MAX);
        let (wanted, _) = wanted(1, 11);
        let look_ups = tokio::spawn(async move { look_ups.run(&wanted, sender).await });
        assert!(look_ups.await.unwrap().unwrap_err().contains("--tls-ca"));
        assert!(events.recv().await.is_none(), "nothing is resumed");
        closing.abort();
    }
}
