//! `get`: look-ups at a running service, whose answers are printed.

mod answers;
mod table;

use std::{
    io::{self, BufRead, IsTerminal},
    process::ExitCode,
};

use tokio::sync::mpsc;

use self::{answers::Answers, table::Table};
use super::{
    Ending, block_on, fail, fail_config, fail_nothing_asked,
    look_ups::{EVENTS_MAX, Event, LookUps, Wanted},
    print,
    progress::Progress,
    reasons::is_of_look_up,
    written,
};
use crate::{
    config::{Get, GetFlags, Output, Variables},
    grpc::contact::{GetProfilePictureRequest, profile_picture_result::Outcome},
};

/// In place of a chat id: the chat ids are read from standard input.
const STANDARD_INPUT: &str = "-";
/// Maximum number of contacts for one run.
const CONTACTS_MAX: usize = 1_000_000;

pub fn run(flags: GetFlags, variables: &Variables) -> ExitCode {
    let Get { chat_ids, output, asking } = match flags.check(variables) {
        Ok(get) => get,
        Err(faults) => return fail_config(faults),
    };
    let chat_ids = match read(chat_ids, io::stdin().lock()) {
        Ok(chat_ids) => chat_ids,
        Err(error) => return fail_nothing_asked(error),
    };
    let several = match output {
        Some(output) => output,
        None if chat_ids.len() == 1 => Output::Json,
        None if io::stdout().is_terminal() => Output::Table,
        None => Output::Ndjson,
    };
    let work = async {
        let mut look_ups = match LookUps::connect(asking, None).await {
            Ok(look_ups) => look_ups,
            Err(error) => return fail_nothing_asked(error),
        };
        match (<[String; 1]>::try_from(chat_ids), several) {
            (Ok([chat_id]), Output::Json) => one(&look_ups, chat_id).await,
            (Ok([chat_id]), output) => many(&mut look_ups, vec![chat_id], output).await,
            (Err(chat_ids), output) => many(&mut look_ups, chat_ids, output).await,
        }
    };
    block_on(work, Ending::cut_short)
}

/// The chat ids of the command line, with those of `input` where the command line says so.
fn read(given: Vec<String>, input: impl BufRead) -> Result<Vec<String>, String> {
    let mut chat_ids = Vec::new();
    let mut input = Some(input);
    for chat_id in given {
        match (chat_id.as_str(), input.take_if(|_| chat_id == STANDARD_INPUT)) {
            (STANDARD_INPUT, Some(input)) => {
                // The error of a line that cannot be read does not repeat the line, which may be a number.
                for line in input.lines() {
                    let line = line.map_err(|error| format!("cannot read standard input: {error}"))?;
                    let line = line.trim_start_matches('\u{FEFF}').trim();
                    if !line.is_empty() && !line.starts_with('#') {
                        chat_ids.push(line.to_owned());
                    }
                    if chat_ids.len() > CONTACTS_MAX {
                        return Err(format!("more than {CONTACTS_MAX} contacts"));
                    }
                }
            }
            (STANDARD_INPUT, None) => {
                return Err("- stands for standard input, and can be given once".to_owned());
            }
            _ => chat_ids.push(chat_id),
        }
    }
    if chat_ids.is_empty() {
        return Err("standard input holds no contact".to_owned());
    }
    Ok(chat_ids)
}

/// Looks up one contact and prints the response.
async fn one(look_ups: &LookUps, chat_id: String) -> ExitCode {
    let instance = look_ups.asking().instance.clone();
    let mut request = look_ups.request(GetProfilePictureRequest { instance, chat_id, cache_control: None });
    request.set_timeout(look_ups.asking().target.timeout);
    match look_ups.client().get_profile_picture(request).await {
        Ok(response) => print(Answers::default().response(&response.into_inner())),
        Err(status) if is_of_look_up(&status) => fail(look_ups.explain(&status)),
        Err(status) => fail_nothing_asked(look_ups.explain(&status)),
    }
}

/// Looks up contacts and prints each result as it arrives.
async fn many(look_ups: &mut LookUps, chat_ids: Vec<String>, output: Output) -> ExitCode {
    let wanted: Vec<_> = chat_ids.into_iter().map(|chat_id| Wanted { chat_id, fingerprint: None }).collect();
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let progress = Progress::new(wanted.len());
    let printing = show(&wanted, output, &progress, events);
    let (ended, shown) = tokio::join!(look_ups.run(&wanted, sender), printing);
    progress.end();
    let Shown { answered, failed } = match shown {
        Ok(shown) => shown,
        Err(error) => match written(Err(error)) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => return fail(format_args!("cannot write the answer to standard output: {error}")),
        },
    };
    match ended {
        Ok(()) if failed == 0 => ExitCode::SUCCESS,
        Ok(()) => fail(format_args!("{failed} of {} look-ups failed", wanted.len())),
        Err(error) if answered + failed == 0 => fail_nothing_asked(error),
        Err(error) => {
            let missing = wanted.len() - answered - failed;
            fail(format_args!("{missing} of {} contacts have no result: {error}", wanted.len()))
        }
    }
}

/// The numbers of results that were printed.
#[derive(Default)]
struct Shown {
    answered: usize,
    failed: usize,
}

/// Prints results until there are no more.
async fn show(
    wanted: &[Wanted],
    output: Output,
    progress: &Progress,
    mut events: mpsc::Receiver<Event>,
) -> io::Result<Shown> {
    let mut shown = Shown::default();
    let answers = Answers::default();
    let table = Table::new(wanted);
    let mut all = Vec::new();
    if output == Output::Table {
        progress.print(table.head())?;
    }
    while let Some(event) = events.recv().await {
        match event {
            Event::Found(place, result) => {
                let mut result = *result;
                // The stream counts from 0 in each of its requests, and the user counts over all of them.
                result.index = i32::try_from(place).unwrap_or(i32::MAX);
                match result.outcome {
                    Some(Outcome::ProfilePicture(_) | Outcome::Unchanged(_)) => shown.answered += 1,
                    Some(Outcome::Error(_)) | None => shown.failed += 1,
                }
                match output {
                    Output::Table => progress.print(table.row(&result))?,
                    Output::Ndjson => progress.print(answers.line(&result))?,
                    Output::Json => all.push(result),
                }
                progress.found();
            }
            Event::Progress(state) => progress.waits(&state),
            Event::Resuming(pause) => progress.resumes(pause),
        }
    }
    if output == Output::Json {
        all.sort_by_key(|result| result.index);
        progress.print(answers.array(&all))?;
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_ids_are_read_from_standard_input_where_the_command_line_says_so() {
        let input = "\u{FEFF}15551230001\r\n\n  # a comment\n 15551230002@c.us \n15551230001";
        let from = |given: &[&str]| read(given.iter().map(ToString::to_string).collect(), input.as_bytes());
        let three = ["15551230001", "15551230002@c.us", "15551230001"];
        assert_eq!(from(&["-"]).unwrap(), three);
        assert_eq!(from(&["7", "-", "8"]).unwrap(), [&["7"], &three[..], &["8"]].concat());
        assert_eq!(from(&["1", "#2"]).unwrap(), ["1", "#2"]);
        assert!(from(&["-", "-"]).unwrap_err().contains("once"));
        assert!(read(vec!["-".to_owned()], &b"\n#\n"[..]).unwrap_err().contains("no contact"));
        assert!(read(vec!["-".to_owned()], &b"\xFF\n"[..]).unwrap_err().contains("cannot read"));
    }
}
