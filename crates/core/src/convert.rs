//! From bytes to a value.

use std::sync::Arc;

use async_trait::async_trait;

use crate::batch::Batch;
use crate::error::{Poison, PoisonPart, PoisonReason, StageError};
use crate::fingerprint::Fingerprint;
use crate::partition::Replay;
use crate::record::Record;
use crate::value::Keyed;

/// Turns a record's bytes into a value.
///
/// # Contract
/// - [`convert`](Self::convert) is pure: the same record gives the same answer, whenever and wherever it is read
///   again. No clock, no I/O, no state that records change. A replay after a crash depends on it.
/// - It is called once per record, in offset order within a lane, from several lanes at once; and again where the record turns out
///   to begin another segment, or a route of a sink that [has to ask](crate::SinkCapabilities::opens_routes).
/// - [`prepare`](Self::prepare) is called before the records of a batch and is the only place for I/O.
///
/// # Errors
/// A record that cannot be read is a [`Poison`], handled by the pipeline's policy; its neighbours are not touched.
/// An outage of something the converter asks (a registry) is a [`StageError`] of `prepare`: the lane waits.
///
/// ```
/// use aqueduct_core::{Converted, Converter, Fingerprint, Poison, PoisonReason, Record};
///
/// /// Reads a value of four bytes as a number.
/// struct BigEndian;
///
/// impl Converter for BigEndian {
///     type Output = u32;
///
///     fn convert(&self, record: &Record<'_>) -> Result<Converted<u32>, Poison> {
///         let value = record.value().unwrap_or_default();
///         match value.try_into() {
///             Ok(bytes) => Ok(Converted::Emit(u32::from_be_bytes(bytes))),
///             Err(_) => Err(Poison::new(PoisonReason::Malformed, format!("{} bytes, expected 4", value.len()))),
///         }
///     }
///
///     fn fingerprint(&self, parts: &mut Fingerprint) {
///         parts.put("converter", "big-endian/1");
///     }
/// }
/// ```
///
/// To test yours, call `testkit::check_converter`.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not convert records",
    label = "not a converter",
    note = "take `Json`, `Serde`, `Utf8` or `RawBytes`, with `map`, `try_map` and `filter` for functions, or implement `Converter`",
    note = "stages come in the order `convert`, `partition`, `sink`, `build`; `Unset` is one that was left out"
)]
pub trait Converter: Send + Sync + 'static {
    /// The value.
    type Output: Send + 'static;

    /// Once per batch, before its records: fetch what `convert` will need. The default does nothing.
    async fn prepare(&self, _batch: &Batch) -> Result<(), StageError> {
        Ok(())
    }

    /// Once per record.
    fn convert(&self, record: &Record<'_>) -> Result<Converted<Self::Output>, Poison>;

    /// Whether a second reading gives the same answer. A converter that says [`Replay::WallClock`] makes the
    /// pipeline at-least-once.
    fn replay(&self) -> Replay {
        Replay::Deterministic
    }

    /// Adds what decides the output to the layout's identity: a name with a version, and the options.
    fn fingerprint(&self, parts: &mut Fingerprint);
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Converted<T> {
    /// Store this.
    Emit(T),
    /// Store nothing, by intention. Counted by reason, never silent.
    Skip(SkipReason),
}

/// Why a record is not stored; a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// A record without a value, and the policy is to skip those.
    Tombstone,
    /// A filter said no.
    Filtered,
    /// A poison, and the policy is to skip those.
    Poison,
}

impl SkipReason {
    /// Every reason.
    pub(crate) const ALL: [Self; 3] = [Self::Tombstone, Self::Filtered, Self::Poison];

    /// The name used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::Filtered => "filtered",
            Self::Poison => "poison",
        }
    }
}

macro_rules! forward_converter {
    ($($pointer:ident)*) => { $(
        // The compiler would propose a pointer for every type that does not fit.
        #[diagnostic::do_not_recommend]
        #[async_trait]
        impl<C: Converter + ?Sized> Converter for $pointer<C> {
            type Output = C::Output;

            async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
                (**self).prepare(batch).await
            }

            fn convert(&self, record: &Record<'_>) -> Result<Converted<Self::Output>, Poison> {
                (**self).convert(record)
            }

            fn replay(&self) -> Replay {
                (**self).replay()
            }

            fn fingerprint(&self, parts: &mut Fingerprint) {
                (**self).fingerprint(parts);
            }
        }
    )* };
}
forward_converter!(Arc Box);

/// Stateless transforms of a converter's output.
///
/// The functions must be pure, like [`Converter::convert`]. Each takes a name: a function has no identity the
/// layout's fingerprint could hold, so change the name (`"mask-ip/2"`) when you change what the function does.
pub trait ConverterExt: Converter + Sized {
    /// Applies `f` to every value.
    fn map<U, F>(self, name: &'static str, f: F) -> Map<Self, F>
    where
        U: Send + 'static,
        F: Fn(Self::Output) -> U + Send + Sync + 'static,
    {
        Map { inner: self, name, f }
    }

    /// Applies `f` to every value; an error makes the record a poison ([`PoisonReason::Refused`]).
    fn try_map<U, E, F>(self, name: &'static str, f: F) -> TryMap<Self, F>
    where
        U: Send + 'static,
        E: std::fmt::Display,
        F: Fn(Self::Output) -> Result<U, E> + Send + Sync + 'static,
    {
        TryMap { inner: self, name, f }
    }

    /// Skips values for which `f` says `false` ([`SkipReason::Filtered`]).
    fn filter<F>(self, name: &'static str, f: F) -> Filter<Self, F>
    where
        F: Fn(&Self::Output) -> bool + Send + Sync + 'static,
    {
        Filter { inner: self, name, f }
    }

    /// Reads the key with `key` and keeps it beside the value. A skipped or poisoned key does the same to the record.
    fn keyed<K: Converter>(self, key: K) -> KeyedConverter<K, Self> {
        KeyedConverter { key, value: self }
    }
}

impl<C: Converter> ConverterExt for C {}

/// See [`ConverterExt::map`].
#[derive(Clone, Debug)]
pub struct Map<C, F> {
    inner: C,
    name: &'static str,
    f: F,
}

/// See [`ConverterExt::try_map`].
#[derive(Clone, Debug)]
pub struct TryMap<C, F> {
    inner: C,
    name: &'static str,
    f: F,
}

/// See [`ConverterExt::filter`].
#[derive(Clone, Debug)]
pub struct Filter<C, F> {
    inner: C,
    name: &'static str,
    f: F,
}

/// See [`ConverterExt::keyed`].
#[derive(Clone, Debug)]
pub struct KeyedConverter<K, V> {
    key: K,
    value: V,
}

#[async_trait]
impl<C: Converter, U, F> Converter for Map<C, F>
where
    U: Send + 'static,
    F: Fn(C::Output) -> U + Send + Sync + 'static,
{
    type Output = U;

    async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
        self.inner.prepare(batch).await
    }

    fn convert(&self, record: &Record<'_>) -> Result<Converted<U>, Poison> {
        Ok(match self.inner.convert(record)? {
            Converted::Emit(value) => Converted::Emit((self.f)(value)),
            Converted::Skip(reason) => Converted::Skip(reason),
        })
    }

    fn replay(&self) -> Replay {
        self.inner.replay()
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        self.inner.fingerprint(parts);
        parts.put("converter", format_args!("map:{}", self.name));
    }
}

#[async_trait]
impl<C: Converter, U, E, F> Converter for TryMap<C, F>
where
    U: Send + 'static,
    E: std::fmt::Display,
    F: Fn(C::Output) -> Result<U, E> + Send + Sync + 'static,
{
    type Output = U;

    async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
        self.inner.prepare(batch).await
    }

    fn convert(&self, record: &Record<'_>) -> Result<Converted<U>, Poison> {
        match self.inner.convert(record)? {
            Converted::Emit(value) => match (self.f)(value) {
                Ok(value) => Ok(Converted::Emit(value)),
                Err(error) => Err(Poison::new(PoisonReason::Refused, format!("{}: {error}", self.name))),
            },
            Converted::Skip(reason) => Ok(Converted::Skip(reason)),
        }
    }

    fn replay(&self) -> Replay {
        self.inner.replay()
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        self.inner.fingerprint(parts);
        parts.put("converter", format_args!("try-map:{}", self.name));
    }
}

#[async_trait]
impl<C: Converter, F> Converter for Filter<C, F>
where
    F: Fn(&C::Output) -> bool + Send + Sync + 'static,
{
    type Output = C::Output;

    async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
        self.inner.prepare(batch).await
    }

    fn convert(&self, record: &Record<'_>) -> Result<Converted<C::Output>, Poison> {
        Ok(match self.inner.convert(record)? {
            Converted::Emit(value) if !(self.f)(&value) => Converted::Skip(SkipReason::Filtered),
            other => other,
        })
    }

    fn replay(&self) -> Replay {
        self.inner.replay()
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        self.inner.fingerprint(parts);
        parts.put("converter", format_args!("filter:{}", self.name));
    }
}

#[async_trait]
impl<K: Converter, V: Converter> Converter for KeyedConverter<K, V> {
    type Output = Keyed<K::Output, V::Output>;

    async fn prepare(&self, batch: &Batch) -> Result<(), StageError> {
        self.key.prepare(batch).await?;
        self.value.prepare(batch).await
    }

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Self::Output>, Poison> {
        let key = self.key.convert(&record.key_as_value());
        let key = match key.map_err(|poison| poison.in_part(PoisonPart::Key))? {
            Converted::Emit(key) => key,
            Converted::Skip(reason) => return Ok(Converted::Skip(reason)),
        };
        Ok(match self.value.convert(record)? {
            Converted::Emit(value) => Converted::Emit(Keyed { key, value }),
            Converted::Skip(reason) => Converted::Skip(reason),
        })
    }

    fn replay(&self) -> Replay {
        self.key.replay().and(self.value.replay())
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        let mut key = Fingerprint::new();
        self.key.fingerprint(&mut key);
        parts.put("converter", format_args!("key:{:016x}", key.digest()));
        self.value.fingerprint(parts);
    }
}
