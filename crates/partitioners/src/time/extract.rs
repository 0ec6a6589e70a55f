//! Where a layout by time takes a record's time from.

use aqueduct_core::{Fingerprint, Poison, PoisonReason, Record, Replay, RoutePath};

/// Finds a record's time. [`RecordTimestamp`], [`FieldTime`](super::FieldTime), [`HeaderTime`](super::HeaderTime) and
/// [`SegmentOpened`] are there; implement it for others.
///
/// Like a partitioner it must be pure.
///
/// ```
/// use aqueduct_core::{Fingerprint, Poison, PoisonReason, Record, RoutePath};
/// use aqueduct_partitioners::{ByTime, Extract};
///
/// /// Takes the time from keys that begin with it: UUIDs of version 7, as bytes.
/// struct KeyUuid;
///
/// impl<T: ?Sized> Extract<T> for KeyUuid {
///     fn millis(&self, record: &Record<'_>, _value: &T, _path: &RoutePath) -> Result<i64, Poison> {
///         match record.key() {
///             Some(&[a, b, c, d, e, f, version, ..]) if version >> 4 == 7 => {
///                 Ok(i64::from_be_bytes([0, 0, a, b, c, d, e, f]))
///             }
///             _ => Err(Poison::new(PoisonReason::InvalidTimestamp, "the key is no UUID of version 7")),
///         }
///     }
///
///     fn fingerprint(&self, parts: &mut Fingerprint) {
///         parts.put("partitioner", "key-uuid/1");
///     }
/// }
///
/// let layout = ByTime::daily("UTC")?.extract(KeyUuid);
/// # Ok::<(), aqueduct_partitioners::LayoutError>(())
/// ```
pub trait Extract<T: ?Sized>: Send + Sync + 'static {
    /// The time in milliseconds since the Unix epoch. `path` is the route as far as it is known; its
    /// [`opened_at_ms`](RoutePath::opened_at_ms) is the only wall clock allowed.
    ///
    /// # Errors
    /// A poison if the record has no usable time.
    fn millis(&self, record: &Record<'_>, value: &T, path: &RoutePath) -> Result<i64, Poison>;

    /// Whether a second reading of the same record gives the same time.
    fn replay(&self) -> Replay {
        Replay::Deterministic
    }

    /// Adds what decides the time to the layout's identity.
    fn fingerprint(&self, parts: &mut Fingerprint);
}

/// The timestamp that the record carries, set by its producer or its broker.
///
/// A record without one is a poison, and so is one with a negative timestamp: Kafka writes −1 for "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordTimestamp;

impl<T: ?Sized> Extract<T> for RecordTimestamp {
    fn millis(&self, record: &Record<'_>, _value: &T, _path: &RoutePath) -> Result<i64, Poison> {
        match record.timestamp().millis() {
            Some(ms @ 0..) => Ok(ms),
            Some(ms) => {
                Err(invalid(format!("the record's timestamp is {ms}, expected milliseconds since 1970")))
            }
            None => Err(invalid("the record has no timestamp; take the time from a field of the value")),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "record-timestamp/1");
    }
}

/// The time at which the segment was opened, by the wall clock.
///
/// All records of a segment get the same time. A replay after a crash sees it again, because it is written down before
/// anything is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentOpened;

impl<T: ?Sized> Extract<T> for SegmentOpened {
    fn millis(&self, _record: &Record<'_>, _value: &T, path: &RoutePath) -> Result<i64, Poison> {
        Ok(path.opened_at_ms())
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "segment-opened/1");
    }
}

#[cold]
pub(super) fn invalid(detail: impl Into<String>) -> Poison {
    Poison::new(PoisonReason::InvalidTimestamp, detail)
}
