//! The admin port: its address, its probes, and that its connections delay no shutdown.

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tonic::Code;

use crate::support::{Launch, Service, patiently};

const VARIABLE: &str = "HYPERSENDER_GRPC_ADMIN_LISTEN";

#[tokio::test]
async fn readiness_ends_with_the_first_signal_and_life_does_not() {
    let service = Service::start(&["--drain-wait", "1m"]).await;
    assert_eq!(service.get("/livez").await.0, 200);
    assert_eq!(service.get("/readyz").await.0, 200);
    service.signal("TERM").await;
    patiently("the end of readiness", async {
        while service.get("/readyz").await.0 != 503 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(service.get("/livez").await.0, 200);
    assert_eq!(service.get("/metrics").await.0, 200);
    assert_eq!(service.look_up("15551230001").await, Code::Ok, "the service still answers calls");
}

#[tokio::test]
async fn an_open_connection_does_not_keep_the_process_from_stopping() {
    let mut service = Service::start(&[]).await;
    let mut half = TcpStream::connect(service.admin.unwrap()).await.unwrap();
    half.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
    let _silent = TcpStream::connect(service.admin.unwrap()).await.unwrap();
    service.signal("INT").await;
    assert_eq!(service.exit_code().await, 0, "{}", service.logs());
}

#[tokio::test]
async fn it_can_be_switched_off() {
    for off in ["off", "OFF", ""] {
        let service = Service::start(&[&format!("--admin-listen={off}")]).await;
        assert_eq!(service.admin, None, "{off:?}");
    }
    assert_eq!(Service::sandboxed().variable(VARIABLE, "off").start().await.admin, None);
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_the_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let launch = Launch::serve().flags(&["--admin-listen", &address]);
    let ended = launch.variable("HYPERSENDER_WHATSAPP_API_KEY", "Zq9mark").run().await;
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{ended:?}");
    for part in [&address, "--admin-listen", VARIABLE] {
        assert!(ended.stderr.contains(part), "{part:?} is missing in {ended:?}");
    }
}

#[tokio::test]
async fn the_sandbox_takes_another_port_when_its_own_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let service = Service::start(&["--admin-listen", &address.to_string()]).await;
    let admin = service.admin.unwrap();
    assert_ne!(admin, address);
    assert_eq!(service.get("/livez").await.0, 200);
    service.printed(&format!("curl http://{admin}/metrics")).await;
}

#[tokio::test]
async fn only_what_is_documented_is_there() {
    let service = Service::start(&[]).await;
    for (path, expected) in [("/", 404), ("/debug", 404), ("/metrics/", 404), ("/metrics", 200)] {
        assert_eq!(service.get(path).await.0, expected, "{path}");
    }
    let url = format!("http://{}/metrics", service.admin.unwrap());
    let posted = reqwest::Client::new().post(url).send().await.unwrap();
    assert_eq!(posted.status(), 405);
}

#[tokio::test]
async fn a_scraper_may_ask_for_open_metrics() {
    let service = Service::start(&[]).await;
    let url = format!("http://{}/metrics", service.admin.unwrap());
    for (accept, content_type, end) in [
        ("application/openmetrics-text;version=1.0.0", "application/openmetrics-text;", "# EOF\n"),
        ("text/plain", "text/plain; version=0.0.4;", "\n"),
    ] {
        let request = reqwest::Client::new().get(&url).header(ACCEPT, accept);
        let response = request.send().await.unwrap();
        let found = response.headers()[CONTENT_TYPE].to_str().unwrap();
        assert!(found.starts_with(content_type), "{found}");
        assert!(response.text().await.unwrap().ends_with(end), "{accept}");
    }
}
