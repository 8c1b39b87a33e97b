//! [`PeerNames`]: the names that a client proved by its certificate.

use std::sync::Arc;

/// The names in a client certificate: its DNS and URI names, or its common name when it has neither.
///
/// An extension of each request on a connection whose client showed a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNames(pub Arc<[String]>);
