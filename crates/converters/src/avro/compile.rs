//! Makes a schema, or a writer's and a reader's, into a plan: Avro's schema resolution, once per schema.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aqueduct_core::MemberName;

use super::check::check_default;
use super::declare::declare;
use super::default;
use super::plan::{Branch, Member, Op, OpId, Plan, Scalar, Show, Source, StructPlan, Wire};
use super::schema::{
    AvroSchema, AvroSchemaError, Enumeration, LEVELS_MAX, Logical, Name, Record, Type, TypeId,
};

/// A schema that values are shown in, with what it declares.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    pub(super) schema: Arc<AvroSchema>,
    pub(super) declared: Arc<aqueduct_core::Schema>,
}

impl Reader {
    pub(super) fn parse(text: &str) -> Result<Self, AvroSchemaError> {
        let schema = AvroSchema::parse(text, [])?;
        let declared = Arc::new(declare(&schema, None)?);
        Ok(Self { schema: Arc::new(schema), declared })
    }
}

/// How what `writer` wrote is read, shown as `reader` has it if there is one.
pub(super) fn compile(
    writer: &AvroSchema,
    version: Option<u32>,
    reader: Option<&Reader>,
) -> Result<Plan, AvroSchemaError> {
    // Always: it bounds how deep and how wide the writer's schema is.
    let declared = declare(writer, version)?;
    let mut compiler = Compiler {
        writer,
        reader: reader.map(|it| &*it.schema),
        ops: Vec::new(),
        done: HashMap::new(),
        refused: HashSet::new(),
    };
    let root = match compiler.reader {
        Some(reader) => compiler.resolved(writer.root(), reader.root(), 0)?,
        None => compiler.alone(Side::Writer, writer.root())?,
    };
    let schema = reader.map_or_else(|| Arc::new(declared), |it| Arc::clone(&it.declared));
    let plan = Plan { ops: compiler.ops, root, schema };
    check_defaults(&plan)?;
    Ok(plan)
}

/// Defaults are values like any other, and must be as sound.
fn check_defaults(plan: &Plan) -> Result<(), AvroSchemaError> {
    for op in &plan.ops {
        let Op::Struct(of) = op else { continue };
        for member in &of.members {
            if let Source::Default(bytes) = &member.source {
                check_default(plan, member.of, bytes).map_err(|poison| {
                    refused(format!(
                        "the default of field {:?} of {}: {}",
                        member.name,
                        of.name,
                        poison.detail()
                    ))
                })?;
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Writer,
    Reader,
}

/// Records that have a step already, or are being given one.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Alone(Side, TypeId),
    Resolved(TypeId, TypeId),
}

struct Compiler<'s> {
    writer: &'s AvroSchema,
    reader: Option<&'s AvroSchema>,
    ops: Vec<Op>,
    done: HashMap<Key, OpId>,
    /// Of those the ones that cannot be resolved, not those that are not complete.
    refused: HashSet<OpId>,
}

impl<'s> Compiler<'s> {
    fn side(&self, side: Side) -> &'s AvroSchema {
        match side {
            Side::Writer => self.writer,
            Side::Reader => self.reader.unwrap_or(self.writer),
        }
    }

    fn put(&mut self, op: Op) -> Result<OpId, AvroSchemaError> {
        if self.ops.len() >= OPS_MAX {
            return Err(refused(format!("the schemas take more than {OPS_MAX} steps to read")));
        }
        let id = OpId(u32::try_from(self.ops.len()).unwrap_or(u32::MAX));
        self.ops.push(op);
        Ok(id)
    }

    fn set(&mut self, id: OpId, op: Op) {
        if let Some(slot) = self.ops.get_mut(id.0 as usize) {
            *slot = op;
        }
    }

    /// A type as its own schema has it. How deep this descends was bounded when the schema was declared.
    fn alone(&mut self, side: Side, id: TypeId) -> Result<OpId, AvroSchemaError> {
        let schema = self.side(side);
        let op = match schema.get(id) {
            Type::Record(record) => return self.record_alone(side, id, record),
            Type::Array(items) => Op::List(self.alone(side, *items)?),
            Type::Map(values) => Op::Map(self.alone(side, *values)?),
            Type::Enum(of) => {
                Op::Enum(of.symbols.iter().map(|symbol| Some(symbol.as_str().into())).collect())
            }
            Type::Union(ids) => {
                let several = branches_beside_null(schema, ids) > 1;
                let mut branches = Vec::with_capacity(ids.len());
                let mut said = 0..;
                for id in ids {
                    let is_null = matches!(schema.get(*id), Type::Null);
                    let say = if is_null || !several { None } else { said.next() };
                    branches.push(Branch { say, of: self.alone(side, *id)? });
                }
                Op::Union(branches.into())
            }
            scalar => Op::Scalar(Scalar { wire: wire(scalar), show: show(scalar) }),
        };
        self.put(op)
    }

    fn record_alone(&mut self, side: Side, id: TypeId, record: &Record) -> Result<OpId, AvroSchemaError> {
        if let Some(op) = self.done.get(&Key::Alone(side, id)) {
            return Ok(*op);
        }
        let op = self.put(placeholder())?;
        self.done.insert(Key::Alone(side, id), op);
        let mut wire = Vec::with_capacity(record.fields.len());
        let mut members = Vec::with_capacity(record.fields.len());
        for (index, field) in record.fields.iter().enumerate() {
            let of = self.alone(side, field.of)?;
            wire.push(of);
            let name = MemberName::new(field.name.as_str());
            members.push(Member { name, of, source: Source::Written(index) });
        }
        self.set(op, struct_op(&record.name, wire, members, 0));
        Ok(op)
    }

    /// What the writer has as `w` and the reader as `r`.
    fn resolved(&mut self, w: TypeId, r: TypeId, level: usize) -> Result<OpId, AvroSchemaError> {
        if level > 2 * LEVELS_MAX {
            return Err(refused("the schemas nest too deep to be resolved"));
        }
        let (writer, reader) = (self.writer, self.side(Side::Reader));
        let (written, shown) = (writer.get(w), reader.get(r));
        if let Type::Union(branches) = written {
            return self.writer_union(branches, r, level);
        }
        if let Type::Union(branches) = shown {
            return self.reader_union(w, branches, level);
        }
        let op = match (written, shown) {
            (Type::Record(wrote), Type::Record(reads)) => {
                return self.record_resolved((w, wrote), (r, reads), level);
            }
            (Type::Array(items), Type::Array(shown)) => Op::List(self.resolved(*items, *shown, level + 1)?),
            (Type::Map(values), Type::Map(shown)) => Op::Map(self.resolved(*values, *shown, level + 1)?),
            (Type::Enum(wrote), Type::Enum(reads)) if same_name(&wrote.name, &reads.name) => {
                Op::Enum(symbols(wrote, reads))
            }
            _ => Op::Scalar(promoted(written, shown)?),
        };
        self.put(op)
    }

    fn writer_union(&mut self, ids: &[TypeId], r: TypeId, level: usize) -> Result<OpId, AvroSchemaError> {
        let mut branches = Vec::with_capacity(ids.len());
        let mut refusal = None;
        let mut fits = false;
        for id in ids {
            // A branch that does not fit matters to records that are of it.
            let of = match self.resolved(*id, r, level + 1) {
                Ok(of) => {
                    fits = true;
                    of
                }
                Err(error) => {
                    let of = self.put(Op::Refused(error.0.as_str().into()))?;
                    refusal = Some(error);
                    of
                }
            };
            branches.push(Branch { say: None, of });
        }
        match refusal {
            Some(error) if !fits => Err(error),
            _ => self.put(Op::Union(branches.into())),
        }
    }

    /// The branch that is the same type, or else the first that can show the value. A branch that has the type's full name, or it
    /// for an alias, is the only one: the specification lets names match without their namespaces, and a union may have several
    /// such, but what is the same type and cannot be resolved is an error and not another type (Java's `Resolver` has it so, too).
    fn reader_union(&mut self, w: TypeId, ids: &[TypeId], level: usize) -> Result<OpId, AvroSchemaError> {
        let (written, reader) = (self.writer.get(w), self.side(Side::Reader));
        let mut candidates: Vec<(usize, TypeId)> = ids.iter().copied().enumerate().collect();
        candidates.sort_by_key(|(_, id)| likeness(written, reader.get(*id)));
        let is_named =
            candidates.first().is_some_and(|(_, id)| likeness(written, reader.get(*id)) <= SAME_TYPE);
        if is_named {
            candidates.truncate(1);
        }
        let mut refusal = None;
        let mut found = None;
        for (index, id) in candidates {
            match self.resolved(w, id, level + 1) {
                Ok(of) => {
                    found = Some((index, of));
                    break;
                }
                Err(error) => refusal = Some(error),
            }
        }
        let Some((index, of)) = found else {
            let why = match refusal {
                Some(error) if is_named => format!(": {error}"),
                _ => String::new(),
            };
            return Err(refused(format!("no branch of the reader's union takes {}{why}", written.label())));
        };
        let is_null = |id: &&TypeId| matches!(reader.get(**id), Type::Null);
        let nulls_before = ids.iter().take(index).filter(is_null).count();
        if branches_beside_null(reader, ids) < 2 || matches!(written, Type::Null) {
            return Ok(of);
        }
        self.put(Op::Branch { index: index.saturating_sub(nulls_before), of })
    }

    fn record_resolved(
        &mut self,
        (w, wrote): (TypeId, &'s Record),
        (r, reads): (TypeId, &'s Record),
        level: usize,
    ) -> Result<OpId, AvroSchemaError> {
        if !same_name(&wrote.name, &reads.name) {
            return Err(refused(format!(
                "record {} is not {}; an alias would say that it is",
                wrote.name.full, reads.name.full
            )));
        }
        if let Some(op) = self.done.get(&Key::Resolved(w, r)) {
            // Whoever asks may have another branch to try.
            return match self.ops.get(op.0 as usize) {
                Some(Op::Refused(why)) if self.refused.contains(op) => Err(refused(&**why)),
                _ => Ok(*op),
            };
        }
        let op = self.put(placeholder())?;
        self.done.insert(Key::Resolved(w, r), op);
        match self.members(wrote, reads, level) {
            Ok(of) => {
                self.set(op, of);
                Ok(op)
            }
            Err(error) => {
                // Something that has been resolved may refer to it.
                self.set(op, Op::Refused(error.0.as_str().into()));
                self.refused.insert(op);
                Err(error)
            }
        }
    }

    fn members(&mut self, wrote: &Record, reads: &Record, level: usize) -> Result<Op, AvroSchemaError> {
        let mut wire: Vec<Option<OpId>> = vec![None; wrote.fields.len()];
        let mut members = Vec::with_capacity(reads.fields.len());
        let mut default_levels = 0;
        let named = |name: &str| wrote.fields.iter().position(|field| field.name == name);
        for field in &reads.fields {
            let index = named(&field.name).or_else(|| field.aliases.iter().find_map(|alias| named(alias)));
            let name = MemberName::new(field.name.as_str());
            if let Some(index) = index
                && let Some((slot, written)) = wire.get(index).zip(wrote.fields.get(index))
            {
                if slot.is_some() {
                    return Err(refused(format!(
                        "two fields of the reader's {} are {:?}",
                        reads.name.full, written.name
                    )));
                }
                let of = self.resolved(written.of, field.of, level + 1);
                let of = of.map_err(|error| refused(format!("field {:?}: {error}", field.name)))?;
                wire.get_mut(index).map(|slot| slot.replace(of));
                members.push(Member { name, of, source: Source::Written(index) });
            } else {
                let Some(json) = &field.default else {
                    return Err(refused(format!(
                        "field {:?} of {} was not written and has no default",
                        field.name, reads.name.full
                    )));
                };
                let (bytes, levels) =
                    default::encode(self.side(Side::Reader), field.of, json).ok_or_else(|| {
                        refused(format!("the default of field {:?} does not fit its type", field.name))
                    })?;
                default_levels = default_levels.max(levels);
                let of = self.alone(Side::Reader, field.of)?;
                members.push(Member { name, of, source: Source::Default(bytes.into()) });
            }
        }
        let mut ops = Vec::with_capacity(wire.len());
        for (slot, field) in wire.into_iter().zip(&wrote.fields) {
            ops.push(match slot {
                Some(of) => of,
                // To be passed over.
                None => self.alone(Side::Writer, field.of)?,
            });
        }
        Ok(struct_op(&reads.name, ops, members, default_levels))
    }
}

fn struct_op(name: &Name, wire: Vec<OpId>, members: Vec<Member>, default_levels: usize) -> Op {
    let is_in_place = |(index, member): (usize, &Member)| matches!(member.source, Source::Written(written) if written == index);
    let aligned = wire.len() == members.len() && members.iter().enumerate().all(is_in_place);
    let names: usize = members.iter().map(|member| member.name.len() + 1).sum();
    let weight = (names.saturating_add(wire.len()).saturating_add(1)) as u64;
    let name = name.full.as_str().into();
    Op::Struct(Box::new(StructPlan {
        name,
        wire: wire.into(),
        members: members.into(),
        aligned,
        weight,
        default_levels,
    }))
}

fn placeholder() -> Op {
    Op::Refused("the record is not complete".into())
}

fn refused(why: impl Into<String>) -> AvroSchemaError {
    AvroSchemaError::new(why)
}

fn branches_beside_null(schema: &AvroSchema, ids: &[TypeId]) -> usize {
    ids.iter().filter(|id| !matches!(schema.get(**id), Type::Null)).count()
}

/// Names match without their namespaces, or by an alias.
fn same_name(wrote: &Name, reads: &Name) -> bool {
    wrote.short() == reads.short() || reads.aliases.contains(&wrote.full)
}

/// How near a branch is to what was written, nearest first: two versions of a type may only differ by their namespaces.
fn likeness(written: &Type, shown: &Type) -> u8 {
    if std::mem::discriminant(written) != std::mem::discriminant(shown) {
        return 3;
    }
    match (written.name(), shown.name()) {
        (Some(wrote), Some(reads)) if wrote.full == reads.full => 0,
        (Some(wrote), Some(reads)) if reads.aliases.contains(&wrote.full) => SAME_TYPE,
        (Some(wrote), Some(reads)) if !same_name(wrote, reads) => 3,
        _ => 2,
    }
}

fn symbols(wrote: &Enumeration, reads: &Enumeration) -> Box<[Option<Box<str>>]> {
    let shown = |symbol: &String| {
        let known = reads.symbols.contains(symbol).then_some(symbol).or(reads.default.as_ref());
        known.map(|symbol| symbol.as_str().into())
    };
    wrote.symbols.iter().map(shown).collect()
}

/// A value without parts, as another type if it may be one.
fn promoted(written: &Type, shown: &Type) -> Result<Scalar, AvroSchemaError> {
    let fits = match (written, shown) {
        (Type::Null, Type::Null)
        | (Type::Boolean, Type::Boolean)
        | (Type::Int(_), Type::Int(_) | Type::Long(_) | Type::Float | Type::Double)
        | (Type::Long(_), Type::Long(_) | Type::Float | Type::Double)
        | (Type::Float, Type::Float | Type::Double)
        | (Type::Double, Type::Double)
        | (Type::String(_), Type::String(_) | Type::Bytes(None))
        | (Type::Bytes(_), Type::Bytes(_) | Type::String(None)) => true,
        (Type::Fixed(wrote), Type::Fixed(reads)) => {
            same_name(&wrote.name, &reads.name) && wrote.size == reads.size
        }
        _ => false,
    };
    if !fits {
        return Err(refused(format!("{} cannot be read as {}", written.label(), shown.label())));
    }
    // Read as something else, a number would quietly be another.
    let differ = match (written.logical(), shown.logical()) {
        (Some(Logical::Decimal { scale: wrote, .. }), Some(Logical::Decimal { scale: reads, .. })) => {
            wrote != reads
        }
        (Some(wrote), Some(reads)) => wrote != reads,
        _ => false,
    };
    if differ {
        return Err(refused(format!(
            "the logical type of {} is another than the reader's of {}",
            written.label(),
            shown.label()
        )));
    }
    Ok(Scalar { wire: wire(written), show: show(shown) })
}

fn wire(of: &Type) -> Wire {
    match of {
        Type::Boolean => Wire::Boolean,
        Type::Int(_) => Wire::Int,
        Type::Long(_) => Wire::Long,
        Type::Float => Wire::Float,
        Type::Double => Wire::Double,
        Type::Bytes(_) | Type::String(_) => Wire::Bytes,
        Type::Fixed(fixed) => Wire::Fixed(fixed.size),
        _ => Wire::Null,
    }
}

pub(super) fn show(of: &Type) -> Show {
    match (of, of.logical()) {
        (_, Some(Logical::Decimal { scale, .. })) => Show::Decimal { scale },
        (_, Some(Logical::Uuid)) => Show::Uuid,
        (_, Some(Logical::Date)) => Show::Date,
        (_, Some(Logical::Time(unit))) => Show::Time(unit),
        (_, Some(Logical::Timestamp { unit, utc })) => Show::Timestamp { unit, utc },
        (_, Some(Logical::Duration)) => Show::Duration,
        (Type::Boolean, _) => Show::Bool,
        (Type::Int(_) | Type::Long(_), _) => Show::Whole,
        (Type::Float, _) => Show::F32,
        (Type::Double, _) => Show::F64,
        (Type::String(_), _) => Show::Text,
        (Type::Bytes(_) | Type::Fixed(_), _) => Show::Bytes,
        _ => Show::Null,
    }
}

/// The step that reads a value without parts, for its default.
pub(super) fn scalar(of: &Type) -> Scalar {
    Scalar { wire: wire(of), show: show(of) }
}

/// The likeness of one type under one name.
const SAME_TYPE: u8 = 1;
/// Steps of one plan.
const OPS_MAX: usize = 500_000;
