//! [`Service`]: the built binary, started with the environment a test gives it and no other.

use std::{net::SocketAddr, process::Stdio};

use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use hypersender_grpc::grpc::contact::contact_service_client::ContactServiceClient;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};
use tonic::{
    body::Body,
    transport::{Channel, Endpoint, Uri},
};
use tonic_health::pb::health_client::HealthClient;

use super::{INSTANCE, TOKEN, Upstream, patiently};

/// The generated client.
pub type Client = ContactServiceClient<Channel>;
/// The generated client over a transport that leaves every time-out to the service; tonic's own ends a call in
/// CANCELLED once its time is up.
pub type BareClient = ContactServiceClient<HyperClient<HttpConnector, Body>>;

/// A way to start the binary.
pub struct Launch(Command);

/// A running process of the binary; killed when dropped.
pub struct Service {
    address: SocketAddr,
    child: Child,
    logs: Output,
    stdout: Output,
}

/// What a stream of a process has said so far, line by line.
struct Output {
    lines: watch::Receiver<Vec<String>>,
    task: JoinHandle<()>,
}

/// The binary as a command that runs to its end, with an empty environment.
pub fn command() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_hypersender-grpc"));
    command.env_clear().timeout(super::PATIENCE);
    command
}

impl Launch {
    /// Any subcommand.
    pub fn of(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hypersender-grpc"));
        command.args(arguments).env_clear().kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command)
    }

    /// `serve` on a free port, without any setting beside.
    pub fn serve() -> Self {
        Self::of(&["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
    }

    /// With more on the command line.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.0.args(flags);
        self
    }

    /// With a variable in the environment.
    pub fn variable(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.0.env(name, value.as_ref());
        self
    }

    /// Starts the process and waits until it listens.
    pub async fn start(self) -> Service {
        let mut service = self.spawn();
        let listening = service.logs.line(|line| line.contains(r#""message":"listening""#));
        let line = patiently("the service to listen", listening).await;
        let Some(line) = line else {
            panic!("the service did not start: {}", service.logs());
        };
        let line: Value = serde_json::from_str(&line).unwrap();
        service.address = line["address"].as_str().unwrap().parse().unwrap();
        service
    }

    /// Starts the process and waits for nothing.
    pub fn spawn(mut self) -> Service {
        let mut child = self.0.spawn().unwrap();
        let logs = Output::collect(child.stderr.take().unwrap());
        let stdout = Output::collect(child.stdout.take().unwrap());
        Service { address: ([127, 0, 0, 1], 0).into(), child, logs, stdout }
    }
}

impl Service {
    /// The service as an operator would start it, in front of `upstream`.
    pub fn asking(upstream: &Upstream) -> Launch {
        Self::asking_at(&upstream.base_url())
    }

    /// The same, wherever upstream is or is not.
    pub fn asking_at(base_url: &str) -> Launch {
        Launch::serve()
            .variable("HYPERSENDER_WHATSAPP_API_KEY", TOKEN)
            .variable("HYPERSENDER_WHATSAPP_INSTANCE_ID", INSTANCE)
            .variable("HYPERSENDER_WHATSAPP_BASE_URL", base_url)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn uri(&self) -> Uri {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// A connection of its own.
    pub async fn channel(&self) -> Channel {
        Endpoint::from(self.uri()).connect().await.unwrap()
    }

    /// A client on a connection of its own.
    pub async fn client(&self) -> Client {
        ContactServiceClient::new(self.channel().await)
    }

    /// A client whose own clock never ends a call.
    pub fn bare_client(&self) -> BareClient {
        let transport = HyperClient::builder(TokioExecutor::new()).http2_only(true).build_http();
        ContactServiceClient::with_origin(transport, self.uri())
    }

    /// A health client on a connection of its own.
    pub async fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel().await)
    }

    /// Sends a signal: `TERM`, `INT`.
    pub async fn signal(&self, name: &str) {
        let process = self.child.id().expect("the process runs");
        let kill = format!("kill -{name} {process}");
        let status = Command::new("sh").arg("-c").arg(kill).status().await.unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end by itself, and returns its exit code. All of its output is there then.
    pub async fn exit_code(&mut self) -> i32 {
        let status = patiently("the service to end", self.child.wait()).await.unwrap();
        for output in [&mut self.logs, &mut self.stdout] {
            (&mut output.task).await.unwrap();
        }
        status.code().expect("the process was not killed")
    }

    /// The logs so far.
    pub fn logs(&self) -> String {
        self.logs.text()
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Returns once a log line contains `text`.
    pub async fn logged(&mut self, text: &str) -> String {
        let line = self.logs.line(|line| line.contains(text));
        patiently(text, line).await.unwrap_or_else(|| panic!("never logged {text}"))
    }

    /// Returns the line of standard output that contains `text`, once it is there.
    pub async fn printed(&mut self, text: &str) -> String {
        let line = self.stdout.line(|line| line.contains(text));
        patiently(text, line).await.unwrap_or_else(|| panic!("never printed {text}"))
    }
}

impl Output {
    fn collect(stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let (sender, lines) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            let mut stream = BufReader::new(stream).lines();
            while let Ok(Some(line)) = stream.next_line().await {
                sender.send_modify(|lines| lines.push(line));
            }
        });
        Self { lines, task }
    }

    fn text(&self) -> String {
        self.lines.borrow().join("\n")
    }

    /// The first line that is `wanted`, as soon as it is there; `None` when the stream ends without it.
    async fn line(&mut self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let find = |lines: &Vec<String>| lines.iter().find(|line| wanted(line)).cloned();
        let lines = self.lines.wait_for(|lines| find(lines).is_some()).await;
        lines.ok().and_then(|lines| find(&lines))
    }
}
