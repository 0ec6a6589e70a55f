//! What the crate's `sync` is made of here: shuttle's locks and counters, and stand-ins for what Tokio documents.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shuttle::future::batch_semaphore::{BatchSemaphore, Fairness};
pub(crate) use shuttle::sync::Mutex;
pub(crate) use shuttle::sync::atomic::{AtomicU64, AtomicUsize};

/// Time that passes only as others go on.
pub(crate) async fn sleep(_: Duration) {
    shuttle::future::yield_now().await;
}

/// `tokio::sync::Notify`: the waiter of [`notified`](Self::notified) is told by every `notify_waiters` after it was made,
/// and by a `notify_one`, in order, once it is enabled or polled. `notify_one` without a waiter is kept for the next.
#[derive(Debug, Default)]
pub(crate) struct Notify(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    everybody: u64,
    permit: bool,
    waiters: VecDeque<Arc<Mutex<Waiter>>>,
}

#[derive(Debug, Default)]
struct Waiter {
    told: bool,
    waker: Option<Waker>,
}

impl Waiter {
    fn tell(waiter: &Mutex<Self>) {
        let waker = {
            let mut waiter = waiter.lock().unwrap();
            waiter.told = true;
            waiter.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Notify {
    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified { notify: self, since: self.0.lock().unwrap().everybody, waiter: None, done: false }
    }

    pub(crate) fn notify_one(&self) {
        let first = {
            let mut told = self.0.lock().unwrap();
            let first = told.waiters.pop_front();
            told.permit |= first.is_none();
            first
        };
        if let Some(waiter) = first {
            Waiter::tell(&waiter);
        }
    }

    pub(crate) fn notify_waiters(&self) {
        let waiters = {
            let mut told = self.0.lock().unwrap();
            told.everybody += 1;
            std::mem::take(&mut told.waiters)
        };
        for waiter in waiters {
            Waiter::tell(&waiter);
        }
    }
}

pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    since: u64,
    waiter: Option<Arc<Mutex<Waiter>>>,
    done: bool,
}

impl Notified<'_> {
    pub(crate) fn enable(mut self: Pin<&mut Self>) -> bool {
        self.look(None).is_ready()
    }

    fn look(&mut self, waker: Option<&Waker>) -> Poll<()> {
        let mut told = self.notify.0.lock().unwrap();
        let waiter = self.waiter.get_or_insert_with(|| {
            let waiter = Arc::<Mutex<Waiter>>::default();
            if told.everybody == self.since && !told.permit {
                told.waiters.push_back(Arc::clone(&waiter));
            }
            if told.everybody == self.since {
                told.permit = false;
            }
            waiter
        });
        // Not among those who wait: it was told, or never had to wait.
        if !told.waiters.iter().any(|other| Arc::ptr_eq(other, waiter)) {
            self.done = true;
            return Poll::Ready(());
        }
        if let Some(waker) = waker {
            waiter.lock().unwrap().waker = Some(waker.clone());
        }
        Poll::Pending
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.look(Some(context.waker()))
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take().filter(|_| !self.done) else { return };
        let everybody = {
            let mut told = self.notify.0.lock().unwrap();
            told.waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
            told.everybody
        };
        // Told as the one, and gone before it noticed: the next is told in its place.
        if waiter.lock().unwrap().told && everybody == self.since {
            self.notify.notify_one();
        }
    }
}

/// `tokio::sync::Semaphore`: first come, first served.
#[derive(Debug)]
pub(crate) struct Semaphore(BatchSemaphore);

impl Semaphore {
    pub(crate) const MAX_PERMITS: usize = tokio::sync::Semaphore::MAX_PERMITS;

    pub(crate) fn new(permits: usize) -> Self {
        Self(BatchSemaphore::new(permits, Fairness::StrictlyFair))
    }

    pub(crate) fn available_permits(&self) -> usize {
        self.0.available_permits()
    }

    pub(crate) async fn acquire_many_owned(
        self: Arc<Self>,
        permits: u32,
    ) -> Result<OwnedSemaphorePermit, Closed> {
        self.0.acquire(permits as usize).await.map_err(|_| Closed)?;
        Ok(OwnedSemaphorePermit { semaphore: self, permits })
    }

    pub(crate) fn try_acquire_many_owned(
        self: Arc<Self>,
        permits: u32,
    ) -> Result<OwnedSemaphorePermit, Closed> {
        self.0.try_acquire(permits as usize).map_err(|_| Closed)?;
        Ok(OwnedSemaphorePermit { semaphore: self, permits })
    }
}

#[derive(Debug)]
pub(crate) struct Closed;

#[derive(Debug)]
pub(crate) struct OwnedSemaphorePermit {
    semaphore: Arc<Semaphore>,
    permits: u32,
}

impl OwnedSemaphorePermit {
    pub(crate) fn num_permits(&self) -> usize {
        self.permits as usize
    }

    pub(crate) fn merge(&mut self, mut other: Self) {
        assert!(Arc::ptr_eq(&self.semaphore, &other.semaphore), "permits of two semaphores");
        self.permits += std::mem::take(&mut other.permits);
    }
}

impl Drop for OwnedSemaphorePermit {
    fn drop(&mut self) {
        if self.permits > 0 {
            self.semaphore.0.release(self.permits as usize);
        }
    }
}

/// What tests are run by.
pub(crate) mod explore {
    pub(crate) use shuttle::future::{spawn, yield_now};

    /// Runs `test` in as many schedules as `PROPTEST_CASES` says: half of them drawn step by step, half of them with
    /// priorities that change at three places (PCT), which finds what needs a task to be held up for long.
    pub(crate) fn explore<F: Future<Output = ()> + 'static>(test: impl Fn() -> F + Send + Sync + 'static) {
        const SCHEDULES: usize = 600;
        let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
        let half = asked.unwrap_or(SCHEDULES).div_ceil(2);
        let test = std::sync::Arc::new(test);
        for_each_schedule(&test, |run| shuttle::check_random(run, half));
        for_each_schedule(&test, |run| shuttle::check_pct(run, half, 3));
    }

    fn for_each_schedule<F: Future<Output = ()> + 'static, T: Fn() -> F + Send + Sync + 'static>(
        test: &std::sync::Arc<T>,
        check: impl FnOnce(Box<dyn Fn() + Send + Sync>),
    ) {
        let test = std::sync::Arc::clone(test);
        check(Box::new(move || {
            // PCT refuses a test in which there is never a choice.
            let other = spawn(yield_now());
            shuttle::future::block_on(test());
            shuttle::future::block_on(other).unwrap();
        }));
    }
}
