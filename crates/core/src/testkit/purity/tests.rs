use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::convert::Converted;
use crate::error::PoisonReason;

/// What is wrong with a stage.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    Counts,
    Panics,
    CountsInItsFingerprint,
    HasNoFingerprint,
    LooksAtItsNeighbours,
}

struct Stage {
    flaw: Flaw,
    calls: AtomicU64,
    replay: Replay,
    prepared: AtomicU64,
}

impl Stage {
    fn new(flaw: Flaw) -> Self {
        let (calls, prepared) = Default::default();
        Self { flaw, calls, replay: Replay::Deterministic, prepared }
    }

    fn answer(&self, record: &Record<'_>) -> Result<String, Poison> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.flaw {
            Flaw::Counts => Ok(calls.to_string()),
            Flaw::Panics => Ok(std::str::from_utf8(record.value().unwrap_or_default()).unwrap().to_owned()),
            Flaw::LooksAtItsNeighbours => Ok(self.prepared.load(Ordering::Relaxed).to_string()),
            Flaw::None if record.value() == Some(b"offset") => Ok(record.offset().to_string()),
            _ => match std::str::from_utf8(record.value().unwrap_or_default()) {
                Ok(text) => Ok(text.chars().filter(char::is_ascii_alphanumeric).take(20).collect()),
                Err(_) => Err(Poison::new(PoisonReason::Malformed, "not UTF-8")),
            },
        }
    }

    fn put(&self, parts: &mut Fingerprint) {
        match self.flaw {
            Flaw::HasNoFingerprint => {}
            Flaw::CountsInItsFingerprint => parts.put("stage", self.calls.load(Ordering::Relaxed)),
            _ => parts.put("stage", "stage/1"),
        }
    }
}

#[async_trait::async_trait]
impl Converter for Stage {
    type Output = String;

    async fn prepare(&self, batch: &Batch) -> Result<(), crate::error::StageError> {
        self.prepared.store(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn convert(&self, record: &Record<'_>) -> Result<Converted<String>, Poison> {
        self.answer(record).map(Converted::Emit)
    }

    fn replay(&self) -> Replay {
        self.replay
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        self.put(parts);
    }
}

impl<T> Partitioner<T> for Stage {
    fn route(&self, record: &Record<'_>, _value: &T, path: &mut RoutePath) -> Result<(), Poison> {
        path.push(&self.answer(record)?)
    }

    fn replay(&self) -> Replay {
        self.replay
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        self.put(parts);
    }
}

fn message(panic: Box<dyn std::any::Any + Send>) -> String {
    *panic.downcast::<String>().unwrap()
}

/// The message a converter and a partitioner with this flaw fail with.
async fn verdicts(flaw: Flaw) -> [Result<(), String>; 2] {
    let converter = tokio::spawn(async move { check_converter(&Stage::new(flaw), &[record("abc")]).await });
    let converter = converter.await.map_err(|error| message(error.into_panic()));
    let partitioner = std::thread::spawn(move || {
        check_partitioner(&Stage::new(flaw), &[record("abc")], |record| record.value().map(<[u8]>::len));
    });
    [converter, partitioner.join().map_err(message)]
}

#[tokio::test]
async fn pure_stages_pass() {
    assert_eq!(verdicts(Flaw::None).await, [Ok(()), Ok(())]);
    let honest = Stage { replay: Replay::WallClock, ..Stage::new(Flaw::Counts) };
    check_converter(&honest, &[]).await;
    // An offset is a part of the record.
    check_converter(&Stage::new(Flaw::None), &[record("first"), record("offset")]).await;
}

#[tokio::test]
async fn impure_ones_are_caught() {
    let expected = [
        (Flaw::Counts, "is not pure"),
        (Flaw::Panics, "panicked on record"),
        (Flaw::CountsInItsFingerprint, "fingerprint has changed"),
        (Flaw::HasNoFingerprint, "puts nothing into the fingerprint"),
    ];
    for (flaw, expected) in expected {
        for verdict in verdicts(flaw).await {
            let message = verdict.unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
    let [converter, _] = verdicts(Flaw::LooksAtItsNeighbours).await;
    assert!(converter.unwrap_err().contains("alone in its batch"));
}

#[test]
#[should_panic(expected = "\"b\" and \"a\" give different output under the same fingerprint")]
fn a_fingerprint_that_two_variants_share_is_caught() {
    check_fingerprints_differ(["a", "b"].map(|name| (name, fingerprint_of(|parts| parts.put("stage", 1)))));
}
