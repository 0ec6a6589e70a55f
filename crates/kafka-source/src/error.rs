//! What can go wrong between us and Kafka, and what the pipeline does about it.

use std::time::Duration;

use aqueduct_core::{Class, Classify, MarkError, Offset, TopicPartition};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// A failure of the source or of the dead-letter producer.
///
/// | error | class | what the operator does |
/// |---|---|---|
/// | `Unreachable`, `Authentication`, `Tls` | fatal, at start | check address, `security.protocol`, credentials |
/// | `UnknownTopic`, `Unauthorized` | fatal | create the topic, grant the access |
/// | `Client` | fatal | fix the property librdkafka names |
/// | `Group` | fatal | give all members of the group the same settings |
/// | `InstanceFenced` | fatal | give every process a name of its own |
/// | `StartOutside` | fatal | choose an offset the partition holds |
/// | `Mark` | fatal | run the version that wrote the mark |
/// | `MarkPastEnd`, `OffsetGone` | fatal | decide where to go on: the records are not there any more |
/// | `Unreadable` | fatal | see the text: the client cannot read a batch, and skipping it would lose it |
/// | `MetadataTooLarge` | fatal | raise `offset.metadata.max.bytes` at the broker |
/// | `NotOurs`, `CommitUnanswered` | fenced | nothing: the new owner redoes the segment |
/// | `Commit` | by its code | nothing (retried), or grant the access |
/// | `CommitUnderWay` | unknown | report it: a lane has one commit under way at most |
/// | `Produce` | by its code | nothing (retried), or grant the access, or raise `max.message.bytes` |
/// | `Stopped` | fatal | see the errors before it |
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KafkaSourceError {
    /// No broker answered.
    #[error("no broker of {brokers} answered within {} s{}", .waited.as_secs(), in_parentheses(.detail))]
    Unreachable {
        /// The address list.
        brokers: String,
        /// How long we tried.
        waited: Duration,
        /// The client's last words.
        detail: String,
    },
    /// The broker refused the credentials.
    #[error("the broker refused the credentials{}", in_parentheses(.detail))]
    Authentication {
        /// The client's words.
        detail: String,
    },
    /// No TLS session could be made.
    #[error("no TLS session with {brokers}{}", in_parentheses(.detail))]
    Tls {
        /// The address list.
        brokers: String,
        /// The client's words.
        detail: String,
    },
    /// The topic does not exist.
    #[error("topic {topic} does not exist on {brokers}")]
    UnknownTopic {
        /// The topic.
        topic: String,
        /// The address list.
        brokers: String,
    },
    /// The principal may not use a topic or a group.
    #[error("the credentials do not allow {action} {resource}")]
    Unauthorized {
        /// What was tried.
        action: &'static str,
        /// On what.
        resource: String,
    },
    /// librdkafka could not be set up.
    #[error("librdkafka cannot be set up")]
    Client(#[source] KafkaError),
    /// The group cannot be joined.
    #[error("group {group} cannot be joined{}", in_parentheses(.detail))]
    Group {
        /// The group.
        group: String,
        /// The reason.
        detail: String,
    },
    /// Another process has the same name in the group.
    #[error("another process joined group {group} as static member {instance}")]
    InstanceFenced {
        /// The group.
        group: String,
        /// The name, `group.instance.id`.
        instance: String,
    },
    /// The start offset that was given is not in the partition.
    #[error("{lane} cannot start at {at}: it holds [{start}, {end})")]
    StartOutside {
        /// The partition.
        lane: TopicPartition,
        /// The offset that was given.
        at: Offset,
        /// The first offset of the partition.
        start: Offset,
        /// The end of the partition.
        end: Offset,
    },
    /// The mark of a partition cannot be read.
    #[error("the mark of {lane} cannot be used")]
    Mark {
        /// The partition.
        lane: TopicPartition,
        /// Why.
        #[source]
        source: MarkError,
    },
    /// A mark is behind the end of its partition.
    #[error(
        "the mark of {lane} is {mark} but the partition ends at {end}: the topic was recreated or its log truncated"
    )]
    MarkPastEnd {
        /// The partition.
        lane: TopicPartition,
        /// The committed offset.
        mark: Offset,
        /// The end of the partition.
        end: Offset,
    },
    /// The next offset to read is not in the partition.
    #[error("the next offset to read is gone{}", in_parentheses(.detail))]
    OffsetGone {
        /// Partitions and what the client said.
        detail: String,
    },
    /// A batch came that the client cannot read.
    #[error("the client cannot read a batch of records{}", in_parentheses(.detail))]
    Unreadable {
        /// The client's words.
        detail: String,
    },
    /// The broker's limit for commit metadata is too low.
    #[error("the broker refuses {bytes} bytes of offset metadata for {lane}")]
    MetadataTooLarge {
        /// The partition.
        lane: TopicPartition,
        /// What an intent may need.
        bytes: usize,
    },
    /// The partition is not assigned to this process.
    #[error("{lane} is not ours any more")]
    NotOurs {
        /// The partition.
        lane: TopicPartition,
    },
    /// The coordinator did not answer a commit.
    #[error("the commit of {lane} was not answered within {} s", .waited.as_secs())]
    CommitUnanswered {
        /// The partition.
        lane: TopicPartition,
        /// How long we waited.
        waited: Duration,
    },
    /// The coordinator refused a commit.
    #[error("the commit of {lane} was refused")]
    Commit {
        /// The partition.
        lane: TopicPartition,
        /// Its answer.
        #[source]
        code: RDKafkaErrorCode,
    },
    /// The lane has a commit under way already.
    #[error("a commit of {lane} is under way")]
    CommitUnderWay {
        /// The partition.
        lane: TopicPartition,
    },
    /// A dead letter was not stored.
    #[error("a dead letter of {lane} at offset {offset} was not stored in {topic}")]
    Produce {
        /// The dead-letter topic.
        topic: String,
        /// Where the record came from.
        lane: TopicPartition,
        /// Its offset.
        offset: Offset,
        /// The producer's answer.
        #[source]
        code: RDKafkaErrorCode,
    },
    /// The poll thread has ended.
    #[error("the consumer has stopped")]
    Stopped,
}

impl Classify for KafkaSourceError {
    fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. }
            | Self::Authentication { .. }
            | Self::Tls { .. }
            | Self::UnknownTopic { .. }
            | Self::Unauthorized { .. }
            | Self::Client(_)
            | Self::Group { .. }
            | Self::InstanceFenced { .. }
            | Self::StartOutside { .. }
            | Self::Mark { .. }
            | Self::MarkPastEnd { .. }
            | Self::OffsetGone { .. }
            | Self::Unreadable { .. }
            | Self::MetadataTooLarge { .. }
            | Self::Stopped => Class::Fatal,
            Self::NotOurs { .. } | Self::CommitUnanswered { .. } => Class::Fenced,
            Self::CommitUnderWay { .. } => Class::Unknown,
            Self::Commit { code, .. } => commit_class(*code),
            Self::Produce { code, .. } => produce_class(*code),
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => {
                "check `brokers`, the network, and that the listener speaks what is set: `Security::Tls`, `Security::Sasl` \
                 or `security.protocol`"
                    .to_owned()
            }
            Self::Authentication { .. } => {
                "check `sasl.mechanism`, `sasl.username` and `sasl.password` (or who makes the tokens), and the client \
                 certificate"
                    .to_owned()
            }
            Self::Tls { detail, .. } => tls_hint(detail).to_owned(),
            Self::UnknownTopic { .. } => "create it, or correct `topics`".to_owned(),
            Self::Unauthorized { resource, .. } => format!("grant the principal access to {resource}"),
            Self::Client(_) => "correct the property it names".to_owned(),
            Self::InstanceFenced { .. } => {
                "give every process a `static_member` name of its own, and stop the one that is not wanted"
                    .to_owned()
            }
            Self::StartOutside { .. } => {
                "choose an offset the partition holds, or `StartAt::Earliest`".to_owned()
            }
            Self::Group { detail, .. } if detail.contains("does not support") || detail.contains("UnsupportedVersion") => {
                "the broker does not offer this group protocol: use `GroupProtocol::Classic`".to_owned()
            }
            Self::Group { .. } => {
                "give all members of the group the same `partition.assignment.strategy` and `group.protocol`"
                    .to_owned()
            }
            Self::MarkPastEnd { .. } => {
                "if the topic was recreated on purpose, use a new `group` or delete the group's offsets, and another prefix: \
                 the old objects have the names of the new ones"
                    .to_owned()
            }
            Self::OffsetGone { .. } => "retention has deleted records before they were read, or the log was \
                                        truncated: reset the group's offset to go on without them; if the topic \
                                        was recreated on purpose, use a new `group` and another prefix"
                .to_owned(),
            Self::MetadataTooLarge { bytes, .. } => {
                format!("set the broker property `offset.metadata.max.bytes` to at least {bytes}")
            }
            Self::Commit { code: RDKafkaErrorCode::GroupAuthorizationFailed, .. } => {
                "grant the principal READ on the group".to_owned()
            }
            Self::Produce { code, topic, .. } if *code == RDKafkaErrorCode::MessageSizeTooLarge => format!(
                "a letter is the record and its headers: raise `message.max.bytes` here and `max.message.bytes` of {topic}"
            ),
            _ => return None,
        })
    }
}

/// What to do about a handshake that failed, by what the TLS library says of it.
fn tls_hint(detail: &str) -> &'static str {
    let detail = detail.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| detail.contains(part));
    if says(&["wrong version number", "plaintext"]) {
        "the listener speaks plaintext: correct `brokers` or `security.protocol`"
    } else if says(&[
        "certificate required",
        "bad certificate",
        "certificate unknown",
        "unknown ca",
        "certificate expired",
    ]) {
        "the broker wants a client certificate it believes: `Tls::client_files`, or `ssl.certificate.location`"
    } else {
        // The client does not say which of them it is.
        "check that `Tls::ca_file` (`ssl.ca.location`) holds the authority of the broker's certificate, that the certificate \
         has not expired, and that `brokers` has a host name that is in it"
    }
}

/// Whether the broker has ended a TLS session because of the client's certificate. It does so after the handshake, so that
/// the client takes it for a connection that broke.
pub(crate) fn is_about_our_certificate(detail: &str) -> bool {
    let detail = detail.to_ascii_lowercase();
    detail.contains("alert") && detail.contains("certificate")
}

/// What becomes of a commit the coordinator refused.
fn commit_class(code: RDKafkaErrorCode) -> Class {
    use RDKafkaErrorCode as Code;
    match code {
        Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::WaitingForCoordinator
        | Code::BrokerTransportFailure
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::ThrottlingQuotaExceeded
        | Code::NetworkException => Class::RETRY,
        Code::OffsetMetadataTooLarge
        | Code::InvalidCommitOffsetSize
        | Code::GroupAuthorizationFailed
        | Code::TopicAuthorizationFailed => Class::Fatal,
        Code::UnknownMemberId
        | Code::IllegalGeneration
        | Code::RebalanceInProgress
        | Code::StaleMemberEpoch
        | Code::FencedMemberEpoch
        | Code::FencedInstanceId
        | Code::AssignmentLost
        | Code::Fatal => Class::Fenced,
        _ => Class::Unknown,
    }
}

fn produce_class(code: RDKafkaErrorCode) -> Class {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::InvalidTopic
        | Code::InvalidRecord
        | Code::PolicyViolation
        | Code::Fatal => Class::Fatal,
        Code::QueueFull
        | Code::MessageTimedOut
        | Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::NetworkException
        | Code::ThrottlingQuotaExceeded
        | Code::PurgeQueue
        | Code::PurgeInflight => Class::RETRY,
        _ => Class::Unknown,
    }
}

fn in_parentheses(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({})", detail.replace(['\n', '\r'], " ")) }
}

#[cfg(test)]
mod tests {
    use aqueduct_core::{ErrorChain, StageError};

    use super::*;

    fn refused(code: RDKafkaErrorCode) -> Class {
        KafkaSourceError::Commit { lane: TopicPartition::new("t", 0), code }.class()
    }

    #[test]
    fn a_refused_commit_is_retried_fenced_or_fatal() {
        assert_eq!(refused(RDKafkaErrorCode::CoordinatorLoadInProgress), Class::RETRY);
        assert_eq!(refused(RDKafkaErrorCode::UnknownMemberId), Class::Fenced);
        assert_eq!(refused(RDKafkaErrorCode::GroupAuthorizationFailed), Class::Fatal);
        assert_eq!(refused(RDKafkaErrorCode::InvalidRequest), Class::Unknown);
    }

    #[test]
    fn a_failed_handshake_says_what_to_look_at() {
        let hint = |detail: &str| {
            KafkaSourceError::Tls { brokers: "kafka:1".to_owned(), detail: detail.to_owned() }.hint().unwrap()
        };
        let unbelieved = hint("SSL handshake failed: error:0A000086:SSL routines::certificate verify failed");
        for part in ["Tls::ca_file", "expired", "host name"] {
            assert!(unbelieved.contains(part), "{part} in {unbelieved}");
        }
        assert!(hint("wrong version number: connecting to a PLAINTEXT broker?").contains("speaks plaintext"));
        let alert = "Receive failed: ssl/tls alert bad certificate";
        assert!(hint(alert).contains("Tls::client_files") && is_about_our_certificate(alert));
        assert!(!is_about_our_certificate("Connect to ipv4#127.0.0.1:1 failed: Connection refused"));
    }

    #[test]
    fn errors_are_one_line_with_a_remedy() {
        let error = KafkaSourceError::Unreachable {
            brokers: "kafka:1".to_owned(),
            waited: Duration::from_secs(8),
            detail: "connection refused\nagain".to_owned(),
        };
        let text = ErrorChain(&StageError::new("kafka open", error)).to_string();
        assert!(
            text.contains("no broker of kafka:1 answered within 8 s (connection refused again)"),
            "{text}"
        );
        assert!(text.contains("security.protocol") && !text.contains('\n'), "{text}");
    }
}
