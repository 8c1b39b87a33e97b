//! The look-up for an image in a browser: it waits outside the flight for a spare turn, ahead of all streams.

use super::{Stack, ask::LookupService, cache::ServeFuture};
use crate::domain::{Lookup, Purpose};

/// See [`Stack::avatar`].
pub fn look_up<F: LookupService>(stack: &Stack<F>, lookup: Lookup) -> ServeFuture {
    use tower::Service;
    stack.serve.clone().call(Lookup { own_purpose: Purpose::Avatar, ..lookup })
}
