//! [`Scopes`]: the scopes that this process met, with their keys and what it knows of their records.
//!
//! The table is bounded, because callers make tokens up. A scope that is dropped comes back with the next
//! look-up; until then this process does not hear of its rejection.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};

use super::{
    engine::{Epoch, Names, ScopeState},
    keys::{InstanceTag, ScopeKeys, Tag, instance_name, instance_tag, scope_name},
    time::StoreTime,
};
use crate::domain::{ChatId, Credential, Instance, Scope};

/// The most scopes, each about 2 KiB. A server has one for each of its instances; only callers with tokens of
/// their own make more.
const SCOPES_MAX: usize = 10_000;

/// A rejection that is further ahead of the clock of the store than this is from before the clock was set
/// back. A difference that is smaller comes from replies that overtake each other, and is soon over.
const AHEAD_MAX: Duration = Duration::from_secs(1);

/// All scopes. The beginning of all names is known here.
#[derive(Debug)]
pub struct Scopes {
    prefix: String,
    table: RwLock<Table>,
    uses: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    by_scope: HashMap<Scope, Arc<Known>>,
    by_tag: HashMap<Tag, Arc<Known>>,
}

/// A scope.
#[derive(Debug)]
pub struct Known {
    pub scope: Scope,
    pub keys: ScopeKeys,
    pub tag: Tag,
    /// The name of the record of the scope.
    pub name: String,
    /// The beginning of all names of the instance.
    instance: String,
    standing: Mutex<Standing>,
    /// The number of the last use.
    used: AtomicU64,
}

#[derive(Debug, Default)]
struct Standing {
    /// Whether the store was seen to have a record of the scope. Then the token had an answer.
    has_record: bool,
    /// The latest rejection of the token, as far as this process knows.
    rejected_at: Option<StoreTime>,
    /// The start of the latest attempt whose answer this process stored or read.
    answered: Option<StoreTime>,
    /// The epoch that was read last.
    epoch: Option<Epoch>,
}

impl Scopes {
    pub fn new(prefix: String) -> Self {
        Self { prefix, table: RwLock::default(), uses: AtomicU64::new(0) }
    }

    /// The beginning of all names of `instance`.
    pub fn instance(&self, instance: &Instance) -> String {
        self.instance_of(instance_tag(instance))
    }

    /// The same, by the tag of the instance.
    pub fn instance_of(&self, tag: InstanceTag) -> String {
        instance_name(&self.prefix, tag)
    }

    /// The scope, with keys from `credential` when it is not known.
    pub fn of(&self, scope: &Scope, credential: &Credential) -> Arc<Known> {
        let found = self.table.read().by_scope.get(scope).cloned();
        let known = found.unwrap_or_else(|| self.add(scope, credential));
        known.used.store(self.uses.fetch_add(1, Relaxed), Relaxed);
        known
    }

    fn add(&self, scope: &Scope, credential: &Credential) -> Arc<Known> {
        let keys = ScopeKeys::derive(credential.expose_token(), &scope.instance);
        let (tag, instance) = (keys.tag(), self.instance(&scope.instance));
        let name = scope_name(&instance, &tag);
        let (standing, used) = (Mutex::default(), AtomicU64::new(0));
        let new = Arc::new(Known { scope: scope.clone(), keys, tag, name, instance, standing, used });
        let mut table = self.table.write();
        if let Some(known) = table.by_scope.get(scope) {
            return known.clone();
        }
        if table.by_scope.len() >= SCOPES_MAX {
            table.halve();
        }
        table.by_tag.insert(tag, new.clone());
        table.by_scope.insert(scope.clone(), new.clone());
        new
    }

    /// The scope, if it is known.
    pub fn get(&self, scope: &Scope) -> Option<Arc<Known>> {
        self.table.read().by_scope.get(scope).cloned()
    }

    /// The latest rejections, at most `max`, that no later answer has lifted as far as this process knows.
    pub fn rejections(&self, max: usize) -> Vec<(Arc<Known>, StoreTime)> {
        let table = self.table.read();
        let mut all: Vec<_> =
            table.by_scope.values().filter_map(|known| Some((known.clone(), known.rejection()?))).collect();
        drop(table);
        all.sort_by_key(|(_, at)| Reverse(*at));
        all.truncate(max);
        all
    }

    /// The scope with this tag, if it is known.
    pub fn tagged(&self, tag: &Tag) -> Option<Arc<Known>> {
        self.table.read().by_tag.get(tag).cloned()
    }
}

impl Table {
    /// Drops half of the scopes: first those that never had an answer, then those that were not used for
    /// longest.
    fn halve(&mut self) {
        let mut all: Vec<_> = self.by_scope.values().cloned().collect();
        all.sort_by_cached_key(|known| Reverse((known.standing.lock().has_record, known.used.load(Relaxed))));
        for known in all.split_off(all.len() / 2) {
            self.by_scope.remove(&known.scope);
            self.by_tag.remove(&known.tag);
        }
    }
}

impl Known {
    /// The names of the records of `chat`.
    pub fn names(&self, chat: &ChatId) -> Names {
        self.keys.names(&self.instance, chat)
    }

    /// The name of the answer for `chat`.
    pub fn answer_name(&self, chat: &ChatId) -> String {
        self.keys.answer(&self.instance, chat)
    }

    /// Notes the record of the scope as it was read at `now`. Returns its rejection, if this process did not
    /// know of it.
    ///
    /// Answers of an earlier epoch cannot be read any more. So a new epoch is the moment to forget a
    /// rejection from before the clock was set back, which would hide all answers until its time comes.
    pub fn note(&self, state: Option<ScopeState>, now: StoreTime) -> Option<StoreTime> {
        let ScopeState { epoch, rejected_at } = state?;
        let mut standing = self.standing.lock();
        let is_ahead = standing.rejected_at.is_some_and(|rejected| rejected.since(now) > AHEAD_MAX);
        if is_ahead && standing.epoch != Some(epoch) {
            standing.rejected_at = Some(now);
        }
        standing.has_record = true;
        standing.epoch = Some(epoch);
        let news = rejected_at.filter(|_| rejected_at > standing.rejected_at);
        standing.rejected_at = standing.rejected_at.max(rejected_at);
        news
    }

    /// Notes that an attempt that began at `asked_at` was answered.
    pub fn answered(&self, asked_at: StoreTime) {
        let mut standing = self.standing.lock();
        standing.answered = standing.answered.max(Some(asked_at));
    }

    /// The latest rejection, unless an attempt that began later was answered. `None` for a token that never
    /// had an answer: its rejection is no news.
    pub fn rejection(&self) -> Option<StoreTime> {
        let standing = self.standing.lock();
        standing.rejected_at.filter(|at| standing.has_record && standing.answered.is_none_or(|it| it <= *at))
    }

    /// Notes that the store has a record of the scope.
    pub fn has_record(&self) {
        self.standing.lock().has_record = true;
    }

    /// Whether the store is known to have, or to have had, a record of the scope.
    pub fn had_record(&self) -> bool {
        self.standing.lock().has_record
    }

    /// Whether the token was rejected after an attempt that began at `asked_at`.
    pub fn is_rejected(&self, asked_at: StoreTime) -> bool {
        self.rejected_at().is_some_and(|rejected| asked_at <= rejected)
    }

    /// The latest rejection of the token, as far as this process knows.
    pub fn rejected_at(&self) -> Option<StoreTime> {
        self.standing.lock().rejected_at
    }

    /// Notes a rejection: answers of attempts that began before `at` or then do not count any more.
    pub fn reject(&self, at: StoreTime) {
        let mut standing = self.standing.lock();
        standing.rejected_at = standing.rejected_at.max(Some(at));
    }
}

/// Scopes for the tests of other files.
#[cfg(test)]
pub mod testing {
    use std::{hash::RandomState, sync::LazyLock};

    use super::*;

    /// The scope of a token, and the token. All tests of a process share the key of the hashes.
    pub fn scope(token: &str) -> (Scope, Credential) {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let credential = Credential::of_caller(token.into(), &HASHER);
        (Scope { instance: Instance::parse("shop").unwrap(), credential: credential.id() }, credential)
    }

    /// A scope that nothing is known of.
    pub fn known(token: &str) -> Arc<Known> {
        let (scope, credential) = scope(token);
        Scopes::new("test".into()).of(&scope, &credential)
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::scope, *};

    #[test]
    fn a_scope_is_found_by_its_tag() {
        let scopes = Scopes::new("test".into());
        let (one, credential) = scope("a");
        assert!(scopes.get(&one).is_none());
        let known = scopes.of(&one, &credential);
        assert_eq!(scopes.of(&one, &credential).tag, known.tag);
        assert_eq!(scopes.tagged(&known.tag).map(|known| known.scope.clone()), Some(one.clone()));
        assert!(scopes.get(&one).is_some());
        assert!(scopes.tagged(&[0; 16]).is_none());
    }

    #[test]
    fn tokens_that_callers_make_up_do_not_displace_one_that_had_an_answer() {
        let scopes = Scopes::new("test".into());
        let (answered, credential) = scope("answered");
        scopes.of(&answered, &credential).has_record();
        for number in 0..2 * SCOPES_MAX {
            let (made_up, credential) = scope(&format!("made up {number}"));
            scopes.of(&made_up, &credential);
            let table = scopes.table.read();
            assert!(table.by_scope.len() <= SCOPES_MAX && table.by_tag.len() == table.by_scope.len());
        }
        assert!(scopes.get(&answered).is_some());
        let (last, _) = scope(&format!("made up {}", 2 * SCOPES_MAX - 1));
        assert!(scopes.get(&last).is_some());
    }

    #[test]
    fn the_latest_rejection_counts_wherever_it_comes_from() {
        let known = testing::known("a");
        let state = |millis| ScopeState { epoch: [0; 16], rejected_at: Some(StoreTime::from_millis(millis)) };
        let rejected = || [1, 2, 3, 4].map(|millis| known.is_rejected(StoreTime::from_millis(millis)));
        assert_eq!(rejected(), [false; 4]);
        let now = StoreTime::from_millis(5);
        assert_eq!(known.note(Some(state(2)), now), Some(StoreTime::from_millis(2)), "it is news");
        assert_eq!(known.note(Some(state(2)), now), None, "it is known");
        known.reject(StoreTime::from_millis(1));
        assert_eq!(rejected(), [true, true, false, false]);
        known.reject(StoreTime::from_millis(3));
        assert_eq!(known.note(Some(state(2)), now), None, "it is older than the latest one");
        assert_eq!(known.note(None, now), None);
        assert_eq!(rejected(), [true, true, true, false]);
        assert!(known.had_record());
    }

    #[test]
    fn the_latest_rejections_that_no_answer_has_lifted_are_found() {
        let (scopes, millis) = (Scopes::new("test".into()), StoreTime::from_millis);
        let found = |max| scopes.rejections(max).into_iter().map(|(_, at)| at.millis()).collect::<Vec<_>>();
        let of = |token: &str| {
            let (one, credential) = scope(token);
            scopes.of(&one, &credential)
        };
        for number in 1..=3 {
            let known = of(&number.to_string());
            known.has_record();
            known.reject(millis(10 * number));
        }
        of("never answered").reject(millis(99));
        assert_eq!(found(9), [30, 20, 10]);
        assert_eq!(found(2), [30, 20]);
        of("2").answered(millis(20));
        of("3").answered(millis(31));
        assert_eq!(found(9), [20, 10], "a later attempt was answered");
    }

    #[test]
    fn a_rejection_from_before_the_clock_was_set_back_ends_with_its_epoch() {
        let (known, seconds) = (testing::known("a"), |seconds: u64| StoreTime::from_millis(1000 * seconds));
        let note = |epoch, now| {
            known.note(Some(ScopeState { epoch: [epoch; 16], rejected_at: None }), seconds(now));
            known.rejected_at()
        };
        note(1, 100);
        known.reject(seconds(100));
        assert_eq!(note(1, 40), Some(seconds(100)), "the answers of this epoch stay hidden");
        assert_eq!(note(2, 41), Some(seconds(41)));
        assert_eq!(note(3, 40), Some(seconds(41)), "replies may overtake each other");
    }
}
