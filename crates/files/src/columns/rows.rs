//! The encoder of a segment's rows, and the builder of its files, for every format with columns.

use std::sync::Arc;

use aqueduct_core::{
    Compatibility, Envelope, Fingerprint, JsonText, Poison, PoisonReason, Schema, StructuredValue,
};

use super::infer::Refused;
use super::plan::Plan;
use super::shapes::Shapes;
use super::walk::{CELLS_MAX, Cells, Nowhere, Scratch, Walk};
use crate::format::{
    BuildError, BuiltRows, Encoded, FileBuilder, FileEncoder, FileOutline, RowEncoder, Rows,
};
use crate::tape::{Damaged, Names, Tape, TapeState, TapeWriter, replay};

/// What becomes of members that a declared schema does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownMembers {
    /// The record is a poison: nothing is lost unseen.
    #[default]
    Refuse,
    /// They are left out.
    Drop,
}

/// What formats with columns have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct ColumnOptions {
    pub(crate) compatibility: Compatibility,
    pub(crate) schema: Option<Arc<Schema>>,
    pub(crate) unknown: UnknownMembers,
}

impl ColumnOptions {
    pub(crate) fn fingerprint(&self, parts: &mut Fingerprint) {
        // The rules of the tape, of projection and of inference.
        parts.put("format", "columns/1");
        match &self.schema {
            Some(schema) => {
                parts.put("format", format_args!("{:016x} {:?}", schema.digest(), self.unknown));
            }
            None => parts.put("format", self.compatibility),
        }
    }
}

/// A format with columns.
pub(crate) trait Columnar: Clone + Send + Sync + 'static {
    /// What the files of a shape have in common.
    type Shape: Send + Sync + 'static;
    /// Writes one file.
    type Writer: CellWriter + 'static;

    /// How values of `schema` are walked; both to check them and to build files.
    fn plan(&self, schema: &Schema) -> Plan;

    /// Prepares the files of a shape.
    fn shape(&self, schema: &Arc<Schema>, plan: &Plan) -> Result<Self::Shape, BuildError>;

    fn open(&self, shape: &Self::Shape, plan: &Plan, file: &FileOutline) -> Result<Self::Writer, BuildError>;

    /// As [`FileBuilder::workspace`].
    fn workspace(&self, shape: &Self::Shape, plan: &Plan, file: &FileOutline) -> usize;
}

/// Writes the cells of a file.
pub(crate) trait CellWriter: Cells + Send {
    /// After the cells of a row.
    fn end_row(&mut self, out: &mut Vec<u8>) -> Result<(), BuildError>;

    /// After the rows of a chunk.
    fn end_chunk(&mut self, out: &mut Vec<u8>) -> Result<(), BuildError>;

    /// After the last chunk.
    fn finish(self, out: &mut Vec<u8>) -> Result<(), BuildError>;
}

/// The encoder of one segment.
pub(crate) struct StructuredRows<F> {
    format: F,
    tape: TapeState,
    shapes: Shapes,
    declared: Option<Declared>,
    /// The shape of the value without a schema that was taken in last: another one of its form shows nothing new.
    usual: Option<u32>,
    scratch: Scratch,
}

/// The schema that all values have.
struct Declared {
    schema: Arc<Schema>,
    plan: Plan,
    /// Schemas that accepted values came with, numbered from 1: the branches they say are their own unions'.
    given: Vec<Arc<Schema>>,
    /// Where the one of the last value is.
    last: usize,
}

impl Declared {
    /// The number of a schema that values come with; 0 if it says nothing. One that is new gets the next number, which is
    /// taken back if its value does not fit.
    fn source(&mut self, given: Option<&Arc<Schema>>) -> Result<u32, Poison> {
        let Some(given) = given.filter(|_| self.plan.has_unions()) else { return Ok(0) };
        let is_it = |known: &Arc<Schema>| {
            Arc::ptr_eq(known, given) || (known.digest() == given.digest() && known == given)
        };
        if !self.given.get(self.last).is_some_and(is_it) {
            self.last = self.given.iter().position(is_it).unwrap_or(self.given.len());
        }
        let source = u32::try_from(self.last + 1).unwrap_or(u32::MAX);
        if self.last == self.given.len() {
            Shapes::check_number(self.last)?;
            self.plan.note_branches(source, given, &self.schema);
        }
        Ok(source)
    }

    fn is_new(&self, source: u32) -> bool {
        source as usize > self.given.len()
    }
}

impl<F: Columnar> StructuredRows<F> {
    /// The longest row, in bytes. As text a column of it stays below 2 GiB, which offsets of columns can count.
    const ROW_MAX: usize = 256 << 20;

    pub(crate) fn new(format: &F, options: &ColumnOptions) -> Self {
        let declared = options.schema.as_ref().map(|schema| {
            let plan = format.plan(schema);
            let plan = if options.unknown == UnknownMembers::Refuse { plan.strict() } else { plan };
            Declared { schema: Arc::clone(schema), plan: plan.declared(), given: Vec::new(), last: 0 }
        });
        Self {
            format: format.clone(),
            tape: TapeState::default(),
            shapes: Shapes::new(options.compatibility),
            declared,
            usual: None,
            scratch: Scratch::default(),
        }
    }

    /// With `NOTES` as in [`TapeWriter`].
    fn write<const NOTES: bool>(
        &mut self,
        value: &impl StructuredValue,
        source: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Poison> {
        let start = out.len();
        put_number(source, out);
        let mut writer = TapeWriter::<NOTES>::new(&mut self.tape, out);
        value.visit_with(&mut writer)?;
        writer.finish()?;
        if out.len() - start > Self::ROW_MAX {
            let detail = format!("a row of {} bytes, {} is the most", out.len() - start, Self::ROW_MAX);
            return Err(Poison::new(PoisonReason::TooLarge, detail));
        }
        Ok(())
    }

    /// The shape of `value`, whose row is at the end of `out`.
    fn encode_row(&mut self, value: &impl StructuredValue, out: &mut Vec<u8>) -> Result<u32, Poison> {
        let (start, known) = (out.len(), self.tape.names().len());
        if let Some(mut declared) = self.declared.take() {
            let fits = self.encode_declared(&mut declared, value, out, known);
            self.declared = Some(declared);
            return fits.map(|()| 0);
        }
        let Some(schema) = value.schema() else {
            return self.encode_inferred(value, out);
        };
        if let Some(source) = self.shapes.find(schema) {
            self.write::<false>(value, source, out)?;
            let Some(known_source) = self.shapes.source(source) else { return Err(damaged()) };
            // Before the plan gets to know names that are taken back if the times are refused.
            if known_source.plan.has_unions() {
                check_times(&self.tape, row(out, start)?)?;
            }
            let (plan, names) = (&mut known_source.plan, self.tape.names());
            let is_sure = known_source.takes_every_value && value.is_of_its_schema();
            if !is_sure || cfg!(debug_assertions) {
                let fits = check(plan, names, &mut self.scratch, source, row(out, start)?, known);
                debug_assert!(
                    fits.is_ok() || !is_sure,
                    "a value that is said to be of its schema is not: {fits:?}"
                );
                fits?;
            }
            return Ok(self.shapes.of_source(source));
        }
        self.shapes.check_room()?;
        let source = self.shapes.next_number();
        let mut plan = self.format.plan(schema).strict();
        self.write::<false>(value, source, out)?;
        if plan.has_unions() {
            check_times(&self.tape, row(out, start)?)?;
        }
        self.check(&mut plan, source, row(out, start)?, known)?;
        self.shapes.add(schema, plan);
        Ok(self.shapes.of_source(source))
    }

    /// The shape of a value without a schema.
    fn encode_inferred(&mut self, value: &impl StructuredValue, out: &mut Vec<u8>) -> Result<u32, Poison> {
        let start = out.len();
        self.write::<true>(value, 0, out)?;
        check_times(&self.tape, row(out, start)?)?;
        if let Some(shape) = self.usual
            && self.tape.is_formed_as_before()
        {
            return Ok(shape);
        }
        let shape = self.shapes.of_value(row(out, start)?).map_err(|refused| match refused {
            Refused::Poison(poison) => poison,
            Refused::Full | Refused::Damaged => damaged(),
        })?;
        self.usual = Some(shape);
        Ok(shape)
    }

    fn encode_declared(
        &mut self,
        declared: &mut Declared,
        value: &impl StructuredValue,
        out: &mut Vec<u8>,
        known: usize,
    ) -> Result<(), Poison> {
        let (start, given) = (out.len(), value.schema());
        let source = declared.source(given)?;
        let fits = self
            .write::<false>(value, source, out)
            .and_then(|()| self.check(&mut declared.plan, source, row(out, start)?, known));
        if declared.is_new(source) {
            match (&fits, given) {
                (Ok(()), Some(given)) => declared.given.push(Arc::clone(given)),
                _ => declared.plan.forget_branches(source),
            }
        }
        fits
    }

    fn check(&mut self, plan: &mut Plan, source: u32, row: Tape<'_>, known: usize) -> Result<(), Poison> {
        check(plan, self.tape.names(), &mut self.scratch, source, row, known)
    }
}

/// Whether the row could be written as JSON text. A column may become that at the cut: where kinds do not go together, or
/// where a format cannot tell the branches of a union apart.
fn check_times(tape: &TapeState, mut row: Tape<'_>) -> Result<(), Poison> {
    if !tape.is_timed() {
        return Ok(());
    }
    let mut text = Vec::new();
    replay(&mut row, tape.names(), &mut JsonText::new(&mut text)).map_err(|Damaged| damaged())?
}

/// Whether the row fits. If it does not, the plan knows nothing of names that came with it.
fn check(
    plan: &mut Plan,
    names: &Names,
    scratch: &mut Scratch,
    source: u32,
    row: Tape<'_>,
    known: usize,
) -> Result<(), Poison> {
    plan.resolve(names);
    let mut walk = Walk::new(plan, names, scratch);
    let poison = match walk.row(source, row, &mut Nowhere) {
        Ok(()) if walk.cells() <= CELLS_MAX => return Ok(()),
        Ok(()) => {
            let detail = format!("the value has {} fields in all, {CELLS_MAX} are the most", walk.cells());
            Poison::new(PoisonReason::TooLarge, detail)
        }
        Err(misfit) => misfit.poison(plan),
    };
    plan.forget(names, known);
    Err(poison)
}

fn row(out: &[u8], start: usize) -> Result<Tape<'_>, Poison> {
    let mut tape = Tape::new(out.get(start..).unwrap_or_default());
    tape.unsigned().map_err(|Damaged| damaged())?;
    Ok(tape)
}

fn put_number(mut number: u32, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

#[cold]
fn damaged() -> Poison {
    Poison::new(PoisonReason::Malformed, Damaged.to_string())
}

impl<T: StructuredValue, F: Columnar> RowEncoder<T> for StructuredRows<F> {
    fn encode(&mut self, envelope: &Envelope<'_, T>, out: &mut Vec<u8>) -> Result<Encoded, Poison> {
        let known = self.tape.names().len();
        let shape = self.encode_row(&envelope.value, out);
        if shape.is_err() {
            self.tape.undo(known);
        }
        Ok(Encoded::written().with_shape(shape?))
    }
}

impl<T: StructuredValue, F: Columnar> BuiltRows<T> for StructuredRows<F> {
    fn finish(&mut self) -> Arc<dyn FileBuilder> {
        let names = std::mem::take(&mut self.tape).into_names();
        let mut shapes = Vec::new();
        match self.declared.take() {
            Some(Declared { schema, plan, .. }) => {
                shapes.push(ShapeRows::new(&self.format, &schema, plan, &names));
            }
            None => {
                for settled in self.shapes.settle(&names) {
                    let mut plan = self.format.plan(&settled.schema);
                    for (number, source) in &settled.sources {
                        plan.note_branches(*number, source, &settled.schema);
                    }
                    shapes.push(ShapeRows::new(&self.format, &settled.schema, plan, &names));
                }
            }
        }
        Arc::new(Segment(Arc::new(Parts { format: self.format.clone(), names, shapes })))
    }
}

/// The shapes of a segment, ready to build files.
struct Segment<F: Columnar>(Arc<Parts<F>>);

struct Parts<F: Columnar> {
    format: F,
    names: Names,
    shapes: Vec<ShapeRows<F>>,
}

/// A shape, ready to build files.
struct ShapeRows<F: Columnar> {
    plan: Plan,
    shape: Result<F::Shape, String>,
}

impl<F: Columnar> ShapeRows<F> {
    fn new(format: &F, schema: &Arc<Schema>, mut plan: Plan, names: &Names) -> Self {
        plan.resolve(names);
        let shape = format.shape(schema, &plan).map_err(|error| error.to_string());
        Self { plan, shape }
    }
}

impl<F: Columnar> Parts<F> {
    fn shape(&self, file: &FileOutline) -> Result<(&Plan, &F::Shape), BuildError> {
        match self.shapes.get(file.shape as usize) {
            Some(ShapeRows { plan, shape: Ok(shape) }) => Ok((plan, shape)),
            Some(ShapeRows { shape: Err(error), .. }) => Err(BuildError::new(error.clone())),
            None => Err(BuildError::new(format!("the segment has no shape {}", file.shape))),
        }
    }
}

impl<F: Columnar> FileBuilder for Segment<F> {
    fn open(&self, file: &FileOutline) -> Result<Box<dyn FileEncoder>, BuildError> {
        let (plan, shape) = self.0.shape(file)?;
        let writer = self.0.format.open(shape, plan, file)?;
        let shape = file.shape as usize;
        Ok(Box::new(File { segment: Arc::clone(&self.0), shape, scratch: Scratch::default(), writer }))
    }

    fn workspace(&self, file: &FileOutline) -> usize {
        match self.0.shape(file) {
            Ok((plan, shape)) => self.0.format.workspace(shape, plan, file),
            Err(_) => 0,
        }
    }
}

struct File<F: Columnar> {
    segment: Arc<Parts<F>>,
    shape: usize,
    scratch: Scratch,
    writer: F::Writer,
}

impl<F: Columnar> FileEncoder for File<F> {
    fn write(&mut self, rows: Rows<'_>, out: &mut Vec<u8>) -> Result<(), BuildError> {
        let Some(shape) = self.segment.shapes.get(self.shape) else {
            return Err(BuildError::new("the segment has no such shape"));
        };
        let mut walk = Walk::new(&shape.plan, &self.segment.names, &mut self.scratch);
        for row in rows {
            let mut tape = Tape::new(row);
            let source = tape.unsigned().ok().and_then(|source| u32::try_from(source).ok());
            let source = source.ok_or_else(|| BuildError::new(Damaged))?;
            walk.row(source, tape, &mut self.writer)
                .map_err(|misfit| BuildError::new(misfit.poison(&shape.plan)))?;
            self.writer.end_row(out)?;
        }
        self.writer.end_chunk(out)
    }

    fn finish(self: Box<Self>, out: &mut Vec<u8>) -> Result<(), BuildError> {
        self.writer.finish(out)
    }
}
