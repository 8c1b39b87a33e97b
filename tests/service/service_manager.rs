//! The messages to a service manager such as systemd: the service is ready, reads files again, is alive, and
//! stops.

use std::{os::unix::net::UnixDatagram, sync::mpsc, thread};

use crate::support::{Files, PATIENCE, Service};

/// The socket of a service manager. Its messages arrive in order.
struct Manager {
    path: String,
    messages: mpsc::Receiver<String>,
    _files: Files,
}

impl Manager {
    fn listen() -> Self {
        let files = Files::new();
        let path = files.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (received, messages) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length) = socket.recv(&mut buffer) {
                if received.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { path, messages, _files: files }
    }

    /// The next message.
    fn next(&self) -> String {
        self.messages.recv_timeout(PATIENCE).unwrap()
    }
}

#[tokio::test]
async fn a_service_manager_learns_of_the_start_a_reload_and_the_stop() {
    let manager = Manager::listen();
    let launch = Service::sandboxed().variable("NOTIFY_SOCKET", &manager.path);
    let service = launch.flags(&["--drain-wait", "3s", "--drain-timeout", "40s"]).start().await;
    assert_eq!(manager.next(), "READY=1\n");
    service.signal("HUP").await;
    let reloading = manager.next();
    let clock = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
    assert!(clock.trim_end().parse::<u64>().unwrap() > 0, "{reloading}");
    assert_eq!(manager.next(), "READY=1\n");
    service.signal("TERM").await;
    // 3 s and 40 s of the drain, and 15 s to close.
    assert_eq!(manager.next(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=58000000\n");
}

#[tokio::test]
async fn a_watchdog_gets_signs_of_life() {
    let manager = Manager::listen();
    let launch = Service::sandboxed().variable("NOTIFY_SOCKET", &manager.path);
    let _service = launch.variable("WATCHDOG_USEC", "100000").start().await;
    let signs = std::iter::from_fn(|| Some(manager.next())).filter(|message| message == "WATCHDOG=1\n");
    assert_eq!(signs.take(5).count(), 5);
}

#[tokio::test]
async fn without_a_service_manager_that_can_be_reached_the_service_serves() {
    let files = Files::new();
    for path in [files.path("nothing"), "/dev/null".to_owned()] {
        let mut service = Service::sandboxed().variable("NOTIFY_SOCKET", &path).start().await;
        service.signal("TERM").await;
        assert_eq!(service.exit_code().await, 0);
        assert!(service.logs().contains("cannot reach the service manager"));
    }
}
