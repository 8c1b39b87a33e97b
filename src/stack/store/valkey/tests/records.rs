//! Answers, cool-downs, leases and records of scopes.

use super::{super::super::engine::*, *};
use crate::domain::Reach;

/// Stores the first answer of the scope.
async fn begin(valkey: &Valkey, names: &Names, millis: u64) {
    let value = sealed(millis);
    let first = Write { is_new_epoch: true, ..write(names, &value) };
    assert_eq!(valkey.write(first).await.unwrap().1, Written::Stored);
}

#[tokio::test]
async fn an_answer_is_read_as_it_was_written() {
    let server = Server::start();
    let (valkey, names) = (valkey(&server), names("a"));
    let nothing = valkey.read(&names, Seen::default(), None).await.unwrap();
    let Reading { scope, answer, failure, scope_failure, lease, .. } = nothing;
    assert_eq!((scope, answer, failure, scope_failure, lease), (None, None, None, None, Leased::No));

    begin(&valkey, &names, 1000).await;
    let reading = valkey.read(&names, Seen::default(), None).await.unwrap();
    assert_eq!(reading.scope, Some(ScopeState { epoch: EPOCH, rejected_at: None }));
    assert_eq!(reading.answer, Some(sealed(1000)));
    let since_2020 = reading.now.since(StoreTime::from_millis(1_577_836_800_000));
    assert!(since_2020 > Duration::from_secs(86400) && since_2020 < Duration::from_secs(3_000_000_000));
}
