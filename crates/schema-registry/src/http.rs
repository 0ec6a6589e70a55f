//! Requests: to whichever server answers, as often as it takes within limits.
//!
//! A request goes to the server that answered last, and to the others when it fails; when all have failed, again after a
//! back-off. Redirections are not followed and proxies of the environment not used: credentials go where the configuration says.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use rustls::AlertDescription;

use crate::answer::Complaint;
use crate::auth::Auth;
use crate::config::RegistryConfigError;
use crate::error::RegistryError;

pub(crate) struct Http {
    client: Client,
    servers: Vec<Server>,
    /// The one that answered last.
    first: AtomicUsize,
    auth: Auth,
    headers: HeaderMap,
    patience: Patience,
    response_max: usize,
}

struct Server {
    base: Url,
    /// Host and port, for errors.
    name: String,
}

/// How long, how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) connect: Duration,
    pub(crate) request: Duration,
    pub(crate) total: Duration,
    pub(crate) attempts: usize,
    pub(crate) backoff: Duration,
    pub(crate) unknown: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            request: Duration::from_secs(10),
            total: Duration::from_mins(1),
            attempts: 3,
            backoff: Duration::from_millis(100),
            unknown: Duration::from_millis(500),
        }
    }
}

/// A request, without the server.
pub(crate) struct Ask<'a> {
    /// What is asked for, in words, for errors.
    pub(crate) what: String,
    /// Segments of the path; they are encoded.
    pub(crate) path: Vec<&'a str>,
    pub(crate) query: Vec<(&'a str, &'a str)>,
    /// A body makes it a POST.
    pub(crate) body: Option<String>,
}

/// What the registry itself said.
pub(crate) enum Answer {
    /// Here it is.
    Good { server: String, body: Vec<u8> },
    /// A status of the 400s that is neither about who asks nor about when, with the registry's own number for it.
    Complaint { server: String, status: u16, code: u32, message: String },
}

impl Http {
    pub(crate) fn new(
        urls: Vec<Url>,
        auth: Auth,
        headers: HeaderMap,
        tls: rustls::ClientConfig,
        patience: Patience,
        response_max: usize,
    ) -> Result<Self, RegistryConfigError> {
        let client = Client::builder()
            .use_preconfigured_tls(tls)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("aqueduct/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.connect)
            .pool_idle_timeout(POOL_IDLE)
            .build()
            .map_err(|_| RegistryConfigError::Client)?;
        let servers = urls
            .into_iter()
            .map(|base| {
                let host = base.host_str().unwrap_or_default();
                let name = base
                    .port_or_known_default()
                    .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
                Server { base, name }
            })
            .collect();
        Ok(Self { client, servers, first: AtomicUsize::new(0), auth, headers, patience, response_max })
    }

    pub(crate) fn patience(&self) -> Patience {
        self.patience
    }

    /// All servers' names, for an error that is about none in particular.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self.servers.iter().map(|server| server.name.as_str()).collect();
        names.join(", ")
    }

    /// Lets another server be asked first.
    pub(crate) fn turn(&self) {
        let next = (self.first.load(Ordering::Relaxed) + 1) % self.servers.len().max(1);
        self.first.store(next, Ordering::Relaxed);
    }

    pub(crate) async fn send(&self, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(self.patience.backoff)
            .with_max_delay(BACKOFF_MAX.max(self.patience.backoff))
            .with_max_times(self.patience.attempts.saturating_sub(1))
            .with_jitter()
            .build();
        loop {
            let error = match self.round(ask).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let asked = error.after().unwrap_or_default();
            // A longer pause is the lane's: it says what it waits for.
            let Some(delay) = delays.next().filter(|_| error.is_transient() && asked <= ASKED_MAX) else {
                return Err(error);
            };
            let delay = delay.max(asked);
            tracing::debug!(what = ask.what, ?delay, error = %error, "asking the schema registry again");
            tokio::time::sleep(delay).await;
        }
    }

    /// Each server once, until one answers.
    async fn round(&self, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut worst: Option<RegistryError> = None;
        let in_turn = self.servers.iter().enumerate().cycle().skip(first).take(self.servers.len());
        for (index, server) in in_turn {
            match self.exchange(server, ask).await {
                Ok(answer) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) if !is_of_one_server(&error) => return Err(error),
                Err(error) => {
                    // One that is down for a while decides over one that is misconfigured: it may come back.
                    if worst.as_ref().is_none_or(|worst| !worst.is_transient()) {
                        worst = Some(error);
                    }
                }
            }
        }
        Err(worst.unwrap_or_else(|| RegistryError::TimedOut { server: self.names() }))
    }

    /// One server, with a second token if it refuses the first.
    async fn exchange(&self, server: &Server, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        match self.attempt(server, ask).await {
            Err(RegistryError::Unauthorized { status: 401, .. }) if self.auth.refused().await => {
                self.attempt(server, ask).await
            }
            outcome => outcome,
        }
    }

    async fn attempt(&self, server: &Server, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        let mut url = server.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&ask.path);
        }
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        let request = match &ask.body {
            None => self.client.get(url),
            Some(body) => self.client.post(url).header(CONTENT_TYPE, MEDIA_TYPE).body(body.clone()),
        };
        let request =
            request.headers(self.headers.clone()).header(ACCEPT, ACCEPTED).timeout(self.patience.request);
        let response =
            self.auth.sign(request).await?.send().await.map_err(|error| transport(server, error))?;
        let status = response.status();
        let name = || server.name.clone();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(RegistryError::Unauthorized { server: name(), status: status.as_u16() })
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(unavailable(server, &response))
            }
            StatusCode::NOT_IMPLEMENTED => Err(unexpected(server, ask, status)),
            _ if status.is_server_error() => Err(unavailable(server, &response)),
            _ if status.is_success() => {
                let body = self.body(server, ask, response).await?;
                Ok(Answer::Good { server: name(), body })
            }
            _ if status.is_client_error() => {
                let body = self.body(server, ask, response).await?;
                // Without a number it is not the registry who speaks.
                let Ok(Complaint { error_code: code, message }) = serde_json::from_slice(&body) else {
                    return Err(unexpected(server, ask, status));
                };
                let message = printable(&message);
                Ok(Answer::Complaint { server: name(), status: status.as_u16(), code, message })
            }
            _ => Err(unexpected(server, ask, status)),
        }
    }

    /// Reads no more than is allowed, whatever the length that was announced.
    async fn body(
        &self,
        server: &Server,
        ask: &Ask<'_>,
        mut response: Response,
    ) -> Result<Vec<u8>, RegistryError> {
        let limit = self.response_max;
        let too_large =
            || RegistryError::TooLarge { server: server.name.clone(), what: ask.what.clone(), limit };
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| transport(server, error))? {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("servers", &self.names())
            .field("auth", &self.auth)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// Whether the next server may do better.
fn is_of_one_server(error: &RegistryError) -> bool {
    error.is_transient()
        || matches!(error, RegistryError::Certificate { .. } | RegistryError::Unexpected { .. })
}

fn unavailable(server: &Server, response: &Response) -> RegistryError {
    let after =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    RegistryError::Unavailable {
        server: server.name.clone(),
        status: response.status().as_u16(),
        after: after.map(Duration::from_secs),
    }
}

fn unexpected(server: &Server, ask: &Ask<'_>, status: StatusCode) -> RegistryError {
    RegistryError::Unexpected {
        server: server.name.clone(),
        what: ask.what.clone(),
        status: status.as_u16(),
        code: None,
    }
}

fn transport(server: &Server, error: reqwest::Error) -> RegistryError {
    let server = server.name.clone();
    if error.is_timeout() {
        return RegistryError::TimedOut { server };
    }
    let certificate = is_about_certificates(&error);
    let source = error.without_url().into();
    if certificate {
        RegistryError::Certificate { server, source }
    } else {
        RegistryError::Unreachable { server, source }
    }
}

fn is_about_certificates(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return matches!(
                tls,
                rustls::Error::InvalidCertificate(_)
                    | rustls::Error::NoCertificatesPresented
                    | rustls::Error::AlertReceived(
                        AlertDescription::AccessDenied
                            | AlertDescription::BadCertificate
                            | AlertDescription::CertificateExpired
                            | AlertDescription::CertificateRequired
                            | AlertDescription::CertificateRevoked
                            | AlertDescription::CertificateUnknown
                            | AlertDescription::UnknownCA
                            | AlertDescription::UnsupportedCertificate
                    )
            );
        }
        // An I/O error holds another one, which is not its source.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = held.map(|held| held as &(dyn Error + 'static)).or_else(|| error.source());
    }
    false
}

/// The other side's words as an error may show them.
fn printable(text: &str) -> String {
    let mut printable = String::new();
    for character in text.chars() {
        let character = if character.is_control() { ' ' } else { character };
        if printable.len() + character.len_utf8() > RegistryError::MESSAGE_MAX {
            break;
        }
        printable.push(character);
    }
    printable
}

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const ACCEPTED: &str = "application/vnd.schemaregistry.v1+json, application/json;q=0.9";
/// Idle connections are closed before the usual servers and balancers do, or a request would meet a closed one.
const POOL_IDLE: Duration = Duration::from_secs(15);
/// The longest wait between two attempts, unless the server asks for more.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The longest wait a server may ask for within one lookup.
const ASKED_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_sides_words_are_bounded_and_on_one_line() {
        assert_eq!(printable("a\r\nb\u{1b}[31m"), "a  b [31m");
        assert_eq!(printable(&"é".repeat(300)).len(), RegistryError::MESSAGE_MAX);
        assert_eq!(printable(&format!("x{}", "é".repeat(300))).len(), RegistryError::MESSAGE_MAX - 1);
    }
}
