//! Calls of token endpoints.
//!
//! Bounded in time, size and number of redirects (none: a token must not follow one), and told without a word of what was sent or
//! answered but a code: an endpoint that is not Google's may repeat what it was given.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The largest answer that is read: tokens have a few kilobytes.
pub(super) const ANSWER_MAX: usize = 64 << 10;
/// The longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Asking again would not help.
    Denied(String),
    /// It may.
    Unavailable(String),
}

/// Calls token endpoints.
#[derive(Clone, Debug)]
pub(super) struct Http {
    client: Client,
    /// Past every proxy: for what is on this machine's link.
    direct: Client,
    /// Whether `http://` is allowed where secrets are sent.
    plaintext: bool,
}

/// What an endpoint has answered.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Http {
    pub(super) fn new(plaintext: bool) -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                .user_agent(concat!("aqueduct/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .timeout(TIMEOUT)
                .connect_timeout(CONNECT_TIMEOUT)
        };
        Ok(Self { client: builder().build()?, direct: builder().no_proxy().build()?, plaintext })
    }

    /// An endpoint that secrets are sent to; the error is what is wrong with its URL.
    pub(super) fn endpoint(&self, url: &str) -> Result<String, &'static str> {
        match reqwest::Url::parse(url) {
            Ok(parsed) if parsed.scheme() == "https" => Ok(url.to_owned()),
            Ok(parsed) if parsed.scheme() == "http" && self.plaintext => Ok(url.to_owned()),
            Ok(parsed) if parsed.scheme() == "http" => {
                Err("is not encrypted; allow_plaintext(true) says that this is meant")
            }
            _ => Err("is no URL"),
        }
    }

    pub(super) fn post(&self, url: &str) -> RequestBuilder {
        self.client.post(url)
    }

    /// For servers on the machine's own link.
    pub(super) fn get_direct(&self, url: &str) -> RequestBuilder {
        self.direct.get(url)
    }

    /// Sends; `what` is the endpoint, in words.
    pub(super) async fn send(&self, what: &str, request: RequestBuilder) -> Result<Answer, Failure> {
        let unreachable = |error: reqwest::Error| {
            let problem = if error.is_timeout() { "does not answer in time" } else { "cannot be reached" };
            Failure::Unavailable(format!("{what} {problem}"))
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > ANSWER_MAX {
                return Err(Failure::Denied(format!("{what} answers with more than {ANSWER_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok(Answer { headers, body });
        }
        let problem = format!("{what} answers {}{}", status.as_u16(), code_of(&body));
        let passes = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        Err(if passes { Failure::Unavailable(problem) } else { Failure::Denied(problem) })
    }

    /// Sends and reads JSON.
    pub(super) async fn json<A: DeserializeOwned>(
        &self,
        what: &str,
        request: RequestBuilder,
    ) -> Result<A, Failure> {
        let answer = self.send(what, request).await?;
        serde_json::from_slice(&answer.body).map_err(|_| unreadable(what))
    }
}

pub(super) fn unreadable(what: &str) -> Failure {
    Failure::Denied(format!("{what} answers something that is no token"))
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorCode,
}

/// OAuth has a code (<https://www.rfc-editor.org/rfc/rfc6749#section-5.2>), Google's interfaces an object with a status.
#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorCode {
    Code(String),
    Status { status: String },
}

/// The code of an error, if it is one: a word, and nothing that could be a secret repeated.
fn code_of(body: &[u8]) -> String {
    let Ok(ErrorBody { error: ErrorCode::Code(code) | ErrorCode::Status { status: code } }) =
        serde_json::from_slice(body)
    else {
        return String::new();
    };
    let is_code = code.len() <= 32 && code.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if is_code { format!(" {code}") } else { String::new() }
}
