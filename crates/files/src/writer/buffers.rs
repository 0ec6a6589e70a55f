//! Large buffers, used again.
//!
//! Freeing and allocating megabytes costs a page fault per 4 KiB and leaves holes in the allocator's arenas, which
//! show as memory no budget counts. So buffers wait here between two uses. Whoever takes one holds a permit for it; a
//! new one is made only after the idle ones that do not fit are gone, so that there are never more bytes of buffers
//! than were paid for at some moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The idle buffers of a sink.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Vec<u8>>,
    idle_bytes: usize,
    /// Publications under way.
    users: usize,
}

impl State {
    fn clear(&mut self) {
        self.idle = Vec::new();
        self.idle_bytes = 0;
    }
}

impl Buffers {
    /// A buffer of at least `length` bytes with any content, but not much larger.
    pub(super) fn take(&self, length: usize) -> Vec<u8> {
        let fits = |buffer: &Vec<u8>| buffer.len() >= length && buffer.len() <= length + length / 4;
        if length >= Self::SMALL {
            let mut state = self.state();
            if let Some(index) = state.idle.iter().position(fits) {
                let buffer = state.idle.swap_remove(index);
                state.idle_bytes -= buffer.len();
                return buffer;
            }
            state.clear();
        }
        vec![0; length]
    }

    /// Gives a buffer back whose permit is still held.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        let mut state = self.state();
        if buffer.len() >= Self::SMALL && state.idle_bytes + buffer.len() <= Self::IDLE_MAX && state.users > 0
        {
            state.idle_bytes += buffer.len();
            state.idle.push(buffer);
        }
    }

    /// Takes a sent buffer back, if nobody holds a slice of it any more: a client may do so for a moment.
    pub(super) fn reclaim(&self, sent: Bytes) {
        if let Ok(buffer) = sent.try_into_mut() {
            self.give(Vec::from(buffer));
        }
    }

    /// Keeps idle buffers until the last answer is dropped: between publications there are none.
    pub(super) fn in_use(self: &Arc<Self>) -> InUse {
        self.state().users += 1;
        InUse(Arc::clone(self))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Smaller ones are the allocator's business, in bytes.
    const SMALL: usize = 128 << 10;
    /// Most idle bytes.
    const IDLE_MAX: usize = 16 << 20;
}

/// See [`Buffers::in_use`].
#[derive(Debug)]
pub(super) struct InUse(Arc<Buffers>);

impl Drop for InUse {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.users -= 1;
        if state.users == 0 {
            state.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_it_fits_and_is_free() {
        let buffers = Arc::new(Buffers::default());
        let user = buffers.in_use();
        let sent = Bytes::from(buffers.take(1 << 20));
        let address = sent.as_ptr();
        let held = sent.slice(5..6);
        buffers.reclaim(sent.clone());
        assert!(buffers.state().idle.is_empty(), "a slice is still held");
        drop(held);
        buffers.reclaim(sent);
        let again = buffers.take((1 << 20) - 100);
        assert_eq!((again.as_ptr(), again.len()), (address, 1 << 20));
        buffers.give(again);
        assert_eq!(buffers.take(1 << 19).len(), 1 << 19, "one much too large is not used");
        assert_eq!(buffers.state().idle_bytes, 0, "and is gone before another is made");
        for _ in 0..40 {
            buffers.give(vec![0; 1 << 20]);
        }
        assert_eq!(buffers.state().idle_bytes, Buffers::IDLE_MAX);
        drop(user);
        assert_eq!(buffers.state().idle.len(), 0, "nothing is kept between publications");
    }
}
