//! [`LookupError`]: why there is no answer, one variant for each thing a caller could act on.
//!
//! `Display` is what the caller reads. It never holds a token, a number, a link or a word of Hypersender's; the sources
//! of an error go to the log where it is found, not up the stack.

use std::time::Duration;

use thiserror::Error;

/// A queued request and a starting instance take longer than a moment.
const SLOW_WAIT: Duration = Duration::from_secs(5);

/// Why a look-up has no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LookupError {
    /// The caller named no instance and the server has no default one.
    #[error("the call names no instance and the server has no default instance")]
    InstanceMissing,
    /// The name is not one an instance could have.
    #[error("instance must be 1 to 64 characters of A-Z a-z 0-9 _ -")]
    InstanceInvalid,
    /// The chat id is none of the allowed forms.
    #[error(
        "chat_id must be a phone number of 5 to 15 digits, or 5 to 20 digits followed by @c.us, @s.whatsapp.net \
         or @lid; blanks at the ends and one leading + are ignored"
    )]
    ChatIdInvalid,
    /// A duration in the cache control is negative or out of range.
    #[error("cache_control.{field} must be a duration that is valid and not negative")]
    CacheControlInvalid {
        /// The field of `CacheControl`, as the proto names it.
        field: &'static str,
    },
    /// The request body is no such message.
    #[error("the request body must be one GetProfilePictureRequest, encoded as protobuf")]
    MessageInvalid,
    /// The request message is compressed.
    #[error("compressed messages are not taken; send them without grpc-encoding")]
    CompressionUnsupported,
    /// The request message is too large.
    #[error("the request message is larger than any valid one")]
    MessageTooLarge,
    /// The metadata of the call is too large.
    #[error("the metadata of the call is larger than 16 KiB")]
    MetadataTooLarge,
    /// Nobody knows who calls.
    #[error("{0}")]
    CallerUnknown(Unknown),
    /// The caller is known, and the instance is not for it.
    #[error("the caller may not ask this instance")]
    InstanceNotAllowed,
    /// The server holds no token for the instance.
    #[error("no token is configured for this instance")]
    InstanceNotConfigured,
    /// Only a cached answer was wanted and there is none.
    #[error("the contact is not cached and cache_control asks for cached answers only")]
    NotCached,
    /// The server's own rate limit.
    #[error("the server's rate limit for this instance is reached")]
    RateLimited {
        /// When a turn would come.
        wait: Duration,
    },
    /// Too much work in progress.
    #[error("the server is working at its limit")]
    Overloaded,
    /// Calls to Hypersender are suspended after failures.
    #[error("Hypersender keeps failing for this instance; the server pauses before it asks again")]
    CircuitOpen {
        /// When it is asked again.
        wait: Duration,
    },
    /// The caller's time is up.
    #[error("the deadline passed before Hypersender answered")]
    DeadlineExceeded,
    /// A defect of this server.
    #[error("internal error")]
    Internal,
    /// Hypersender rejects the token.
    #[error("{0}")]
    CredentialsRejected(Rejected),
    /// Hypersender rejects the request.
    #[error("Hypersender rejects the request for this contact")]
    RequestRejected,
    /// There is no such contact.
    #[error("{0}")]
    NotFound(NotFound),
    /// The instance is being started.
    #[error("the WhatsApp instance is starting")]
    InstanceStarting,
    /// The instance is not logged in to WhatsApp.
    #[error("the WhatsApp instance is not connected; connect it in the Hypersender dashboard")]
    InstanceNotConnected,
    /// Hypersender's rate limit.
    #[error("Hypersender's rate limit for this instance is reached")]
    UpstreamRateLimited {
        /// When Hypersender wants to be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// Hypersender failed or cannot be reached.
    #[error("Hypersender is unavailable")]
    Unavailable {
        /// When Hypersender wants to be asked again, if it says so.
        retry_after: Option<Duration>,
        /// Whether another attempt may do better.
        again: Again,
    },
    /// The network in front of Hypersender turns this machine away, whatever it asks.
    #[error("Hypersender's network turns this server away; the server pauses before it asks again")]
    Blocked {
        /// When it is asked again.
        wait: Duration,
    },
    /// Hypersender did not answer in time.
    #[error("Hypersender did not answer in time")]
    TimedOut {
        /// When it makes sense to ask again, as far as this server knows.
        retry_after: Option<Duration>,
    },
    /// Hypersender put the request into a queue.
    #[error("Hypersender queued the request instead of answering it")]
    Queued,
    /// Hypersender answered something that no one can read.
    #[error("Hypersender's answer cannot be understood")]
    ResponseInvalid,
}

/// Why there is no such contact.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NotFound {
    /// Hypersender does not know the contact or the instance.
    #[error("Hypersender knows no such contact or instance")]
    Upstream,
    /// The number has no WhatsApp account.
    #[error("the number is not on WhatsApp")]
    NotOnWhatsApp,
}

/// Why nobody knows who calls.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unknown {
    /// The call carries no token where one is needed.
    #[error("the call carries no authorization; it must be Bearer and a token")]
    NoToken,
    /// The call carries something else than one token.
    #[error("the call must carry authorization exactly once, as Bearer and a token")]
    TokenMalformed,
    /// The call carries neither a token nor a certificate.
    #[error("the call carries neither a token in authorization nor a client certificate that is known")]
    NoProof,
    /// The token is nobody's.
    #[error("no caller with the token of this call is known")]
    TokenUnknown,
    /// The certificate is nobody's.
    #[error("no caller with the client certificate of this call is known")]
    CertificateUnknown,
    /// The certificate has the names of several callers.
    #[error("the client certificate of this call is that of more than one caller")]
    CertificateAmbiguous,
}

/// Which token Hypersender rejects, and how.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Rejected {
    /// The server's own, whatever is wrong with it.
    #[error("Hypersender rejects the configured token for this instance")]
    Own,
    /// The caller's: Hypersender does not know it.
    #[error("Hypersender does not know the token of this call")]
    Unknown,
    /// The caller's: Hypersender knows it, and it is not for this instance.
    #[error("Hypersender does not allow the token of this call to ask this instance")]
    Forbidden,
}

/// Whether asking again at once makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It would change nothing, or do harm.
    No,
    /// It may pass, but is more likely to stay.
    Once,
    /// It is likely to pass.
    Yes,
}

impl LookupError {
    /// Whether another attempt for the same caller may do better.
    #[must_use]
    pub fn again(&self) -> Again {
        match self {
            Self::Unavailable { again, .. } => *again,
            Self::InstanceStarting | Self::UpstreamRateLimited { .. } | Self::TimedOut { .. } => Again::Yes,
            _ => Again::No,
        }
    }

    /// How long to wait before asking again, where upstream or this server has said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { wait } | Self::CircuitOpen { wait } | Self::Blocked { wait } => Some(*wait),
            Self::UpstreamRateLimited { retry_after }
            | Self::Unavailable { retry_after, .. }
            | Self::TimedOut { retry_after } => *retry_after,
            Self::Queued | Self::InstanceStarting => Some(SLOW_WAIT),
            _ => None,
        }
    }

    /// The same error with another wait, where it can tell one.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        if let Self::UpstreamRateLimited { retry_after }
        | Self::Unavailable { retry_after, .. }
        | Self::TimedOut { retry_after } = &mut self
        {
            *retry_after = Some(wait);
        }
        self
    }

    /// Whether this server refused to ask, so that the error says nothing about Hypersender.
    #[must_use]
    pub fn is_own_refusal(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. } | Self::Overloaded | Self::CircuitOpen { .. } | Self::DeadlineExceeded
        )
    }

    /// Whether a stored answer that is still usable beats the error: it says nothing about this contact, this request
    /// or this credential.
    #[must_use]
    pub fn yields_to_stored_answer(&self) -> bool {
        !matches!(
            self,
            Self::InstanceMissing
                | Self::InstanceInvalid
                | Self::ChatIdInvalid
                | Self::CacheControlInvalid { .. }
                | Self::MessageTooLarge
                | Self::MetadataTooLarge
                | Self::CallerUnknown(_)
                | Self::InstanceNotAllowed
                | Self::InstanceNotConfigured
                | Self::CredentialsRejected(_)
                | Self::RequestRejected
                | Self::NotFound(_)
        )
    }
}
