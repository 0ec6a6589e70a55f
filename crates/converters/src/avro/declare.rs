//! What a schema says, in the words that all formats know.

use aqueduct_core::{DataType, Field, Schema};

use super::check::DECIMAL_BYTES_MAX;
use super::default::literal;
use super::schema::{
    AvroSchema, AvroSchemaError, FIELDS_MAX, LEVELS_MAX, Logical, NAMES_MAX, PRECISION_MAX, Type, TypeId,
};

/// The schema of values of `schema`. Where a record comes back to itself it is of any shape.
///
/// # Errors
/// If it nests too deep or, written out in full, has too many fields, or too long names. A schema that was declared is bounded in both.
pub(super) fn declare(schema: &AvroSchema, version: Option<u32>) -> Result<Schema, AvroSchemaError> {
    let mut declarer = Declarer { schema, around: Vec::new(), fields: 0, bytes: NAMES_MAX };
    let mut told = Schema::of_root(declarer.field("", schema.root(), 0)?);
    if let Some(name) = schema.get(schema.root()).name() {
        told = told.with_name(&name.full);
    }
    if let Some(version) = version {
        told = told.with_version(version);
    }
    Ok(told.with_avro(schema.text()))
}

struct Declarer<'s> {
    schema: &'s AvroSchema,
    /// The records around what is being declared.
    around: Vec<TypeId>,
    fields: usize,
    /// Of names that may still come: a type is written out wherever it is referred to.
    bytes: usize,
}

/// What texts take in memory: each something even where it has no bytes.
fn weight(texts: &[String]) -> usize {
    texts.iter().map(|text| text.len() + size_of::<String>()).sum()
}

impl Declarer<'_> {
    fn field(&mut self, name: &str, id: TypeId, level: usize) -> Result<Field, AvroSchemaError> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            let why = format!("the schema, written out in full, has more than {FIELDS_MAX} fields");
            return Err(AvroSchemaError::new(why));
        }
        if level > LEVELS_MAX {
            return Err(AvroSchemaError::new(format!("the schema nests deeper than {LEVELS_MAX} levels")));
        }
        self.pay(name.len())?;
        let Type::Union(branches) = self.schema.get(id) else {
            return Ok(Field::new(name, self.data_type(id, level)?));
        };
        let schema = self.schema;
        let is_null = |id: &&TypeId| matches!(schema.get(**id), Type::Null);
        let nullable = branches.iter().any(|id| is_null(&id));
        let mut others = branches.iter().filter(|id| !is_null(id));
        let data_type = match (others.next(), others.next()) {
            (None, _) => return Ok(Field::new(name, DataType::Null).nullable()),
            (Some(only), None) => self.data_type(*only, level)?,
            _ => {
                let others = branches.iter().filter(|id| !is_null(id));
                let fields = others.map(|id| self.field(schema.get(*id).label(), *id, level + 1));
                DataType::Union(fields.collect::<Result<_, _>>()?)
            }
        };
        let field = Field::new(name, data_type);
        Ok(if nullable { field.nullable() } else { field })
    }

    fn pay(&mut self, bytes: usize) -> Result<(), AvroSchemaError> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| {
            let why = format!("the schema, written out in full, has more than {NAMES_MAX} bytes of names");
            AvroSchemaError::new(why)
        })?;
        Ok(())
    }

    fn data_type(&mut self, id: TypeId, level: usize) -> Result<DataType, AvroSchemaError> {
        let schema = self.schema;
        let of = schema.get(id);
        Ok(match (of, of.logical()) {
            (_, Some(Logical::Decimal { precision, scale })) => {
                let too_long = matches!(of, Type::Fixed(fixed) if fixed.size as usize > DECIMAL_BYTES_MAX);
                if precision > PRECISION_MAX || too_long {
                    return Err(AvroSchemaError::new(format!(
                        "a decimal has more than {PRECISION_MAX} digits"
                    )));
                }
                DataType::Decimal { precision, scale }
            }
            (_, Some(Logical::Uuid)) => DataType::Uuid,
            (_, Some(Logical::Date)) => DataType::Date,
            (_, Some(Logical::Time(unit))) => DataType::Time(unit),
            (_, Some(Logical::Timestamp { unit, utc })) => DataType::Timestamp { unit, utc },
            (_, Some(Logical::Duration)) => DataType::Duration,
            // A union is no branch of another, and a field knows its own.
            (Type::Null | Type::Union(_), None) => DataType::Null,
            (Type::Boolean, None) => DataType::Bool,
            (Type::Int(_), None) => DataType::Int32,
            (Type::Long(_), None) => DataType::Int64,
            (Type::Float, None) => DataType::Float32,
            (Type::Double, None) => DataType::Float64,
            (Type::Bytes(_), None) => DataType::Bytes,
            (Type::String(_), None) => DataType::String,
            (Type::Fixed(fixed), None) => DataType::Fixed(fixed.size),
            (Type::Enum(of), None) => {
                self.pay(weight(&of.symbols))?;
                DataType::Enum(of.symbols.clone())
            }
            (Type::Array(items), None) => DataType::List(Box::new(self.field("", *items, level + 1)?)),
            (Type::Map(values), None) => DataType::Map(Box::new(self.field("", *values, level + 1)?)),
            (Type::Record(_), None) if self.around.contains(&id) => DataType::Json,
            (Type::Record(record), None) => {
                self.around.push(id);
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    let mut declared = self.field(&field.name, field.of, level + 1)?;
                    let texts = field.doc.as_ref().map_or(0, String::len) + weight(&field.aliases);
                    let default =
                        field.default.as_ref().and_then(serde_json::Value::as_str).map_or(0, str::len);
                    self.pay(texts.saturating_add(default))?;
                    if let Some(default) =
                        field.default.as_ref().and_then(|json| literal(schema, field.of, json))
                    {
                        declared = declared.with_default(default);
                    }
                    if let Some(doc) = &field.doc {
                        declared = declared.with_doc(doc);
                    }
                    fields.push(declared.with_aliases(field.aliases.clone()));
                }
                self.around.pop();
                DataType::Struct(fields)
            }
        })
    }
}
