use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    serve: ServeFlags,
}

/// The port of the avatars, or the names of the settings at fault.
fn port(flags: &[&str]) -> Result<String, String> {
    let line = Line::try_parse_from([&["serve", "--sandbox"], flags].concat()).unwrap();
    match line.serve.check(&Variables::new()) {
        Ok((settings, _)) => Ok(settings.avatars.map_or("off".to_owned(), |port| port.listen.to_string())),
        Err(faults) => Err(faults.to_string()),
    }
}

#[test]
fn the_default_of_the_sandbox_gives_way_to_the_other_ports() {
    const USUAL: &str = "127.0.0.1:8080";
    const FREE: &str = "127.0.0.1:0";
    for (flags, expected) in [
        (&[][..], USUAL),
        (&["--listen", USUAL], FREE),
        (&["--listen", "0.0.0.0:8080"], FREE),
        (&["--admin-listen", USUAL], FREE),
        (&["--listen", "127.0.0.2:8080"], USUAL),
        (&["--credentials", "passthrough"], "off"),
    ] {
        assert_eq!(port(flags), Ok(expected.to_owned()), "{flags:?}");
    }
    // A port that is given is not changed.
    let fault = port(&["--listen", USUAL, "--avatars-listen", USUAL]).unwrap_err();
    assert!(fault.contains("the same port as --listen"), "{fault}");
}
