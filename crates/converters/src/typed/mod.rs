//! The user's own types, through serde.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use aqueduct_core::{
    Converted, Converter, FieldPath, FieldValue, Fields, Fingerprint, JsonRow, Poison, PoisonReason, Record,
    StructuredValue, ValueVisitor,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::json::compact::compact_into;
use crate::tombstones::Tombstones;

mod key;
mod visit;

/// Reads a value as JSON into a type of the user's own.
///
/// What is stored is what the type serialises to, so a field that it does not have is gone: to keep documents as they
/// came, convert with [`Json`](crate::Json). Layouts by field need `T` to implement [`Fields`].
///
/// Memory is what `T` takes. A `T` with fields of its own costs about what the record does, and passes over fields it does not
/// know. One that takes any value (`serde_json::Value`, maps) costs up to a hundred times the record's bytes: with producers
/// you do not trust, convert with [`Json`](crate::Json), or set `Limits::with_record_max` accordingly.
///
/// The layout's identity cannot see what `T` looks like. When a change of `T` changes what is stored, say so with
/// [`version`](Self::version).
///
/// ```
/// use aqueduct_converters::{Serde, Typed};
/// use aqueduct_core::{Converter, ConverterExt};
///
/// #[derive(serde::Deserialize, serde::Serialize)]
/// struct Order {
///     id: u64,
///     status: String,
/// }
///
/// let orders = Serde::<Order>::new().version("order/2");
/// let open_orders = orders.filter("open/1", |order: &Typed<Order>| order.status != "closed");
/// # fn is_converter(_: impl Converter<Output = Typed<Order>>) {}
/// # is_converter(open_orders);
/// ```
pub struct Serde<T> {
    tombstones: Tombstones,
    version: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T> Serde<T> {
    /// Tombstones are poisons; the version is empty.
    pub fn new() -> Self {
        Self { tombstones: Tombstones::default(), version: "", value: PhantomData }
    }

    /// What a record without a value is. [`Tombstones::Null`] is read as the JSON `null`: let `T` be an `Option` for that.
    #[must_use]
    pub fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.tombstones = tombstones;
        self
    }

    /// Names the type and its version in the layout's identity, such as `order/2`.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }
}

impl<T> Default for Serde<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Serde<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Serde<T> {}

impl<T> fmt::Debug for Serde<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serde")
            .field("type", &type_name::<T>())
            .field("version", &self.version)
            .field("tombstones", &self.tombstones)
            .finish()
    }
}

impl<T: DeserializeOwned + Send + 'static> Converter for Serde<T> {
    type Output = Typed<T>;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Typed<T>>, Poison> {
        let read = |bytes| match serde_json::from_slice(bytes) {
            Ok(value) => Ok(Typed(value)),
            Err(error) => Err(Poison::new(PoisonReason::Malformed, describe::<T>(&error, bytes))),
        };
        match record.value() {
            Some(bytes) => read(bytes).map(Converted::Emit),
            None => match self.tombstones.absent(|| b"null")? {
                Converted::Emit(null) => read(null).map(Converted::Emit),
                Converted::Skip(reason) => Ok(Converted::Skip(reason)),
            },
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", format_args!("serde-json/1 {} tombstones={}", self.version, self.tombstones));
    }
}

/// A value of the user's own type.
///
/// As a row it is the JSON it serialises to, on one line; its fields are those of `T`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Typed<T>(pub T);

impl<T> Deref for Typed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Typed<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Fields> Fields for Typed<T> {
    fn field(&self, path: &FieldPath) -> Option<FieldValue<'_>> {
        self.0.field(path)
    }
}

/// Enums, options and maps are as `serde_json` would write them. A map within another value has keys that are data; a struct with
/// `#[serde(flatten)]` is a struct. Bytes are bytes, and numbers of 128 bits are decimals.
impl<T: Serialize> StructuredValue for Typed<T> {
    fn visit(&self, visitor: &mut dyn ValueVisitor) -> Result<(), Poison> {
        visit::visit(&self.0, visitor)
    }
}

impl<T: Serialize> JsonRow for Typed<T> {
    fn write_json(&self, out: &mut Vec<u8>) -> Result<(), Poison> {
        let start = out.len();
        if serde_json::to_writer(&mut *out, &self.0).is_err() {
            // The error's own words could quote the value.
            return Err(Poison::new(
                PoisonReason::InvalidField,
                format!(
                    "{} does not serialise to json; keys of maps must be text or numbers",
                    type_name::<T>()
                ),
            ));
        }
        let row = out.get(start..).unwrap_or_default();
        if memchr::memchr2(b'\n', b'\r', row).is_some() {
            // Only a `RawValue` in `T` writes raw newlines, and only between tokens.
            let row = out.split_off(start);
            compact_into(out, &row);
        }
        Ok(())
    }
}

/// What is wrong and where, without the value that serde's own message would quote.
fn describe<T>(error: &serde_json::Error, bytes: &[u8]) -> String {
    let line_start: usize = bytes
        .split_inclusive(|&byte| byte == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    let position = (line_start + error.column()).min(bytes.len());
    match error.classify() {
        Category::Data => {
            let text = error.to_string();
            // The one message that holds nothing but a name of the type's own.
            let missing = text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
            let what = missing.map_or_else(String::new, |(name, _)| format!("field {name:?} is missing, "));
            format!("the json does not fit {}: {what}noticed at byte {position}", type_name::<T>())
        }
        Category::Eof if bytes.is_empty() => "not valid json at byte 0: the value is empty".to_owned(),
        Category::Eof => format!("not valid json at byte {position}: the text ends too early"),
        Category::Syntax | Category::Io => format!("not valid json at byte {position}"),
    }
}

#[cfg(test)]
mod tests;
