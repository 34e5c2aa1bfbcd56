//! A list that only grows: who pushes and who goes through it never wait for each other.

use crossbeam_utils::CachePadded;
use std::ptr;

use crate::atomic::{AtomicPtr, Ordering, ordering};

/// Items each on a cache line of its own, never freed and never unlinked.
pub(crate) struct List<T: 'static> {
    head: AtomicPtr<CachePadded<Link<T>>>,
}

struct Link<T: 'static> {
    item: T,
    next: *const CachePadded<Link<T>>,
}

impl<T> List<T> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        List { head: AtomicPtr::new(ptr::null_mut()) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        List { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// What had been pushed by now, and maybe more: the last one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static T> + use<T> {
        // ORDERING: pairs with List::push; makes the links visible, those behind the first too: each push continues the
        // release sequence of the pushes before it.
        let mut next = self.head.load(ordering!("list_load", Acquire)).cast_const();
        std::iter::from_fn(move || {
            // SAFETY: null or a link, and links are never freed and never unlinked.
            let link = unsafe { next.as_ref() }?;
            next = link.next;
            Some(&link.item)
        })
    }

    pub(crate) fn push(&self, item: T) -> &'static T {
        let link = Box::leak(Box::new(CachePadded::new(Link { item, next: ptr::null() })));
        // ORDERING: Relaxed; the exchange below confirms it, and what it points at is not looked at.
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.next = head;
            let new: *mut _ = link;
            // ORDERING: pairs with List::iter; makes the link visible.
            match self.head.compare_exchange(head, new, ordering!("list_push", Release), Ordering::Relaxed) {
                Ok(_) => {
                    // SAFETY: just leaked; shared references only from here on.
                    let link: &'static CachePadded<Link<T>> = unsafe { &*new };
                    return &link.item;
                }
                Err(newer) => head = newer,
            }
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell;

    /// A write and not only a value, so that loom asks of every read whether it was shown it.
    fn written(number: u64) -> UnsafeCell<u64> {
        let cell = UnsafeCell::new(0);
        // SAFETY: nobody else has it yet.
        cell.with_mut(|content| unsafe { *content = number });
        cell
    }

    #[test]
    fn loom_list() {
        loom::model(|| {
            let list: &'static List<UnsafeCell<u64>> = Box::leak(Box::new(List::new()));
            // SAFETY: loom checks that nobody writes at the same time.
            let sum = || list.iter().map(|cell| cell.with(|content| unsafe { *content })).sum::<u64>();
            let pushing = [1, 2].map(|number| {
                loom::thread::spawn(move || {
                    // Loom tells a thread's writes apart from its parent's only once it has done something atomic.
                    assert!(sum() <= 3 - number);
                    list.push(written(number));
                })
            });
            assert!(sum() <= 3);
            for thread in pushing {
                thread.join().unwrap();
            }
            assert_eq!(sum(), 3, "none is lost");
        });
    }
}
