//! [`Launch`]: starts the built binary. Its environment has only the variables that a test sets, and none of
//! the test's own.
//!
//! A process that serves logs at every level. When it ends, its output, its command line and its metrics are
//! searched for the [`marks`] of secrets. The test fails if one is found.

pub mod marks;
mod output;

use std::{
    ffi::OsStr,
    fs::{self, File},
    future::Future,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::ffi::OsStrExt,
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::Duration,
};

use serde_json::Value;

use self::output::Output;

/// The time-out of every wait: far longer than any step of a test takes, so that only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `work` and returns its result. Panics with the name of the work after [`PATIENCE`].
pub async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A command that starts the binary.
pub struct Launch(Command);

/// An output to which nothing can be written.
#[derive(Clone, Copy, Debug)]
pub enum Sink {
    /// A disk that is full.
    Full,
    /// A pipe whose reader has closed it.
    Left,
}

impl Sink {
    pub const ALL: [Self; 2] = [Self::Full, Self::Left];

    fn open(self) -> Stdio {
        match self {
            Self::Full => File::options().write(true).open("/dev/full").unwrap().into(),
            Self::Left => io::pipe().unwrap().1.into(),
        }
    }
}

/// A running process of the binary. Dropping it kills it and searches it for secrets.
pub struct Process {
    /// The address of the gRPC port, from the log.
    pub(super) listening: SocketAddr,
    /// The address of the admin port, if the process has one.
    pub admin: Option<SocketAddr>,
    /// The address of the port of the avatars, if the process has one.
    pub avatars: Option<SocketAddr>,
    child: Child,
    command_line: String,
    logs: Output,
    stdout: Output,
    /// The text of `/metrics` before each signal.
    metrics: Mutex<String>,
}

/// The result of a process that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Launch {
    /// Any command line.
    pub fn of(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hypersender-grpc"));
        command.args(arguments).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command)
    }

    /// `serve` on free ports and without avatars, unless a flag or a variable sets another port, with the log
    /// at every level.
    pub fn serve() -> Self {
        Self::of(&["serve"])
            .variable("HYPERSENDER_GRPC_LISTEN", "127.0.0.1:0")
            .variable("HYPERSENDER_GRPC_ADMIN_LISTEN", "127.0.0.1:0")
            .variable("HYPERSENDER_GRPC_AVATARS_LISTEN", "off")
            .variable("HYPERSENDER_GRPC_LOG_FORMAT", "json")
            .variable("HYPERSENDER_GRPC_LOG", "trace")
    }

    /// Adds arguments to the command line.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.0.args(flags);
        self
    }

    /// Sets variables of the environment.
    pub fn variables(self, variables: &[(&str, &str)]) -> Self {
        variables.iter().fold(self, |launch, (name, value)| launch.variable(name, value))
    }

    /// Sets a variable of the environment.
    pub fn variable(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        let unmarked = name == "HYPERSENDER_WHATSAPP_API_KEY" && marks::token_in(value).is_none();
        assert!(
            !unmarked || value.trim().is_empty(),
            "a token without a mark would be missed where it leaks"
        );
        self.0.env(name, value);
        self
    }

    /// Sets a variable to a value that need not be UTF-8.
    pub fn bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.0.env(name, OsStr::from_bytes(value));
        self
    }

    /// Reads standard input from a file.
    pub fn stdin_from(mut self, path: &str) -> Self {
        self.0.stdin(File::open(path).unwrap());
        self
    }

    /// Redirects standard output.
    pub fn stdout_to(mut self, sink: Sink) -> Self {
        self.0.stdout(sink.open());
        self
    }

    /// Redirects standard error.
    pub fn stderr_to(mut self, sink: Sink) -> Self {
        self.0.stderr(sink.open());
        self
    }

    /// Limits the number of open files, hard and soft.
    pub fn open_files(self, limit: usize) -> Self {
        self.limited("-n", limit)
    }

    /// Limits the size of the files that the process writes, in blocks of 512 or, in some shells, 1024 bytes.
    pub fn file_blocks(self, limit: usize) -> Self {
        self.limited("-f", limit)
    }

    /// The same process with a limit that `ulimit` sets.
    fn limited(self, flag: &str, limit: usize) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"ulimit "$0" "$1" && shift && exec "$@""#, flag, &limit.to_string()]);
        command.arg(self.0.get_program()).args(self.0.get_args()).env_clear();
        command.envs(self.0.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command)
    }

    /// Starts the process and waits until it listens.
    pub async fn start(self) -> Process {
        let mut process = self.spawn();
        process.listening = patiently("the service to listen", process.until_listening()).await;
        let logs = process.logs();
        let opened = |message: &str| {
            let message = format!(r#""message":"{message}""#);
            logs.lines().find(|line| line.contains(&message)).map(address)
        };
        process.admin = opened("admin listening");
        process.avatars = opened("avatars listening");
        process
    }

    /// Runs the process to its end.
    pub async fn run(self) -> Ended {
        let mut process = self.spawn();
        let code = process.exit_code().await;
        Ended { code, stdout: process.stdout(), stderr: process.logs() }
    }

    /// Starts the process and waits for nothing.
    pub fn spawn(mut self) -> Process {
        let mut child = self.0.spawn().unwrap();
        let command_line = fs::read(format!("/proc/{}/cmdline", child.id())).unwrap_or_default();
        Process {
            listening: ([127, 0, 0, 1], 0).into(),
            admin: None,
            avatars: None,
            command_line: String::from_utf8_lossy(&command_line).replace('\0', " "),
            logs: child.stderr.take().map_or_else(Output::none, Output::collect),
            stdout: child.stdout.take().map_or_else(Output::none, Output::collect),
            child,
            metrics: Mutex::default(),
        }
    }
}

/// The field `address` of a log line.
fn address(line: &str) -> SocketAddr {
    let line: Value = serde_json::from_str(line).unwrap();
    line["address"].as_str().unwrap().parse().unwrap()
}

impl Process {
    async fn until_listening(&self) -> SocketAddr {
        let line = self.logs.line(0, |line| line.contains(r#""message":"listening""#)).await;
        address(&line.unwrap_or_else(|| panic!("the service did not start: {}", self.logs())))
    }

    /// Sends a signal: `TERM`, `INT`, `HUP`.
    pub async fn signal(&self, name: &str) {
        self.keep_metrics();
        let process = self.child.id().to_string();
        let mut kill = tokio::process::Command::new("sh");
        let status = kill.args(["-c", "kill -$0 $1", name, &process]).status().await.unwrap();
        assert!(status.success());
    }

    /// Sends a signal and returns the first line logged after it that contains `text`.
    pub async fn signalled(&self, name: &str, text: &str) -> String {
        let before = self.logs.count();
        self.signal(name).await;
        let line = self.logs.line(before, |line| line.contains(text));
        patiently(text, line).await.unwrap_or_else(|| panic!("never logged {text}"))
    }

    /// Waits until the process ends by itself, and returns its exit code. All of its output has been read by
    /// then.
    pub async fn exit_code(&mut self) -> i32 {
        patiently("the end of the logs", self.logs.ended()).await;
        patiently("the end of the output", self.stdout.ended()).await;
        self.child.wait().unwrap().code().expect("the process was not killed")
    }

    /// The memory that it has now, from the operating system.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line for VmRSS");
        1_024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    }

    /// The logs so far.
    pub fn logs(&self) -> String {
        self.logs.text()
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits for the first line of standard output that contains `text`.
    pub async fn printed(&self, text: &str) -> String {
        let line = self.stdout.line(0, |line| line.contains(text));
        patiently(text, line).await.unwrap_or_else(|| panic!("never printed {text}"))
    }

    /// Reads the metrics for the search at the end. A process that is about to end may no longer answer.
    fn keep_metrics(&self) {
        let ask = |admin| -> io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        };
        if let Some(Ok(text)) = self.admin.map(ask) {
            self.metrics.lock().unwrap().push_str(&text);
        }
    }

    /// A description of the first secret that was found, and of its place.
    fn leak(&self) -> Option<String> {
        let (logs, metrics) = (self.logs(), self.metrics.lock().unwrap());
        // Standard output counts only for `serve`: `get` prints the answer there, and the help names numbers
        // to try.
        let serves = self.command_line.contains(" serve ");
        let printed = if serves { without_greeting(&self.stdout()) } else { String::new() };
        let leaks = [
            ("the logs", marks::any_in(&logs)),
            ("the metrics", marks::any_in(&metrics)),
            ("standard output", marks::any_in(&printed)),
            ("the command line", marks::token_in(&self.command_line)),
        ];
        let mut leaks = leaks.into_iter().filter_map(|(place, line)| Some((place, line?)));
        leaks.next().map(|(place, line)| format!("a secret is in {place}: {line}"))
    }
}

/// Standard output without the example calls that a service with a sandbox prints.
fn without_greeting(stdout: &str) -> String {
    stdout
        .replace("-H 'authorization: Bearer sandbox-token' -d '{\"chat_id\":\"15551230001\"}'", "")
        .replace("-d '{\"chat_id\":\"15551230001\"}'", "")
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.keep_metrics();
        }
        // Both calls fail if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.logs.finish();
        self.stdout.finish();
        match self.leak() {
            Some(leak) if thread::panicking() => eprintln!("{leak}"),
            Some(leak) => panic!("{leak}"),
            None => {}
        }
    }
}
