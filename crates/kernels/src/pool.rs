//! A fork-join pool: the caller and its workers take tasks from two ends of one row.
//!
//! The caller begins with the first task, a worker with the last, so that neighbouring tasks of
//! one job, and the same parts of the next, stay with one thread and its caches.
//! Which thread runs a task is left to chance, so a task's result must depend on its number
//! alone; then nothing depends on the number of threads. A worker spins for a few tens of
//! microseconds after a job (fork and join then cost well under a microsecond) and sleeps
//! after that. The caller waits only for workers that have entered the job: one that the system
//! has suspended before it could enter is not missed, since the caller takes all tasks itself.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an idle worker spins before it sleeps: about what waking it costs.
const SPIN: Duration = Duration::from_micros(50);
/// How long the caller spins for a worker's last task before it offers its core to others.
const JOIN_SPIN: Duration = Duration::from_micros(20);

// `Shared::state` packs: job number (high 32 bits), CLOSED, and how many workers are inside.
const JOB: u64 = 1 << 32;
const CLOSED: u64 = 1 << 31;
const INSIDE: u64 = CLOSED - 1;

type Body<'a> = dyn Fn(usize) + Sync + 'a;

/// The job that is running. Written by the caller only while it is closed and empty.
#[derive(Clone, Copy)]
struct Job {
    body: *const Body<'static>,
}

#[repr(align(128))]
struct Shared {
    state: AtomicU64,
    tasks: Ends,
    job: std::cell::UnsafeCell<Job>,
    stopping: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written by the one caller that holds `Pool::running`, while `state` says
// closed with nobody inside, and read by workers only after they entered an open job.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is followed only while the caller waits inside `Pool::run`.
unsafe impl Send for Shared {}

struct Worker {
    asleep: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

/// A pool of threads; see the module's description.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    running: AtomicBool,
}

thread_local! {
    /// Whether this thread is inside a task: a run from there executes inline.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// Threads to use when the user says nothing: what the affinity mask and cgroup limits allow.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Pool {
    /// A pool of `threads` threads, the caller of [`Pool::run`] included.
    pub fn new(threads: usize) -> Pool {
        assert!(threads > 0, "a pool needs at least one thread");
        let shared = Arc::new(Shared {
            state: AtomicU64::new(CLOSED),
            tasks: Ends::new(0),
            job: std::cell::UnsafeCell::new(Job { body: &|_| () }),
            stopping: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let workers = (1..threads).map(|number| spawn_worker(&shared, number)).collect();
        Pool { shared, workers, running: AtomicBool::new(false) }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(0)`, …, `body(tasks − 1)`, each exactly once, and returns when all are done.
    ///
    /// From inside a task, or while another thread's run is going on, all of them run inline.
    /// If a task panics, no further ones are started and the panic goes on in the caller.
    pub fn run(&self, tasks: usize, body: &Body<'_>) {
        let inline = tasks <= 1 || self.workers.is_empty() || IN_TASK.get();
        if inline || self.running.swap(true, Ordering::Acquire) {
            (0..tasks).for_each(body);
            return;
        }
        self.open(tasks, body);
        let outcome = in_task(|| self.shared.tasks.each(Side::Front, body));
        if outcome.is_err() {
            self.shared.tasks.set(0);
        }
        self.close();
        let theirs = lock(&self.shared.panic).take();
        self.running.store(false, Ordering::Release);
        if let Some(payload) = outcome.err().or(theirs) {
            resume_unwind(payload);
        }
    }

    /// Publishes a job and wakes who sleeps.
    fn open(&self, tasks: usize, body: &Body<'_>) {
        let shared = &*self.shared;
        // SAFETY: the job is closed and empty, so no worker reads it. The lifetime of `body` is
        // erased: `close` returns only when no worker is inside, and none can enter after.
        unsafe {
            let body = std::mem::transmute::<&Body<'_>, *const Body<'static>>(body);
            *shared.job.get() = Job { body };
        }
        shared.tasks.set(tasks);
        let job = (shared.state.load(Ordering::Relaxed) & !(JOB - 1)).wrapping_add(JOB);
        shared.state.store(job, Ordering::SeqCst);
        for worker in &self.workers {
            if worker.asleep.load(Ordering::SeqCst) {
                worker.handle.thread().unpark();
            }
        }
    }

    /// Lets no further worker in and waits for those inside.
    fn close(&self) {
        let state = &self.shared.state;
        let mut seen = state.fetch_or(CLOSED, Ordering::AcqRel);
        let mut patience = Patience::new(JOIN_SPIN);
        while seen & INSIDE != 0 {
            if patience.is_over() {
                std::thread::yield_now();
            }
            seen = state.load(Ordering::Acquire);
        }
    }

    /// Cuts `data` into chunks of `chunk` values (the last may be shorter) and calls
    /// `body(number, chunk)` for each, in parallel.
    pub fn for_each_chunk<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        body: &(dyn Fn(usize, &mut [T]) + Sync),
    ) {
        self.zip_chunks([data], chunk, &|number, [part]| body(number, part));
    }

    /// The same for several slices of one length, cut alike.
    pub fn zip_chunks<T: Send, const S: usize>(
        &self,
        data: [&mut [T]; S],
        chunk: usize,
        body: &(dyn Fn(usize, [&mut [T]; S]) + Sync),
    ) {
        let len = data.first().map_or(0, |slice| slice.len());
        assert!(chunk > 0, "chunks need at least one value");
        assert!(data.iter().all(|slice| slice.len() == len), "slices differ in length");
        let slices = data.map(Disjoint::new);
        self.run(len.div_ceil(chunk), &|number| {
            let range = number * chunk..len.min((number + 1) * chunk);
            // SAFETY: each number is handed out once, so no two ranges overlap.
            body(number, slices.each_ref().map(|slice| unsafe { slice.range(range.clone()) }));
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.handle.thread().unpark();
            // A worker cannot panic outside a task, and a task's panic was passed on.
            let _ = worker.handle.join();
        }
    }
}

/// A mutable slice that several tasks write to, each to a part of its own.
pub struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `range`, whose caller answers for disjointness.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
// SAFETY: as a `&mut [T]`.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Takes the slice for as long as the parts are in use.
    pub fn new(data: &'a mut [T]) -> Disjoint<'a, T> {
        Disjoint { start: data.as_mut_ptr(), len: data.len(), lifetime: PhantomData }
    }

    /// Length of the whole slice.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the whole slice is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first value's address, for kernels that walk strided tiles.
    pub fn as_mut_ptr(&self) -> *mut T {
        self.start
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// No two parts in use at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn range(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part outside the slice");
        // SAFETY: inside the slice; disjointness is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Spins with the processor's hint until its time is over.
struct Patience {
    spins: u32,
    since: Option<Instant>,
    limit: Duration,
}

impl Patience {
    fn new(limit: Duration) -> Patience {
        Patience { spins: 0, since: None, limit }
    }

    /// Spins once; true when the limit has passed. Looks at the clock every 64 spins only.
    fn is_over(&mut self) -> bool {
        std::hint::spin_loop();
        self.spins = self.spins.wrapping_add(1);
        if !self.spins.is_multiple_of(64) {
            return false;
        }
        self.since.get_or_insert_with(Instant::now).elapsed() > self.limit
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` marked as inside a task; a panic is caught.
fn in_task(work: impl FnOnce()) -> Result<(), Box<dyn Any + Send>> {
    IN_TASK.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    IN_TASK.set(false);
    outcome
}

/// From which end of the row a thread takes tasks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Front,
    Back,
}

impl Side {
    /// That of the thread with a number, of which the caller has 0.
    pub fn of(thread: usize) -> Side {
        if thread.is_multiple_of(2) { Side::Front } else { Side::Back }
    }
}

/// A row of tasks that threads take from both ends: in the lower half the first that is left, in
/// the upper one the end.
pub(crate) struct Ends(AtomicU64);

const END: u64 = 1 << 32;

impl Ends {
    pub fn new(tasks: usize) -> Ends {
        let ends = Ends(AtomicU64::new(0));
        ends.set(tasks);
        ends
    }

    /// Begins again, with so many.
    fn set(&self, tasks: usize) {
        let tasks = u32::try_from(tasks).expect("a job has fewer than 2³² tasks");
        self.0.store(u64::from(tasks) * END, Ordering::Relaxed);
    }

    /// Calls `body` with one task after another until none are left.
    pub fn each(&self, side: Side, mut body: impl FnMut(usize)) {
        while let Some(task) = self.take(side) {
            body(task);
        }
    }

    fn take(&self, side: Side) -> Option<usize> {
        let taken = self.0.try_update(Ordering::Relaxed, Ordering::Relaxed, |ends| {
            let left = ends % END < ends / END;
            left.then_some(if side == Side::Front { ends + 1 } else { ends.wrapping_sub(END) })
        });
        let ends = taken.ok()?;
        Some(if side == Side::Front { ends % END } else { ends / END - 1 } as usize)
    }
}

fn spawn_worker(shared: &Arc<Shared>, number: usize) -> Worker {
    let asleep = Arc::new(AtomicBool::new(false));
    let (shared, flag) = (Arc::clone(shared), Arc::clone(&asleep));
    let handle = std::thread::Builder::new()
        .name(format!("heldout-{number}"))
        .spawn(move || work(&shared, &flag, Side::of(number)))
        .expect("the system refused to start a thread");
    Worker { asleep, handle }
}

/// A worker's life: wait for a job it has not seen, enter it, take tasks, leave.
fn work(shared: &Shared, asleep: &AtomicBool, side: Side) {
    let mut seen = CLOSED;
    while let Some(state) = wait_for_job(shared, asleep, seen) {
        seen = state & !(JOB - 1);
        let entered = shared.state.try_update(Ordering::AcqRel, Ordering::Relaxed, |now| {
            (now & !(JOB - 1) == seen && now & CLOSED == 0).then_some(now + 1)
        });
        if entered.is_err() {
            continue;
        }
        // SAFETY: entered an open job: the caller has written it and waits until we leave.
        let body = unsafe { &*(*shared.job.get()).body };
        if let Err(payload) = in_task(|| shared.tasks.each(side, body)) {
            shared.tasks.set(0);
            lock(&shared.panic).get_or_insert(payload);
        }
        shared.state.fetch_sub(1, Ordering::Release);
    }
}

/// The state once it shows an open job other than `seen`; `None` when the pool is dropped.
fn wait_for_job(shared: &Shared, asleep: &AtomicBool, seen: u64) -> Option<u64> {
    let mut patience = Patience::new(SPIN);
    loop {
        let state = shared.state.load(Ordering::Acquire);
        if state & CLOSED == 0 && state & !(JOB - 1) != seen {
            return Some(state);
        }
        if shared.stopping.load(Ordering::Relaxed) {
            return None;
        }
        if !patience.is_over() {
            continue;
        }
        asleep.store(true, Ordering::SeqCst);
        let state = shared.state.load(Ordering::SeqCst);
        let idle = state & CLOSED != 0 || state & !(JOB - 1) == seen;
        if idle && !shared.stopping.load(Ordering::SeqCst) {
            std::thread::park();
        }
        asleep.store(false, Ordering::SeqCst);
        patience = Patience::new(SPIN);
    }
}
