//! The environment file of the systemd unit has every setting of `serve` as a comment, with its help and its
//! default.

use std::{env, fmt::Write, fs, path::Path};

use clap::CommandFactory;
use hypersender_grpc::config::Cli;

const PLACE: &str = "deploy/systemd/hypersender-grpc.env";
const HEAD: &str = "\
# The settings of hypersender-grpc for systemd. Copy this file to /etc/hypersender-grpc/environment, and remove
# the # in front of a setting to change it. A value with blanks is in quotes. Check the result before a restart:
#   sudo sh -c 'set -a; . /etc/hypersender-grpc/environment
#     HYPERSENDER_WHATSAPP_API_KEY_FILE=/etc/hypersender-grpc/api-key hypersender-grpc check-config'
#
# No secret belongs here. The unit passes the token of Hypersender, /etc/hypersender-grpc/api-key, as a
# credential. Other secrets are passed alike: a line LoadCredential= and a variable that ends in _FILE.
";

/// The text of the file for the settings of this build.
fn expected() -> String {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let mut text = HEAD.to_owned();
    let mut heading = None;
    for setting in serve.get_arguments() {
        let Some(variable) = setting.get_env() else { continue };
        if heading != setting.get_help_heading() {
            heading = setting.get_help_heading();
            write!(text, "\n## {}\n", heading.unwrap()).unwrap();
        }
        let help = setting.get_help().unwrap().to_string();
        let default = setting.get_default_values().first().map(|value| value.to_string_lossy());
        write!(text, "\n{}", wrapped(&help)).unwrap();
        writeln!(text, "#{}={}", variable.display(), default.unwrap_or_default()).unwrap();
    }
    text
}

/// The text as lines of a comment.
fn wrapped(text: &str) -> String {
    let mut lines = String::from("#");
    let mut width = 1;
    for word in text.split_whitespace() {
        if width + 1 + word.len() > 110 {
            lines.push_str("\n#");
            width = 1;
        }
        lines.push(' ');
        lines.push_str(word);
        width += 1 + word.len();
    }
    lines + ".\n"
}

/// With `UPDATE=1` the test writes the file.
#[test]
fn the_environment_file_has_every_setting() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PLACE);
    let expected = expected();
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{PLACE} is not up to date: UPDATE=1 cargo test environment_file writes it");
}
