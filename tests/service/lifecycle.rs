//! Start and stop of the service: no call is lost, and no client delays a stop.

use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{CHAT, CONTACTS, Reply, Service, Upstream, about, link, patiently, unix_seconds};

/// The flags for calls that outlive each step of a stop.
const PATIENT: &[&str] = &["--deadline", "30s", "--attempt-timeout", "15s"];

fn fresh() -> Reply {
    Reply::picture(&link("374498176", 24 * 60 * 60))
}

async fn status(health: &mut HealthClient<Channel>, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.into() };
    health.check(request).await.unwrap().into_inner().status()
}

async fn not_serving(service: &Service) {
    let mut health = service.health().await;
    let told = async {
        while status(&mut health, "").await == ServingStatus::Serving {
            tokio::task::yield_now().await;
        }
    };
    patiently("NOT_SERVING", told).await;
    assert_eq!(status(&mut health, CONTACTS).await, ServingStatus::NotServing);
}

#[tokio::test]
async fn sigterm_turns_new_callers_away_slowly_and_loses_no_call() {
    let upstream = Upstream::start([fresh(), fresh().held()]).await;
    let mut service = Service::asking(&upstream).flags(PATIENT).start().await;
    let mut client = service.client().await;
    client.get_profile_picture(about("15551230001")).await.unwrap();
    let mut slow = client.clone();
    let in_flight = tokio::spawn(async move { slow.get_profile_picture(about("15551230002")).await });
    upstream.called(2).await;

    let deadline = "hypersender_drain_deadline_timestamp_seconds";
    service.counted(deadline, 0.0).await;
    let earliest = unix_seconds() + 25;
    service.signal("TERM").await;
    not_serving(&service).await;
    // 5 s and 20 s of the drain from the signal on, which has arrived by now.
    let found = service.metrics().await.value(deadline).to_string().parse().unwrap();
    let range = earliest..=unix_seconds() + 25;
    assert!(range.contains(&found), "{found} is not in {range:?}");
    // The service still answers calls on old and new connections, until the load balancers have noticed.
    for client in [&mut client, &mut service.client().await] {
        client.get_profile_picture(about("15551230001")).await.unwrap();
    }
    let closed = async {
        while TcpStream::connect(service.address()).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    patiently("the port to close", closed).await;
    // The call from before the signal is still in flight after the port is closed.
    assert!(!in_flight.is_finished());
    upstream.release();
    patiently("the call in flight", in_flight).await.unwrap().unwrap();
    assert_eq!(service.exit_code().await, 0);
    assert!(service.logs().contains(r#""message":"stopped""#));
}

#[tokio::test]
async fn sigint_does_not_wait_for_load_balancers() {
    let upstream = Upstream::start([fresh()]).await;
    let orderly = Service::asking(&upstream).start().await;
    let mut prompt = Service::asking(&upstream).start().await;
    orderly.signal("TERM").await;
    prompt.signal("INT").await;
    assert_eq!(prompt.exit_code().await, 0);
    // The other service still serves, although its signal came first.
    orderly.client().await.get_profile_picture(about(CHAT)).await.unwrap();
}

#[tokio::test]
async fn a_call_in_flight_outlives_sigint_too() {
    let upstream = Upstream::start([fresh().held()]).await;
    let mut service = Service::asking(&upstream).flags(PATIENT).start().await;
    let mut client = service.client().await;
    let in_flight = tokio::spawn(async move { client.get_profile_picture(about(CHAT)).await });
    upstream.called(1).await;
    service.signalled("INT", "stopping").await;
    upstream.release();
    patiently("the call in flight", in_flight).await.unwrap().unwrap();
    assert_eq!(service.exit_code().await, 0);
}

#[tokio::test]
async fn health_watches_hold_up_no_stop() {
    let upstream = Upstream::start([fresh()]).await;
    let mut service = Service::asking(&upstream).start().await;
    let mut watches = Vec::new();
    for (name, serving, leaving) in [
        ("", ServingStatus::Serving, ServingStatus::NotServing),
        (CONTACTS, ServingStatus::Serving, ServingStatus::NotServing),
        ("hypersender.contact.v1.NoService", ServingStatus::ServiceUnknown, ServingStatus::ServiceUnknown),
    ] {
        let request = HealthCheckRequest { service: name.into() };
        let mut watch = service.health().await.watch(request).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), serving, "{name:?}");
        watches.push((watch, serving, leaving));
    }
    service.signal("INT").await;
    for (mut watch, serving, leaving) in watches {
        let mut last = serving;
        while let Some(told) = patiently("the end of a watch", watch.message()).await.unwrap() {
            last = told.status();
        }
        assert_eq!(last, leaving);
    }
    assert_eq!(service.exit_code().await, 0);
    assert!(!service.logs().contains("cut connections"), "{}", service.logs());
}

#[tokio::test]
async fn a_connection_that_says_nothing_holds_up_no_stop() {
    let upstream = Upstream::start([fresh()]).await;
    let mut service = Service::asking(&upstream).start().await;
    let _silent = TcpStream::connect(service.address()).await.unwrap();
    // Connections are accepted in order, so that the silent one is accepted before the one of this client.
    service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
    service.signal("INT").await;
    assert_eq!(service.exit_code().await, 0);
    assert!(!service.logs().contains("cut connections"), "{}", service.logs());
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    for signal in ["TERM", "INT"] {
        let upstream = Upstream::start([Reply::hang()]).await;
        let mut service = Service::asking(&upstream).flags(PATIENT).start().await;
        let mut client = service.client().await;
        let in_flight = tokio::spawn(async move { client.get_profile_picture(about(CHAT)).await });
        upstream.called(1).await;
        service.signalled("TERM", "stopping").await;
        service.signal(signal).await;
        assert_eq!(service.exit_code().await, 1, "{signal}");
        in_flight.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Service::sandboxed().flags(&["--listen", &address]).run().await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.contains(&format!("cannot listen on {address}")), "{ended:?}");
}
