//! Callers known by the certificate of their connection.

use std::{fs, path::Path, sync::Arc};

use hyper_util::rt::TokioIo;
use hypersender_grpc::{
    grpc::contact::{GetProfilePictureRequest, contact_service_client::ContactServiceClient},
    sandbox::Sandbox,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use super::door::{Door, Refusal, refusal};

/// Signs the certificates of one test, the server's and the callers'.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate with these names; without any, `common` is what is left.
    fn sign(&self, names: &[SanType], common: &str) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.distinguished_name.push(DnType::CommonName, common);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    async fn connect(&self, door: &Door, names: &[SanType], common: &str) -> Channel {
        let (certificate, key) = self.sign(names, common);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.0.der().to_vec())).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) = (TlsConnector::from(Arc::new(config)), door.address());
        let connect = service_fn(move |_: Uri| {
            let (connector, address) = (connector.clone(), address.clone());
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("localhost").unwrap();
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connect).await.unwrap()
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

/// The service with TLS and these callers; client certificates are asked for.
async fn open(authority: &Authority, directory: &TempDir, callers: &str, more: &[(&str, &str)]) -> Door {
    let (certificate, key) = authority.sign(&[dns("localhost")], "server");
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        Path::to_str(&path).unwrap().to_owned()
    };
    let [cert, key] = [file("cert", certificate.pem()), file("key", key.serialize_pem())];
    let [ca, callers] = [file("ca", authority.0.pem()), file("callers", callers.to_owned())];
    let mut variables = vec![
        ("HYPERSENDER_GRPC_SANDBOX", "true"),
        ("HYPERSENDER_GRPC_TLS_CERT", &cert),
        ("HYPERSENDER_GRPC_TLS_KEY", &key),
        ("HYPERSENDER_GRPC_TLS_CLIENT_CA", &ca),
        ("HYPERSENDER_GRPC_CALLERS_FILE", &callers),
    ];
    variables.extend(more);
    Door::open(&variables).await
}

async fn look_up(channel: &Channel, authorization: Option<&str>, instance: &str) -> Result<(), Refusal> {
    let message = GetProfilePictureRequest {
        instance: instance.into(),
        chat_id: "15551230001".into(),
        cache_control: None,
    };
    let mut request = Request::new(message);
    if let Some(entry) = authorization {
        request.metadata_mut().insert("authorization", entry.parse().unwrap());
    }
    let answer = ContactServiceClient::new(channel.clone()).get_profile_picture(request).await;
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
    let (authority, directory) = (Authority::new(), TempDir::new().unwrap());
    let door = open(&authority, &directory, CALLERS, &[]).await;
    let unknown = || Err((Code::Unauthenticated, "CALLER_UNKNOWN".to_owned()));
    let not_allowed = || Err((Code::PermissionDenied, "INSTANCE_NOT_ALLOWED".to_owned()));
    let check = async |names: &[SanType], common, authorization, instance, expected: Result<(), Refusal>| {
        let channel = authority.connect(&door, names, common).await;
        let told = look_up(&channel, authorization, instance).await;
        assert_eq!(told, expected, "{names:?}, {common}, {authorization:?}, {instance}");
    };
    check(&[dns("CRM.internal")], "x", None, "any", Ok(())).await;
    check(&[dns("x.internal"), dns("crm.internal")], "x", None, "any", Ok(())).await;
    check(&[uri("spiffe://mesh/shop")], "x", None, "shop", Ok(())).await;
    check(&[uri("spiffe://mesh/shop")], "x", None, "other", not_allowed()).await;
    check(&[uri("spiffe://mesh/Shop")], "x", None, "shop", unknown()).await;
    check(&[], "Help Desk", None, "any", Ok(())).await;
    // A common name counts where there is no other name.
    check(&[dns("x.internal")], "Help Desk", None, "any", unknown()).await;
    check(&[dns("*.internal")], "x", None, "any", unknown()).await;
    check(&[dns("crm.internal"), uri("spiffe://mesh/shop")], "x", None, "shop", unknown()).await;
    check(&[dns("crm.internal")], "x", Some("Bearer other"), "any", unknown()).await;
    check(&[dns("crm.internal")], "x", Some("Basic x"), "any", unknown()).await;
}

#[tokio::test]
async fn with_passthrough_a_certificate_tells_the_caller_and_the_token_is_hypersenders() {
    let (authority, directory) = (Authority::new(), TempDir::new().unwrap());
    let passthrough = [("HYPERSENDER_GRPC_CREDENTIALS", "passthrough")];
    let door = open(&authority, &directory, CALLERS, &passthrough).await;
    let token = format!("Bearer {}", Sandbox::TOKEN);
    let shop = authority.connect(&door, &[uri("spiffe://mesh/shop")], "x").await;
    let stranger = authority.connect(&door, &[dns("x.internal")], "x").await;
    let unknown = Err((Code::Unauthenticated, "CALLER_UNKNOWN".to_owned()));
    assert_eq!(look_up(&shop, Some(&token), "shop").await, Ok(()));
    assert_eq!(look_up(&shop, None, "shop").await, unknown);
    assert_eq!(look_up(&stranger, Some(&token), "shop").await, unknown);
    let not_allowed = Err((Code::PermissionDenied, "INSTANCE_NOT_ALLOWED".to_owned()));
    assert_eq!(look_up(&shop, Some(&token), "other").await, not_allowed);
    let rejected = Err((Code::Unauthenticated, "UPSTREAM_CREDENTIALS_REJECTED".to_owned()));
    assert_eq!(look_up(&shop, Some("Bearer other"), "shop").await, rejected);
}
