//! Budgets: never over, nobody forgotten, first come first served, and everything given back.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use crate::budget::{InFlight, Permit, Pool};
use crate::sync::explore::{explore, spawn, yield_now};

const KIB: u64 = 1024;

/// What all tasks of a test hold, counted by themselves.
#[derive(Clone, Debug, Default)]
struct Held(Arc<AtomicU64>);

impl Held {
    fn take(&self, permit: &Permit, pool: &Pool) {
        let held = self.0.fetch_add(permit.bytes(), SeqCst) + permit.bytes();
        assert!(held <= pool.capacity(), "{held} bytes of {}", pool.capacity());
    }

    fn give(&self, permit: Permit) {
        self.0.fetch_sub(permit.bytes(), SeqCst);
        drop(permit);
    }

    fn nothing(&self, pool: &Pool) {
        assert_eq!((self.0.load(SeqCst), pool.used(), pool.waiting()), (0, 0, 0));
    }
}

/// Requests small, large, of nothing and over the pool: none is forgotten, together they never hold more than there is,
/// and whoever asked for more than the pool is alone with it.
#[test]
fn a_pool_is_never_over_and_forgets_nobody() {
    explore(async || {
        let (pool, held) = (Pool::new(4 * KIB), Held::default());
        let tasks = [0, 1, KIB + 1, 3 * KIB, 1 << 40].map(|bytes| {
            let (pool, held) = (pool.clone(), held.clone());
            spawn(async move {
                for _ in 0..2 {
                    let permit = pool.acquire(bytes).await;
                    held.take(&permit, &pool);
                    assert!(permit.bytes() >= bytes.min(pool.capacity()).max(1));
                    assert!(pool.used() >= permit.bytes());
                    yield_now().await;
                    held.give(permit);
                }
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        held.nothing(&pool);
    });
}

/// Who gives up waiting takes nothing, and does not stand in the way of who waits behind.
#[test]
fn a_wait_that_is_given_up_takes_nothing() {
    explore(async || {
        let (pool, held) = (Pool::new(4 * KIB), Held::default());
        let first = pool.acquire(3 * KIB).await;
        held.take(&first, &pool);
        let gives_up = spawn({
            let (pool, held) = (pool.clone(), held.clone());
            async move {
                let acquired = {
                    let mut acquiring = pin!(pool.acquire(4 * KIB));
                    let mut polls = 2;
                    std::future::poll_fn(|context| match acquiring.as_mut().poll(context) {
                        Poll::Ready(permit) => Poll::Ready(Some(permit)),
                        Poll::Pending if polls == 0 => Poll::Ready(None),
                        Poll::Pending => {
                            polls -= 1;
                            context.waker().wake_by_ref();
                            Poll::Pending
                        }
                    })
                    .await
                };
                if let Some(permit) = acquired {
                    held.take(&permit, &pool);
                    held.give(permit);
                }
            }
        });
        let behind = [2 * KIB, KIB].map(|bytes| {
            let (pool, held) = (pool.clone(), held.clone());
            spawn(async move {
                let permit = pool.acquire(bytes).await;
                held.take(&permit, &pool);
                yield_now().await;
                held.give(permit);
            })
        });
        yield_now().await;
        held.give(first);
        gives_up.await.unwrap();
        for task in behind {
            task.await.unwrap();
        }
        held.nothing(&pool);
    });
}

/// Requests that cannot share the pool are served in the order they came, and whoever comes later, with however little,
/// waits behind them: a large batch is not starved by small ones.
#[test]
fn first_come_is_first_served() {
    explore(async || {
        let pool = Pool::new(4 * KIB);
        let served = Arc::new(Mutex::new(Vec::new()));
        let whole = pool.acquire(4 * KIB).await;
        let mut tasks = Vec::new();
        for (place, bytes) in [3 * KIB, 4 * KIB, 3 * KIB].into_iter().enumerate() {
            let (owned, served) = (pool.clone(), Arc::clone(&served));
            let mut waits = Box::pin(async move {
                let permit = owned.acquire(bytes).await;
                served.lock().unwrap().push(place);
                yield_now().await;
                drop(permit);
            });
            // In the queue before the next one is.
            assert!(futures::poll!(waits.as_mut()).is_pending());
            tasks.push(spawn(waits));
        }
        assert_eq!(pool.waiting(), 3);
        tasks.push(spawn({
            let (pool, served) = (pool.clone(), Arc::clone(&served));
            async move {
                let permit = pool.acquire(2 * KIB).await;
                served.lock().unwrap().push(3);
                drop(permit);
            }
        }));
        assert!(pool.try_acquire(1).is_none());
        drop(whole);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3]);
        assert_eq!((pool.used(), pool.waiting()), (0, 0));
    });
}

/// Permits are merged in one task and dropped in another, and a lane's gauge counts each batch while it lives.
#[test]
fn merged_permits_and_gauges_come_back_to_nothing() {
    explore(async || {
        let (pool, gauge) = (Pool::new(8 * KIB), Arc::new(InFlight::default()));
        let tasks = [KIB, 2 * KIB, 3 * KIB].map(|bytes| {
            let (pool, gauge) = (pool.clone(), Arc::clone(&gauge));
            spawn(async move {
                let mut permit = pool.acquire(bytes).await.counted_in(&gauge, bytes);
                assert!((1..=3).contains(&gauge.batches()) && gauge.bytes() <= 6 * KIB);
                let more = pool.try_acquire(KIB);
                let merged = u64::from(more.is_some()) * KIB;
                permit.merge(more.unwrap_or_else(Permit::unlimited));
                assert_eq!(permit.bytes(), bytes + merged);
                spawn(async move { drop(permit) }).await.unwrap();
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!((gauge.batches(), gauge.bytes(), pool.used(), pool.waiting()), (0, 0, 0, 0));
    });
}
