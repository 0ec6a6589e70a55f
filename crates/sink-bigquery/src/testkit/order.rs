//! Who dies where, and whose call comes when.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use super::FakeBigQuery;
use super::fault::FakeFault;
use super::state::{Inner, State};

/// A call that is never answered.
#[derive(Debug)]
pub(super) struct Death {
    at: u64,
    applied: bool,
    met: Arc<Notify>,
}

/// Whose REST calls are let through in which order.
#[derive(Debug)]
pub(super) struct Turns {
    /// What each of them sends as `Authorization`.
    clients: [String; 2],
    ended: [bool; 2],
    schedule: VecDeque<usize>,
    moved: Arc<Notify>,
}

impl Inner {
    pub(super) fn dies(&mut self) -> Option<FakeFault> {
        let death = self.death.take_if(|death| death.at == self.all_calls)?;
        death.met.notify_one();
        Some(if death.applied { FakeFault::Stall } else { FakeFault::Hang })
    }
}

impl FakeBigQuery {
    /// Never answers the call that makes [`all_calls`](Self::all_calls) `at`, behind its effect or without one. What comes back is
    /// told when that happens: then it is time to drop whoever waits for the answer.
    pub fn die_at(&self, at: u64, applied: bool) -> Arc<Notify> {
        let met = Arc::new(Notify::new());
        self.state.lock().death = Some(Death { at, applied, met: Arc::clone(&met) });
        met
    }

    /// Lets the REST calls of two clients, known by their tokens, through in this order; behind its end, as they come.
    pub fn order_calls(&self, tokens: [&str; 2], schedule: impl IntoIterator<Item = usize>) {
        let clients = tokens.map(|token| format!("Bearer {token}"));
        let (schedule, moved) = (schedule.into_iter().collect(), Arc::new(Notify::new()));
        self.state.lock().turns = Some(Turns { clients, ended: [false; 2], schedule, moved });
    }

    /// One of the two makes no further calls: the other one does not wait for it.
    pub fn client_ended(&self, client: usize) {
        if let Some(turns) = &mut self.state.lock().turns {
            if let Some(ended) = turns.ended.get_mut(client) {
                *ended = true;
            }
            turns.moved.notify_waiters();
        }
    }
}

/// Waits for the caller's turn.
pub(super) async fn wait(state: &State, authorization: Option<&str>) {
    loop {
        let moved = {
            let mut inner = state.lock();
            let Some(turns) = &mut inner.turns else { return };
            let Some(me) = turns.clients.iter().position(|client| Some(client.as_str()) == authorization)
            else {
                return;
            };
            while turns.schedule.pop_front_if(|next| turns.ended.get(*next) == Some(&true)).is_some() {}
            if turns.schedule.front().is_none_or(|next| *next == me) {
                turns.schedule.pop_front();
                turns.moved.notify_waiters();
                return;
            }
            // Before the lock is given back: nothing that is told from here on is missed.
            Arc::clone(&turns.moved).notified_owned()
        };
        moved.await;
    }
}
