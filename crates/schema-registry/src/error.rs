//! What can go wrong while a registry is asked.

use std::time::Duration;

use aqueduct_core::{BoxError, Class, Classify};

/// A request that failed.
///
/// | error | class | what the operator does |
/// |---|---|---|
/// | [`Unreachable`](Self::Unreachable), [`TimedOut`](Self::TimedOut), [`Unavailable`](Self::Unavailable) | `Retry` | nothing: the lane goes on when the registry does |
/// | [`Token`](Self::Token) | `Retry` | looks at what makes the tokens, if it lasts |
/// | [`Unauthorized`](Self::Unauthorized), [`Certificate`](Self::Certificate), [`TokenText`](Self::TokenText) | `Fatal` | mends credentials or certificates |
/// | [`Refused`](Self::Refused) | `Fatal` | changes the schema, or the subject's compatibility |
/// | [`Unexpected`](Self::Unexpected), [`Unreadable`](Self::Unreadable), [`TooLarge`](Self::TooLarge) | `Unknown` | looks at who answers at that URL |
///
/// No variant shows a credential, a token, or what a server has said instead of an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection, or one that broke.
    #[error("{server} cannot be reached or broke off")]
    Unreachable {
        /// Host and port.
        server: String,
        /// Why.
        source: BoxError,
    },
    /// The TLS handshake failed because of a certificate.
    #[error("the certificates of {server} and of this client do not go together")]
    Certificate {
        /// Host and port.
        server: String,
        /// Why.
        source: BoxError,
    },
    /// No whole answer in time.
    #[error("{server} did not answer in time")]
    TimedOut {
        /// Host and port.
        server: String,
    },
    /// The registry cannot answer now: 408, 429 or 5xx.
    #[error("{server} answered {status}")]
    Unavailable {
        /// Host and port.
        server: String,
        /// The HTTP status.
        status: u16,
        /// When to ask again, if it said so.
        after: Option<Duration>,
    },
    /// Whoever makes the tokens failed.
    #[error("no bearer token was made")]
    Token {
        /// Why.
        source: BoxError,
    },
    /// A token that no header can hold: control characters, a newline at its end.
    #[error("the bearer token has characters that a header cannot hold; is there a newline at its end?")]
    TokenText,
    /// 401 or 403.
    #[error("{server} answered {status}")]
    Unauthorized {
        /// Host and port.
        server: String,
        /// The HTTP status.
        status: u16,
    },
    /// A schema that the registry does not take: not valid, not compatible with the versions there are.
    #[error("{server} does not take the schema ({status}, error {code}): {message}")]
    Refused {
        /// Host and port.
        server: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own number for it.
        code: u32,
        /// The registry's words, at most [`MESSAGE_MAX`](Self::MESSAGE_MAX) bytes of them.
        message: String,
    },
    /// A status that is no answer to what was asked. A redirection is one: they are not followed.
    #[error("{server} answered {status}{} to {what}", .code.map_or_else(String::new, |code| format!(" (error {code})")))]
    Unexpected {
        /// Host and port.
        server: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own number for it, if it gave one.
        code: Option<u32>,
    },
    /// A good status with a body that is no answer.
    #[error("{server} answered something else than {what}")]
    Unreadable {
        /// Host and port.
        server: String,
        /// What was asked for.
        what: String,
    },
    /// An answer over the limit.
    #[error("{server} answered more than {limit} bytes to {what}")]
    TooLarge {
        /// Host and port.
        server: String,
        /// What was asked for.
        what: String,
        /// The limit.
        limit: usize,
    },
}

impl RegistryError {
    /// The most that is kept of a registry's words, in bytes.
    pub const MESSAGE_MAX: usize = 512;

    /// Whether another server, or the same one later, may do better.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Unavailable { .. })
    }

    /// When to ask again, if the server said so.
    pub(crate) fn after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { after, .. } => *after,
            _ => None,
        }
    }
}

impl Classify for RegistryError {
    fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Token { .. } => Class::RETRY,
            Self::Unavailable { after, .. } => Class::Retry { after: *after },
            Self::Certificate { .. } | Self::TokenText | Self::Unauthorized { .. } | Self::Refused { .. } => {
                Class::Fatal
            }
            Self::Unexpected { .. } | Self::Unreadable { .. } | Self::TooLarge { .. } => Class::Unknown,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unauthorized { status: 401, .. } => "give the client credentials that the registry knows",
            Self::Unauthorized { .. } => "let the client's user read subjects and schemas",
            Self::Certificate { .. } => {
                "give the client the file of the authority that signed the registry's certificate, and the certificate it asks for"
            }
            Self::Unexpected { .. } | Self::Unreadable { .. } => {
                "is that the URL of a schema registry, with its path? a proxy may have answered"
            }
            Self::TooLarge { .. } => "raise response_max if schemas are that large",
            Self::Refused { .. } => "change the schema, or the compatibility that the subject asks for",
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Unavailable { .. }
            | Self::Token { .. }
            | Self::TokenText => return None,
        };
        Some(hint.to_owned())
    }
}
