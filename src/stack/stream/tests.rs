//! A look at single steps of a stream.

use std::{future::pending, hash::RandomState, sync::Arc, time::SystemTime};

use super::*;
use crate::{
    domain::{CacheControl, Credential, Instance},
    stack::{Clock, Settings, stack},
};

#[tokio::test(start_paused = true)]
async fn a_stream_does_not_spin_while_look_ups_outlast_its_deadline() {
    let never = tower::service_fn(|_: Lookup| pending::<Result<Answer, LookupError>>());
    let clock = Clock::following_tokio(SystemTime::UNIX_EPOCH);
    let (_, stack) = stack(Settings::default(), clock, &Arc::default(), None, never);
    let now = Instant::now();
    let mut stream = stack.stream(Contacts {
        instance: Instance::parse("shop").unwrap(),
        credential: Credential::new("token".into(), &RandomState::new()),
        chats: [].into(),
        control: CacheControl::default(),
        deadline: now,
    });
    stream.in_progress.spawn(pending());
    assert!(matches!(stream.step(), Step::Wait(until) if until > now));
}
