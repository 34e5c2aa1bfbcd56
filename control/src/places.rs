//! Places of which no token takes all: the last are kept for tokens that hold few.
//!
//! ```text
//! 12 000 streams   |<── whoever comes ──────────────────── 10 080 ──>|<── 1 920, for who holds less than 480 ──>|
//! 4 uploads        |<── whoever comes ── 3 ──>|<── 1, for who holds none ──>|
//! ```
//!
//! A fleet that shares a token may thus have nearly all of them, and somebody else still finds room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    /// How many of them are for tokens that hold less than `few`.
    kept: usize,
    few: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Tokens that hold none are not there.
    of_tokens: HashMap<String, usize>,
}

/// A place that is taken; dropped when what it was for ends.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Inner>,
    token_id: String,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken.
    Full,
    /// What is left is for tokens that hold fewer.
    Kept,
}

impl Places {
    /// `most` places, of which so many in a hundred are kept, rounded up; never all of them.
    pub(crate) fn new(most: usize, kept_percent: u8) -> Self {
        let kept = (most * usize::from(kept_percent.min(100))).div_ceil(100).min(most.saturating_sub(1));
        Self(Arc::new(Inner { most, kept, few: (kept / 4).max(1), taken: Mutex::default() }))
    }

    /// Takes a place for a token.
    ///
    /// # Errors
    /// Where none is left for it.
    pub(crate) fn take(&self, token_id: &str) -> Result<Place, NoPlace> {
        let Inner { most, kept, few, .. } = *self.0;
        let mut taken = self.0.lock();
        let held = taken.of_tokens.get(token_id).copied().unwrap_or(0);
        if taken.all >= most {
            return Err(NoPlace::Full);
        }
        if taken.all >= most - kept && held >= few {
            return Err(NoPlace::Kept);
        }
        taken.all += 1;
        taken.of_tokens.insert(token_id.to_owned(), held + 1);
        Ok(Place { places: Arc::clone(&self.0), token_id: token_id.to_owned() })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        match taken.of_tokens.get_mut(&self.token_id) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(taken.of_tokens.remove(&self.token_id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many places as the token gets, 100 000 at most.
    fn all_for(places: &Places, token_id: &str) -> (Vec<Place>, NoPlace) {
        let mut held = Vec::new();
        loop {
            match places.take(token_id) {
                Ok(place) => held.push(place),
                Err(none) => return (held, none),
            }
            assert!(held.len() < 100_000);
        }
    }

    #[test]
    fn one_token_gets_nearly_all_and_others_find_room() {
        let places = Places::new(12_000, 16);
        let (fleet, why) = all_for(&places, "fleet");
        assert_eq!((fleet.len(), why), (10_080, NoPlace::Kept));
        let (small, why) = all_for(&places, "small");
        assert_eq!((small.len(), why), (480, NoPlace::Kept));
        assert!(places.take("fleet").is_err());
        // What the fleet gives back below what is kept is for anybody.
        drop(fleet);
        let (more, why) = all_for(&places, "small");
        assert_eq!((small.len() + more.len(), why), (10_080, NoPlace::Kept));
        drop((small, more));
        let taken = places.0.lock();
        assert_eq!((taken.all, taken.of_tokens.len()), (0, 0), "nothing is remembered");
    }

    #[test]
    fn tokens_with_few_share_what_is_kept_to_the_last() {
        let places = Places::new(16, 16);
        let (_greedy, why) = all_for(&places, "greedy");
        assert_eq!(why, NoPlace::Kept);
        let others: Vec<_> = (0..).map_while(|n| places.take(&n.to_string()).ok()).collect();
        assert_eq!(others.len(), 3);
        assert_eq!(places.take("late").expect_err("none is left"), NoPlace::Full);
    }

    #[test]
    fn where_there_are_few_places_one_is_kept_and_a_single_one_is_anybodys() {
        for (most, percent, for_one) in
            [(1, 16, 1), (2, 16, 1), (4, 16, 3), (16, 16, 13), (4, 0, 4), (4, 100, 1), (0, 16, 0)]
        {
            let (held, _) = all_for(&Places::new(most, percent), "one");
            assert_eq!(held.len(), for_one, "{most} places, {percent} % kept");
        }
    }
}
