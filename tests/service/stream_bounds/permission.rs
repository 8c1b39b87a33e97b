//! The permission of a stream's caller, which the callers file may take away while the stream is in progress.

use hypersender_grpc::grpc::contact::StreamProfilePicturesRequest;
use tonic::{Code, Request};

use super::stream;
use crate::support::{Fault, Files, Service, patiently};

/// A token, and its hash from sha256sum.
const CRM: &str = "Bearer Zq9mark-crm-4f1d";
const CRM_HASH: &str = "941aa06230ab13406106f3d7f5aee6d5a11dd39c009de0c6c4608e5aa3b27b1c";

fn allowed(instance: &str) -> String {
    format!("[callers.crm]\ntoken_sha256 = \"{CRM_HASH}\"\ninstances = [\"{instance}\"]\n")
}

/// Begins a stream, and replaces the callers file by `later`.
async fn check(later: &str, expected: Option<(Code, &str)>) {
    let files = Files::new();
    let callers = files.write("callers.toml", &allowed("shop-1"));
    let service = Service::start(&["--callers-file", &callers, "--rate", "5"]).await;
    let contacts = if expected.is_some() { 1_000 } else { 5 };
    let request = StreamProfilePicturesRequest { instance: "shop-1".to_owned(), ..stream(contacts) };
    let mut request = Request::new(request);
    request.metadata_mut().insert("authorization", CRM.parse().unwrap());
    let begun = service.client().await.stream_profile_pictures(request).await;
    let mut messages = begun.expect("the stream begins").into_inner();
    assert!(messages.message().await.unwrap().is_some());

    files.write("callers.toml", later);
    service.signalled("HUP", "callers").await;
    let end = loop {
        match patiently("the end of the stream", messages.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(status) => break Some(Fault::from(&status)),
        }
    };
    let end = end.as_ref().map(|fault| (fault.code, fault.reason.as_str()));
    assert_eq!(end, expected, "{later}");
}

#[tokio::test]
async fn a_stream_ends_when_its_caller_may_not_ask_any_more() {
    let other = allowed("shop-1").replace("crm", "other").replace("941a", "0000");
    check(&other, Some((Code::Unauthenticated, "CALLER_UNKNOWN"))).await;
    check(&allowed("shop-2"), Some((Code::PermissionDenied, "INSTANCE_NOT_ALLOWED"))).await;
}

#[tokio::test]
async fn a_stream_goes_on_while_its_caller_may_ask() {
    check(&allowed("*"), None).await;
}
