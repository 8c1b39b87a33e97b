//! Credentials: they share no answers, and a rejected one reads no stored answer (rules 3 and 4).

use hypersender_grpc::domain::{CacheStatus, Finding, LookupError, NotFound, Rejected};
use tokio::time::sleep;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn different_credentials_and_instances_never_share() {
    let front = Front::new(plain(), |_| Reply::picture().after(SECOND));
    let asks = || [contact(1), contact(1).with_token("other"), contact(1).of("other")];
    for (round, status) in [CacheStatus::Miss, CacheStatus::Hit].into_iter().enumerate() {
        let outcomes = front.ask_all(asks()).await;
        assert_eq!(count(&outcomes, |outcome| told(outcome) == Ok(status)), 3, "round {round}");
        let collapsed = |outcome: &Outcome| outcome.as_ref().unwrap().cache.collapsed;
        assert_eq!(count(&outcomes, collapsed), 0, "round {round}");
    }
    assert_eq!(front.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_credential_reaches_nothing_until_it_succeeds_again() {
    let front = Front::new(plain(), |attempt| match attempt.chat.as_str() {
        "15550000003" => Reply::fails(LookupError::CredentialsRejected(Rejected::Own)),
        _ => Reply::picture(),
    });
    let others = [contact(1).with_token("other"), contact(1).of("other")];
    front.ask_all([contact(1), contact(2)].into_iter().chain(others.clone())).await;
    let calls = front.calls();

    let rejected = Err(LookupError::CredentialsRejected(Rejected::Own));
    assert_eq!(told(&front.ask(contact(3)).await), rejected);
    assert_eq!(told(&front.ask(contact(1)).await), rejected);
    assert_eq!(told(&front.ask(contact(2).only_if_cached()).await), Err(LookupError::NotCached));
    for other in others {
        assert_eq!(told(&front.ask(other).await), Ok(CacheStatus::Hit));
    }
    assert_eq!(front.calls(), calls + 1, "the rest of the second it is known");

    sleep(SECOND).await;
    assert_eq!(told(&front.ask(contact(2).only_if_cached()).await), Err(LookupError::NotCached));
    assert_eq!(told(&front.ask(contact(4)).await), Ok(CacheStatus::Miss));
    assert_eq!(told(&front.ask(contact(2)).await), Ok(CacheStatus::Hit));
    // A second rejection has the same effect.
    assert_eq!(told(&front.ask(contact(3)).await), rejected);
    assert_eq!(told(&front.ask(contact(2)).await), rejected);
}

#[tokio::test(start_paused = true)]
async fn a_stored_not_found_is_out_of_reach_as_well() {
    let front = Front::new(plain(), |attempt| match attempt.chat.as_str() {
        "15550000001" => Reply::says(Ok(Finding::NotFound(NotFound::NotOnWhatsApp))),
        "15550000003" => Reply::fails(LookupError::CredentialsRejected(Rejected::Own)),
        _ => Reply::picture(),
    });
    front.ask_all([contact(1), contact(2)]).await;
    assert!(front.ask(contact(3)).await.is_err());
    assert_eq!(told(&front.ask(contact(1)).await), Err(LookupError::CredentialsRejected(Rejected::Own)));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_to_an_attempt_that_began_before_the_rejection_does_not_undo_it() {
    let rejected = Err(LookupError::CredentialsRejected(Rejected::Own));
    for has_stored in [true, false] {
        let front = Front::new(plain(), |attempt| match attempt.chat.as_str() {
            "15550000002" => Reply::picture().after(millis(800)),
            "15550000003" => Reply::fails(LookupError::CredentialsRejected(Rejected::Own)),
            _ => Reply::picture(),
        });
        if has_stored {
            front.ask(contact(1)).await.unwrap();
        }
        let late = front.spawn(contact(2));
        sleep(millis(100)).await;
        assert_eq!(told(&front.ask(contact(3)).await), rejected);
        assert_eq!(told(&late.await.unwrap()), Ok(CacheStatus::Miss), "its own callers get it");
        let calls = front.calls();
        for chat in [1, 2, 4] {
            assert_eq!(told(&front.ask(contact(chat)).await), rejected, "the cool-down goes on");
            let stored = front.ask(contact(chat).only_if_cached()).await;
            assert_eq!(told(&stored), Err(LookupError::NotCached));
        }
        assert_eq!(front.calls(), calls);

        sleep(SECOND).await;
        assert_eq!(told(&front.ask(contact(4)).await), Ok(CacheStatus::Miss));
        assert_eq!(told(&front.ask(contact(2)).await), Ok(CacheStatus::Hit), "the token is good again");
    }
}
