//! Callers that are known by the certificate of their connection.

use hypersender_grpc::{grpc::contact::GetProfilePictureRequest, sandbox::Sandbox};
use rcgen::SanType;
use tonic::{Code, Request, transport::Channel};

use crate::support::{Authority, CHAT, Client, Files, Refusal, Service, about, connect, refusal};

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

/// Starts a service with TLS and [`CALLERS`], which accepts client certificates.
async fn open(authority: &Authority, files: &Files, flags: &[&str]) -> Service {
    let [cert, key] = files.identity(&authority.identity("localhost"));
    let [ca, callers] = [files.write("ca", &authority.pem()), files.write("callers", CALLERS)];
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca, "--callers-file", &callers];
    Service::start(&[&tls, flags].concat()).await
}

/// Connects with a certificate that has these names.
async fn connect_as(
    service: &Service,
    authority: &Authority,
    names: &[SanType],
    common_name: &str,
) -> Channel {
    let identity = authority.caller(names, common_name);
    connect(service, authority, Some(&identity), &["h2"]).await.unwrap()
}

async fn look_up(channel: &Channel, authorization: Option<&str>, instance: &str) -> Result<(), Refusal> {
    let mut request = Request::new(GetProfilePictureRequest { instance: instance.into(), ..about(CHAT) });
    if let Some(entry) = authorization {
        request.metadata_mut().insert("authorization", entry.parse().unwrap());
    }
    let answer = Client::new(channel.clone()).get_profile_picture(request).await;
    answer.map(drop).map_err(|status| refusal(&status))
}

const CALLERS: &str = r#"
[callers.crm]
certificate = "crm.internal"
instances = ["*"]
[callers.shop]
certificate = "spiffe://mesh/shop"
instances = ["shop"]
[callers.desk]
certificate = "Help Desk"
instances = ["*"]
"#;

#[tokio::test]
async fn a_caller_is_known_by_a_name_in_its_certificate() {
    let (authority, files) = (Authority::new(), Files::new());
    let service = open(&authority, &files, &[]).await;
    let unknown = || Err((Code::Unauthenticated, "CALLER_UNKNOWN".to_owned()));
    let not_allowed = || Err((Code::PermissionDenied, "INSTANCE_NOT_ALLOWED".to_owned()));
    let check = async |names: &[SanType], common, authorization, instance, expected: Result<(), Refusal>| {
        let channel = connect_as(&service, &authority, names, common).await;
        let told = look_up(&channel, authorization, instance).await;
        assert_eq!(told, expected, "{names:?}, {common}, {authorization:?}, {instance}");
    };
    check(&[dns("CRM.internal")], "x", None, "any", Ok(())).await;
    check(&[dns("x.internal"), dns("crm.internal")], "x", None, "any", Ok(())).await;
    check(&[uri("spiffe://mesh/shop")], "x", None, "shop", Ok(())).await;
    check(&[uri("spiffe://mesh/shop")], "x", None, "other", not_allowed()).await;
    check(&[uri("spiffe://mesh/Shop")], "x", None, "shop", unknown()).await;
    check(&[], "Help Desk", None, "any", Ok(())).await;
    // The common name counts only in a certificate without alternative names.
    check(&[dns("x.internal")], "Help Desk", None, "any", unknown()).await;
    check(&[dns("*.internal")], "x", None, "any", unknown()).await;
    check(&[dns("crm.internal"), uri("spiffe://mesh/shop")], "x", None, "shop", unknown()).await;
    check(&[dns("crm.internal")], "x", Some("Bearer other"), "any", unknown()).await;
    check(&[dns("crm.internal")], "x", Some("Basic x"), "any", unknown()).await;
}

#[tokio::test]
async fn with_passthrough_a_certificate_tells_the_caller_and_the_token_is_hypersenders() {
    let (authority, files) = (Authority::new(), Files::new());
    let service = open(&authority, &files, &["--credentials", "passthrough"]).await;
    let token = format!("Bearer {}", Sandbox::TOKEN);
    let shop = connect_as(&service, &authority, &[uri("spiffe://mesh/shop")], "x").await;
    let stranger = connect_as(&service, &authority, &[dns("x.internal")], "x").await;
    let unknown = Err((Code::Unauthenticated, "CALLER_UNKNOWN".to_owned()));
    assert_eq!(look_up(&shop, Some(&token), "shop").await, Ok(()));
    assert_eq!(look_up(&shop, None, "shop").await, unknown);
    assert_eq!(look_up(&stranger, Some(&token), "shop").await, unknown);
    let not_allowed = Err((Code::PermissionDenied, "INSTANCE_NOT_ALLOWED".to_owned()));
    assert_eq!(look_up(&shop, Some(&token), "other").await, not_allowed);
    let rejected = Err((Code::Unauthenticated, "UPSTREAM_CREDENTIALS_REJECTED".to_owned()));
    assert_eq!(look_up(&shop, Some("Bearer other"), "shop").await, rejected);
}
