//! [`Server`]: a real server of Valkey for a test, on a port and in a directory of its own.
//!
//! The file uses nothing of this crate, so that tests in other places can include it by its path.

use std::{
    env,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use redis::{Client, ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo};
use tempfile::TempDir;

/// How often and how many times a test looks whether its server has started. That takes some 20 ms on an idle
/// machine.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOKS_MAX: usize = 2000;

/// A server that ends with the value.
#[derive(Debug)]
pub struct Server {
    process: Child,
    port: u16,
    options: Vec<String>,
    directory: TempDir,
}

#[allow(dead_code, reason = "not every place that includes the file needs everything")]
impl Server {
    /// Starts a server without options.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with options such as `--requirepass`.
    pub fn with(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        for _ in 0..10 {
            let port = free_port();
            // Another process may have taken the port meanwhile. Then the server ends at once.
            if let Some(process) = run(port, &options, &directory) {
                return Self { process, port, options, directory };
            }
        }
        panic!("no server starts with {options:?}");
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the server. Its data are lost.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Stops the server: connections stay open, and nothing is answered.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// Lets a stopped server go on.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// Kills the server if it runs and starts one on the same port, with the same options and without data.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// [`Self::restart`] with options that come after those of the start.
    pub fn restart_with(&mut self, options: &[&str]) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
        let options = self.options.iter().cloned().chain(options.iter().map(|&option| option.to_owned()));
        let options: Vec<_> = options.collect();
        self.process = run(self.port, &options, &self.directory).expect("the port is still free");
    }

    /// Sends a command such as `["CONFIG", "SET", "maxmemory", "1mb"]` on a connection of its own.
    ///
    /// # Panics
    ///
    /// When the reply is an error or has another form.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.command_as(None, words).await
    }

    /// [`Self::command`] with a password.
    pub async fn command_as<T: FromRedisValue>(&self, password: Option<&str>, words: &[&str]) -> T {
        let address = ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.port);
        let mut settings = RedisConnectionInfo::default();
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let info = address.into_connection_info().unwrap().set_redis_settings(settings);
        let mut connection = Client::open(info).unwrap().get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.process.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(port: u16, options: &[String], directory: &TempDir) -> Option<Child> {
    let binary = env::var_os("VALKEY_BIN").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers-venv/bin/valkey-server"),
        PathBuf::from,
    );
    assert!(
        binary.exists(),
        "there is no Valkey server at {}: `make test-rust` installs it",
        binary.display()
    );
    let port_text = port.to_string();
    let mut process = Command::new(binary)
        .args(["--bind", "127.0.0.1", "--port", &port_text, "--save", "", "--appendonly", "no"])
        .args(options)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..LOOKS_MAX {
        if process.try_wait().unwrap().is_some() {
            return None;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(process);
        }
        thread::sleep(LOOK_EVERY);
    }
    let _ = process.kill();
    let _ = process.wait();
    None
}
