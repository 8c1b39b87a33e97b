//! Invalid configurations, and the complete error text for each of them: `bad_configurations/list.txt`.
//!
//! With `UPDATE_EXPECTED=1` the test writes the current texts into the list. A person must read the
//! difference.

mod row;

use std::{env, fs, net::TcpListener, path::Path};

use clap::CommandFactory;
use hypersender_grpc::config::Cli;
use tempfile::TempDir;

use self::row::Row;
use crate::support::{Authority, Launch};

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/bad_configurations/list.txt");
/// The token has a mark, so that a leak is found.
const TOKEN: (&str, &str) = ("HYPERSENDER_WHATSAPP_API_KEY", "1|Zq9mark-token");

/// Writes the files that any row may name: certificates, and invalid files.
fn write_files(directory: &Path) {
    let (authority, other) = (Authority::new(), Authority::new());
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
    let identity = authority.identity("localhost");
    write("cert.pem", &identity.cert);
    write("key.pem", &identity.key);
    write("other-key.pem", &other.identity("localhost").key);
    write("ca.pem", &authority.pem());
    let ca = authority.pem();
    write("joined.pem", &(ca.trim_end().to_owned() + &ca));
    write("cut.pem", ca.trim_end().trim_end_matches("-----END CERTIFICATE-----"));
    write("encrypted.pem", &identity.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    write("two-keys.pem", &identity.key.repeat(2));
    write("empty", "");
    write("blank", " \n");
    write("token", "1|Zq9mark-token\n");
    write("two-lines", "1|Zq9mark-one\n1|Zq9mark-two\n");
    // A byte order mark is invisible in the list.
    write("marked.pem", &format!("\u{feff}{}", identity.cert));
    write("marked-token", "\u{feff}1|Zq9mark-token\n");
    write("marked-password", "\u{feff}someone:Zq9password\n");
    write("marked-instances.toml", "\u{feff}[instances.shop]\ntoken = \"1|Zq9mark-shop\"\n");
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let caller = format!("[callers.crm]\ntoken_sha256 = \"{hash}\"\ninstances = [\"*\"]\n");
    write("marked-callers.toml", &format!("\u{feff}{caller}"));
    let lower = ca.replace("BEGIN CERTIFICATE", "begin certificate");
    write("lower.pem", &(ca.clone() + &lower.replace("END CERTIFICATE", "end certificate")));
    let bare: Vec<_> = ca.lines().filter(|line| !line.starts_with('-')).collect();
    write("bare.pem", &(ca.clone() + &bare.join("\n")));
    write("large", &"#".repeat((4 << 20) + 1));
    fs::write(directory.join("binary"), [0xff, 0xfe, 0x00]).unwrap();
}

/// The error text of the service for a row. The port is taken, so that the exit code would be 1 if the
/// service opened the port before it checked the settings.
async fn told(row: &Row, by_variable: Option<&str>, directory: &Path) -> String {
    let place = directory.to_str().unwrap();
    for (name, text) in &row.files {
        fs::write(directory.join(name), text).unwrap();
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let variables = row.variables.iter().map(|(name, value)| (name.as_str(), value.replace("DIR", place)));
    // The machine's own certificate authorities may be missing.
    let authorities = ("SSL_CERT_FILE", format!("{place}/ca.pem"));
    let given = [(TOKEN.0, TOKEN.1.to_owned()), ("HYPERSENDER_GRPC_LISTEN", listen), authorities];
    let given = given.into_iter().chain(variables);
    let mut launch = given.fold(Launch::of(&["serve"]), |launch, (name, value)| launch.variable(name, value));
    for (flag, value) in &row.flags {
        let value = value.as_ref().map(|value| value.replace("DIR", place));
        launch = match (by_variable, value) {
            (Some(variable), Some(value)) => launch.variable(variable, value),
            (None, Some(value)) => launch.flags(&[&format!("{flag}={value}")]),
            (_, None) => launch.flags(&[flag]),
        };
    }
    let ended = launch.run().await;
    assert_eq!((ended.code, ended.stdout.as_str()), (78, ""), "{}: {ended:?}", row.title);
    ended.stderr.replace(place, "DIR")
}

/// The variable of the flag, if the row has one flag with a value.
fn variable_of(row: &Row) -> Option<String> {
    let [(flag, Some(_))] = row.flags.as_slice() else { return None };
    let command = Cli::command();
    let mut settings = command.find_subcommand("serve")?.get_arguments();
    let setting = settings.find(|setting| setting.get_long() == flag.strip_prefix("--"))?;
    Some(setting.get_env()?.to_str()?.to_owned())
}

#[tokio::test]
async fn each_is_refused_in_the_words_of_the_list() {
    let list = fs::read_to_string(LIST).unwrap();
    let (head, mut rows) = row::read(&list);
    assert!(rows.len() >= 40, "{}", rows.len());
    for row in &mut rows {
        let directory = TempDir::new().unwrap();
        write_files(directory.path());
        row.told = told(row, None, directory.path()).await;
        if let Some(variable) = variable_of(row) {
            assert_eq!(told(row, Some(&variable), directory.path()).await, row.told, "{}", row.title);
        }
    }
    let found = row::write(&head, &rows);
    if env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(LIST, found).unwrap();
        return;
    }
    for (expected, found) in list.split("\n# ").zip(found.split("\n# ")) {
        assert_eq!(found, expected);
    }
    assert_eq!(found, list);
}

#[test]
fn every_setting_that_can_be_at_fault_is_in_the_list() {
    let (_, rows) = row::read(&fs::read_to_string(LIST).unwrap());
    let command = Cli::command();
    let settings = command.find_subcommand("serve").unwrap().get_arguments();
    for setting in settings.filter(|setting| setting.get_id() != "help") {
        let name = format!("--{} ({}): ", setting.get_long().unwrap(), setting.get_env().unwrap().display());
        assert!(rows.iter().any(|row| row.told.contains(&name)), "no row is about {name}");
    }
}
