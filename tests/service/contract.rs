//! The parts of the contract that do not depend on upstream: refusals, reflection, health.

use hypersender_grpc::{
    domain::Refusal,
    grpc::contact::{CacheControl, GetProfilePictureRequest},
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::support::{
    CHAT, CONTACTS, Fault, Launch, Pushback, Reply, Service, TOKEN, Upstream, about, patiently,
};

/// Checks that a request is refused with this reason for this field, that the status does not quote it, and
/// that upstream is not asked.
async fn check_refused(service: &Service, request: GetProfilePictureRequest, reason: &str, field: &str) {
    let values = [request.chat_id.clone(), request.instance.clone()];
    let status = service.client().await.get_profile_picture(request).await.unwrap_err();
    let fault = Fault::from(&status);
    assert_eq!((fault.code, fault.reason.as_str()), (Code::InvalidArgument, reason), "{values:?}");
    assert_eq!((fault.fields, fault.pushback), (vec![field.to_owned()], Pushback::Never), "{values:?}");
    let told = format!("{} {}", status.message(), String::from_utf8_lossy(status.details()));
    // A short value may occur in the fixed text of the refusal.
    let said = |value: &str| value.len() < 3 || Refusal::ChatIdInvalid.to_string().contains(value);
    for value in values.iter().filter(|value| !said(value)) {
        assert!(!told.contains(value), "{value:?} stands in {told:?}");
    }
}

#[tokio::test]
async fn a_chat_id_of_another_form_is_refused() {
    let upstream = Upstream::start([Reply::status(200)]).await;
    let service = Service::asking(&upstream).start().await;
    for chat_id in [
        "",
        " ",
        "+",
        "1234",
        "1234567890123456",
        "123456789012345678901@lid",
        "1234@c.us",
        "++15551234567",
        "+ 15551234567",
        "1555 1234567",
        "1555-123-4567",
        "(555)1234567",
        "١٢٣٤٥٦٧",
        "15551234567@",
        "@c.us",
        "15551234567@g.us",
        "15551234567@c.us@c.us",
        "15551234567@example.com",
        "15551234567&chat_id=15551230001",
        "15551234567/../../x",
        "15551234567\r\nx: y",
        "15551234567\0",
        "\u{a0}15551234567",
        "somebody",
    ] {
        check_refused(&service, about(chat_id), "CHAT_ID_INVALID", "chat_id").await;
    }
    let long = "1".repeat(10_000);
    check_refused(&service, about(&long), "CHAT_ID_INVALID", "chat_id").await;
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn an_instance_that_does_not_fit_into_a_path_is_refused() {
    let upstream = Upstream::start([Reply::status(200)]).await;
    let service = Service::asking(&upstream).start().await;
    let long = "a".repeat(65);
    for instance in ["../..", "a/b", "a b", "a%2fb", "a?b=c", "a#b", "größe", "ab\n", " ab", long.as_str()]
    {
        let request = GetProfilePictureRequest { instance: instance.into(), ..about(CHAT) };
        check_refused(&service, request, "INSTANCE_INVALID", "instance").await;
    }
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn a_duration_that_is_negative_or_malformed_is_refused() {
    let upstream = Upstream::start([Reply::status(200)]).await;
    let service = Service::asking(&upstream).start().await;
    let with = |field, seconds, nanos| {
        let duration = Some(prost_types::Duration { seconds, nanos });
        let control = CacheControl { only_if_cached: true, ..Default::default() };
        let control = match field {
            "max_age" => CacheControl { max_age: duration, ..control },
            "min_fresh" => CacheControl { min_fresh: duration, ..control },
            _ => CacheControl { stale_if_error: duration, ..control },
        };
        GetProfilePictureRequest { cache_control: Some(control), ..about(CHAT) }
    };
    for field in ["max_age", "min_fresh", "stale_if_error"] {
        for (seconds, nanos) in [
            (0, -1),
            (-1, 0),
            (-1, 1_000_000_000),
            (1, -1),
            (0, 1_000_000_000),
            (0, i32::MIN),
            (315_576_000_001, 0),
            (1 << 62, 0),
            (i64::MAX, i32::MAX),
            (i64::MIN, 0),
        ] {
            let named = format!("cache_control.{field}");
            check_refused(&service, with(field, seconds, nanos), "CACHE_CONTROL_INVALID", &named).await;
        }
        for (seconds, nanos) in [(0, 0), (0, 999_999_999), (315_576_000_000, 999_999_999)] {
            let request = with(field, seconds, nanos);
            let fault = Fault::from(&service.client().await.get_profile_picture(request).await.unwrap_err());
            assert_eq!(fault.reason, "NOT_CACHED", "{field}: {seconds} s, {nanos} ns");
        }
    }
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn a_call_without_an_instance_needs_a_default_one() {
    let upstream = Upstream::start([Reply::status(404)]).await;
    let launch = Launch::serve().variable("HYPERSENDER_WHATSAPP_API_KEY", TOKEN);
    let service = launch.variable("HYPERSENDER_WHATSAPP_BASE_URL", upstream.base_url()).start().await;
    check_refused(&service, about(CHAT), "INSTANCE_INVALID", "instance").await;
    assert_eq!(upstream.calls(), 0);
    let named = GetProfilePictureRequest { instance: "shop".into(), ..about(CHAT) };
    let status = service.client().await.get_profile_picture(named).await.unwrap_err();
    assert_eq!((status.code(), upstream.calls()), (Code::NotFound, 1));
}

#[tokio::test]
async fn an_instance_without_a_token_is_not_asked() {
    let upstream = Upstream::start([Reply::status(404)]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[instances.shop]\ntoken = \"1|Zq9mark-shop\"\n").unwrap();
    let launch = Launch::serve().flags(&["--instances-file", file.path().to_str().unwrap()]);
    let service = launch.variable("HYPERSENDER_WHATSAPP_BASE_URL", upstream.base_url()).start().await;
    let request = GetProfilePictureRequest { instance: "other".into(), ..about(CHAT) };
    let fault = Fault::from(&service.client().await.get_profile_picture(request).await.unwrap_err());
    assert_eq!((fault.code, fault.reason.as_str()), (Code::NotFound, "INSTANCE_NOT_CONFIGURED"));
    assert_eq!((fault.pushback, upstream.calls()), (Pushback::Never, 0));
}

#[tokio::test]
async fn only_what_is_cached_is_told_without_asking() {
    let upstream = Upstream::start([Reply::status(404)]).await;
    let service = Service::asking(&upstream).start().await;
    let control = CacheControl { only_if_cached: true, ..Default::default() };
    let request = GetProfilePictureRequest { cache_control: Some(control), ..about(CHAT) };
    let fault = Fault::from(&service.client().await.get_profile_picture(request).await.unwrap_err());
    assert_eq!((fault.code, fault.reason.as_str()), (Code::FailedPrecondition, "NOT_CACHED"));
    assert_eq!((fault.pushback, upstream.calls()), (Pushback::Never, 0));
}

#[tokio::test]
async fn what_is_not_in_the_contract_is_unimplemented() {
    let upstream = Upstream::start([Reply::status(404)]).await;
    let service = Service::asking(&upstream).start().await;
    for path in [
        "/hypersender.contact.v1.ContactService/GetNothing",
        "/hypersender.contact.v1.ContactService/getProfilePicture",
        "/hypersender.contact.v1.NoService/GetProfilePicture",
        "/",
    ] {
        assert_eq!(service.call(path).await.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
    assert_eq!(upstream.calls(), 0);
    let path = "/hypersender.contact.v1.ContactService/GetProfilePicture";
    assert_eq!(service.call(path).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn health_is_told_for_the_server_and_the_service() {
    // Health does not depend on upstream.
    let upstream = Upstream::start([Reply::cut()]).await;
    let service = Service::asking(&upstream).start().await;
    service.client().await.get_profile_picture(about(CHAT)).await.unwrap_err();
    let mut health = service.health().await;
    for name in ["", CONTACTS] {
        let request = HealthCheckRequest { service: name.into() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{name:?}");
    }
    let unknown = HealthCheckRequest { service: "hypersender.contact.v1.NoService".into() };
    assert_eq!(health.check(unknown.clone()).await.unwrap_err().code(), Code::NotFound);
    let mut watch = health.watch(unknown).await.unwrap().into_inner();
    let first = patiently("the first message", watch.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
}

/// Tests one version of reflection. Both versions differ only in the types of their messages.
macro_rules! reflects {
    ($version:ident, $names:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest as Ask,
            server_reflection_response::MessageResponse as Told,
        };
        let service = Service::start(&[]).await;
        let mut client = ServerReflectionClient::new(service.channel().await);
        let symbols = $names.map(|name| Ask::FileContainingSymbol(name.to_owned()));
        let asks = [Ask::ListServices(String::new())].into_iter().chain(symbols);
        let asks: Vec<_> = asks
            .map(|ask| ServerReflectionRequest { host: String::new(), message_request: Some(ask) })
            .collect();
        let asks = futures_util::stream::iter(asks);
        let mut answers = client.server_reflection_info(asks).await.unwrap().into_inner();

        let Some(Told::ListServicesResponse(list)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("no list of services");
        };
        let mut services: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        services.sort();
        assert!(services.contains(&CONTACTS.to_owned()), "{services:?}");
        assert!(services.contains(&"grpc.health.v1.Health".to_owned()), "{services:?}");
        for name in $names {
            let answer = answers.message().await.unwrap().unwrap().message_response;
            let Some(Told::FileDescriptorResponse(file)) = answer else {
                panic!("{name} is not known: {answer:?}");
            };
            assert!(!file.file_descriptor_proto.is_empty(), "{name}");
        }
        assert_eq!(answers.message().await.unwrap(), None);
    }};
}

#[tokio::test]
async fn reflection_knows_the_services_and_the_details_of_errors() {
    let names = [
        CONTACTS,
        "hypersender.contact.v1.ContactService.GetProfilePicture",
        "hypersender.contact.v1.ProfilePicture",
        "google.protobuf.Timestamp",
        "google.rpc.ErrorInfo",
        "google.rpc.RetryInfo",
        "google.rpc.BadRequest",
        "grpc.health.v1.Health",
    ];
    reflects!(v1, names);
    reflects!(v1alpha, names);
}

/// Sends requests one after the other on one stream of one version of reflection, and checks the code of each
/// error response.
macro_rules! reflects_on {
    ($version:ident) => {{
        use tonic_reflection::pb::$version::{
            ExtensionRequest, ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest as Ask,
            server_reflection_response::MessageResponse as Told,
        };
        let service = Service::start(&[]).await;
        let mut client = ServerReflectionClient::new(service.channel().await);
        let (ask, asked) = requests();
        let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
        let extension = |containing_type: &str, extension_number| {
            let containing_type = containing_type.to_owned();
            Ask::FileContainingExtension(ExtensionRequest { containing_type, extension_number })
        };
        let (not_found, invalid) = (Some(Code::NotFound as i32), Some(Code::InvalidArgument as i32));
        let picture = "hypersender.contact.v1.ProfilePicture";
        for (ask_for, error) in [
            (Some(Ask::FileContainingSymbol("no.such.Symbol".to_owned())), not_found),
            (Some(Ask::FileContainingSymbol(picture.to_owned())), None),
            (Some(Ask::FileByFilename("no/such.proto".to_owned())), not_found),
            (Some(Ask::FileByFilename("google/protobuf/timestamp.proto".to_owned())), None),
            (Some(extension(picture, 100)), not_found),
            (Some(extension("no.such.Type", 100)), not_found),
            (Some(Ask::AllExtensionNumbersOfType("no.such.Type".to_owned())), not_found),
            (Some(Ask::AllExtensionNumbersOfType(picture.to_owned())), None),
            (None, invalid),
            (Some(Ask::ListServices(String::new())), None),
        ] {
            let request = ServerReflectionRequest { host: "h".to_owned(), message_request: ask_for };
            ask.send(request.clone()).unwrap();
            let answer = patiently("an answer", answers.message()).await;
            let answer = answer.unwrap().unwrap_or_else(|| panic!("the stream ends at {request:?}"));
            let told = match answer.message_response.unwrap() {
                Told::ErrorResponse(error) => Some(error.error_code),
                _ => None,
            };
            assert_eq!(told, error, "{request:?}");
            assert_eq!(answer.original_request, Some(request));
        }
        drop(ask);
        assert_eq!(patiently("the end", answers.message()).await.unwrap(), None);
    }};
}

/// A sender, and the stream of the requests that it sends.
fn requests<T>() -> (tokio::sync::mpsc::UnboundedSender<T>, impl futures_util::Stream<Item = T>) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    (sender, futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)))
}

#[tokio::test]
async fn reflection_goes_on_after_a_name_that_it_does_not_know() {
    reflects_on!(v1);
    reflects_on!(v1alpha);
}

#[tokio::test]
async fn reflection_can_be_switched_off_and_all_else_stays() {
    let service = Service::start(&["--reflection", "false"]).await;
    macro_rules! code {
        ($version:ident) => {{
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            let mut client = ServerReflectionClient::new(service.channel().await);
            let answer = client.server_reflection_info(futures_util::stream::empty()).await;
            answer.map_or_else(|status| status.code(), |_| Code::Ok)
        }};
    }
    assert_eq!((code!(v1), code!(v1alpha)), (Code::Unimplemented, Code::Unimplemented));
    service.client().await.get_profile_picture(about(CHAT)).await.unwrap();
    service.health().await.check(HealthCheckRequest::default()).await.unwrap();
}
