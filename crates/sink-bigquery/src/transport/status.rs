//! From a gRPC status to an error with a class.

use std::error::Error as _;
use std::time::Duration;

use aqueduct_core::ErrorChain;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::StorageError;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::storage_error::StorageErrorCode;
use gcp_bigquery_client::google::rpc;
use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};

use crate::error::{Answer, At, BigQueryError, StreamState};

/// What `NOT_FOUND` without a code of its own means for a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Missing {
    Table,
    Stream,
}

/// The details' `google.rpc.RetryInfo`: how long to stay away.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

pub(super) fn from_status(at: At, missing: Missing, status: &Status) -> BigQueryError {
    // A status that was made on this side, of an error below it.
    if let Some(source) = status.source() {
        let told = ErrorChain(source).to_string();
        return BigQueryError::Unreachable { at, source: told.into() };
    }
    // The details are a `google.rpc.Status` of their own.
    let details = rpc::Status::decode(status.details()).map(|status| status.details).unwrap_or_default();
    classify(at, missing, status.code(), status.message(), &details)
}

/// An error that came inside of an answer.
pub(super) fn from_answer(at: At, missing: Missing, status: &rpc::Status) -> BigQueryError {
    classify(at, missing, Code::from_i32(status.code), &status.message, &status.details)
}

/// A stream that could not be committed.
pub(super) fn from_storage_error(at: At, error: &StorageError) -> BigQueryError {
    let answer = Answer::new("commit", error.code().as_str_name(), &error.error_message);
    by_storage_code(at, error.code(), answer)
        .unwrap_or_else(|(at, answer)| BigQueryError::Unknown { at, answer })
}

fn classify(at: At, missing: Missing, code: Code, message: &str, details: &[Any]) -> BigQueryError {
    let detail = |name: &str| {
        details.iter().find(|any| any.type_url.rsplit(['/', '.']).next() == Some(name)).map(|any| &*any.value)
    };
    let storage = detail("StorageError").and_then(|bytes| StorageError::decode(bytes).ok());
    let storage_code = storage.as_ref().map(StorageError::code);
    let reason = storage_code.map_or("", |code| code.as_str_name());
    let mut answer = Answer::new(format!("{code:?}"), reason, message);
    answer.retry_after = detail("RetryInfo")
        .and_then(|bytes| RetryInfo::decode(bytes).ok()?.retry_delay)
        .and_then(|delay| Duration::try_from(delay).ok());
    let (at, answer) = match storage_code.map(|code| by_storage_code(at.clone(), code, answer.clone())) {
        Some(Ok(error)) => return error,
        Some(Err(rest)) => rest,
        None => (at, answer),
    };
    let stream = |state| BigQueryError::Stream { state, at: at.clone(), answer: answer.clone() };
    match code {
        Code::NotFound => match missing {
            Missing::Table => BigQueryError::NoSuchTable { at, answer },
            Missing::Stream => stream(StreamState::NotFound),
        },
        Code::AlreadyExists => stream(StreamState::OffsetExists),
        Code::OutOfRange => stream(StreamState::OffsetOutOfRange),
        Code::PermissionDenied => BigQueryError::AccessDenied { at, answer },
        Code::Unauthenticated => BigQueryError::Unauthenticated { at, answer },
        Code::ResourceExhausted => BigQueryError::Throttled { at, answer },
        Code::Unavailable | Code::Internal | Code::Aborted | Code::Cancelled | Code::DeadlineExceeded => {
            BigQueryError::Unavailable { at, answer }
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => {
            BigQueryError::Refused { at, answer }
        }
        Code::Ok | Code::Unknown | Code::DataLoss => BigQueryError::Unknown { at, answer },
    }
}

/// Gives its arguments back where the code says nothing.
fn by_storage_code(at: At, code: StorageErrorCode, answer: Answer) -> Result<BigQueryError, (At, Answer)> {
    use StorageErrorCode as Storage;
    let state = match code {
        Storage::Unspecified => return Err((at, answer)),
        Storage::TableNotFound => return Ok(BigQueryError::NoSuchTable { at, answer }),
        Storage::SchemaMismatchExtraFields => return Ok(BigQueryError::SchemaMismatch { at, answer }),
        Storage::CmekNotProvided | Storage::InvalidCmekProvided | Storage::CmekEncryptionError => {
            return Ok(BigQueryError::Refused { at, answer });
        }
        Storage::KmsServiceError => return Ok(BigQueryError::Unavailable { at, answer }),
        Storage::KmsPermissionDenied => return Ok(BigQueryError::AccessDenied { at, answer }),
        Storage::StreamAlreadyCommitted => StreamState::Committed,
        Storage::StreamNotFound => StreamState::NotFound,
        Storage::InvalidStreamType | Storage::InvalidStreamState => StreamState::Invalid,
        Storage::StreamFinalized => StreamState::Finalized,
        Storage::OffsetAlreadyExists => StreamState::OffsetExists,
        Storage::OffsetOutOfRange => StreamState::OffsetOutOfRange,
    };
    Ok(BigQueryError::Stream { state, at, answer })
}

#[cfg(test)]
mod tests {
    use aqueduct_core::{Class, Classify as _};

    use super::*;

    const CODES: &[(Code, &str, Class)] = &[
        (Code::Unavailable, "Unavailable", Class::RETRY),
        (Code::Internal, "Unavailable", Class::RETRY),
        (Code::Aborted, "Unavailable", Class::RETRY),
        (Code::Cancelled, "Unavailable", Class::RETRY),
        (Code::DeadlineExceeded, "Unavailable", Class::RETRY),
        (Code::ResourceExhausted, "Throttled", Class::Retry { after: Some(BigQueryError::THROTTLED_MIN) }),
        (Code::AlreadyExists, "Stream { state: OffsetExists", Class::RETRY),
        (Code::OutOfRange, "Stream { state: OffsetOutOfRange", Class::RETRY),
        (Code::NotFound, "NoSuchTable", Class::Fatal),
        (Code::PermissionDenied, "AccessDenied", Class::Fatal),
        (Code::Unauthenticated, "Unauthenticated", Class::Unknown),
        (Code::InvalidArgument, "Refused", Class::Fatal),
        (Code::FailedPrecondition, "Refused", Class::Fatal),
        (Code::Unimplemented, "Refused", Class::Fatal),
        (Code::DataLoss, "Unknown", Class::Unknown),
        (Code::Unknown, "Unknown", Class::Unknown),
    ];

    const STORAGE: &[(StorageErrorCode, &str, Class)] = &[
        (StorageErrorCode::TableNotFound, "NoSuchTable", Class::Fatal),
        (StorageErrorCode::StreamAlreadyCommitted, "Stream { state: Committed", Class::RETRY),
        (StorageErrorCode::StreamNotFound, "Stream { state: NotFound", Class::RETRY),
        (StorageErrorCode::InvalidStreamType, "Stream { state: Invalid", Class::RETRY),
        (StorageErrorCode::InvalidStreamState, "Stream { state: Invalid", Class::RETRY),
        (StorageErrorCode::StreamFinalized, "Stream { state: Finalized", Class::RETRY),
        (StorageErrorCode::SchemaMismatchExtraFields, "SchemaMismatch", Class::RETRY),
        (StorageErrorCode::OffsetAlreadyExists, "Stream { state: OffsetExists", Class::RETRY),
        (StorageErrorCode::OffsetOutOfRange, "Stream { state: OffsetOutOfRange", Class::RETRY),
        (StorageErrorCode::CmekNotProvided, "Refused", Class::Fatal),
        (StorageErrorCode::InvalidCmekProvided, "Refused", Class::Fatal),
        (StorageErrorCode::CmekEncryptionError, "Refused", Class::Fatal),
        (StorageErrorCode::KmsServiceError, "Unavailable", Class::RETRY),
        (StorageErrorCode::KmsPermissionDenied, "AccessDenied", Class::Fatal),
        (StorageErrorCode::Unspecified, "Refused", Class::Fatal),
    ];

    fn at() -> At {
        At::new("append rows", "p.d.t")
    }

    fn storage_detail(code: StorageErrorCode) -> Any {
        let error = StorageError { code: code.into(), entity: "e".into(), error_message: "m".into() };
        let type_url = "type.googleapis.com/google.cloud.bigquery.storage.v1.StorageError".to_owned();
        Any { type_url, value: error.encode_to_vec() }
    }

    #[test]
    fn every_code_has_its_class() {
        for (code, variant, class) in CODES {
            let error = from_status(at(), Missing::Table, &Status::new(*code, "words"));
            assert!(format!("{error:?}").starts_with(variant), "{code:?}: {error:?}");
            assert_eq!(error.class(), *class, "{code:?}");
        }
        let error = from_status(at(), Missing::Stream, &Status::not_found(""));
        assert_eq!(error.stream_state(), Some(StreamState::NotFound));
    }

    #[test]
    fn the_storage_error_in_the_details_is_worth_more_than_the_code() {
        for (code, variant, class) in STORAGE {
            let status = rpc::Status {
                code: Code::InvalidArgument.into(),
                message: "words".into(),
                details: vec![Any::default(), storage_detail(*code)],
            };
            let error = from_answer(at(), Missing::Table, &status);
            assert!(format!("{error:?}").starts_with(variant), "{code:?}: {error:?}");
            assert_eq!(error.class(), *class, "{code:?}");
            let whole = Status::with_details(Code::InvalidArgument, "words", status.encode_to_vec().into());
            let error = from_status(at(), Missing::Table, &whole);
            assert!(format!("{error:?}").starts_with(variant), "{code:?} as a status: {error:?}");
        }
    }

    #[test]
    fn a_delay_that_is_asked_for_is_kept() {
        let delay = RetryInfo { retry_delay: Some(prost_types::Duration { seconds: 7, nanos: 0 }) };
        let any =
            Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value: delay.encode_to_vec() };
        let status = rpc::Status {
            code: Code::ResourceExhausted.into(),
            message: "line\nbreak".into(),
            details: vec![any],
        };
        let error = from_answer(at(), Missing::Table, &status);
        assert_eq!(error.class(), Class::Retry { after: Some(Duration::from_secs(7)) });
        assert!(error.to_string().contains("line break"), "{error}");
    }

    #[test]
    fn damaged_details_are_none() {
        let status = Status::with_details(Code::Internal, "", vec![0xff; 9].into());
        assert!(matches!(from_status(at(), Missing::Table, &status), BigQueryError::Unavailable { .. }));
    }
}
