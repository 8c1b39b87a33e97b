//! [`Refusal`]: why this server does not take a call, decided before any look-up begins.
//!
//! Failures of the look-up itself are [`super::LookupError`]s. `Display` is the text that the caller reads.
//! It never holds a token, a number or a link.

use thiserror::Error;

/// Why a call is refused, or ended, without a look-up.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The body of the request is not one message of the expected type.
    #[error("the request body must be one message of the method's request type, encoded as protobuf")]
    MessageInvalid,
    /// The message of the request is compressed.
    #[error("compressed messages are not accepted; send them without grpc-encoding")]
    CompressionUnsupported,
    /// The message of the request is larger than the limit of its method.
    #[error("the request message is larger than {} KiB", bytes_max / 1024)]
    MessageTooLarge {
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// The metadata of the call is larger than the limit.
    #[error("the metadata of the call is larger than 16 KiB")]
    MetadataTooLarge,
    /// The call does not prove that it comes from a known caller.
    #[error("{0}")]
    CallerUnknown(Unknown),
    /// The call names no instance and the server has no default instance.
    #[error("the call names no instance and the server has no default instance")]
    InstanceMissing,
    /// The name of the instance has a form that no instance can have.
    #[error("instance must be 1 to 64 characters of A-Z a-z 0-9 _ -")]
    InstanceInvalid,
    /// The chat id has none of the allowed forms.
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
    /// A batch or a stream has no chat ids, or more of them, or of known fingerprints, than it may have.
    #[error("chat_ids must have 1 to {max} entries, and known_fingerprints at most {max}")]
    BatchSizeInvalid {
        /// The field of the request, as the proto names it.
        field: &'static str,
        /// The most entries that the method takes.
        max: usize,
    },
    /// Too many streams are in progress.
    #[error("{0}")]
    TooManyStreams(StreamLimit),
    /// The server stops, and the stream has results that are missing.
    #[error("the server stops; call again for the missing results")]
    ServerStopping,
    /// The caller is known and may not ask this instance.
    #[error("the caller may not ask this instance")]
    InstanceNotAllowed,
    /// The server holds no token for the instance.
    #[error("no token is configured for this instance")]
    InstanceNotConfigured,
    /// Too many calls are in progress, or their messages take too much memory.
    #[error("the server is working at its limit")]
    Overloaded,
    /// The time of the call has passed, and the server ends it.
    #[error("the deadline passed before Hypersender answered")]
    DeadlineExceeded,
    /// A defect of this server, such as a panic.
    #[error("internal error")]
    Internal,
}

/// The limit that a further stream would exceed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum StreamLimit {
    /// All streams of the server.
    #[error("the server has as many streams in progress as it may have")]
    Server,
    /// The streams of one instance.
    #[error("this instance has as many streams in progress as it may have")]
    Instance,
    /// The streams of one caller.
    #[error("this caller has as many streams in progress as it may have")]
    Caller,
}

/// Why a call does not prove that it comes from a known caller.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unknown {
    /// The call carries no token, and every known caller has one.
    #[error("the call carries no authorization; it must be Bearer and a token")]
    NoToken,
    /// The call carries a malformed token, or more than one.
    #[error("the call must carry authorization exactly once, as Bearer and a token")]
    TokenMalformed,
    /// The call carries neither a token nor a certificate.
    #[error("the call carries neither a token in authorization nor a client certificate that is known")]
    NoProof,
    /// No known caller has the token.
    #[error("the token of this call belongs to no known caller")]
    TokenUnknown,
    /// No known caller has a name of the certificate.
    #[error("the client certificate of this call belongs to no known caller")]
    CertificateUnknown,
    /// The certificate has the names of several callers.
    #[error("the client certificate of this call belongs to more than one caller")]
    CertificateAmbiguous,
}
