//! What a batch reads from the shared store before its look-ups start.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{Found, Pending};
use crate::{
    domain::Lookup,
    stack::{ask::LookupService, cache::Serve, store::GROUP_MAX},
};

/// Takes those of `missed` out that the store has an acceptable answer for, and notes their results in
/// `found`. They are read in groups, in order. After a group that the store did not answer, no other one is
/// read, and the look-ups that are left go on without the store: so the store costs a batch one time-out.
pub async fn read<F: LookupService>(
    serve: &Serve<F>,
    missed: &mut VecDeque<Pending>,
    found: &mut [Option<Found>],
) {
    if !serve.has_store() {
        return;
    }
    let mut rest = VecDeque::with_capacity(missed.len());
    while !missed.is_empty() {
        let group: Vec<Pending> = missed.drain(..missed.len().min(GROUP_MAX)).collect();
        let lookups: Vec<Lookup> = group.iter().map(|pending| pending.lookup.clone()).collect();
        let deadline = lookups.first().and_then(|lookup| lookup.deadline.latest());
        let read = serve.recall_group(&lookups, deadline.unwrap_or_else(Instant::now)).await;
        let Ok(results) = read else {
            rest.extend(group);
            rest.append(missed);
            for pending in &mut rest {
                pending.lookup.without_store = true;
            }
            break;
        };
        for (pending, result) in group.into_iter().zip(results) {
            match result {
                Some(result) => found[pending.contact] = Some(result),
                None => rest.push_back(pending),
            }
        }
    }
    *missed = rest;
}
