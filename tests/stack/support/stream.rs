//! [`Many`]: the contacts of a stream. [`Streaming`]: the stream under test, whatever is below it.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::BoxFuture;
use hypersender_grpc::{
    domain::{CacheControl, ChatId, Credential, Instance, LookupError},
    stack::{Contacts, Forecast, Found, LookupService, LookupStream},
};
use tokio::{task::JoinHandle, time::Instant};

use super::{Front, HOUR, Outcome};

/// The contacts of a stream with a deadline of 2 h, unless it says otherwise.
#[derive(Clone, Debug)]
pub struct Many {
    instance: &'static str,
    chats: Vec<usize>,
    token: &'static str,
    control: CacheControl,
    within: Duration,
}

pub fn contacts(chats: impl IntoIterator<Item = usize>) -> Many {
    let (chats, control) = (chats.into_iter().collect(), CacheControl::default());
    Many { instance: "shop", chats, token: "token", control, within: 2 * HOUR }
}

impl Many {
    pub fn of(self, instance: &'static str) -> Self {
        Self { instance, ..self }
    }

    pub fn with_token(self, token: &'static str) -> Self {
        Self { token, ..self }
    }

    pub fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }

    pub fn only_if_cached(mut self) -> Self {
        self.control.only_if_cached = true;
        self
    }

    pub fn stale_if_error(mut self, most: Duration) -> Self {
        self.control.stale_if_error = Some(most);
        self
    }
}

pub trait Streaming: Send {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Found, LookupError>>>;
    fn leave_queue(&mut self);
    fn stop(&mut self);
    fn forecast(&self) -> Forecast;
}

impl<F: LookupService> Streaming for LookupStream<F> {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Found, LookupError>>> {
        Box::pin(self.next())
    }

    fn leave_queue(&mut self) {
        self.leave_queue();
    }

    fn stop(&mut self) {
        self.stop();
    }

    fn forecast(&self) -> Forecast {
        self.forecast()
    }
}

/// The results of a stream.
#[derive(Debug, Default)]
pub struct Ended {
    /// The result of each contact by its index, and when it came.
    pub results: BTreeMap<usize, (Outcome, Duration)>,
    /// The error that ended the stream.
    pub error: Option<LookupError>,
}

impl Ended {
    pub fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.results.values().filter(|(outcome, _)| is(outcome)).count()
    }

    /// The number of answers.
    pub fn answers(&self) -> usize {
        self.count(Result::is_ok)
    }

    /// The results that are errors.
    pub fn errors(&self) -> Vec<LookupError> {
        self.results.values().filter_map(|(outcome, _)| outcome.clone().err()).collect()
    }

    /// When the last result came.
    pub fn last(&self) -> Duration {
        self.results.values().map(|(_, at)| *at).max().unwrap()
    }
}

impl Front {
    pub fn stream(&self, many: Many) -> Box<dyn Streaming> {
        let Many { instance, chats, token, control, within } = many;
        let chat = |chat: usize| ChatId::parse(&(15_550_000_000 + chat).to_string()).unwrap();
        (self.streams)(Contacts {
            instance: Instance::parse(instance).unwrap(),
            credential: Credential::new(token.into(), &self.hasher),
            chats: chats.into_iter().map(chat).collect(),
            control,
            deadline: Instant::now() + within,
        })
    }

    /// Reads a stream to its end. No contact has two results.
    pub async fn read(&self, stream: &mut dyn Streaming) -> Ended {
        let mut ended = Ended::default();
        while let Some(next) = stream.next().await {
            match next {
                Ok(Found { contact, result }) => {
                    let twice = ended.results.insert(contact, (result, self.time()));
                    assert!(twice.is_none(), "{contact} has two results");
                }
                Err(error) => {
                    assert!(ended.error.replace(error).is_none(), "the stream ends once");
                }
            }
        }
        ended
    }

    /// Looks up all of them in a stream, in a new task.
    pub fn look_up(&self, many: Many) -> JoinHandle<Ended> {
        let front = self.clone();
        tokio::spawn(async move {
            let mut stream = front.stream(many);
            front.read(&mut *stream).await
        })
    }
}
