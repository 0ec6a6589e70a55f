//! Errors of S3 operations and their classes.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aqueduct_core::{BoxError, Class, Classify};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// An S3 operation failed: when, what the pipeline does about it, and what you do.
///
/// | error | when | class | what to do |
/// | --- | --- | --- | --- |
/// | [`NoSuchBucket`](S3Error::NoSuchBucket) | 404 `NoSuchBucket` | fatal | create the bucket, or correct its name or endpoint |
/// | [`WrongRegion`](S3Error::WrongRegion) | 301, `PermanentRedirect`, `AuthorizationHeaderMalformed` | fatal | set the region named in the message |
/// | [`BadCredentials`](S3Error::BadCredentials) | `InvalidAccessKeyId`, `SignatureDoesNotMatch`, … | fatal | correct the access key or its secret |
/// | [`NoCredentials`](S3Error::NoCredentials) | nothing in the default chain | fatal | set credentials or the environment's |
/// | [`AccessDenied`](S3Error::AccessDenied) | 403 otherwise | fatal | allow the operation in the policy |
/// | [`Refused`](S3Error::Refused) | 400, 405, 501 and the like | fatal | see the store's words; a store without conditional writes needs `conditional_writes(false)` |
/// | [`CredentialsUnavailable`](S3Error::CredentialsUnavailable) | `ExpiredToken`, a provider that is down | retry | nothing if they come back; else as for no credentials |
/// | [`Unreachable`](S3Error::Unreachable) | refused, reset, unknown host, TLS | retry | check endpoint and network if it lasts |
/// | [`Timeout`](S3Error::Timeout) | no answer in time | retry | raise the attempt timeout on slow links |
/// | [`Unavailable`](S3Error::Unavailable) | 429, 500, 503 `SlowDown`, … | retry, after what the store asks for | nothing; the source slows down |
/// | [`Contended`](S3Error::Contended) | 409 `ConditionalRequestConflict` and the like | retry | nothing; the object is sent anew |
/// | [`UploadGone`](S3Error::UploadGone) | 404 `NoSuchUpload` for a part | retry | nothing; a lifecycle rule of hours, not minutes, avoids it |
/// | [`Damaged`](S3Error::Damaged) | `BadDigest`, `XAmzContentChecksumMismatch`, … | retry | check memory and network if it lasts |
/// | [`Unknown`](S3Error::Unknown) | anything else | retry, a bounded number of times | report it, with the code |
///
/// The answer to a `HEAD` has no body and so no code. Where one is refused with 400 or 403, a `GET` of the object's first byte
/// asks for the reason, so that expired credentials are not taken for a missing permission. An error in the body of an answer
/// with status 200, as completions give it, counts like the same code with its own status.
///
/// A key that is taken is not in this table: it is compared with what was to be written, and only a difference is an
/// error, `aqueduct_files::ObjectConflict`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`at` is where it happened and `answer` the store's words, in every variant")]
pub enum S3Error {
    /// The bucket does not exist.
    #[error("bucket {} does not exist at {}", .at.bucket, .at.endpoint)]
    NoSuchBucket { at: At },
    /// The bucket is in another region.
    #[error("bucket {} is not in the region requests are signed for ({answer})", .at.bucket)]
    WrongRegion {
        at: At,
        /// Where it is, if the store says so.
        region: Option<String>,
        answer: Answer,
    },
    /// The store does not know the access key, or the secret is not its.
    #[error("{} refuses the credentials ({answer})", .at.endpoint)]
    BadCredentials { at: At, answer: Answer },
    /// There are none.
    #[error("no credentials were found for {}", .at.endpoint)]
    NoCredentials { at: At, source: BoxError },
    /// The credentials are good, but not for this.
    #[error("access to {at} is denied ({answer})")]
    AccessDenied { at: At, answer: Answer },
    /// The request makes no sense to the store.
    #[error("the store refuses {at} ({answer})")]
    Refused { at: At, answer: Answer },
    /// Credentials expired or could not be fetched at the moment.
    #[error("credentials for {} are not available at the moment", .at.endpoint)]
    CredentialsUnavailable { at: At, source: BoxError },
    /// No connection, or it broke.
    #[error("{} cannot be reached", .at.endpoint)]
    Unreachable { at: At, source: BoxError },
    /// No answer in time.
    #[error("{} did not answer in time", .at.endpoint)]
    Timeout { at: At, source: BoxError },
    /// The store has trouble of its own, or too many requests.
    #[error("{} is not available at the moment ({answer})", .at.endpoint)]
    Unavailable { at: At, answer: Answer },
    /// Another request for the same key was under way.
    #[error("another request for {at} was under way ({answer})")]
    Contended { at: At, answer: Answer },
    /// The upload was completed or aborted by somebody else.
    #[error("the upload to {at} does not exist any more")]
    UploadGone { at: At },
    /// What arrived is not what was sent.
    #[error("the store received other bytes for {at} than were sent ({answer})")]
    Damaged { at: At, answer: Answer },
    /// Nobody has classified this one.
    #[error("{at} failed")]
    Unknown { at: At, source: BoxError },
}

/// Where an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The endpoint, or a description of the default one.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// The object's key; empty for the bucket itself.
    pub key: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// What the store answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// S3's error code; empty where there is none, as for every `HEAD`.
    pub code: String,
    /// The store's message.
    pub message: String,
    /// The store's name of the request, for its operators.
    pub request_id: Option<String>,
    /// The delay it asks for.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        match &self.request_id {
            Some(id) => write!(f, ", request {id}"),
            None => Ok(()),
        }
    }
}

impl Error for Answer {}

impl Classify for S3Error {
    fn class(&self) -> Class {
        match self {
            Self::NoSuchBucket { .. }
            | Self::WrongRegion { .. }
            | Self::BadCredentials { .. }
            | Self::NoCredentials { .. }
            | Self::AccessDenied { .. }
            | Self::Refused { .. } => Class::Fatal,
            Self::CredentialsUnavailable { .. }
            | Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Contended { .. }
            | Self::UploadGone { .. }
            | Self::Damaged { .. } => Class::RETRY,
            Self::Unavailable { answer, .. } => Class::Retry { after: answer.retry_after },
            Self::Unknown { .. } => Class::Unknown,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSuchBucket { .. } => {
                "create the bucket, or correct its name, the region or the endpoint".to_owned()
            }
            Self::WrongRegion { region: Some(region), .. } => format!("set the region to {region}"),
            Self::WrongRegion { region: None, .. } => "set the region the bucket was created in".to_owned(),
            Self::BadCredentials { .. } => {
                "check the access key, its secret and the session token".to_owned()
            }
            Self::NoCredentials { .. } | Self::CredentialsUnavailable { .. } => {
                "call credentials(), or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
                    .to_owned()
            }
            Self::AccessDenied { .. } => {
                "allow s3:PutObject, s3:GetObject and s3:AbortMultipartUpload below the prefix, and for \
                 abort_stale_uploads s3:ListBucketMultipartUploads on the bucket"
                    .to_owned()
            }
            Self::Refused { answer, .. } if answer.status == 501 || answer.code == "NotImplemented" => {
                "a store that does not know If-None-Match needs conditional_writes(false)".to_owned()
            }
            Self::Unreachable { .. } => {
                "check the endpoint's host, port and scheme, and the network".to_owned()
            }
            Self::Timeout { .. } => {
                "check the endpoint and the network; raise attempt_timeout on a slow link".to_owned()
            }
            Self::Refused { .. }
            | Self::Unavailable { .. }
            | Self::Contended { .. }
            | Self::UploadGone { .. }
            | Self::Damaged { .. }
            | Self::Unknown { .. } => return None,
        })
    }
}

impl S3Error {
    /// Classifies an error of the SDK.
    pub(crate) fn from_sdk<E>(at: At, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(service) => {
                let answer = read_answer(service.raw(), service.err());
                let region =
                    header(service.raw(), "x-amz-bucket-region").or_else(|| region_in(service.raw()));
                return Self::from_answer(at, answer, region);
            }
            // An answer that is no S3 error, as proxies give it: only its status means something.
            SdkError::ResponseError(response) => {
                let status = response.raw().status().as_u16();
                if status >= 300 {
                    let retry_after = retry_after(response.raw());
                    return Self::from_answer(at, Answer { status, retry_after, ..Answer::default() }, None);
                }
            }
            _ => {}
        }
        if let Some(credentials) = find::<CredentialsError>(error) {
            return match credentials {
                CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
                    Self::NoCredentials { at, source: Told::of(error).into() }
                }
                _ => Self::CredentialsUnavailable { at, source: Told::of(error).into() },
            };
        }
        match error {
            SdkError::TimeoutError(_) => Self::Timeout { at, source: Told::of(error).into() },
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                Self::Timeout { at, source: Told::of(error).into() }
            }
            SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
                Self::Unreachable { at, source: Told::of(error).into() }
            }
            _ => Self::Unknown { at, source: Told::of(error).into() },
        }
    }

    /// Classifies an answer by its code, or by its status where there is none.
    pub(crate) fn from_answer(at: At, answer: Answer, region: Option<String>) -> Self {
        match (answer.code.as_str(), answer.status) {
            ("NoSuchBucket" | "InvalidBucketName", _) => Self::NoSuchBucket { at },
            (
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
                _,
            )
            | ("" | "BadRequest", 301 | 307 | 308) => Self::WrongRegion { at, region, answer },
            ("" | "BadRequest", 400) if region.is_some() => Self::WrongRegion { at, region, answer },
            (
                "InvalidAccessKeyId"
                | "NotSignedUp"
                | "SignatureDoesNotMatch"
                | "InvalidToken"
                | "InvalidSecurity"
                | "MissingSecurityHeader",
                _,
            )
            | (_, 401) => Self::BadCredentials { at, answer },
            ("ExpiredToken" | "TokenRefreshRequired" | "ExpiredTokenException" | "RequestExpired", _) => {
                Self::CredentialsUnavailable { at, source: answer.into() }
            }
            // The client corrects its clock by the answer's date and tries again; a clock that jumps is no reason to stop at once.
            ("RequestTimeTooSkewed", _) => Self::Unknown { at, source: answer.into() },
            (
                "BadDigest"
                | "InvalidDigest"
                | "XAmzContentChecksumMismatch"
                | "XAmzContentSHA256Mismatch"
                | "IncompleteBody"
                | "RequestTimeout",
                _,
            ) => Self::Damaged { at, answer },
            ("ConditionalRequestConflict" | "OperationAborted", _) | (_, 409) => {
                Self::Contended { at, answer }
            }
            ("NoSuchUpload", _) => Self::UploadGone { at },
            (
                "SlowDown"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequests"
                | "ServiceUnavailable"
                | "InternalError",
                _,
            )
            | (_, 408 | 429 | 500 | 502..=599) => Self::Unavailable { at, answer },
            (_, 403) => Self::AccessDenied { at, answer },
            (_, 400..=499 | 501) => Self::Refused { at, answer },
            _ => Self::Unknown { at, source: answer.into() },
        }
    }
}

/// What an error and those behind it say, without what they carry. An error of the SDK carries the answer it is about, and
/// whoever shows it with `Debug` shows the answer: of the token service, that is a session with its secrets.
#[derive(Debug)]
pub(crate) struct Told {
    text: String,
    source: Option<Box<Self>>,
}

impl Told {
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        Self { text: error.to_string(), source: error.source().map(|source| Box::new(Self::of(source))) }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

fn read_answer(raw: &HttpResponse, error: &impl ProvideErrorMetadata) -> Answer {
    let meta = error.meta();
    Answer {
        status: raw.status().as_u16(),
        code: one_line(meta.code().unwrap_or_default()),
        message: one_line(meta.message().unwrap_or_default()),
        request_id: header(raw, "x-amz-request-id").map(|id| one_line(&id)),
        retry_after: retry_after(raw),
    }
}

/// The most of a store's words that is repeated, in characters.
const WORDS_MAX: usize = 512;

/// Somebody else's words, so that they neither break a line of the log nor fill it.
fn one_line(words: &str) -> String {
    words.chars().map(|it| if it.is_control() { ' ' } else { it }).take(WORDS_MAX).collect()
}

fn header(raw: &HttpResponse, name: &str) -> Option<String> {
    raw.headers().get(name).map(str::to_owned)
}

/// The region that an error's body names; `AuthorizationHeaderMalformed` says it nowhere else.
fn region_in(raw: &HttpResponse) -> Option<String> {
    let body = std::str::from_utf8(raw.body().bytes()?).ok()?;
    let (region, _) = body.split_once("<Region>")?.1.split_once("</Region>")?;
    Some(one_line(region.trim()))
}

/// Only seconds: a date would need a clock, and S3 does not send one.
fn retry_after(raw: &HttpResponse) -> Option<Duration> {
    header(raw, "retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(code: &str, status: u16) -> S3Error {
        let at = At { endpoint: "http://e".into(), bucket: "b".into(), key: "k".into() };
        S3Error::from_answer(at, Answer { status, code: code.into(), ..Answer::default() }, None)
    }

    const TABLE: [(&str, u16, &str, Class); 25] = [
        ("NoSuchBucket", 404, "NoSuchBucket", Class::Fatal),
        ("PermanentRedirect", 301, "WrongRegion", Class::Fatal),
        ("AuthorizationHeaderMalformed", 400, "WrongRegion", Class::Fatal),
        ("", 301, "WrongRegion", Class::Fatal),
        ("InvalidAccessKeyId", 403, "BadCredentials", Class::Fatal),
        ("SignatureDoesNotMatch", 403, "BadCredentials", Class::Fatal),
        ("NotSignedUp", 403, "BadCredentials", Class::Fatal),
        ("AccessDenied", 403, "AccessDenied", Class::Fatal),
        ("", 403, "AccessDenied", Class::Fatal),
        ("ExpiredToken", 400, "CredentialsUnavailable", Class::RETRY),
        ("RequestTimeTooSkewed", 403, "Unknown", Class::Unknown),
        ("BadDigest", 400, "Damaged", Class::RETRY),
        ("RequestTimeout", 400, "Damaged", Class::RETRY),
        ("ConditionalRequestConflict", 409, "Contended", Class::RETRY),
        ("NoSuchUpload", 404, "UploadGone", Class::RETRY),
        ("SlowDown", 503, "Unavailable", Class::RETRY),
        ("InternalError", 200, "Unavailable", Class::RETRY),
        ("", 429, "Unavailable", Class::RETRY),
        ("", 502, "Unavailable", Class::RETRY),
        ("XMinioStorageFull", 507, "Unavailable", Class::RETRY),
        ("NotImplemented", 501, "Refused", Class::Fatal),
        ("EntityTooLarge", 400, "Refused", Class::Fatal),
        ("MethodNotAllowed", 405, "Refused", Class::Fatal),
        ("", 404, "Refused", Class::Fatal),
        ("", 204, "Unknown", Class::Unknown),
    ];

    #[test]
    fn every_row_of_the_table() {
        for (code, status, variant, class) in TABLE {
            let error = classify(code, status);
            assert!(format!("{error:?}").starts_with(variant), "{code} {status}: {error:?}");
            assert_eq!(error.class(), class, "{code} {status}");
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Carrier {
        body: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn what_others_say_stays_on_one_line_and_what_they_carry_is_not_shown() {
        assert_eq!(one_line("no\r\nroot: all is well\u{1b}[31m"), "no  root: all is well [31m");
        assert_eq!(one_line(&"é".repeat(10_000)).chars().count(), WORDS_MAX);

        let carrier = Carrier { body: "canary", source: std::io::Error::other("reset") };
        let told = Told::of(&carrier);
        assert!(format!("{carrier:?}").contains("canary") && !format!("{told:?}").contains(carrier.body));
        assert_eq!(aqueduct_core::ErrorChain(&told).to_string(), "refused: reset");
    }

    #[test]
    fn the_region_and_the_delay_are_passed_on() {
        let at = At { endpoint: "e".into(), bucket: "b".into(), key: String::new() };
        let answer = Answer { status: 400, ..Answer::default() };
        let error = S3Error::from_answer(at.clone(), answer, Some("eu-west-3".into()));
        assert_eq!(error.hint().as_deref(), Some("set the region to eu-west-3"));
        let answer = Answer { status: 503, retry_after: Some(Duration::from_secs(7)), ..Answer::default() };
        let error = S3Error::from_answer(at, answer, None);
        assert_eq!(error.class(), Class::Retry { after: Some(Duration::from_secs(7)) });
    }
}
