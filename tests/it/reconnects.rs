//! Connections to Hypersender that end or die: what was not answered is asked on another one.

use futures_util::future::join_all;

use crate::support::{Authority, Habit, Http2, Service, about, patiently};

/// A service in front of `upstream`, whose certificate `authority` has signed.
async fn asking(base_url: &str, authority: &Authority, flags: &[&str]) -> Service {
    let file = authority.file();
    let launch = Service::asking_at(base_url).variable("SSL_CERT_FILE", file.path().to_str().unwrap());
    launch.flags(flags).start().await
}

/// Asks about so many contacts at once, and returns how many were answered.
async fn answered(service: &Service, contacts: usize) -> usize {
    let client = service.client().await;
    let calls = (0..contacts).map(|contact| {
        let mut client = client.clone();
        async move { client.get_profile_picture(about(&format!("1555123{contact:04}"))).await.is_ok() }
    });
    patiently("answers", join_all(calls)).await.into_iter().filter(|ok| *ok).count()
}

#[tokio::test]
async fn requests_that_were_certainly_not_processed_are_sent_again_at_once() {
    for (row, habit, contacts) in [
        ("a connection that takes 10 requests", Habit::GoesAwayAfter(10), 20),
        ("a connection that takes 4 requests", Habit::GoesAwayAfter(4), 20),
        ("a connection that takes 1 request", Habit::GoesAwayAfter(1), 5),
        ("streams that are refused", Habit::Refuses(20), 20),
    ] {
        let authority = Authority::new();
        let upstream = Http2::start(authority.server("localhost", false), habit).await;
        // One attempt: nothing here is a retry.
        let service = asking(&upstream.base_url(), &authority, &["--attempts", "1"]).await;
        assert_eq!(answered(&service, contacts).await, contacts, "{row}");
        assert_eq!(upstream.answered(), contacts, "{row}: each once");
        for failure in ["upstream cannot be reached", "keeps failing"] {
            assert!(!service.logs().contains(failure), "{row}: {failure}");
        }
    }
}

#[tokio::test]
async fn requests_that_are_never_processed_are_sent_a_bounded_number_of_times() {
    for (row, habit, requests) in [
        ("refused each time", Habit::Refuses(usize::MAX), 2),
        ("sent away each time", Habit::GoesAwayAfter(0), 9),
    ] {
        let authority = Authority::new();
        let upstream = Http2::start(authority.server("localhost", false), habit).await;
        let service = asking(&upstream.base_url(), &authority, &["--attempts", "1"]).await;
        assert_eq!(answered(&service, 1).await, 0, "{row}");
        assert_eq!((upstream.requests(), upstream.answered()), (requests, 0), "{row}");
    }
}
