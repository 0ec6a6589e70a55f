//! The checks of `open`: a wrong address, topic or credential is an error within seconds, and says which.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::client::{ClientError, Consumer};
use crate::config::{Settings, is_pattern};
use crate::error::{KafkaSourceError, is_about_our_certificate};

/// How long brokers may take to answer the first question.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);
/// One attempt; short, so that an error event is seen soon.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How long events are looked through for the reason why it failed.
const EVENTS: Duration = Duration::from_millis(100);

/// Asks the brokers for every topic and subscribes.
pub(crate) fn subscribe(consumer: &Consumer, settings: &Settings) -> Result<(), KafkaSourceError> {
    let deadline = Instant::now() + PATIENCE;
    for topic in settings.topics.iter().filter(|topic| !is_pattern(topic)) {
        check_topic(consumer, settings, topic, deadline)?;
    }
    if settings.topics.iter().all(|topic| is_pattern(topic)) {
        check_brokers(consumer, settings, deadline)?;
    }
    let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).map_err(KafkaSourceError::Client)
}

fn check_topic(
    consumer: &Consumer,
    settings: &Settings,
    topic: &str,
    deadline: Instant,
) -> Result<(), KafkaSourceError> {
    loop {
        match consumer.fetch_metadata(Some(topic), attempt(deadline)) {
            Ok(metadata) => {
                let found = metadata.topics().iter().find(|found| found.name() == topic);
                match found.and_then(|found| found.error().map(RDKafkaErrorCode::from)) {
                    None if found.is_some_and(|found| !found.partitions().is_empty()) => return Ok(()),
                    Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                        return Err(KafkaSourceError::Unauthorized {
                            action: "describing",
                            resource: format!("topic {topic}"),
                        });
                    }
                    Some(RDKafkaErrorCode::LeaderNotAvailable) | None if Instant::now() < deadline => {
                        // A topic that was created a moment ago.
                        std::thread::sleep(Duration::from_millis(100));
                    }
                    _ => {
                        return Err(KafkaSourceError::UnknownTopic {
                            topic: topic.to_owned(),
                            brokers: settings.brokers.clone(),
                        });
                    }
                }
            }
            Err(error) => no_answer(consumer, settings, &error, deadline)?,
        }
    }
}

fn check_brokers(
    consumer: &Consumer,
    settings: &Settings,
    deadline: Instant,
) -> Result<(), KafkaSourceError> {
    loop {
        match consumer.fetch_metadata(None, attempt(deadline)) {
            Ok(_) => return Ok(()),
            Err(error) => no_answer(consumer, settings, &error, deadline)?,
        }
    }
}

/// Decides whether a question that got no answer is asked again.
fn no_answer(
    consumer: &Consumer,
    settings: &Settings,
    error: &KafkaError,
    deadline: Instant,
) -> Result<(), KafkaSourceError> {
    // The reason comes as an event beside the failed call, behind however many lines of the client's log.
    let events_until = Instant::now() + EVENTS;
    loop {
        drop(consumer.poll(events_until.saturating_duration_since(Instant::now())));
        let reason = consumer.context().last_error();
        let refused = reason.as_ref().and_then(|it| refusal(&settings.brokers, &settings.group, it));
        if let Some(refused) = refused {
            return Err(refused);
        }
        if Instant::now() >= events_until {
            break;
        }
    }
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(KafkaSourceError::Unreachable {
        brokers: settings.brokers.clone(),
        waited: PATIENCE,
        detail: consumer.context().last_error().map_or_else(|| error.to_string(), |reason| reason.detail),
    })
}

/// What an error event says that no retry will change.
pub(crate) fn refusal(brokers: &str, group: &str, error: &ClientError) -> Option<KafkaSourceError> {
    let detail = error.detail.clone();
    match error.code {
        RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SaslAuthenticationFailed
        | RDKafkaErrorCode::UnsupportedSASLMechanism
        | RDKafkaErrorCode::IllegalSASLState => Some(KafkaSourceError::Authentication { detail }),
        RDKafkaErrorCode::BrokerTransportFailure if is_about_our_certificate(&detail) => {
            Some(KafkaSourceError::Tls { brokers: brokers.to_owned(), detail })
        }
        RDKafkaErrorCode::SSL => Some(KafkaSourceError::Tls { brokers: brokers.to_owned(), detail }),
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            Some(KafkaSourceError::Unauthorized { action: "reading", resource: detail })
        }
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            Some(KafkaSourceError::Unauthorized { action: "joining", resource: format!("group {group}") })
        }
        _ => None,
    }
}

pub(crate) fn attempt(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(100), ATTEMPT)
}
