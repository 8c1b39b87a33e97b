//! Callers: their tokens, their instances, and the callers file, which is reloaded while the service runs.

use std::fs;

use hypersender_grpc::{grpc::contact::GetProfilePictureRequest, sandbox::Sandbox};
use tempfile::NamedTempFile;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;

use crate::support::{CHAT, Launch, Refusal, Service, about};

/// A token, and its hash from sha256sum.
const CRM: &str = "Zq9mark-crm-4f1d";
const CRM_HASH: &str = "941aa06230ab13406106f3d7f5aee6d5a11dd39c009de0c6c4608e5aa3b27b1c";
const SHOP: &str = "12|Zq9mark-shop-9c";
const SHOP_HASH: &str = "1c8a546f0dea01b2b4c703b43b5c2d0eb04b8fc32f60f6e2426bcefc0d5d08a0";

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    write(&file, text);
    file
}

fn write(file: &NamedTempFile, text: &str) {
    let text = text.replace("CRM_HASH", CRM_HASH).replace("SHOP_HASH", SHOP_HASH);
    fs::write(file.path(), text).unwrap();
}

async fn open(file: &NamedTempFile) -> Service {
    Service::start(&["--callers-file", file.path().to_str().unwrap()]).await
}

async fn look_up(service: &Service, authorization: &[&str], instance: &str) -> Result<(), Refusal> {
    let request = GetProfilePictureRequest { instance: instance.into(), ..about(CHAT) };
    service.ask_as(authorization, request).await.map(drop)
}

fn unknown() -> Result<(), Refusal> {
    Err((Code::Unauthenticated, "CALLER_UNKNOWN".into()))
}

fn not_allowed() -> Result<(), Refusal> {
    Err((Code::PermissionDenied, "INSTANCE_NOT_ALLOWED".into()))
}

const TWO: &str = "[callers.crm]\ntoken_sha256 = \"CRM_HASH\"\ninstances = [\"*\"]\n\
                   [callers.shop]\ntoken_sha256 = \"SHOP_HASH\"\ninstances = [\"shop-1\", \"shop-2\"]\n";

#[tokio::test]
async fn a_caller_is_known_by_its_token_and_kept_to_its_instances() {
    let service = open(&file(TWO)).await;
    let [crm, shop] = [CRM, SHOP].map(|token| format!("Bearer {token}"));
    let (crm, shop) = (crm.as_str(), shop.as_str());
    let scheme = format!("bEaReR {CRM}");
    let check = async |authorization: &[&str], instance: &str, expected: Result<(), Refusal>| {
        let answer = look_up(&service, authorization, instance).await;
        assert_eq!(answer, expected, "{authorization:?}, {instance:?}");
    };
    // The picture is in the cache after the first row. Later refusals happen in spite of that.
    check(&[crm], "shop-1", Ok(())).await;
    check(&[crm], "", Ok(())).await;
    check(&[&scheme], "any", Ok(())).await;
    check(&[shop], "shop-1", Ok(())).await;
    check(&[shop], "shop-2", Ok(())).await;
    check(&[shop], "shop-3", not_allowed()).await;
    check(&[shop], "", not_allowed()).await;
    check(&[shop], Sandbox::INSTANCE, not_allowed()).await;
    check(&[], "shop-1", unknown()).await;
    check(&["Bearer Zq9mark-other"], "shop-1", unknown()).await;
    check(&["Bearer "], "shop-1", unknown()).await;
    check(&[CRM], "shop-1", unknown()).await;
    check(&[&format!("Basic {CRM}")], "shop-1", unknown()).await;
    check(&[&format!("Bearer {CRM_HASH}")], "shop-1", unknown()).await;
    check(&[&format!("{crm}, {crm}")], "shop-1", unknown()).await;
    check(&[crm, crm], "shop-1", unknown()).await;
    check(&[crm, "Bearer Zq9mark-other"], "shop-1", unknown()).await;
    check(&["Bearer Zq9mark-other", crm], "shop-1", unknown()).await;
    // An instance with an invalid name is reported as an invalid argument, like without callers.
    let invalid = (Code::InvalidArgument, "INSTANCE_INVALID".to_owned());
    check(&[shop], "a/b", Err(invalid)).await;

    // Health checks need no token.
    let health = service.health().await.check(HealthCheckRequest::default()).await;
    assert_eq!(health.unwrap().into_inner().status, 1);
    for hash in [CRM_HASH, SHOP_HASH] {
        assert!(!service.logs().contains(hash));
    }
}

#[tokio::test]
async fn a_hangup_reads_the_file_anew_and_a_broken_one_changes_nothing() {
    let file = file(TWO);
    let service = open(&file).await;
    let [crm, shop] = [CRM, SHOP].map(|token| format!("Bearer {token}"));
    let check = async |crm_may: Result<(), Refusal>, shop_may: Result<(), Refusal>| {
        assert_eq!(look_up(&service, &[&crm], "shop-1").await, crm_may);
        assert_eq!(look_up(&service, &[&shop], "shop-1").await, shop_may);
    };
    check(Ok(()), Ok(())).await;

    write(&file, "[callers.shop]\ntoken_sha256 = \"SHOP_HASH\"\ninstances = [\"shop-2\"]\n");
    check(Ok(()), Ok(())).await;
    service.signalled("HUP", "read the callers file again").await;
    check(unknown(), not_allowed()).await;

    let broken = format!("[callers.crm]\ntoken_sha256 = \"{CRM}\"\ninstances = []\n[callers.x]\n");
    write(&file, &broken);
    let line = service.signalled("HUP", "neither token_sha256 nor certificate").await;
    let path = file.path().to_str().unwrap();
    assert!(
        line.contains(&format!("{path}: line 4: caller x")) && line.contains(r#""level":"WARN""#),
        "{line}"
    );
    for fault in ["caller crm: token_sha256: must be 64", "caller crm: instances: the list is empty"] {
        assert!(service.logs().contains(fault), "{fault}");
    }
    check(unknown(), not_allowed()).await;
    fs::remove_file(file.path()).unwrap();
    service.signalled("HUP", &format!("{path}: cannot read the file")).await;
    check(unknown(), not_allowed()).await;

    fs::write(file.path(), format!("[callers.a]\ntoken_sha256 = \"{CRM_HASH}\"\ninstances = [\"*\"]\n"))
        .unwrap();
    service.signalled("HUP", "read the callers file again").await;
    check(Ok(()), unknown()).await;
}

#[tokio::test]
async fn a_service_that_is_open_says_so_beyond_this_machine_alone() {
    const TO_ALL: &str = "everyone who reaches this address may call";
    const IN_CLEAR: &str = "tokens of callers travel in the clear; see --tls-cert";
    let file = file(TWO);
    let everywhere = ("HYPERSENDER_GRPC_LISTEN", "0.0.0.0:0");
    let sandbox = ("HYPERSENDER_GRPC_SANDBOX", "true");
    let callers = ("HYPERSENDER_GRPC_CALLERS_FILE", file.path().to_str().unwrap());
    let passthrough = ("HYPERSENDER_GRPC_CREDENTIALS", "passthrough");
    for (variables, to_all, in_clear) in [
        (&[sandbox][..], false, false),
        (&[sandbox, callers], false, false),
        (&[sandbox, everywhere], true, false),
        (&[sandbox, everywhere, callers], false, true),
        (&[sandbox, everywhere, passthrough], true, true),
    ] {
        let mut service = Launch::serve().variables(variables).start().await;
        // The log is complete once the process has ended.
        service.signal("INT").await;
        assert_eq!(service.exit_code().await, 0, "{variables:?}");
        let warned = [TO_ALL, IN_CLEAR].map(|warning| service.logs().contains(warning));
        assert_eq!(warned, [to_all, in_clear], "{variables:?}");
    }
}
