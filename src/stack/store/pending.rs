//! [`Rejections`]: rejected tokens that the store does not know of yet.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{keys::Tag, scopes::Known};

/// The most scopes. Only callers with tokens of their own make so many, and this process hides the answers
/// of a rejected token in any case.
const REJECTIONS_MAX: usize = 1024;

/// The latest rejection of each scope that is still to be written.
#[derive(Debug, Default)]
pub struct Rejections {
    all: Mutex<HashMap<Tag, (Arc<Known>, Instant)>>,
    added: Notify,
}

impl Rejections {
    /// Remembers a rejection at `at`.
    pub fn add(&self, known: Arc<Known>, at: Instant) {
        let mut all = self.all.lock();
        if let Some((_, latest)) = all.get_mut(&known.tag) {
            *latest = at.max(*latest);
        } else if all.len() < REJECTIONS_MAX {
            all.insert(known.tag, (known, at));
        }
        drop(all);
        self.added.notify_one();
    }

    /// Has those that are still to be written written.
    pub fn write_again(&self) {
        self.added.notify_one();
    }

    /// Waits until a rejection is added, or is to be written again.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// All that are still to be written.
    pub fn all(&self) -> Vec<(Arc<Known>, Instant)> {
        self.all.lock().values().cloned().collect()
    }

    /// Forgets a rejection that is written, unless a later one was added.
    pub fn written(&self, known: &Known, at: Instant) {
        let mut all = self.all.lock();
        if all.get(&known.tag).is_some_and(|(_, latest)| *latest == at) {
            all.remove(&known.tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::{super::scopes::testing::known, *};

    #[test]
    fn a_rejection_stays_until_the_latest_one_is_written() {
        let (rejections, known, first) = (Rejections::default(), known("a"), Instant::now());
        let later = first + Duration::from_secs(1);
        rejections.add(known.clone(), later);
        rejections.add(known.clone(), first);
        rejections.written(&known, first);
        assert_eq!(rejections.all().iter().map(|(_, at)| *at).collect::<Vec<_>>(), [later]);
        rejections.written(&known, later);
        assert!(rejections.all().is_empty());
    }

    #[test]
    fn rejections_are_bounded() {
        let (rejections, now) = (Rejections::default(), Instant::now());
        for token in 0..REJECTIONS_MAX + 10 {
            rejections.add(known(&token.to_string()), now);
        }
        assert_eq!(rejections.all().len(), REJECTIONS_MAX);
    }

    #[test]
    fn a_rejection_that_came_while_none_could_be_written_is_found_again() {
        let rejections = Rejections::default();
        let is_due = || rejections.added().now_or_never().is_some();
        rejections.add(known("a"), Instant::now());
        assert_eq!((is_due(), is_due()), (true, false));
        rejections.write_again();
        assert!(is_due());
        assert_eq!(rejections.all().len(), 1);
    }
}
