//! Who is reading what: hazard slots, the fence that costs readers nothing, and the lock of the thread that swaps.
//!
//! ```text
//! protect(current, slot):                     retire(old), after current was replaced:
//!   p = current                                 heavy fence                                H
//!   slot = p            (Release)   S           free what no slot holds  (Acquire)         C
//!   light fence                     L
//!   again if current != p (Acquire) R         release(slot): slot = null (Release)         E
//! ```
//!
//! # Why nothing is freed under a reader
//!
//! Say a reader got `p` past R, and somebody scans the slots in order to free `p`, having replaced it in `current`
//! before. L and H are sequentially consistent fences, so one comes first. If L does, the store S before it is visible
//! to the scan C after H: the slot holds `p`, or something that this slot's thread stored later. If H does, the
//! replacement before it is visible to R after L, and the reader did not get past R. Mutants: `reclaim_light_fence`,
//! `reclaim_heavy_fence`, `reclaim_recheck`.
//!
//! A scan that finds something else in the slot (null, or the next pointer) has read a Release store (S or E) that comes
//! after all the reader did with `p`; C acquires it, so that is over before `p` is freed. Mutants: `reclaim_release`
//! (E), `reclaim_hazard` (S), `reclaim_scan` (C). What `p` points at is visible to whoever got past R, which acquires
//! what the replacement released. Mutants: `reclaim_replace` and, where L is no fence, `reclaim_reread`.
//!
//! A slot goes from one thread to the next, or from one nested evaluation to another's, only with all that the last one did:
//! mutants `slot_claim`, `slot_give_back`, `reclaim_take`.
//!
//! # The light fence is none
//!
//! Readers come by a hundred million times a second, scans once an update: `membarrier(PRIVATE_EXPEDITED)` on the side
//! of the scan makes every thread of the process execute a full fence, so the light side only has to keep the compiler
//! from reordering. In the models both are plain `SeqCst` fences (mutants `reclaim_light_fence_order` and
//! `reclaim_heavy_fence_order` make them acquire–release fences), which is what membarrier(2) makes of the pair: "all
//! threads [of the process] have passed through a state where all memory accesses to user-space addresses match program
//! order between entry to and return from the system call". So, for each thread and each scan, the point of that state
//! stands for its fence L. If the thread's S stood before the point, the scan, which comes after the call, finds it; else
//! the thread's R comes after the point, and the replacement before the call is visible to it. (The kernel gets there by
//! interrupting the processors that run a thread of the process, for a full barrier; those that run none pass one when they
//! switch to it.)
//!
//! Sources: membarrier(2); Linux `kernel/sched/membarrier.c`, whose head draws the orderings that it keeps; M. Desnoyers
//! et al., "User-Level Implementations of Read-Copy Update", IEEE TPDS 2012, where the signal in the place of membarrier is
//! argued in the same way.
//!
//! Where the kernel has no membarrier (or registering is forbidden) as a reader is opened, the light fence *is* a
//! `SeqCst` fence, for the whole process. Should membarrier work at first and be refused later (a seccomp filter put up
//! meanwhile), the process changes to that mode for good, and nothing is freed for a second: only a thread that was
//! between S and R at that moment can have passed L without a fence, with S still in its store buffer; a store buffer
//! drains in well under a microsecond once the loads after it are done, and entering or leaving the kernel drains it too.
//! Those who come later find the mode changed.
//!
//! # Fork
//!
//! A child has the slots of threads that it doesn't have. Scans count them as holding what they hold: that can only keep
//! something too long. The thread that went through the fork is the child's main thread; when it comes by (swapping,
//! or now and then), it clears the others' slots. Should it never come by, one generation at most stays for each thread
//! that was evaluating at the moment of the fork.

use std::ptr;

#[cfg(not(loom))]
use crate::atomic::compiler_fence;
use crate::atomic::{AtomicPtr, AtomicU64, Ordering, fence, mutant, ordering};

/// What a slot holds: the address of what its thread is reading, or null.
pub(crate) type Hazard = AtomicPtr<()>;

/// Gets what `current` points at, kept from being freed until `release(hazard)`.
///
/// `hazard` must be the caller's own, and a scan must find it (see [`holds`]).
#[inline]
pub(crate) fn protect<T>(current: &AtomicPtr<T>, hazard: &Hazard) -> *mut T {
    // ORDERING: Relaxed; what is used is what the load below confirms.
    let mut seen = current.load(Ordering::Relaxed);
    loop {
        // ORDERING: S; pairs with reclaim::holds; a scan that finds it sees that what the slot held before is done with.
        hazard.store(seen.cast(), ordering!("reclaim_hazard", Release));
        if !mutant!("reclaim_light_fence") {
            light_fence();
        }
        if mutant!("reclaim_recheck") {
            return seen;
        }
        // ORDERING: R; pairs with reclaim::replace; makes what it points at visible.
        let again = current.load(ordering!("reclaim_reread", Acquire));
        if again == seen {
            return seen;
        }
        seen = again;
    }
}

/// Ends what `protect` began.
#[inline]
pub(crate) fn release(hazard: &Hazard) {
    // ORDERING: E; pairs with reclaim::holds; whoever sees it sees that this thread is done.
    hazard.store(ptr::null_mut(), ordering!("reclaim_release", Release));
}

/// Makes `new` current and gives what was, which must not be freed before a [`heavy_fence`] and a scan.
pub(crate) fn replace<T>(current: &AtomicPtr<T>, new: *mut T) -> *mut T {
    // ORDERING: pairs with reclaim::protect; makes what `new` points at visible. (What the old one points at the caller knows
    // from the lock under which it was put there.)
    current.swap(new, ordering!("reclaim_replace", Release))
}

/// Takes a hazard that may be anybody's if it holds nothing, by storing `pointer`; protect and release it as one's own then.
pub(crate) fn take(hazard: &Hazard, pointer: *mut ()) -> bool {
    // ORDERING: pairs with reclaim::release; what the last user read happens before what this one stores, and so before what a
    // scan does that finds it.
    let taken =
        hazard.compare_exchange(ptr::null_mut(), pointer, ordering!("reclaim_take", Acquire), Ordering::Relaxed);
    taken.is_ok()
}

/// Whether one of the slots holds `pointer`, which is no longer current; after a [`heavy_fence`].
pub(crate) fn holds<'a, T>(mut slots: impl Iterator<Item = &'a Hazard>, pointer: *mut T) -> bool {
    // ORDERING: C; pairs with protect and release; what a thread did before it left `pointer` happens before it is freed.
    slots.any(|slot| slot.load(ordering!("reclaim_scan", Acquire)) == pointer.cast())
}

/// A lock that a thread may only try, and that a forked child can take from a thread it doesn't have.
///
/// The word is 0, or the incarnation of the process whose thread holds it.
#[derive(Debug)]
pub(crate) struct Lock {
    holder: AtomicU64,
}

/// How a lock was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locked {
    /// It was free; what it guards is in order.
    Free,
    /// Its holder stayed behind in the parent process, wherever it was: what it guards may be half done.
    Orphaned,
}

impl Lock {
    pub(crate) fn new() -> Self {
        Lock { holder: AtomicU64::new(0) }
    }

    /// Takes the lock if no thread of this process has it. `incarnation` is this process' number.
    pub(crate) fn try_lock(&self, incarnation: u64) -> Option<Locked> {
        // ORDERING: Relaxed; only keeps those who come in vain from taking the line away from the others.
        if self.holder.load(Ordering::Relaxed) == incarnation {
            return None;
        }
        let exchange = |from| {
            // ORDERING: pairs with Lock::unlock; makes what the lock guards visible.
            self.holder.compare_exchange(from, incarnation, ordering!("lock_acquire", Acquire), Ordering::Relaxed)
        };
        match exchange(0) {
            Ok(_) => Some(Locked::Free),
            Err(holder) if holder == incarnation => None,
            Err(orphan) => exchange(orphan).ok().map(|_| Locked::Orphaned),
        }
    }

    pub(crate) fn unlock(&self) {
        // ORDERING: pairs with Lock::try_lock; makes what the lock guards visible.
        self.holder.store(0, ordering!("lock_release", Release));
    }
}

/// A thread's hazard, which another thread has after it.
pub(crate) struct Slot {
    pub(crate) hazard: Hazard,
    /// 0, or the incarnation of the process whose thread uses it.
    owner: AtomicU64,
}

impl Slot {
    fn new(owner: u64, pointer: *mut ()) -> Self {
        Slot { hazard: AtomicPtr::new(pointer), owner: AtomicU64::new(owner) }
    }

    /// Takes a slot that nobody has.
    fn claim(&self, owner: u64) -> bool {
        // ORDERING: pairs with Slot::give_back; the last owner's use of the slot happens before ours.
        self.owner.compare_exchange(0, owner, ordering!("slot_claim", Acquire), Ordering::Relaxed).is_ok()
    }

    fn give_back(&self) {
        // ORDERING: pairs with Slot::claim; our use of the slot happens before the next owner's.
        self.owner.store(0, ordering!("slot_give_back", Release));
    }
}

/// How the two fences of a process are made: see the head of the file.
struct FenceMode {
    mode: AtomicU64,
    /// Monotonic ns before which nothing may be freed, after a change to SYMMETRIC.
    held_until: AtomicU64,
}

const UNDECIDED: u64 = 0;
const ASYMMETRIC: u64 = 1;
const SYMMETRIC: u64 = 2;

impl FenceMode {
    /// `None` while membarrier makes them; else since when, in monotonic ns, what is unused may be freed.
    fn symmetric_since(&self) -> Option<u64> {
        // ORDERING: pairs with FenceMode::become_symmetric; makes the time visible.
        let mode = self.mode.load(ordering!("fence_mode_load", Acquire));
        // ORDERING: Relaxed; made visible above, and it only ever grows.
        (mode != ASYMMETRIC).then(|| self.held_until.load(Ordering::Relaxed))
    }

    fn become_symmetric(&self, held_until: u64) {
        // ORDERING: Relaxed; made visible by the store below.
        self.held_until.fetch_max(held_until, Ordering::Relaxed);
        // ORDERING: pairs with FenceMode::symmetric_since; nobody who finds the mode changed misses the time.
        self.mode.store(SYMMETRIC, ordering!("fence_mode_store", Release));
    }
}

#[cfg(loom)]
pub(crate) use modelled::{heavy_fence, light_fence};
#[cfg(not(loom))]
pub(crate) use process_wide::{
    Local, current_slot, forget_threads_lost_by_fork, heavy_fence, light_fence, overflow_hazard, register_fences,
    slots_hold, tick_soon,
};

#[cfg(all(test, not(loom)))]
pub(crate) use process_wide::slot_count;

#[cfg(loom)]
mod modelled {
    use super::{Ordering, fence, mutant};

    std::thread_local! {
        /// Whether this model's light fence keeps the compiler from reordering, and nobody else. (All threads of a model run in
        /// one of the system's.)
        pub(crate) static FOR_COMPILER_ONLY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    pub(crate) fn light_fence() {
        if FOR_COMPILER_ONLY.get() {
            return;
        }
        // ORDERING: L; pairs with heavy_fence.
        fence(if mutant!("reclaim_light_fence_order") { Ordering::AcqRel } else { Ordering::SeqCst });
    }

    pub(crate) fn heavy_fence() -> bool {
        if !mutant!("reclaim_heavy_fence") {
            // ORDERING: H; pairs with light_fence.
            fence(if mutant!("reclaim_heavy_fence_order") { Ordering::AcqRel } else { Ordering::SeqCst });
        }
        true
    }
}

/// The words that each thread has for itself.
///
/// In a shared library a thread-local variable of Rust's costs a call of `__tls_get_addr` each time, since the library could be loaded
/// after the thread was started, and stable Rust has no switch for another TLS model. With the initial-exec model it is an addition to a register; what it asks
/// for is room in the static TLS block, of which glibc keeps 1664 bytes for libraries that are loaded late (16 of them are ours). musl keeps none.
#[cfg(all(not(loom), target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod thread_local_words {
    use super::process_wide::Local;

    // Named by the version, so that two of them can be in one program.
    macro_rules! name {
        () => {
            concat!(
                "libflags_local_",
                env!("CARGO_PKG_VERSION_MAJOR"),
                "_",
                env!("CARGO_PKG_VERSION_MINOR"),
                "_",
                env!("CARGO_PKG_VERSION_PATCH")
            )
        };
    }

    std::arch::global_asm!(
        ".pushsection .tbss,\"awT\",@nobits",
        ".balign 16",
        concat!(".globl ", name!()),
        concat!(".hidden ", name!()),
        concat!(".type ", name!(), ",@object"),
        concat!(".size ", name!(), ",16"),
        concat!(name!(), ":"),
        ".zero 16",
        ".popsection",
    );

    const _: () = assert!(size_of::<Local>() <= 16 && align_of::<Local>() <= 16);

    /// Each thread's own [`Local`].
    pub(super) static LOCAL: ThreadsOwn = ThreadsOwn;

    pub(super) struct ThreadsOwn;

    impl ThreadsOwn {
        #[inline(always)]
        pub(super) fn with<R>(&self, read: impl FnOnce(&Local) -> R) -> R {
            let local: *const Local;
            // SAFETY: reads the thread pointer and adds the variable's distance from it, which the dynamic linker has filled in. Neither changes
            // while a thread lives.
            unsafe {
                std::arch::asm!(
                    "mov {local}, qword ptr fs:[0]",
                    concat!("add {local}, qword ptr [rip + ", name!(), "@GOTTPOFF]"),
                    local = out(reg) local,
                    options(pure, nomem, nostack),
                );
            }
            // SAFETY: 16 aligned bytes of the thread's own, zero at first: an empty `Local` (null, and 0). They are there until the thread is gone, and no
            // other thread knows of them.
            read(unsafe { &*local })
        }
    }
}

/// The same, where the compiler finds them.
#[cfg(all(not(loom), not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))))]
mod thread_local_words {
    use super::process_wide::Local;

    thread_local! {
        pub(super) static LOCAL: Local = const { Local::new() };
    }
}

/// The slots and the fences of the real process.
#[cfg(not(loom))]
mod process_wide {
    use super::{
        ASYMMETRIC, AtomicU64, FenceMode, Hazard, Ordering, SYMMETRIC, Slot, UNDECIDED, compiler_fence, fence, ptr,
        take,
    };
    use crate::store::clock;
    use crate::store::list::List;
    use crate::store::process::{incarnation, is_main_thread};
    use std::cell::Cell;

    /// Evaluations between two looks at the clock, of one thread. A prime, so that a thread that goes round several readers
    /// does not always look on behalf of the same one.
    const TICK: u32 = 4_093;

    /// One slot for each thread.
    static SLOTS: List<Slot> = List::new();
    /// Slots for the evaluation inside an evaluation, each in use while it holds something.
    static OVERFLOW: List<Slot> = List::new();
    /// Process for which the slots of lost threads were cleared.
    static FORGOTTEN_IN: AtomicU64 = AtomicU64::new(0);

    /// What a thread knows of its slot. Const-initialised and without a destructor, so that using it is an addition to a
    /// register; [`Exit`] is what frees the slot.
    #[derive(Debug)]
    pub(crate) struct Local {
        /// The thread's hazard, or null before its first evaluation.
        hazard: Cell<*const Hazard>,
        /// Evaluations left before the next look at the clock; 0 also before the first.
        left: Cell<u32>,
    }

    thread_local! {
        static EXIT: Exit = const { Exit(Cell::new(None)) };
    }

    use super::thread_local_words::LOCAL;

    impl Local {
        #[cfg_attr(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"), expect(dead_code))]
        pub(super) const fn new() -> Self {
            Local { hazard: Cell::new(ptr::null()), left: Cell::new(0) }
        }

        /// The thread's hazard, if it is free; `None` sends the caller to [`current_slot`].
        #[inline]
        pub(crate) fn enter() -> Option<&'static Hazard> {
            LOCAL.with(|local| {
                let left = local.left.get();
                if left == 0 {
                    return None;
                }
                local.left.set(left - 1);
                // SAFETY: `left` is only ever set above 0 together with a slot, and slots are never freed.
                let hazard = unsafe { &*local.hazard.get() };
                // ORDERING: Relaxed; only this thread stores to it.
                hazard.load(Ordering::Relaxed).is_null().then_some(hazard)
            })
        }
    }

    /// Frees the thread's slot when the thread ends.
    struct Exit(Cell<Option<&'static Slot>>);

    impl Drop for Exit {
        fn drop(&mut self) {
            LOCAL.with(|local| {
                local.hazard.set(ptr::null());
                local.left.set(0);
            });
            if let Some(slot) = self.0.get() {
                // ORDERING: Relaxed; only this thread stores to it.
                if slot.hazard.load(Ordering::Relaxed).is_null() {
                    slot.give_back();
                }
                // Else a guard outlives the thread's exit (forgotten, or in a later destructor): the slot is lost, not shared.
            }
        }
    }

    /// The slow part of entering: a slot for a thread that has none, and whether it is time to look at the clock.
    ///
    /// The hazard is free for the caller. Signal handlers may come in anywhere: they leave everything as it was.
    #[cold]
    #[inline(never)]
    pub(crate) fn current_slot() -> (Option<&'static Hazard>, bool) {
        LOCAL.with(|local| {
            let mut due = false;
            if local.left.get() == 0 {
                if local.hazard.get().is_null() {
                    let Some(slot) = EXIT.try_with(|exit| exit.0.get().unwrap_or_else(|| claim(exit))).ok() else {
                        return (None, false); // The thread is ending: its slot is gone.
                    };
                    local.hazard.set(&raw const slot.hazard);
                } else {
                    due = true;
                }
                local.left.set(TICK);
            }
            // SAFETY: set above or earlier to a slot, and slots are never freed.
            let hazard = unsafe { &*local.hazard.get() };
            // ORDERING: Relaxed; only this thread stores to it.
            (hazard.load(Ordering::Relaxed).is_null().then_some(hazard), due)
        })
    }

    /// Has this thread look at the clock at its evaluation after the next.
    pub(crate) fn tick_soon() {
        // 0 stays: it may mean that there is no slot yet.
        LOCAL.with(|local| local.left.set(local.left.get().min(1)));
    }

    fn claim(exit: &Exit) -> &'static Slot {
        let me = incarnation();
        let free = SLOTS.iter().find(|slot| slot.claim(me));
        let slot = free.unwrap_or_else(|| SLOTS.push(Slot::new(me, ptr::null_mut())));
        exit.0.set(Some(slot));
        slot
    }

    /// A hazard for an evaluation inside another of the same thread, or in a thread that is ending. It holds `pointer`
    /// already; protect and release it like any other.
    #[cold]
    pub(crate) fn overflow_hazard(pointer: *mut ()) -> &'static Hazard {
        let free = OVERFLOW.iter().find(|slot| take(&slot.hazard, pointer));
        &free.unwrap_or_else(|| OVERFLOW.push(Slot::new(0, pointer))).hazard
    }

    /// Whether a thread of this process, or one that a fork took away, may be using `pointer`; after a heavy fence.
    pub(crate) fn slots_hold<T>(pointer: *mut T) -> bool {
        // A slot pushed after the fence holds nothing old.
        super::holds(SLOTS.iter().chain(OVERFLOW.iter()).map(|slot| &slot.hazard), pointer)
    }

    #[cfg(test)]
    pub(crate) fn slot_count() -> usize {
        SLOTS.iter().count()
    }

    /// In a forked child: frees the slots of the threads that stayed behind in the parent.
    ///
    /// Only the thread that went through the fork knows which slot is not one of those, so others do nothing.
    pub(crate) fn forget_threads_lost_by_fork() {
        let me = incarnation();
        // ORDERING: Relaxed; only the main thread goes on from here, and it alone stores.
        if FORGOTTEN_IN.load(Ordering::Relaxed) == me || !is_main_thread() {
            return;
        }
        // ORDERING: Relaxed; read by this thread only.
        FORGOTTEN_IN.store(me, Ordering::Relaxed);
        let mine = LOCAL.with(|local| local.hazard.get());
        for slot in SLOTS.iter() {
            // ORDERING: Relaxed; a slot of another process' thread is stored to by nobody but us.
            let owner = slot.owner.load(Ordering::Relaxed);
            if ptr::eq(&raw const slot.hazard, mine) {
                // ORDERING: Relaxed; compared by this thread only.
                slot.owner.store(me, Ordering::Relaxed);
            } else if owner != 0 && owner != me {
                // ORDERING: Relaxed; the thread that stored it doesn't exist here.
                slot.hazard.store(ptr::null_mut(), Ordering::Relaxed);
                slot.give_back();
            }
        }
    }

    static FENCES: FenceMode = FenceMode { mode: AtomicU64::new(UNDECIDED), held_until: AtomicU64::new(0) };
    const HOLD_NS: u64 = 1_000_000_000;

    #[inline(always)]
    pub(crate) fn light_fence() {
        // ORDERING: Relaxed; for a thread that finds the mode before last, see the head of the file.
        if FENCES.mode.load(Ordering::Relaxed) == ASYMMETRIC {
            // ORDERING: L; pairs with membarrier in heavy_fence.
            compiler_fence(Ordering::SeqCst);
        } else {
            // ORDERING: L; pairs with the fence in heavy_fence.
            fence(Ordering::SeqCst);
        }
    }

    /// Decides how the fences are made, as a reader is opened. `asymmetric: false` keeps membarrier out of this process.
    pub(crate) fn register_fences(asymmetric: bool) {
        // ORDERING: Relaxed; the mode stands for itself.
        match FENCES.mode.load(Ordering::Relaxed) {
            ASYMMETRIC if !asymmetric => become_symmetric(),
            UNDECIDED => {
                let mode = if asymmetric && membarrier(REGISTER) { ASYMMETRIC } else { SYMMETRIC };
                // ORDERING: Relaxed; whoever opens a reader goes through here, and uses it after.
                let _ = FENCES.mode.compare_exchange(UNDECIDED, mode, Ordering::Relaxed, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// The scan's side. False where nothing may be freed for now.
    pub(crate) fn heavy_fence() -> bool {
        // ORDERING: H; pairs with light_fence.
        fence(Ordering::SeqCst);
        if FENCES.symmetric_since().is_none() {
            // A child need not have inherited the registration.
            if membarrier(EXPEDITED) || (membarrier(REGISTER) && membarrier(EXPEDITED)) {
                return true;
            }
            become_symmetric();
        }
        FENCES.symmetric_since().is_none_or(|since| clock::monotonic_ns() >= since)
    }

    fn become_symmetric() {
        FENCES.become_symmetric(clock::monotonic_ns() + HOLD_NS);
    }

    const EXPEDITED: libc::c_int = libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED;
    const REGISTER: libc::c_int = libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: membarrier touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }
}

/// The hazards and the lock by themselves, and the reader's whole way from a published record to the freed old node.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::store::latch::Latch;
    use crate::store::version;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    const READERS: usize = 2;

    /// A generation whose memory is "freed" by being written to: loom then finds any reader that is not done with it, or
    /// that had not been shown it.
    struct Node {
        version: u64,
        content: UnsafeCell<u64>,
    }

    impl Node {
        fn new(version: u64) -> *mut Node {
            let node = Node { version, content: UnsafeCell::new(0) };
            // A write, so that loom asks of every read whether it was shown it.
            // SAFETY: nobody else has it yet.
            node.content.with_mut(|content| unsafe { *content = 10 + version });
            Box::into_raw(Box::new(node))
        }

        /// Reads the node a `protect` gave.
        fn check(node: *mut Node) -> u64 {
            // SAFETY: the model frees the memory only at its end.
            let node = unsafe { &*node };
            // SAFETY: loom checks that nobody writes at the same time.
            let content = node.content.with(|content| unsafe { *content });
            assert_eq!(content, 10 + node.version, "read after it was freed");
            node.version
        }

        fn free(node: *mut Node) {
            // SAFETY: the model frees the memory only at its end.
            let node = unsafe { &*node };
            // SAFETY: loom checks that nobody reads at the same time.
            node.content.with_mut(|content| unsafe { *content = 0 });
        }
    }

    struct Domain {
        current: AtomicPtr<Node>,
        /// Stored to between the replacement and the heavy fence, and loaded by readers: loom changes threads at atomic
        /// operations only, and so would never let a reader in between the two.
        between: AtomicU64,
        slots: [Hazard; READERS],
    }

    impl Domain {
        fn new() -> Self {
            let slots = std::array::from_fn(|_| Hazard::new(ptr::null_mut()));
            Domain { current: AtomicPtr::new(Node::new(0)), between: AtomicU64::new(0), slots }
        }

        fn protect(&self, slot: usize) -> *mut Node {
            let node = protect(&self.current, &self.slots[slot]);
            self.between.load(Ordering::Relaxed);
            node
        }

        /// Replaces and frees if nobody is inside; gives what could not be freed yet.
        fn swap(&self, new: *mut Node) -> Option<*mut Node> {
            let old = replace(&self.current, new);
            self.between.store(1, Ordering::Relaxed);
            self.try_free(old).then_some(old)
        }

        /// False once it is freed.
        fn try_free(&self, old: *mut Node) -> bool {
            heavy_fence();
            let held = holds(self.slots.iter(), old);
            if !held {
                Node::free(old);
            }
            held
        }
    }

    // Nodes are leaked: a model run has a handful of a few bytes each, and a run ends with the process.

    #[test]
    fn loom_reclaim() {
        loom::model(|| {
            let domain = Arc::new(Domain::new());
            let readers: Vec<_> = (0..READERS)
                .map(|slot| {
                    let domain = Arc::clone(&domain);
                    loom::thread::spawn(move || {
                        let mut last = 0;
                        // The first one comes back, so that its slot goes from one node to the next.
                        for _ in 0..2 - slot {
                            let node = domain.protect(slot);
                            let version = Node::check(node);
                            assert!(version >= last, "went back");
                            last = version;
                            release(&domain.slots[slot]);
                        }
                    })
                })
                .collect();
            let left = domain.swap(Node::new(1));
            for reader in readers {
                reader.join().unwrap();
            }
            assert!(left.is_none_or(|old| !domain.try_free(old)), "nobody is left inside");
        });
    }

    /// The light fence is none here: what a replacement shows, it shows by itself.
    #[test]
    fn loom_reclaim_shown_without_a_fence() {
        modelled::FOR_COMPILER_ONLY.set(true);
        loom::model(|| {
            let domain = Arc::new(Domain::new());
            let readers: Vec<_> = (0..READERS)
                .map(|slot| {
                    let domain = Arc::clone(&domain);
                    loom::thread::spawn(move || {
                        Node::check(domain.protect(slot));
                        release(&domain.slots[slot]);
                    })
                })
                .collect();
            replace(&domain.current, Node::new(1));
            for reader in readers {
                reader.join().unwrap();
            }
        });
        modelled::FOR_COMPILER_ONLY.set(false);
    }

    /// One hazard for two evaluations inside others, of different threads.
    #[test]
    fn loom_reclaim_shared_hazard() {
        loom::model(|| {
            let domain = Arc::new(Domain::new());
            let readers: Vec<_> = (0..READERS)
                .map(|_| {
                    let domain = Arc::clone(&domain);
                    loom::thread::spawn(move || {
                        // ORDERING: Relaxed; it only has to be something that is not null.
                        if take(&domain.slots[0], domain.current.load(Ordering::Relaxed).cast()) {
                            Node::check(domain.protect(0));
                            release(&domain.slots[0]);
                        }
                    })
                })
                .collect();
            domain.swap(Node::new(1));
            for reader in readers {
                reader.join().unwrap();
            }
        });
    }

    #[test]
    fn loom_slot_changes_hands() {
        loom::model(|| {
            let shared = Arc::new((Slot::new(0, ptr::null_mut()), UnsafeCell::new(0u32)));
            let work = |shared: &(Slot, UnsafeCell<u32>)| {
                if shared.0.claim(1) {
                    // SAFETY: loom checks that nobody else is here.
                    shared.1.with_mut(|uses| unsafe { *uses += 1 });
                    shared.0.give_back();
                }
            };
            let others = [(); 2].map(|()| {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || work(&shared))
            });
            work(&shared);
            for other in others {
                other.join().unwrap();
            }
        });
    }

    /// Who finds the fences changed waits until what was read before has been left.
    #[test]
    fn loom_fence_mode() {
        loom::model(|| {
            let mode = || FenceMode { mode: AtomicU64::new(ASYMMETRIC), held_until: AtomicU64::new(0) };
            let fences = Arc::new(mode());
            let scans: Vec<_> = (0..2)
                .map(|_| {
                    let fences = Arc::clone(&fences);
                    loom::thread::spawn(move || assert!(fences.symmetric_since().is_none_or(|since| since == 7)))
                })
                .collect();
            fences.become_symmetric(7);
            for scan in scans {
                scan.join().unwrap();
            }
        });
    }

    /// `Reader::replace`: who sees the private page's new version finds what it stands for, without a fence on either side.
    #[test]
    fn loom_private_replace() {
        modelled::FOR_COMPILER_ONLY.set(true);
        loom::model(|| {
            let shared = Arc::new((AtomicU64::new(0), Domain::new()));
            let readers: Vec<_> = (0..READERS)
                .map(|slot| {
                    let shared = Arc::clone(&shared);
                    loom::thread::spawn(move || {
                        let (page, domain) = &*shared;
                        let newest = version::newest(page);
                        assert!(Node::check(domain.protect(slot)) >= newest, "an older one than the page says");
                        release(&domain.slots[slot]);
                    })
                })
                .collect();
            let (page, domain) = &*shared;
            replace(&domain.current, Node::new(1));
            version::advance(page);
            for reader in readers {
                reader.join().unwrap();
            }
        });
        modelled::FOR_COMPILER_ONLY.set(false);
    }

    /// A hazard that goes straight from one node to the next, as in a retry of `protect`.
    #[test]
    fn loom_reclaim_hazard_moves_on() {
        loom::model(|| {
            let domain = Arc::new(Domain::new());
            let reader = {
                let domain = Arc::clone(&domain);
                loom::thread::spawn(move || {
                    for _ in 0..2 {
                        Node::check(domain.protect(0));
                    }
                    release(&domain.slots[0]);
                })
            };
            domain.swap(Node::new(1));
            reader.join().unwrap();
        });
    }

    #[test]
    fn loom_lock() {
        loom::model(|| {
            let shared = Arc::new((Lock::new(), UnsafeCell::new(0u32)));
            let work = |shared: &(Lock, UnsafeCell<u32>)| {
                if shared.0.try_lock(1) == Some(Locked::Free) {
                    // SAFETY: loom checks that nobody else is here.
                    shared.1.with_mut(|count| unsafe { *count += 1 });
                    shared.0.unlock();
                }
            };
            let other = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || work(&shared))
            };
            work(&shared);
            other.join().unwrap();
            assert_eq!(shared.0.try_lock(1), Some(Locked::Free));
            assert_eq!(shared.0.try_lock(1), None, "held by this process");
            assert_eq!(shared.0.try_lock(2), Some(Locked::Orphaned), "held by a thread of another");
        });
    }

    /// `Reader::enter` and `Held::follow` in small: publisher and two readers, who map what the latch names and read it in two
    /// parts, which need not be the same thread's.
    struct Store {
        version: AtomicU64,
        records: [[AtomicU64; 2]; 2],
        /// What a generation's segment holds; 0 before it is written.
        segments: [AtomicU64; 2],
        domain: Domain,
        lock: Lock,
        /// The version whose segment is being read.
        incoming: UnsafeCell<u64>,
        retired: UnsafeCell<Vec<*mut Node>>,
    }

    impl Store {
        fn new() -> Self {
            let record = |word| [AtomicU64::new(word), AtomicU64::new(word)];
            Store {
                version: AtomicU64::new(0),
                records: [record(0), record(0)],
                segments: [AtomicU64::new(10), AtomicU64::new(0)],
                domain: Domain::new(),
                lock: Lock::new(),
                incoming: UnsafeCell::new(0),
                retired: UnsafeCell::new(Vec::new()),
            }
        }

        fn latch(&self) -> Latch<'_, 2> {
            Latch { version: &self.version, records: [&self.records[0], &self.records[1]] }
        }

        fn publish(&self, version: u64) {
            let segment = &self.segments[usize::try_from(version).unwrap()];
            // ORDERING: Relaxed; the latch makes it visible, as it does the segment's file.
            segment.store(10 + version, Ordering::Relaxed);
            assert_eq!(self.latch().write(&[version; 2]), version);
        }

        fn enter(&self, slot: usize) -> u64 {
            let hazard = &self.domain.slots[slot];
            let mut node = protect(&self.domain.current, hazard);
            if version::newest(&self.version) != Node::check(node) {
                release(hazard);
                self.follow();
                node = protect(&self.domain.current, hazard);
            }
            let version = Node::check(node);
            release(hazard);
            version
        }

        fn follow(&self) {
            if self.lock.try_lock(1).is_none() {
                return;
            }
            let current = self.domain.current.load(Ordering::Relaxed);
            if let Some((version, record)) = self.latch().try_read()
                && version != Node::check(current)
            {
                assert_eq!(record, [version; 2], "the record of this version");
                let segment = &self.segments[usize::try_from(version).unwrap()];
                // ORDERING: Relaxed; the latch made it visible.
                assert_eq!(segment.load(Ordering::Relaxed), 10 + version, "the segment it names is written");
                // SAFETY: loom checks that only the holder of the lock is here.
                if self.incoming.with_mut(|incoming| unsafe { std::mem::replace(&mut *incoming, version) }) != version {
                    return self.lock.unlock();
                }
                let left = self.domain.swap(Node::new(version));
                // SAFETY: loom checks that only the holder of the lock is here.
                self.retired.with_mut(|retired| unsafe { (*retired).extend(left) });
            }
            self.lock.unlock();
        }
    }

    #[test]
    fn loom_publish_to_refresh() {
        loom::model(|| {
            let store = Arc::new(Store::new());
            let readers: Vec<_> = (0..READERS)
                .map(|slot| {
                    let store = Arc::clone(&store);
                    loom::thread::spawn(move || store.enter(slot))
                })
                .collect();
            store.publish(1);
            for reader in readers {
                assert!(reader.join().unwrap() <= 1);
            }
            store.enter(0);
            assert_eq!(store.enter(0), 1, "nobody is in the way any more");
            // SAFETY: the readers have ended.
            let retired = store.retired.with_mut(|retired| unsafe { std::mem::take(&mut *retired) });
            assert!(retired.iter().all(|&old| !store.domain.try_free(old)), "nobody is left inside");
        });
    }
}
