//! Images of contacts: how they are downloaded without danger.
//!
//! Not here: which contact has which link, which is a matter of the look-up.

mod fetch;

pub use self::fetch::{FetchError, Fetcher, Image, Kind, PictureHosts, Unusable};
