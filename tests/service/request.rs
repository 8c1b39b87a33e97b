//! The request to Hypersender, to the byte.

use hypersender_grpc::grpc::contact::GetProfilePictureRequest;

use crate::support::{CHAT, DOCUMENTED_ABSENCE, INSTANCE, Reply, Service, TOKEN, Upstream, about};

fn absence() -> Reply {
    Reply::json(200, DOCUMENTED_ABSENCE)
}

#[tokio::test]
async fn a_look_up_is_the_documented_request_and_nothing_more() {
    let upstream = Upstream::start([absence()]).await;
    let service = Service::asking(&upstream).start().await;
    service.client().await.get_profile_picture(about("15551230001@c.us")).await.unwrap();
    let [asked] = upstream.asked().try_into().unwrap();
    assert_eq!(asked.method, "GET");
    assert_eq!(
        asked.target,
        format!("/api/whatsapp/v2/{INSTANCE}/contacts/profile-picture?chat_id=15551230001%40c.us")
    );
    let mut headers = asked.headers;
    headers.sort();
    let expected = [
        ("accept", "application/json".to_owned()),
        ("authorization", format!("Bearer {TOKEN}")),
        ("content-type", "application/json".to_owned()),
        ("host", upstream.root().replace("http://", "")),
        ("user-agent", concat!("hypersender-grpc/", env!("CARGO_PKG_VERSION")).to_owned()),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(asked.body, b"");
}

/// Checks the path and the query of the request for this root, instance and chat id.
async fn check(root: &str, instance: &str, chat_id: &str, target: &str) {
    let upstream = Upstream::start([absence()]).await;
    let base_url = format!("{}{root}", upstream.root());
    let service = Service::asking_at(&base_url).start().await;
    let request = GetProfilePictureRequest { instance: instance.into(), ..about(chat_id) };
    service.client().await.get_profile_picture(request).await.unwrap();
    assert_eq!(upstream.asked()[0].target, target);
}

#[tokio::test]
async fn names_are_asked_for_in_their_canonical_form() {
    let default = |query| format!("/{INSTANCE}/contacts/profile-picture?chat_id={query}");
    check("", "", CHAT, &default(CHAT)).await;
    check("/", "", CHAT, &default(CHAT)).await;
    check("/api/", "", CHAT, &format!("/api{}", default(CHAT))).await;
    check("", "", " +15551230001\t", &default(CHAT)).await;
    check("", "", "15551230001@S.WhatsApp.net", &default("15551230001%40c.us")).await;
    check("", "", "100875997589545@LID", &default("100875997589545%40lid")).await;
    check("", "Shop_1", CHAT, "/Shop_1/contacts/profile-picture?chat_id=15551230001").await;
    let upper = "0B9F6C1E-53D2-4A57-8E0C-2F1D7A4B6C98";
    let lower = "/0b9f6c1e-53d2-4a57-8e0c-2f1d7a4b6c98/contacts/profile-picture?chat_id=15551230001";
    check("", upper, CHAT, lower).await;
}

#[tokio::test]
async fn calls_share_a_connection() {
    let upstream = Upstream::start([absence()]).await;
    let service = Service::asking(&upstream).start().await;
    let mut client = service.client().await;
    for chat_id in ["15551230001", "15551230002", "15551230003"] {
        client.get_profile_picture(about(chat_id)).await.unwrap();
    }
    assert_eq!((upstream.calls(), upstream.connections()), (3, 1));
}

#[tokio::test]
async fn a_connection_that_ended_between_calls_costs_none_of_them() {
    let upstream = Upstream::start([absence().closing()]).await;
    let service = Service::asking(&upstream).start().await;
    let mut client = service.client().await;
    for chat_id in ["15551230001", "15551230002", "15551230003"] {
        client.get_profile_picture(about(chat_id)).await.unwrap();
    }
    assert_eq!((upstream.calls(), upstream.connections()), (3, 3));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Upstream::start([absence()]).await;
    for status in [301, 302, 307, 308] {
        let reply = Reply::html(status).header("Location", elsewhere.base_url());
        let upstream = Upstream::start([reply]).await;
        let service = Service::asking(&upstream).start().await;
        service.client().await.get_profile_picture(about(CHAT)).await.unwrap_err();
        assert_eq!(upstream.calls(), 1, "{status}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_asked() {
    let proxy = Upstream::start([absence()]).await;
    let upstream = Upstream::start([absence()]).await;
    let mut launch = Service::asking(&upstream);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        launch = launch.variable(name, proxy.root());
    }
    launch.start().await.client().await.get_profile_picture(about(CHAT)).await.unwrap();
    assert_eq!((proxy.connections(), upstream.calls()), (0, 1));
}

#[tokio::test]
async fn cookies_are_not_kept() {
    let upstream = Upstream::start([absence().header("Set-Cookie", "session=1; Path=/")]).await;
    let service = Service::asking(&upstream).start().await;
    let mut client = service.client().await;
    for chat_id in ["15551230001", "15551230002"] {
        client.get_profile_picture(about(chat_id)).await.unwrap();
    }
    let named =
        |name: &str| upstream.asked().iter().any(|asked| asked.headers.iter().any(|(n, _)| n == name));
    assert!(named("accept") && !named("cookie") && !named("referer"));
}
