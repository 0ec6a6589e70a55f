//! How an [`Avro`] converter is made.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::canonical;
use super::compile::{Reader, compile};
use super::plan::Plan;
use super::schema::{AvroSchema, AvroSchemaError};
use super::{Avro, Schemas};
use crate::registry::{Framing, RegisteredSchema, SchemaCache, SchemaKind, SchemaSource};
use crate::tombstones::Tombstones;

impl Avro {
    /// Records in Confluent's wire format, whose schemas `source` knows.
    ///
    /// ```
    /// use aqueduct_converters::Avro;
    /// use aqueduct_converters::registry::{FixedSchemas, SchemaKind};
    ///
    /// let source = FixedSchemas::new().with(7, SchemaKind::Avro, r#""string""#);
    /// let converter = Avro::with_registry(source).subject("orders-value").build()?;
    /// # Ok::<(), aqueduct_converters::AvroConfigError>(())
    /// ```
    pub fn with_registry(source: impl SchemaSource) -> AvroBuilder {
        AvroBuilder::new(Origin::Registry(Box::new(source)))
    }

    /// Records in single-object encoding, written with one of `schemas`. Each text stands alone.
    ///
    /// Adding a schema does not change the layout's identity: a record's schema is known by its contents.
    pub fn single_object<S: Into<String>>(schemas: impl IntoIterator<Item = S>) -> AvroBuilder {
        AvroBuilder::new(Origin::SingleObject(schemas.into_iter().map(Into::into).collect()))
    }

    /// Records that are nothing but a datum, all written with `schema`.
    pub fn fixed(schema: impl Into<String>) -> AvroBuilder {
        AvroBuilder::new(Origin::Fixed(schema.into()))
    }
}

/// Options of an [`Avro`] converter.
pub struct AvroBuilder {
    from: Origin,
    reader: Option<String>,
    subject: Option<String>,
    framing: Framing,
    schemas_max: usize,
    tombstones: Tombstones,
    unfold_max: u64,
}

enum Origin {
    Registry(Box<dyn SchemaSource>),
    SingleObject(Vec<String>),
    Fixed(String),
}

impl AvroBuilder {
    /// What a record may unfold to, whatever it holds, by default.
    pub const UNFOLD_MAX: u64 = 1 << 20;

    fn new(from: Origin) -> Self {
        Self {
            from,
            reader: None,
            subject: None,
            framing: Framing::values(),
            schemas_max: SchemaCache::<Arc<Plan>>::CAPACITY,
            tombstones: Tombstones::default(),
            unfold_max: Self::UNFOLD_MAX,
        }
    }

    /// Values come out in this schema, whatever schema they were written with: numbers are promoted, fields reordered, found by
    /// their aliases or left out, and defaults put in, as Avro's specification says of schema resolution.
    ///
    /// What would quietly become another value is refused, beyond what the specification asks for: logical types that differ,
    /// such as milliseconds read as microseconds. A schema that cannot be resolved at all makes poisons of its records; of one
    /// that can, only the records that hold a branch or symbol without a place are poisons.
    #[must_use]
    pub fn reader_schema(mut self, text: impl Into<String>) -> Self {
        self.reader = Some(text.into());
        self
    }

    /// Under which subject the version is looked up that values tell of their schema. Without, they tell the version of a schema
    /// that is registered under one version only.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Where the schema's id stands in a record. A converter of keys has to say [`Framing::keys`].
    #[must_use]
    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// How many of the registry's schemas are kept ready; [`SchemaCache::CAPACITY`] by default.
    #[must_use]
    pub fn schemas_max(mut self, schemas: usize) -> Self {
        self.schemas_max = schemas;
        self
    }

    /// What a record without a value is.
    #[must_use]
    pub fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.tombstones = tombstones;
        self
    }

    /// How much a record may unfold to, beyond 256 for each of its bytes: items of lists and maps, one each, and the bytes of
    /// names and symbols. [`UNFOLD_MAX`](Self::UNFOLD_MAX) by default.
    ///
    /// Ten bytes can announce 2^31 nulls, and records without bytes can have names of any length: this keeps them from becoming
    /// rows that nothing can hold. A record over it is a poison ([`TooLarge`](aqueduct_core::PoisonReason::TooLarge)).
    #[must_use]
    pub fn unfold_max(mut self, unfold_max: u64) -> Self {
        self.unfold_max = unfold_max;
        self
    }

    /// The converter.
    ///
    /// # Errors
    /// With everything that is wrong with the schemas given.
    pub fn build(self) -> Result<Avro, AvroConfigError> {
        let mut problems = Vec::new();
        let reader = self.reader.as_deref().and_then(|text| match Reader::parse(text) {
            Ok(reader) => Some(reader),
            Err(error) => {
                problems.push(format!("reader's schema: {error}"));
                None
            }
        });
        let mut identity = format!("avro/1 tombstones={} unfold={}", self.tombstones, self.unfold_max);
        let mut add = |part: fmt::Arguments<'_>| identity.push_str(&part.to_string());
        if let Some(reader) = &reader {
            add(format_args!(" reader={:016x}", reader.declared.digest()));
        }
        let declared = reader.as_ref().map(|reader| Arc::clone(&reader.declared));
        let schemas = match self.from {
            Origin::Registry(source) => {
                add(format_args!(" registry={} subject={:?}", self.framing, self.subject));
                let subject = self.subject;
                let parse = move |schema: RegisteredSchema| {
                    registered(&schema, subject.as_deref(), reader.as_ref())
                        .map_err(|error| error.to_string())
                };
                let cache = SchemaCache::new(source, parse).with_capacity(self.schemas_max);
                Some(Schemas::Registry { framing: self.framing, cache })
            }
            Origin::SingleObject(texts) => {
                add(format_args!(" single-object"));
                let mut plans = HashMap::new();
                for (index, text) in texts.iter().enumerate() {
                    match single(text, reader.as_ref()) {
                        Ok((fingerprint, plan)) => {
                            plans.insert(fingerprint, plan);
                        }
                        Err(error) => problems.push(format!("schema {}: {error}", index + 1)),
                    }
                }
                if texts.is_empty() {
                    problems.push("no schema is given".to_owned());
                }
                Some(Schemas::SingleObject(plans))
            }
            Origin::Fixed(text) => {
                let plan = AvroSchema::parse(&text, []).and_then(|schema| {
                    // What it declares is part of the layout, also where a reader's schema is shown.
                    let own = compile(&schema, None, None)?.schema.digest();
                    Ok((own, compile(&schema, None, reader.as_ref())?))
                });
                match plan {
                    Ok((own, plan)) => {
                        add(format_args!(" fixed={own:016x}"));
                        Some(Schemas::Fixed(Arc::new(plan)))
                    }
                    Err(error) => {
                        problems.push(format!("schema: {error}"));
                        None
                    }
                }
            }
        };
        match schemas {
            Some(schemas) if problems.is_empty() => {
                let (tombstones, unfold_max) = (self.tombstones, self.unfold_max);
                Ok(Avro { schemas, tombstones, unfold_max, identity, declared })
            }
            _ => Err(AvroConfigError { problems }),
        }
    }
}

impl fmt::Debug for AvroBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AvroBuilder")
            .field("reader", &self.reader)
            .field("subject", &self.subject)
            .field("framing", &self.framing)
            .field("tombstones", &self.tombstones)
            .field("unfold_max", &self.unfold_max)
            .finish_non_exhaustive()
    }
}

/// Schemas that no converter can be made with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the avro converter cannot be made: {}", .problems.join("; "))]
pub struct AvroConfigError {
    problems: Vec<String>,
}

impl AvroConfigError {
    /// Everything that is wrong.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

fn registered(
    schema: &RegisteredSchema,
    subject: Option<&str>,
    reader: Option<&Reader>,
) -> Result<Arc<Plan>, AvroSchemaError> {
    if schema.kind != SchemaKind::Avro {
        return Err(AvroSchemaError::new(format!("it is {}, not {}", schema.kind, SchemaKind::Avro)));
    }
    let references = schema.references.iter().map(|reference| reference.text.as_str());
    let writer = AvroSchema::parse(&schema.text, references)?;
    compile(&writer, schema.version_told(subject), reader).map(Arc::new)
}

fn single(text: &str, reader: Option<&Reader>) -> Result<(u64, Arc<Plan>), AvroSchemaError> {
    let writer = AvroSchema::parse(text, [])?;
    let plan = compile(&writer, None, reader)?;
    Ok((canonical::fingerprint(&writer), Arc::new(plan)))
}
