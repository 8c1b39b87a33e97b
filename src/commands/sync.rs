//! `sync`: keeps the pictures of a contact list up to date. It looks up the contacts of a CSV file that were
//! not checked lately, reports those that have changed, and saves their pictures.

mod changes;
mod contacts;
mod files;
mod keeper;
mod pictures;
mod state;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use self::{
    changes::Changes,
    contacts::{Contact, Contacts},
    files::resolve,
    keeper::{Counts, Found, Keeper},
    pictures::Pictures,
    state::{State, unix_seconds},
};
use super::{
    Ending, block_on, fail, fail_config, fail_nothing_asked,
    look_ups::{EVENTS_MAX, Event, LookUps, Wanted},
    progress::Progress,
    warn,
};
use crate::{
    avatars::FetchError,
    config::{Sync, SyncFlags, Variables},
};

/// How often results are written, at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Writing takes at most about this share of the time: a state with very many contacts takes long to write.
const PAUSE_SHARE: u32 = 10;
/// Maximum number of results that wait to be written.
const PENDING_MAX: usize = 10_000;
/// The same, where pictures are saved: an interrupted sync downloads so many again at most.
const PENDING_WITH_PICTURES_MAX: usize = 16;
/// A group of results has at least this share of all contacts: each group writes the whole state.
const GROUP_SHARE: usize = 1_000;

/// The contacts to look up, and those that need no look-up.
struct Plan {
    due: Vec<Contact>,
    wanted: Vec<Wanted>,
    skipped: usize,
    invalid: usize,
}

pub fn run(flags: SyncFlags, variables: &Variables) -> ExitCode {
    let sync = match flags.check(variables) {
        Ok(sync) => sync,
        Err(faults) => return fail_config(faults),
    };
    let (keeper, plan) = match prepare(&sync) {
        Ok(prepared) => prepared,
        Err(error) => return fail_nothing_asked(error),
    };
    block_on(synchronise(sync, keeper, plan), Ending::cut_short)
}

/// Reads the list and its state, and opens the outputs.
fn prepare(sync: &Sync) -> Result<(Keeper, Plan), String> {
    let list = Contacts::locate(&sync.contacts)?;
    if let Some(out) = &sync.out {
        refuse_own(out, &list)?;
    }
    let contacts = Contacts::read(&list, &sync.column)?;
    if let Some(text) = contacts.invalid() {
        warn(format_args!("{}: {text}", sync.contacts.display()));
    }
    let state = State::open(&list, &sync.asking.instance)?;
    let changes = Changes::open(sync.out.as_deref())?;
    let open = |folder| Pictures::open(folder, sync.picture_hosts.clone());
    let pictures = sync.pictures.clone().map(open).transpose()?;
    let keeper = Keeper {
        state,
        changes,
        pictures,
        max_age: sync.max_age,
        counts: Counts::default(),
        unwritten: Vec::new(),
    };

    let (now, all, invalid) = (unix_seconds(), contacts.all.len(), contacts.invalid_lines.len());
    let is_due = |contact: &Contact| !keeper.is_up_to_date(&contact.chat_id, sync.max_age, now);
    let due: Vec<_> = contacts.all.into_iter().filter(is_due).collect();
    let wanted = due.iter().map(|contact| Wanted {
        chat_id: contact.chat_id.clone(),
        fingerprint: keeper.known_fingerprint(&contact.chat_id),
    });
    let wanted = wanted.collect();
    Ok((keeper, Plan { skipped: all - due.len(), due, wanted, invalid }))
}

/// Refuses changes that would be written over the list or its state.
fn refuse_own(out: &Path, list: &Path) -> Result<(), String> {
    let is_own = |out: &PathBuf| out == list || state::paths(list).contains(out);
    if resolve(out).as_ref().is_ok_and(is_own) {
        return Err(format!("--out {} is the list, its state or its lock; use another file", out.display()));
    }
    Ok(())
}

async fn synchronise(sync: Sync, mut keeper: Keeper, plan: Plan) -> ExitCode {
    let (mut ended, mut kept) = (Ok(()), Ok(()));
    if !plan.wanted.is_empty() {
        let mut look_ups = match LookUps::connect(sync.asking, Some(sync.max_age)).await {
            Ok(look_ups) => look_ups,
            Err(error) => return fail_nothing_asked(error),
        };
        let progress = Progress::new(plan.wanted.len());
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let keeping = keep(&mut keeper, &plan.due, &progress, events);
        (ended, kept) = tokio::join!(look_ups.run(&plan.wanted, sender), keeping);
        progress.end();
    }
    keeper.unwritten.iter().for_each(warn);
    report(&plan, &keeper.counts);
    let Counts { checked, outdated, failed, .. } = keeper.counts;
    let is_nothing_asked = ended.is_err() && checked + outdated + failed == 0;
    match kept.and(ended) {
        Err(error) if is_nothing_asked => fail_nothing_asked(error),
        Err(error) => fail(error),
        Ok(()) if is_complete(&plan, &keeper.counts) => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
    }
}

/// Keeps the results each second, and at the end.
async fn keep(
    keeper: &mut Keeper,
    due: &[Contact],
    progress: &Progress,
    mut events: mpsc::Receiver<Event>,
) -> Result<(), String> {
    let pending_max = if keeper.pictures.is_some() {
        PENDING_WITH_PICTURES_MAX.max((keeper.state.len() + due.len()) / GROUP_SHARE)
    } else {
        PENDING_MAX
    };
    let mut pending = Vec::new();
    let mut next = Instant::now() + PAUSE_MIN;
    loop {
        match timeout_at(next, events.recv()).await {
            Ok(Some(Event::Found(place, result))) => {
                pending.push(Found { contact: due[place].clone(), result: *result, at: unix_seconds() });
                progress.found();
            }
            Ok(Some(Event::Progress(state))) => progress.waits(&state),
            Ok(Some(Event::Resuming(pause))) => progress.resumes(pause),
            Ok(None) => return keeper.keep(pending).await,
            Err(_) => {}
        }
        if pending.len() >= pending_max || Instant::now() >= next {
            let start = Instant::now();
            keeper.keep(std::mem::take(&mut pending)).await?;
            next = Instant::now() + PAUSE_MIN.max(start.elapsed() * PAUSE_SHARE);
        }
    }
}

fn is_complete(plan: &Plan, counts: &Counts) -> bool {
    plan.invalid + counts.outdated + counts.failed + counts.unsaved + counts.unwritten + counts.refused == 0
}

/// Prints the numbers of the run to standard error.
fn report(plan: &Plan, counts: &Counts) {
    let mut text = format!(
        "{} contacts: {} up to date, {} looked up; {} changes",
        plan.skipped + plan.due.len(),
        plan.skipped,
        counts.checked,
        counts.changes
    );
    for (count, what) in [
        (counts.saved, "pictures saved"),
        (counts.outdated, "answers are older than --max-age, and are asked for again by the next sync"),
        (counts.failed, "look-ups failed, and are made again by the next sync"),
        (counts.unsaved, "pictures could not be downloaded, and are tried again by the next sync"),
        (counts.unwritten, "pictures could not be written, and are tried again by the next sync"),
        (counts.refused, "pictures were refused"),
    ] {
        if count > 0 {
            text = format!("{text}; {count} {what}");
        }
    }
    if let Some(refusal) = counts.refusal {
        let hint = if refusal == FetchError::NotAllowed { " by --picture-hosts" } else { "" };
        text = format!("{text}, the last one because {refusal}{hint}");
    }
    // It is for a person, and nothing depends on it.
    let _ = writeln!(io::stderr(), "{text}");
}
