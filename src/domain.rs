//! The words of the service: names, links, look-ups, answers, refusals and errors.
//!
//! Nothing here does I/O, reads a clock or knows a framework. A function that depends on time takes the time
//! as an argument.

mod attempt;
mod caller;
mod contact;
mod credential;
mod deadline;
mod error;
mod hosts;
mod link;
mod lookup;
mod peer_names;
mod percent;
mod purpose;
mod refusal;
mod turns;

pub use attempt::AttemptError;
pub use caller::{Allowed, Caller, Recheck};
pub use contact::{ChatId, Instance};
pub use credential::{Credential, CredentialId, TokenOwner};
pub use deadline::{CallEnd, CallTime, Deadline, Waiting};
pub use error::{Again, Handling, LookupError, NotFound, Reach, Rejected, Signal};
pub use hosts::{Hosts, HostsInvalid};
pub use link::{LinkInvalid, PictureLink};
pub use lookup::{
    Absence, Answer, CacheControl, CacheInfo, CacheStatus, Finding, Key, Lookup, Now, Scope, StoreLoss, Ttl,
};
pub use peer_names::PeerNames;
pub use percent::percent_decoded;
pub use purpose::Purpose;
pub use refusal::{Refusal, StreamLimit, Unknown};
pub use turns::{BatchTurns, QueuePlace};
