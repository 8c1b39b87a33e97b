//! The limits on the number of streams in progress: of an instance, of a caller, and of the server.

use hypersender_grpc::grpc::contact::{StreamProfilePicturesRequest, StreamProfilePicturesResponse};
use tonic::{Code, Request, Status, Streaming};

use super::stream;
use crate::support::{Client, Fault, Files, Pushback, Reply, Service, Upstream, patiently};

/// Tokens, and their hashes from sha256sum.
const CRM: &str = "Bearer Zq9mark-crm-4f1d";
const SHOP: &str = "Bearer 12|Zq9mark-shop-9c";
const CALLERS: &str = r#"
[callers.crm]
token_sha256 = "941aa06230ab13406106f3d7f5aee6d5a11dd39c009de0c6c4608e5aa3b27b1c"
instances = ["*"]
[callers.shop]
token_sha256 = "1c8a546f0dea01b2b4c703b43b5c2d0eb04b8fc32f60f6e2426bcefc0d5d08a0"
instances = ["*"]
"#;

/// A stream that does not end by itself soon, for an instance and as a caller.
async fn begin(
    client: &mut Client,
    instance: &str,
    caller: &str,
) -> Result<Streaming<StreamProfilePicturesResponse>, Status> {
    let request = StreamProfilePicturesRequest { instance: instance.to_owned(), ..stream(1_000) };
    let mut request = Request::new(request);
    request.metadata_mut().insert("authorization", caller.parse().unwrap());
    let begun = patiently("the head of a stream", client.stream_profile_pictures(request)).await;
    begun.map(tonic::Response::into_inner)
}

/// Opens `streams`, each for an instance and as a caller. The last one is one too many until the first one
/// has ended.
async fn check(flags: &[&str], streams: &[(&str, &str)], allowed: Option<(&str, &str)>) {
    let files = Files::new();
    let callers = files.write("callers.toml", CALLERS);
    let launch = Service::sandboxed().flags(&["--callers-file", &callers, "--rate", "1"]).flags(flags);
    let service = launch.start().await;
    let mut client = service.client().await;
    let (last, first) = streams.split_last().unwrap();
    let mut open = Vec::new();
    for (instance, caller) in first.iter().copied().chain(allowed) {
        open.push(begin(&mut client, instance, caller).await.expect("a stream within the limits"));
    }
    let status = begin(&mut client, last.0, last.1).await.expect_err("one stream too many");
    let fault = Fault::from(&status);
    assert_eq!(
        (fault.code, fault.reason.as_str()),
        (Code::ResourceExhausted, "TOO_MANY_STREAMS"),
        "{flags:?}"
    );
    assert!(matches!(fault.pushback, Pushback::Ms(5_000)), "{flags:?}: {:?}", fault.pushback);

    drop(open.remove(0));
    let left = open.len();
    service.counted("hypersender_streams", f64::from(u32::try_from(left).unwrap())).await;
    begin(&mut client, last.0, last.1).await.expect("a stream in place of the one that has ended");
}

#[tokio::test]
async fn an_instance_has_so_many_streams() {
    let streams = [("shop-1", CRM), ("shop-1", CRM), ("shop-1", SHOP)];
    check(&["--streams-per-instance", "2"], &streams, Some(("shop-2", CRM))).await;
}

#[tokio::test]
async fn the_server_has_so_many_streams() {
    let streams = [("shop-1", CRM), ("shop-2", SHOP), ("shop-3", SHOP)];
    check(&["--streams", "2"], &streams, None).await;
}

#[tokio::test]
async fn a_caller_has_four_streams() {
    let streams = [("shop-1", CRM), ("shop-2", CRM), ("shop-3", CRM), ("shop-4", CRM), ("shop-5", CRM)];
    check(&[], &streams, Some(("shop-1", SHOP))).await;
}

#[tokio::test]
async fn sixteen_streams_of_an_instance_are_allowed_without_a_callers_file() {
    let upstream = Upstream::start([Reply::hang()]).await;
    let service = Service::asking(&upstream).start().await;
    let mut client = service.client().await;
    let mut open = Vec::new();
    for _ in 0..16 {
        open.push(client.stream_profile_pictures(stream(10)).await.expect("a stream within the limits"));
    }
    let status = client.stream_profile_pictures(stream(10)).await.expect_err("one stream too many");
    assert_eq!(Fault::from(&status).reason, "TOO_MANY_STREAMS");
}
