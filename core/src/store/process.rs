//! Which process this is: a number that a forked child can tell from its parent's without a system call.
//!
//! A page marked `MADV_WIPEONFORK` holds the number; in a child it reads 0, and the child draws a new one. Comparing
//! process ids instead would cost a system call each time and fail where pid namespaces give parent and child the same
//! one. Kernels before 4.14 don't know the mark: there the process id stands in.

use std::ptr;

use crate::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The number of this process: never 0, and never that of a process it was forked from.
pub(crate) fn incarnation() -> u64 {
    // ORDERING: pairs with the exchange in process::map_page; makes the mapped page visible.
    let page = PAGE.load(Ordering::Acquire);
    let page = if page.is_null() { map_page() } else { page };
    if page == UNSUPPORTED {
        return u64::from(std::process::id());
    }
    // SAFETY: a page published in PAGE is mapped for ever, writable, and only used as this one atomic word.
    let word = unsafe { &*page };
    // ORDERING: Relaxed; the number stands for itself.
    let number = word.load(Ordering::Relaxed);
    if number != 0 {
        return number;
    }
    // The first thread of a child that asks. Time moves on between a process' birth and its children's.
    let number = super::clock::monotonic_ns().max(1);
    // ORDERING: Relaxed; the number stands for itself.
    word.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|drawn| drawn, |_| number)
}

/// Whether the calling thread is the one that a fork left alive (or the first thread of the process).
pub(crate) fn is_main_thread() -> bool {
    nix::unistd::gettid() == nix::unistd::getpid()
}

static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
/// Stands in PAGE where the kernel can't wipe a page on fork.
const UNSUPPORTED: *mut AtomicU64 = ptr::dangling_mut();
const PAGE_BYTES: usize = 4096;

#[cold]
fn map_page() -> *mut AtomicU64 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE_BYTES, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return UNSUPPORTED;
    }
    // SAFETY: the page was mapped above and is used by nobody else yet.
    let marked = unsafe { libc::madvise(page, PAGE_BYTES, libc::MADV_WIPEONFORK) } == 0;
    let candidate = if marked { page.cast() } else { UNSUPPORTED };
    // ORDERING: pairs with the load in process::incarnation; makes the mapped page visible.
    let published = PAGE.compare_exchange(ptr::null_mut(), candidate, Ordering::AcqRel, Ordering::Acquire);
    if published.is_err() || !marked {
        // SAFETY: the page was mapped above and has not been handed out.
        unsafe { libc::munmap(page, PAGE_BYTES) };
    }
    published.map_or_else(|earlier| earlier, |_| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_the_same_in_every_thread_and_another_in_a_child() {
        let here = incarnation();
        assert_ne!(here, 0);
        assert_eq!(std::thread::spawn(incarnation).join().unwrap(), here);
        // SAFETY: the child only reads the number and leaves.
        let child = unsafe { nix::unistd::fork() }.unwrap();
        match child {
            nix::unistd::ForkResult::Child => {
                let fresh = incarnation();
                let ok = fresh != here && fresh != 0 && fresh == incarnation() && is_main_thread();
                // SAFETY: leaves without running anything of the parent's.
                unsafe { libc::_exit(i32::from(!ok)) }
            }
            nix::unistd::ForkResult::Parent { child } => {
                let status = nix::sys::wait::waitpid(child, None).unwrap();
                assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
            }
        }
        assert_eq!(incarnation(), here);
    }
}
