//! Images of contacts for browsers: the sealed address and the plain address, the look-up, the guarded
//! download, the resizing, the images in memory, and a default image for every other case.
//!
//! The way of a request:
//!
//! 1. `port` accepts the connection and speaks HTTP/1.1 or HTTP/2.
//! 2. `routes` reads the address (`sealed`, or the caller's token for the plain one) and the `query`.
//! 3. `pictures` looks the contact up through the stack, and finds, downloads and resizes its image
//!    (`picture_cache`, `fetch`, `image`), as long as `patience` allows the request to wait.
//! 4. `reply` makes the response: the image, the link, or a default image (`silhouette`, `initials`), with
//!    the entity tag (`etag`) and the headers. `status` chooses its status.
//!
//! Not here: which contact has which link, which is a matter of the look-up.

mod backlog;
mod etag;
mod fetch;
#[cfg(test)]
mod fuzz;
mod image;
mod initials;
mod page;
mod patience;
mod picture_cache;
mod pictures;
mod port;
mod query;
mod renewals;
mod reply;
mod routes;
mod sealed;
mod settings;
mod silhouette;
mod status;

pub use self::{
    fetch::{FetchError, Fetcher, Image, Kind, PictureHosts, Unusable},
    page::{Sandbox, SandboxNumber},
    pictures::Pictures,
    port::{PortSettings, serve},
    routes::{Parts, routes},
    sealed::{AddressKey, Addresses},
    settings::{Mode, Settings},
};
