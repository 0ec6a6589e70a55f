//! One token for everybody, renewed before it expires.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::TokenSource;
use super::http::Failure;
use crate::error::BigQueryError;

/// A way to a token.
#[async_trait]
pub(super) trait TokenFlow: Send + Sync + 'static {
    /// Asks for one, once.
    async fn fetch(&self) -> Result<Granted, Failure>;
}

/// A token, and for how long.
pub(super) struct Granted {
    pub(super) token: SecretString,
    pub(super) lifetime: Duration,
}

/// How often is asked before an error is told.
const ATTEMPTS_MAX: u32 = 3;
/// Before the second attempt; before the third twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// A token is renewed this long before it expires, or at three quarters of its life if that is later: the margin of Google's own
/// libraries, below the five minutes for which the metadata server keeps an old one.
const MARGIN: Duration = Duration::from_secs(225);
/// For this long a failure answers everybody who asks: those who have waited for it do not ask one after the other.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Cached<F> {
    flow: F,
    now: Box<dyn Fn() -> Instant + Send + Sync>,
    held: RwLock<Option<Held>>,
    /// Whoever has it asks for a token, the others wait. With the last failure.
    turn: Mutex<Option<(Instant, Failure)>>,
    /// The token was refused by somebody.
    is_refused: AtomicBool,
}

struct Held {
    token: SecretString,
    renew_at: Instant,
    expires_at: Instant,
}

impl<F: TokenFlow> Cached<F> {
    pub(super) fn new(flow: F) -> Self {
        Self::by_clock(flow, Instant::now)
    }

    pub(super) fn by_clock(flow: F, now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self {
            flow,
            now: Box::new(now),
            held: RwLock::default(),
            turn: Mutex::default(),
            is_refused: AtomicBool::new(false),
        }
    }

    /// The token, if it is good for longer than `until` says.
    fn held(&self, until: impl Fn(&Held) -> Instant) -> Option<SecretString> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|held| (self.now)() < until(held)).map(|held| held.token.clone())
    }

    fn fresh(&self) -> Option<SecretString> {
        if self.is_refused.load(Ordering::Relaxed) { None } else { self.held(|held| held.renew_at) }
    }

    pub(super) async fn get(&self) -> Result<SecretString, Failure> {
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        let mut turn = self.turn.lock().await;
        // Somebody else may have got one meanwhile, or found out that there is none.
        if let Some(token) = self.fresh() {
            return Ok(token);
        }
        let recent = turn
            .as_ref()
            .filter(|(at, _)| (self.now)().duration_since(*at) < FAILED_FOR)
            .map(|(_, failure)| failure.clone());
        let failure = match recent {
            Some(failure) => failure,
            None => match self.fetch().await {
                Ok(token) => {
                    *turn = None;
                    return Ok(token);
                }
                Err(failure) => {
                    *turn = Some(((self.now)(), failure.clone()));
                    failure
                }
            },
        };
        // One that nobody has refused is good until it expires.
        let old =
            if self.is_refused.load(Ordering::Relaxed) { None } else { self.held(|held| held.expires_at) };
        match (failure, old) {
            (Failure::Unavailable(problem), Some(token)) => {
                tracing::warn!(
                    problem,
                    "the access token could not be renewed; the old one is used until it expires"
                );
                Ok(token)
            }
            (failure, _) => Err(failure),
        }
    }

    async fn fetch(&self) -> Result<SecretString, Failure> {
        let mut attempts = 0;
        loop {
            let asked_at = (self.now)();
            attempts += 1;
            match self.flow.fetch().await {
                Ok(Granted { token, lifetime }) => {
                    let margin = MARGIN.min(lifetime / 4);
                    let renew_at = asked_at + lifetime.saturating_sub(margin);
                    let held = Held { token: token.clone(), renew_at, expires_at: asked_at + lifetime };
                    *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
                    self.is_refused.store(false, Ordering::Relaxed);
                    return Ok(token);
                }
                Err(Failure::Unavailable(problem)) if attempts < ATTEMPTS_MAX => {
                    tracing::debug!(problem, attempts, "asking for an access token again");
                    tokio::time::sleep(PAUSE * 2_u32.pow(attempts - 1)).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

#[async_trait]
impl<F: TokenFlow> TokenSource for Cached<F> {
    async fn token(&self) -> Result<Option<SecretString>, BigQueryError> {
        self.get().await.map(Some).map_err(|failure| match failure {
            Failure::Denied(problem) => BigQueryError::NoCredentials { problem },
            Failure::Unavailable(problem) => BigQueryError::CredentialsUnavailable { source: problem.into() },
        })
    }

    fn renew(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }
}
