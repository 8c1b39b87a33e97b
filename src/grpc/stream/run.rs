//! [`Run`]: the course of one stream, from the first result to the trailers.

use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use http::HeaderMap;
use tokio::time::{Instant, sleep_until};

use super::{
    interrupts::{Interrupts, Stop},
    messages::{Messages, NoRoom},
};
use crate::{
    domain::{CallEnd, LookupError, Refusal},
    grpc::{
        contact::StreamProgress,
        picture::timestamp,
        status::{HasStatus, status},
        unary::trailers_ok,
    },
    stack::{Forecast, Found, LookupService, LookupStream},
};

/// A stream without a message for this long sends its progress. The idle time-outs of proxies are longer.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Why a stream ends before its last result.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// The server ends it.
    Refused(Refusal),
    /// No further contact can be looked up.
    Failed(LookupError),
    /// The reader takes no further message.
    Unread(NoRoom),
}

impl From<NoRoom> for Ending {
    fn from(no_room: NoRoom) -> Self {
        Self::Unread(no_room)
    }
}

impl From<Refusal> for Ending {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A result of the look-ups, or the end of them.
type Next = Option<Result<Found, LookupError>>;

/// A stream in progress.
pub struct Run<F> {
    messages: Messages,
    lookups: LookupStream<F>,
    interrupts: Interrupts,
}

impl<F: LookupService> Run<F> {
    /// A stream that has not begun.
    pub fn new(messages: Messages, lookups: LookupStream<F>, interrupts: Interrupts) -> Self {
        Self { messages, lookups, interrupts }
    }

    /// Sends every result.
    ///
    /// # Errors
    ///
    /// The reason why results are missing.
    pub async fn results(&mut self) -> Result<(), Ending> {
        for index in self.messages.malformed() {
            self.room().await?;
            self.messages.result(index, None);
        }
        loop {
            self.room().await?;
            match self.next().await? {
                Some(Ok(Found { contact, result })) => {
                    for index in self.messages.indices(contact) {
                        self.room().await?;
                        self.messages.result(index, Some(result.clone()));
                    }
                }
                Some(Err(error)) => return Err(Ending::Failed(error)),
                None if self.messages.are_complete() => return Ok(()),
                None if self.interrupts.has_stopped() => return Err(Refusal::ServerStopping.into()),
                None => return Err(Refusal::Internal.into()),
            }
        }
    }

    /// Sends the last progress and the trailers, and waits until the reader has taken everything.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when it does not take them.
    pub async fn finish(self, results: Result<(), Ending>, end: CallEnd) -> Result<(), NoRoom> {
        let Self { mut messages, lookups, .. } = self;
        // Other streams must not wait for the place or the permits of one that only waits for its reader.
        drop(lookups);
        let trailers = match results {
            Ok(()) => trailers_ok(),
            Err(Ending::Refused(refusal)) => trailers(&refusal, end),
            Err(Ending::Failed(error)) => trailers(&error, end),
            Err(Ending::Unread(no_room)) => return Err(no_room),
        };
        messages.last_progress(progress(Forecast::default()));
        messages.end(trailers);
        messages.written().await
    }

    /// Waits for the room for one more result.
    async fn room(&mut self) -> Result<(), Ending> {
        if self.messages.try_room() {
            return Ok(());
        }
        // Another stream can use the turns that this one cannot use now.
        self.lookups.leave_queue();
        loop {
            tokio::select! {
                room = self.messages.room() => return Ok(room?),
                stop = self.interrupts.next() => {
                    let Stop = stop?;
                    self.lookups.stop();
                }
            }
        }
    }

    /// The next result. Progress is sent meanwhile.
    async fn next(&mut self) -> Result<Next, Ending> {
        if let Some(next) = self.lookups.next().now_or_never() {
            return Ok(next);
        }
        self.messages.flush();
        loop {
            let silent_until = self.messages.last_sent() + SILENCE_MAX;
            tokio::select! {
                biased;
                next = self.lookups.next() => return Ok(next),
                stop = self.interrupts.next() => {
                    let Stop = stop?;
                    self.lookups.stop();
                }
                () = self.messages.left() => return Err(NoRoom::Left.into()),
                () = self.messages.unread() => return Err(NoRoom::SlowReader.into()),
                () = sleep_until(silent_until) => {
                    let forecast = self.lookups.forecast();
                    self.messages.progress(progress(forecast));
                }
            }
        }
    }
}

/// The forecast in the terms of the contract.
fn progress(forecast: Forecast) -> StreamProgress {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let at = |instant: Instant| timestamp(wall + instant.saturating_duration_since(now));
    StreamProgress {
        next_turn_time: forecast.next_turn.map(at),
        paused_until: forecast.paused_until.map(at),
        ..Default::default()
    }
}

/// The trailers of a stream that ends in an error.
fn trailers(error: &impl HasStatus, end: CallEnd) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // It fails only for metadata that this server does not send.
    let _ = status(error, end).add_header(&mut trailers);
    trailers
}
