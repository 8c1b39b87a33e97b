//! Connections to Hypersender that end or die: unanswered requests are sent again on another connection.

use std::time::Duration;

use futures_util::future::{join_all, join4};

use crate::support::{
    Authority, DOCUMENTED_ABSENCE, Death, Habit, Http2, Relay, Reply, Service, Upstream, about, https,
    patiently,
};

/// Starts a service that trusts `authority`.
async fn asking(base_url: &str, authority: &Authority, flags: &[&str]) -> Service {
    let file = authority.file();
    let launch = Service::asking_at(base_url).variable("SSL_CERT_FILE", file.path().to_str().unwrap());
    launch.flags(flags).start().await
}

/// Makes calls for this number of contacts at once, and returns the number of answers.
async fn answered(service: &Service, contacts: usize) -> usize {
    let client = service.client().await;
    let calls = (0..contacts).map(|contact| {
        let mut client = client.clone();
        async move { client.get_profile_picture(about(&format!("1555123{contact:04}"))).await.is_ok() }
    });
    patiently("answers", join_all(calls)).await.into_iter().filter(|ok| *ok).count()
}

/// The limits of the service delay none of up to 64 requests for one instance that arrive together.
const TOGETHER: [&str; 4] = ["--rate", "0", "--upstream-concurrency", "128"];

#[tokio::test]
async fn requests_that_were_certainly_not_processed_are_sent_again_at_once() {
    for (row, habit, contacts) in [
        ("connections that take 10 requests", Habit::GoesAwayAfter(10), 64),
        ("connections that take 5 requests", Habit::GoesAwayAfter(5), 64),
        ("connections that take 1 request", Habit::GoesAwayAfter(1), 20),
        ("connections that take 1 request", Habit::GoesAwayAfter(1), 64),
        ("streams that are refused", Habit::Refuses(20), 20),
    ] {
        let row = format!("{row}, {contacts} contacts");
        let authority = Authority::new();
        let upstream = Http2::start(authority.server("localhost", false), habit).await;
        // Only one attempt is made, so that no request here is a retry.
        let flags = [&["--attempts", "1"], &TOGETHER[..]].concat();
        let service = asking(&upstream.base_url(), &authority, &flags).await;
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

#[tokio::test]
async fn connections_that_end_gracefully_open_no_breaker() {
    for (row, habit, opens) in [
        ("refused each time", Habit::Refuses(usize::MAX), true),
        ("sent away each time", Habit::GoesAwayAfter(0), false),
    ] {
        let authority = Authority::new();
        let upstream = Http2::start(authority.server("localhost", false), habit).await;
        let flags = ["--attempts", "1", "--breaker-failures", "2"];
        let service = asking(&upstream.base_url(), &authority, &flags).await;
        assert_eq!(answered(&service, 4).await, 0, "{row}");
        assert_eq!(service.logs().contains("keeps failing"), opens, "{row}");
    }
}

/// The number of open connections that die, if each one carries one request at a time.
const OPEN: usize = 8;

/// A service, and an upstream over HTTP/2 or HTTP/1.1 behind a relay, with open connections between them.
struct Behind {
    service: Service,
    relay: Relay,
    instances: usize,
    asked: std::cell::Cell<usize>,
    _upstream: (Option<Http2>, Option<Upstream>),
}

impl Behind {
    async fn start(http2: bool, death: Death, instances: usize, flags: &[&str]) -> Self {
        let (authority, flags) = (Authority::new(), [&["--deadline", "30s"], flags].concat());
        let (service, relay, upstream) = if http2 {
            let upstream = Http2::start(authority.server("localhost", false), Habit::Answers).await;
            let relay = Relay::start(upstream.port(), death).await;
            let service = asking(&https(relay.port()), &authority, &flags).await;
            (service, relay, (Some(upstream), None))
        } else {
            // The replies are slow, so that the requests are in flight at the same time.
            let reply = Reply::json(200, DOCUMENTED_ABSENCE).after(Duration::from_millis(300));
            let upstream = Upstream::start([reply]).await;
            let port = upstream.root().rsplit(':').next().unwrap().parse().unwrap();
            let relay = Relay::start(port, death).await;
            let service = Service::asking_at(&format!("http://127.0.0.1:{}", relay.port()));
            (service.flags(&flags).start().await, relay, (None, Some(upstream)))
        };
        let asked = std::cell::Cell::new(0);
        let behind = Self { service, relay, instances, asked, _upstream: upstream };
        assert_eq!(behind.answered(OPEN).await, OPEN, "while all is well");
        behind
    }

    /// Makes calls for this number of new contacts at once, in turn for each instance, and returns the number
    /// of answers.
    async fn answered(&self, contacts: usize) -> usize {
        let client = self.service.client().await;
        let first = self.asked.replace(self.asked.get() + contacts);
        let calls = (first..first + contacts).map(|contact| {
            let mut question = about(&format!("1555123{contact:04}"));
            question.instance = format!("instance-{}", contact % self.instances);
            let mut client = client.clone();
            async move { client.get_profile_picture(question).await.is_ok() }
        });
        patiently("answers", join_all(calls)).await.into_iter().filter(|ok| *ok).count()
    }
}

#[tokio::test]
async fn an_attempt_that_times_out_leaves_all_connections_of_its_time_behind() {
    let check = async |http2, death, flags: &[&str]| {
        let row = format!("HTTP/2: {http2}, {death:?}, {flags:?}");
        let once = [&["--attempts", "1", "--attempt-timeout", "1s"], flags].concat();
        let behind = Behind::start(http2, death, 1, &once).await;
        behind.relay.kill();
        let before = behind.relay.connections();
        assert_eq!(behind.answered(1).await, 0, "{row}: on a dead connection");
        assert_eq!(behind.answered(1).await, 1, "{row}: on a new one");
        assert_eq!(behind.relay.connections(), before + 1, "{row}");
        // Attempts that were in flight together time out together. They replace the connections only once.
        behind.relay.kill();
        assert_eq!(behind.answered(4).await, if http2 { 0 } else { 3 }, "{row}: one connection is dead");
        assert_eq!(behind.answered(4).await, 4, "{row}: none is");
        assert_eq!(behind.service.logs().matches("over new connections").count(), 2, "{row}");
    };
    for death in [Death::Swallows, Death::Freezes] {
        for http2 in [true, false] {
            check(http2, death, &[]).await;
        }
    }
    check(true, Death::Swallows, &["--breaker-failures", "0"]).await;
}

#[tokio::test]
async fn a_call_on_a_dead_connection_is_answered_within_its_own_attempts() {
    let check = async |http2, instances, flags: &[&str]| {
        let behind = Box::pin(Behind::start(http2, Death::Swallows, instances, flags)).await;
        behind.relay.kill();
        let row = format!("HTTP/2: {http2}, {instances} instances");
        assert!(behind.answered(instances).await > 0, "{row}: as many as there are retries for");
        assert_eq!(behind.answered(instances).await, instances, "{row}: all that come afterwards");
    };
    // The first attempt may take all the time of the flight. A PING ends it earlier, so that another one
    // fits.
    let long = ["--attempt-timeout", "15s"];
    join4(check(true, 1, &[]), check(true, 1, &long), check(true, 40, &[]), check(false, 40, &[])).await;
}
