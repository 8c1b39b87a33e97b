//! [`Story`]: random events for one key, which run through the code and through the judge.

use std::fmt::Write as _;

use tokio::time::Instant;

use super::{
    super::{Entry, after_fetch, decide},
    *,
};
use crate::domain::{Absence, Answer, CacheInfo, Finding, LookupError, NotFound, Now, PictureLink, Ttl};

#[derive(Clone, Debug)]
pub enum Step {
    Wait { millis: i64 },
    WallJumps { seconds: i64 },
    Arrives { said: Said, slow: bool, late_seconds: i64 },
    Asks { control: CacheControl, fetch: Result<Said, LookupError>, millis: i64 },
}

/// One key: its entry in the code, and all answers so far for the judge.
pub struct Story {
    start: Instant,
    at: Micros,
    wall: Micros,
    told: Vec<Told>,
    entry: Option<Entry>,
    settings: Settings,
    log: String,
}

impl Story {
    pub fn new(settings: Settings) -> Self {
        let log = format!("{settings:?}\n");
        Self { start: Instant::now(), at: 0, wall: WALL * SECOND, told: vec![], entry: None, settings, log }
    }

    fn now(&self) -> Now {
        Now { instant: self.start + duration(self.at), wall: on_the_wall(self.wall) }
    }

    fn note(&mut self, what: &str) {
        let (at, wall) = (duration(self.at), self.wall / SECOND - WALL);
        writeln!(self.log, "at {at:?}, wall {wall} s: {what}").unwrap();
    }

    pub fn play(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Wait { millis } => self.wait(millis * 1_000),
            Step::WallJumps { seconds } => self.wall += seconds * SECOND,
            Step::Arrives { said, slow, late_seconds } => {
                self.hear(*said, *slow, late_seconds * SECOND)?;
            }
            Step::Asks { control, fetch, millis } => self.ask(control, fetch, millis * 1_000)?,
        }
        Ok(())
    }

    fn wait(&mut self, micros: Micros) {
        self.at += micros;
        self.wall += micros;
    }

    /// Stores an answer. It may be older than others that are stored already.
    fn hear(&mut self, said: Said, slow: bool, late: Micros) -> Result<Answer, String> {
        let late = late.min(self.at);
        let (at, wall) = (self.at - late, self.wall - late);
        let oe = match said {
            Said::Link { life } => life.map(|life| (wall / SECOND + life) * SECOND),
            _ => None,
        };
        // The code reads the link by whole seconds of the wall clock, too.
        let end = oe.filter(|oe| oe / SECOND - wall / SECOND <= FAR_SECONDS);
        let told = Told { said, at, wall, oe, end, slow };
        self.told.push(told);
        self.note(&format!("hears {said:?}, slow: {slow}, late: {:?}", duration(late)));
        let answer = Answer {
            finding: finding(&told),
            fetched: Now { instant: self.start + duration(at), wall: on_the_wall(wall) },
            took: Duration::from_secs(if slow { 6 } else { 5 }),
            cache: CacheInfo::FETCHED,
        };
        let entry = Entry::settle(self.entry.take(), &answer, SPREAD.0, &self.settings);
        let held = self.held();
        let same =
            entry.finding == finding(&held.told) && self.since_start(entry.fetched.instant) == held.told.at;
        let times = [entry.fresh_until, entry.asked_at()].map(|instant| self.since_start(instant));
        self.entry = Some(entry);
        self.expect("rule 7: the right answer is kept", same)?;
        self.expect("rule 5: for as long as it should", times == [held.fresh_until, held.asked_at])?;
        Ok(answer)
    }

    fn ask(
        &mut self,
        control: &CacheControl,
        fetch: &Result<Said, LookupError>,
        micros: Micros,
    ) -> Result<(), String> {
        let decision = decide(self.entry.as_ref(), self.now(), control, &self.settings);
        self.note(&format!("is asked with {control:?}: {decision:?}"));
        let judge = Judge { told: &self.told, settings: &self.settings };
        if let Some(rule) = judge.faults(decision, self.at, self.wall, control).first() {
            return self.expect(rule, false);
        }
        let status = match decision {
            Decision::Serve(status) => status,
            Decision::ServeAndRefresh => CacheStatus::Stale,
            Decision::Fetch(_) => return self.fetch(control, fetch, micros),
            Decision::NotCached => return Ok(()),
        };
        let entry = self.entry.clone().expect("the judge has seen that there is one");
        let answer = entry.answer(status, self.now());
        self.check_stored(&answer, control)
    }

    fn fetch(
        &mut self,
        control: &CacheControl,
        fetch: &Result<Said, LookupError>,
        took: Micros,
    ) -> Result<(), String> {
        self.wait(took);
        let fetched = match fetch {
            Ok(said) => Ok(self.hear(*said, took > 5 * SECOND, 0)?),
            Err(error) => Err(error.clone()),
        };
        let got = after_fetch(fetched, self.entry.clone(), self.now(), control, &self.settings);
        self.note(&format!("fetch of {fetch:?} gives {got:?}"));
        let stored = match &got {
            Ok(answer) if answer.cache.status == CacheStatus::Stale => Some(answer),
            _ => None,
        };
        let window = fetch.is_err().then_some(self.settings.stale_if_error);
        let good = !self.told.is_empty() && self.held().is_good_stale(self.at, self.wall, control, window);
        let masks = match fetch {
            Ok(Said::Null) => good && self.held().told.is_link(),
            Ok(Said::Link { .. }) => good && self.told.last().is_some_and(|told| told.is_dead(self.wall)),
            Ok(Said::Foreign | Said::NotFound)
            | Err(LookupError::CredentialsRejected(_) | LookupError::RequestRejected) => false,
            Err(_) => good,
        };
        self.expect("rule 9: what is stored stands in where it may", stored.is_some() == masks)?;
        if let Some(answer) = stored {
            return self.check_stored(answer, control);
        }
        let passed_on = match (&got, fetch) {
            (Ok(answer), Ok(_)) => answer.finding == finding(self.told.last().expect("it was heard")),
            (Err(error), Err(given)) => error == given,
            _ => false,
        };
        self.expect("rule 9: else what the fetch gave is passed on", passed_on)
    }

    /// Checks the rules that hold for every stored answer that reaches a caller.
    fn check_stored(&self, answer: &Answer, control: &CacheControl) -> Result<(), String> {
        let held = self.held();
        let told = &held.told;
        let hit = answer.cache.status == CacheStatus::Hit;
        let in_floor = self.at < told.at + micros(self.settings.refresh_floor);
        let passed_on = hit && told.is_dead(told.wall) && in_floor;
        self.expect("rule 6: no link in its last minute", !told.is_dead(self.wall) || passed_on)?;
        self.expect("rule 6: no link longer than it is trusted", told.is_trusted(self.at))?;
        self.expect("rule 6: a link that came dead is never stale", hit || !told.is_dead(told.wall))?;
        self.expect("rule 9: not found is never stale", hit || told.said != Said::NotFound)?;
        self.expect("rule 10: none stale for 0", hit || control.stale_if_error != Some(Duration::ZERO))?;
        self.expect("rule 11: the answer is the stored one", answer.finding == finding(told))?;
        let age = micros(answer.cache.age);
        self.expect("rule 11: the age is the time since the fetch", age == self.at - told.at)?;
        let ttl = match answer.cache.ttl {
            Ttl::Left(left) => micros(left),
            Ttl::Past(past) => -micros(past),
        };
        self.expect("rule 11: age and ttl add up", age + ttl == held.fresh_until - told.at)
    }

    fn held(&self) -> Held {
        Judge { told: &self.told, settings: &self.settings }.held().expect("something was said")
    }

    fn since_start(&self, instant: Instant) -> Micros {
        micros(instant - self.start)
    }

    fn expect(&self, rule: &str, holds: bool) -> Result<(), String> {
        if holds { Ok(()) } else { Err(format!("broken: {rule}\n{}", self.log)) }
    }
}

fn finding(told: &Told) -> Finding {
    match told.said {
        Said::Link { .. } => {
            let oe = told.oe.map(|end| format!("?oe={:x}", end / SECOND)).unwrap_or_default();
            let url = format!("https://h/{}.jpg{oe}", told.at);
            Finding::Picture(PictureLink::parse(&url, on_the_wall(told.wall)).unwrap())
        }
        Said::Null => Finding::Absent(Absence::Null),
        Said::Foreign => Finding::Absent(Absence::ForeignLink),
        Said::NotFound => Finding::NotFound(NotFound::Upstream),
    }
}
