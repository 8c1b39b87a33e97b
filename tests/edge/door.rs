//! [`Door`]: the built binary, started with the settings a test gives it and no others, and asked from outside.

use std::{process::Stdio, time::Duration};

use hypersender_grpc::grpc::contact::{
    CacheControl, GetProfilePictureRequest, GetProfilePictureResponse,
    contact_service_client::ContactServiceClient,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

/// Long enough for any machine; only a service that hangs meets it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running service; killed when dropped.
pub struct Door {
    child: Child,
    logs: watch::Receiver<Vec<String>>,
    address: String,
    channel: Channel,
}

/// A failed call: its code and reason.
pub type Refusal = (Code, String);

fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hypersender-grpc"));
    command.args(["serve", "--log-format", "json", "--log", "trace"]);
    command.env_clear().kill_on_drop(true).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Exit code and output of a service that is not expected to start.
pub async fn faulty(variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = timeout(PATIENCE, command(variables).output()).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

impl Door {
    /// Starts the binary with these variables, on a free port of this machine unless they say otherwise.
    pub async fn open(variables: &[(&str, &str)]) -> Self {
        let mut all =
            vec![("HYPERSENDER_GRPC_LISTEN", "127.0.0.1:0"), ("HYPERSENDER_GRPC_ADMIN_LISTEN", "off")];
        all.extend(variables);
        let mut child = command(&all).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, logs) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|logs| logs.push(line));
            }
        });
        let line = logged(&logs, r#""message":"listening""#).await;
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = line["address"].as_str().unwrap().replace("0.0.0.0", "127.0.0.1");
        let channel = Endpoint::try_from(format!("http://{address}")).unwrap().connect_lazy();
        Self { child, logs, address, channel }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// A connection to it, without TLS.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Looks up `chat` with these entries of `authorization`.
    pub async fn ask(
        &self,
        authorization: &[&str],
        instance: &str,
        chat: &str,
        control: CacheControl,
    ) -> Result<GetProfilePictureResponse, Status> {
        let mut request = Request::new(GetProfilePictureRequest {
            instance: instance.into(),
            chat_id: chat.into(),
            cache_control: Some(control),
        });
        for entry in authorization {
            request.metadata_mut().append("authorization", entry.parse().unwrap());
        }
        let answer = ContactServiceClient::new(self.channel()).get_profile_picture(request).await;
        answer.map(tonic::Response::into_inner)
    }

    /// The same with nothing said about the cache, and a failure taken apart.
    pub async fn look_up(
        &self,
        authorization: &[&str],
        instance: &str,
        chat: &str,
    ) -> Result<GetProfilePictureResponse, Refusal> {
        let answer = self.ask(authorization, instance, chat, CacheControl::default()).await;
        answer.map_err(|status| refusal(&status))
    }

    /// Sends a signal and returns once a new log line contains `text`.
    pub async fn signal(&self, name: &str, text: &str) -> String {
        let before = self.logs.borrow().len();
        let process = self.child.id().expect("the process runs").to_string();
        let kill = Command::new("sh").args(["-c", "kill -$0 $1", name, &process]).status();
        assert!(kill.await.unwrap().success());
        let mut logs = self.logs.clone();
        let find = |logs: &Vec<String>| logs.iter().skip(before).find(|line| line.contains(text)).cloned();
        let logs = timeout(PATIENCE, logs.wait_for(|logs| find(logs).is_some())).await;
        let logs = logs.unwrap_or_else(|_| panic!("never logged {text}")).unwrap();
        find(&logs).unwrap()
    }

    /// All log lines so far, at every level.
    pub fn logs(&self) -> String {
        self.logs.borrow().join("\n")
    }
}

async fn logged(logs: &watch::Receiver<Vec<String>>, text: &str) -> String {
    let find = |logs: &Vec<String>| logs.iter().find(|line| line.contains(text)).cloned();
    let mut logs = logs.clone();
    let found = timeout(PATIENCE, logs.wait_for(|logs| find(logs).is_some())).await.unwrap();
    let logs = found.expect("the service starts and runs");
    find(&logs).unwrap()
}

/// Code and reason; also checks that asking again is discouraged, as it is for all that concerns who calls.
pub fn refusal(status: &Status) -> Refusal {
    let pushback = status.metadata().get("grpc-retry-pushback-ms").map(|value| value.to_str().unwrap());
    assert_eq!(pushback, Some("-1"), "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.domain, "hypersender-grpc");
    (status.code(), info.reason.clone())
}
