//! [`Service`]: the built binary in front of its sandbox, and what its admin port says.

use std::{future::Future, net::SocketAddr, process::Stdio, time::Duration};

use hypersender_grpc::grpc::contact::{
    GetProfilePictureRequest, contact_service_client::ContactServiceClient,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

/// Far above what anything here takes, so that only something that hangs reaches it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What `work` yields, before patience ends.
pub async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A running process of the binary; killed when dropped.
pub struct Service {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its admin port is, if it has one.
    pub admin: Option<SocketAddr>,
}

/// `serve` with JSON logs, on a free port, with no variable of whoever runs the test.
pub fn serve(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hypersender-grpc"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"]).args(flags).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl Service {
    /// Serves on the sandbox, with an admin port on a free port.
    pub async fn start(flags: &[&str]) -> Self {
        let mut command = serve(&["--sandbox", "--admin-listen", "127.0.0.1:0"]);
        command.args(flags);
        Self::from(command).await
    }

    /// Starts the process and waits until it listens.
    pub async fn from(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut admin, mut seen) = (None, String::new());
        loop {
            let line = patiently("the service to listen", stderr.next_line()).await.unwrap();
            let Some(line) = line else { panic!("the service did not start: {seen}") };
            seen.push_str(&line);
            let line: Value = serde_json::from_str(&line).unwrap();
            let address = || line["address"].as_str().unwrap().parse().unwrap();
            match line["message"].as_str() {
                Some("admin listening") => admin = Some(address()),
                Some("listening") => break Self { address: address(), child, stderr, admin },
                _ => {}
            }
        }
    }

    /// A connection of its own.
    pub async fn channel(&self) -> Channel {
        Endpoint::try_from(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// Looks up `chat_id` and returns the code.
    pub async fn look_up(&self, chat_id: &str) -> Code {
        let mut client = ContactServiceClient::new(self.channel().await);
        let request = GetProfilePictureRequest { chat_id: chat_id.to_owned(), ..Default::default() };
        let answer = patiently("an answer", client.get_profile_picture(request)).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    }

    /// Status and body of what the admin port says at `path`.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let admin = self.admin.expect("it has an admin port");
        let response =
            patiently("the admin port", reqwest::get(format!("http://{admin}{path}"))).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// The lines of `/metrics`.
    pub async fn metrics(&self) -> Samples {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        Samples(text)
    }

    /// Sends a signal: `TERM`, `INT`.
    pub async fn signal(&self, name: &str) {
        let process = self.child.id().expect("the process runs").to_string();
        let status = Command::new("sh").args(["-c", "kill -$0 $1", name, &process]).status().await.unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end by itself; returns its exit code and the rest of its log.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        patiently("the log to end", self.stderr.get_mut().read_to_string(&mut log)).await.unwrap();
        let status = patiently("the service to end", self.child.wait()).await.unwrap();
        (status.code(), log)
    }
}

/// What `/metrics` says.
pub struct Samples(pub String);

impl Samples {
    /// The lines that are samples.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.lines().filter(|line| !line.starts_with('#'))
    }

    /// The value of the sample `name`, with its labels if it has any, as in the text.
    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        let value = self.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {}", self.0)).parse().unwrap()
    }
}
