//! [`InProgress`]: the limits of requests in progress, for all instances and for each.
//!
//! Not here: how long a request may wait, which is a matter of `patience`.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::domain::Instance;

/// Counts the requests in progress. One instance may hold at most half of the permits, so that a page of one
/// instance leaves room for the others.
#[derive(Debug)]
pub struct InProgress {
    max: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// The instances with a request in progress.
    by_instance: HashMap<Instance, usize>,
}

/// A request in progress, until it is dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    in_progress: &'a InProgress,
    instance: &'a Instance,
}

impl InProgress {
    /// Allows `max` requests at a time.
    pub fn new(max: usize) -> Self {
        Self { max, counts: Mutex::default() }
    }

    /// The permit for a request of `instance`; `None` when there are too many requests.
    pub fn begin<'a>(&'a self, instance: &'a Instance) -> Option<Permit<'a>> {
        let Counts { all, by_instance } = &mut *self.counts.lock();
        if *all >= self.max {
            return None;
        }
        match by_instance.get_mut(instance) {
            Some(own) if *own >= self.max / 2 => return None,
            Some(own) => *own += 1,
            None => {
                by_instance.insert(instance.clone(), 1);
            }
        }
        *all += 1;
        Some(Permit { in_progress: self, instance })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Counts { all, by_instance } = &mut *self.in_progress.counts.lock();
        *all -= 1;
        if let Some(own) = by_instance.get_mut(self.instance) {
            *own -= 1;
            if *own == 0 {
                by_instance.remove(self.instance);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_holds_at_most_half_of_the_permits() {
        let in_progress = InProgress::new(5);
        let [shop, other, third] = ["shop", "other", "third"].map(|name| Instance::parse(name).unwrap());
        let held = [&shop, &shop].map(|instance| in_progress.begin(instance).unwrap());
        assert!(in_progress.begin(&shop).is_none(), "it has its half");
        let others = [&other, &other, &third].map(|instance| in_progress.begin(instance).unwrap());
        assert!(in_progress.begin(&third).is_none(), "all are in use");
        drop(others);
        assert!(in_progress.begin(&shop).is_none());
        drop(held);
        assert!(in_progress.begin(&shop).is_some());
        assert!(in_progress.counts.lock().by_instance.is_empty());
    }
}
