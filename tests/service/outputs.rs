//! The effect of signals, and of output that cannot be written, on each subcommand.

use tokio::net::{TcpListener, TcpStream};

use crate::support::{CHAT, Launch, Service, Sink, patiently};

async fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// Waits until a port is open, for a process whose output cannot be read.
async fn opened(address: &str) {
    patiently("an open port", async {
        while TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_greeting_that_nobody_can_read_keeps_no_service_from_serving() {
    for sink in Sink::ALL {
        let mut service = Service::sandboxed().stdout_to(sink).start().await;
        let address = service.address().to_string();
        let asked = Launch::of(&["get", CHAT, "--address", &address]).run().await;
        assert_eq!(asked.code, 0, "{sink:?}: {asked:?}");
        service.signal("INT").await;
        assert_eq!(service.exit_code().await, 0, "{sink:?}");

        let address = free_address().await;
        let mut sandbox = Launch::of(&["sandbox", "--listen", &address]).stdout_to(sink).spawn();
        opened(&address).await;
        sandbox.signal("INT").await;
        assert_eq!((sandbox.exit_code().await, sandbox.logs()), (0, String::new()), "{sink:?}");
    }
}

#[tokio::test]
async fn a_log_that_nobody_can_read_keeps_no_service_from_serving() {
    for sink in Sink::ALL {
        for format in ["text", "json"] {
            let address = free_address().await;
            let launch = Service::sandboxed().flags(&["--listen", &address, "--log-format", format]);
            let mut service = launch.stdout_to(sink).stderr_to(sink).spawn();
            opened(&address).await;
            let asked = Launch::of(&["get", CHAT, "--address", &address]).run().await;
            assert_eq!(asked.code, 0, "{sink:?}, {format}: {asked:?}");
            service.signal("INT").await;
            assert_eq!(service.exit_code().await, 0, "{sink:?}, {format}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_a_failure_and_one_that_nobody_wants_is_none() {
    let service: Service = Service::start(&[]).await;
    let address = service.address().to_string();
    let get = ["get", CHAT, "--address", &address];
    let health = ["health", "--address", &address];
    let unset = ["serve"];
    for (arguments, sink, code) in [
        (&get[..], Sink::Full, 1),
        (&get, Sink::Left, 0),
        // `health` answers by its exit code, so it needs no output.
        (&health, Sink::Full, 0),
        (&health, Sink::Left, 0),
        (&["--help"], Sink::Full, 1),
        (&["serve", "--help"], Sink::Left, 0),
        (&["--version"], Sink::Full, 1),
        (&unset, Sink::Full, 78),
    ] {
        let ended = Launch::of(arguments).stdout_to(sink).run().await;
        assert_eq!(ended.code, code, "{arguments:?} {sink:?}: {ended:?}");
        assert_eq!(ended.stderr.starts_with("error: "), code != 0, "{arguments:?} {sink:?}: {ended:?}");
    }
    for sink in Sink::ALL {
        for (arguments, code) in [
            (&get[..], 1),
            (&["get", "nobody", "--address", &address], 1),
            (&["health", "--address", "127.0.0.1:1"], 1),
            (&unset, 78),
            (&["serve", "--deadline", "soon"], 78),
            (&["get"], 2),
        ] {
            let ended = Launch::of(arguments).stdout_to(Sink::Full).stderr_to(sink).run().await;
            assert_eq!(ended.code, code, "{arguments:?} {sink:?}");
        }
    }
}

#[tokio::test]
async fn colours_are_where_they_are_wanted() {
    const ESCAPE: char = '\u{1b}';
    for (variables, coloured) in [
        (&[][..], false),
        (&[("CLICOLOR_FORCE", "1")], true),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")], true),
    ] {
        let address = free_address().await;
        let serve = ["serve", "--sandbox", "--listen", &address, "--admin-listen", "off"];
        let launch = Launch::of(&serve).flags(&["--log-format", "text"]);
        let mut service = launch.variables(variables).spawn();
        service.printed("More numbers to try").await;
        service.signal("INT").await;
        assert_eq!(service.exit_code().await, 0);
        assert_eq!(service.logs().contains(ESCAPE), coloured, "{variables:?}: {}", service.logs());
        let mistake = Launch::of(&["serve", "--nonsense"]).variables(variables).run().await;
        assert_eq!(mistake.stderr.contains(ESCAPE), coloured, "{variables:?}: {mistake:?}");
    }
}

#[tokio::test]
async fn a_signal_ends_the_sandbox_well_and_cuts_a_question_short() {
    // The operating system accepts connections for this listener, and no request is answered.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let mut sandbox = Launch::of(&["sandbox", "--listen", "127.0.0.1:0"]).spawn();
        sandbox.printed("HYPERSENDER_WHATSAPP_INSTANCE_ID").await;
        sandbox.signal(name).await;
        assert_eq!(sandbox.exit_code().await, 0, "{name}");
        for arguments in [&["health"][..], &["get", CHAT]] {
            let mut asking = Launch::of(arguments).flags(&["--address", &address, "--timeout", "1h"]).spawn();
            let _connection = patiently("a connection", silent.accept()).await.unwrap();
            asking.signal(name).await;
            // The default action of a signal would kill the process without an exit code. For the first
            // process of a container there is no default action.
            assert_eq!(asking.exit_code().await, code, "{arguments:?} {name}");
        }
    }
}
