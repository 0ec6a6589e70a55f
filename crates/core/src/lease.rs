//! The fence: held while committing, revoked when the partition goes.

use std::sync::{Arc, PoisonError};

use crate::sync::{Mutex, Notify};

/// The right to change a lane's mark. One per *assignment*, not per process: a partition that was lost and came back
/// has a new lease, and work done under the old one can never use it.
///
/// Clones share the lease.
#[derive(Clone, Debug, Default)]
pub struct Lease(Arc<LeaseState>);

#[derive(Debug, Default)]
struct LeaseState {
    inner: Mutex<Inner>,
    released: Notify,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    ended: bool,
    holders: usize,
}

/// The lease has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the partition is no longer assigned to this process")]
pub struct LeaseEnded;

impl Lease {
    /// A lease that is alive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds the lease until the guard is dropped; [`revoke`](Self::revoke) waits for it.
    ///
    /// # Errors
    /// If the lease has ended.
    pub fn enter(&self) -> Result<LeaseGuard, LeaseEnded> {
        let mut inner = self.0.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.ended {
            return Err(LeaseEnded);
        }
        inner.holders += 1;
        Ok(LeaseGuard(Arc::clone(&self.0)))
    }

    /// Ends the lease at once; holders finish on their own. For partitions that are already somebody else's.
    pub fn end(&self) {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.0.ended.notify_waiters();
    }

    /// Ends the lease and waits until nobody holds it.
    pub async fn revoke(&self) {
        self.end();
        loop {
            let released = self.0.released.notified();
            tokio::pin!(released);
            // Registered before the check, so that a release in between is not missed.
            released.as_mut().enable();
            if self.0.inner.lock().unwrap_or_else(PoisonError::into_inner).holders == 0 {
                return;
            }
            released.await;
        }
    }

    /// Resolves when the lease has ended.
    pub async fn ended(&self) {
        loop {
            let ended = self.0.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.has_ended() {
                return;
            }
            ended.await;
        }
    }

    /// Whether the lease has ended.
    pub fn has_ended(&self) -> bool {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner).ended
    }
}

/// Holds a [`Lease`].
#[derive(Debug)]
pub struct LeaseGuard(Arc<LeaseState>);

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.holders -= 1;
        if inner.holders == 0 {
            self.0.released.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::explore::{explore, spawn};

    #[test]
    fn revoking_waits_for_the_holder_and_admits_no_other() {
        explore(async || {
            let lease = Lease::new();
            let guard = lease.enter().unwrap();
            let revoked = spawn({
                let lease = lease.clone();
                async move { lease.revoke().await }
            });
            lease.ended().await;
            assert!(!revoked.is_finished());
            assert_eq!(lease.enter().unwrap_err(), LeaseEnded);
            drop(guard);
            revoked.await.unwrap();
        });
    }

    #[test]
    fn ending_does_not_wait() {
        explore(async || {
            let lease = Lease::new();
            let _guard = lease.enter().unwrap();
            lease.end();
            assert!(lease.has_ended());
            lease.ended().await;
        });
    }
}
