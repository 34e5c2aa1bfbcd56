//! Writes that come at once share a transaction, and so a commit: what takes longest on a disk is done once for all of them.
//!
//! ```text
//! writes of a lane ──► queue ──► begin · (savepoint, work) for each · commit ──► to each its own answer
//! ```
//!
//! Who finds a lane idle works through it, with what comes meanwhile; one that comes alone waits for nobody. What fails is taken back
//! alone, and nobody is answered before the commit.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{StoreError, Transaction};

/// How many share a transaction at most, so that the first does not wait long for the last.
const AT_ONCE: usize = 64;

/// A write that waits for its turn.
pub(super) trait Job: Send {
    /// Does the work; false where it is to be taken back.
    fn work(&mut self, transaction: &mut dyn Transaction) -> bool;

    /// Tells who waits, once it is known what became of the transaction.
    fn answer(self: Box<Self>, committed: &Result<(), StoreError>);
}

/// Queues by name.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashMap<String, Vec<Box<dyn Job>>>>);

impl Lanes {
    /// Puts a job into a lane. True where nobody works through that lane: the caller has to, with [`work`](Self::work).
    pub(super) fn enter(&self, lane: &str, job: Box<dyn Job>) -> bool {
        let mut lanes = self.lock();
        if let Some(waiting) = lanes.get_mut(lane) {
            waiting.push(job);
            return false;
        }
        lanes.insert(lane.to_owned(), vec![job]);
        true
    }

    /// Works through a lane until nothing is left. `transact` works a group in one transaction, and commits it.
    pub(super) fn work(&self, lane: &str, transact: impl Fn(&mut [Box<dyn Job>]) -> Result<(), StoreError>) {
        loop {
            let mut jobs = self.next(lane);
            if jobs.is_empty() {
                return;
            }
            let committed = catch_unwind(AssertUnwindSafe(|| transact(&mut jobs)));
            let committed = committed.unwrap_or_else(|_| Err(super::panicked()));
            for job in jobs {
                job.answer(&committed);
            }
        }
    }

    /// Those that are next; nobody works through the lane any more where there are none.
    fn next(&self, lane: &str) -> Vec<Box<dyn Job>> {
        let mut lanes = self.lock();
        let Some(waiting) = lanes.get_mut(lane) else { return Vec::new() };
        if waiting.is_empty() {
            lanes.remove(lane);
            return Vec::new();
        }
        let later = waiting.split_off(waiting.len().min(AT_ONCE));
        std::mem::replace(waiting, later)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Box<dyn Job>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does a job's work; one that panics is taken back like one that fails.
pub(super) fn is_kept(job: &mut dyn Job, transaction: &mut dyn Transaction) -> bool {
    catch_unwind(AssertUnwindSafe(|| job.work(transaction))).unwrap_or(false)
}

/// A job, and where its answer comes out.
pub(super) fn job<T, E, W>(work: W) -> (Box<dyn Job>, oneshot::Receiver<Result<T, E>>)
where
    W: FnOnce(&mut dyn Transaction) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let (send, answer) = oneshot::channel();
    (Box::new(Waiting { work: Some(work), result: None, send }), answer)
}

struct Waiting<T, E, W> {
    work: Option<W>,
    result: Option<Result<T, E>>,
    send: oneshot::Sender<Result<T, E>>,
}

impl<T, E, W> Job for Waiting<T, E, W>
where
    W: FnOnce(&mut dyn Transaction) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn work(&mut self, transaction: &mut dyn Transaction) -> bool {
        self.result = self.work.take().map(|work| work(transaction));
        matches!(self.result, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, committed: &Result<(), StoreError>) {
        let answer = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(super::panicked().into()),
            // What a refusal saw in the same transaction never was, either.
            (Err(error), _) => Err(error.clone().into()),
        };
        // Who asked may have gone.
        let _ = self.send.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{News, Row, Value};

    struct Nothing;

    impl Transaction for Nothing {
        fn rows(&mut self, _: &str, _: &[Value]) -> Result<Vec<Row>, StoreError> {
            Ok(Vec::new())
        }

        fn execute(&mut self, _: &str, _: &[Value]) -> Result<u64, StoreError> {
            Ok(0)
        }

        fn batch(&mut self, _: &str) -> Result<(), StoreError> {
            Ok(())
        }

        fn for_update(&self) -> &'static str {
            ""
        }

        fn notify(&mut self, _: News) -> Result<(), StoreError> {
            Ok(())
        }
    }

    type Answer = oneshot::Receiver<Result<u32, StoreError>>;

    fn number(number: u32) -> (Box<dyn Job>, Answer) {
        job(move |_| if number == 13 { Err(StoreError::Taken) } else { Ok(number) })
    }

    #[test]
    fn who_comes_meanwhile_shares_the_next_transaction() {
        let lanes = Lanes::default();
        let (first, mut answer) = number(1);
        assert!(lanes.enter("a", first), "nobody works there");
        let groups = Mutex::new(Vec::new());
        lanes.work("a", |jobs| {
            if groups.lock().unwrap().is_empty() {
                for at in [2, 13, 4] {
                    let (job, _answer) = number(at);
                    assert!(!lanes.enter("a", job), "somebody works there");
                }
            }
            let kept: Vec<bool> = jobs.iter_mut().map(|job| is_kept(job.as_mut(), &mut Nothing)).collect();
            groups.lock().unwrap().push(kept);
            Ok(())
        });
        assert!(matches!(answer.try_recv(), Ok(Ok(1))));
        assert_eq!(*groups.lock().unwrap(), [vec![true], vec![true, false, true]]);
        assert!(lanes.enter("a", number(5).0), "nobody works there any more");
    }

    #[test]
    fn a_commit_that_fails_fails_for_all_and_a_panic_for_one() {
        let lanes = Lanes::default();
        let (mut good, mut bad) = (number(1), number(13));
        lanes.enter("a", good.0);
        lanes.enter("a", bad.0);
        lanes.work("a", |jobs| {
            assert_eq!(jobs.iter_mut().filter_map(|job| is_kept(job.as_mut(), &mut Nothing).then_some(())).count(), 1);
            Err(StoreError::Unavailable("no disk".to_owned()))
        });
        for answer in [&mut good.1, &mut bad.1] {
            assert!(matches!(answer.try_recv(), Ok(Err(StoreError::Unavailable(_)))));
        }
        let (panics, mut answer) = job::<u32, StoreError, _>(|_| panic!("in the work"));
        let mut good = number(2);
        lanes.enter("a", panics);
        lanes.enter("a", good.0);
        lanes.work("a", |jobs| {
            let kept: Vec<bool> = jobs.iter_mut().map(|job| is_kept(job.as_mut(), &mut Nothing)).collect();
            assert_eq!(kept, [false, true]);
            Ok(())
        });
        assert!(matches!(answer.try_recv(), Ok(Err(StoreError::Broken(_)))));
        assert!(matches!(good.1.try_recv(), Ok(Ok(2))));
    }
}
