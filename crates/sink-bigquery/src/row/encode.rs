//! Where each value of a row goes.

use aqueduct_core::{Composite, FieldValue, JsonText, Poison, PoisonReason, StructuredValue, ValueVisitor};

use super::metadata::Identity;
use super::plan::{FieldPlan, MessagePlan, RowPlan, UnknownFields};
use super::scalar::put_scalar;
use super::wire::{begin_delimited, end_delimited};
use crate::schema::{FieldType, Mode};

/// What encoding a row needs and the next row can use again.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    frames: Vec<Frame>,
    /// For every open message a bit per field: whether it was there.
    seen: Vec<u64>,
}

/// An open message.
#[derive(Debug)]
struct Frame {
    message: usize,
    /// Where its bytes begin.
    start: usize,
    /// Where its bits begin in `seen`.
    bits: usize,
    next: Next,
    /// The field that probably comes next.
    guess: usize,
    /// Elements of a list go to the field at hand.
    list: bool,
    /// It is one entry of a map, for as long as its value is not there.
    entry: bool,
}

/// What the next value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A key has to come first.
    Key,
    Field(usize),
    /// Nothing that is stored.
    Nothing,
    /// Entries of a map, for the field.
    Map(usize),
}

impl RowPlan {
    /// Appends the row of `value` to `out`, with its identity. On an error `out` is as before.
    pub(crate) fn encode<T: StructuredValue>(
        &self,
        value: &T,
        identity: Identity<'_>,
        workspace: &mut Workspace,
        out: &mut Vec<u8>,
    ) -> Result<(), Poison> {
        let start = out.len();
        workspace.frames.clear();
        workspace.seen.clear();
        let target = Target::Row(&mut *out);
        let mut encoder = Encoder { plan: self, workspace, target, skipped: 0, done: false };
        let visited = value.visit_with(&mut encoder);
        let done = encoder.done;
        let result = visited.and_then(|()| {
            if done { Ok(()) } else { Err(Poison::new(PoisonReason::Malformed, "the value is no object")) }
        });
        let result = result.and_then(|()| self.metadata.put(&identity, out));
        if result.is_err() {
            out.truncate(start);
        }
        result
    }
}

/// Where bytes go.
enum Target<'o> {
    Row(&'o mut Vec<u8>),
    /// Into a JSON column, until it is `depth` levels up again; its bytes begin at `start`.
    Json {
        text: JsonText<'o>,
        depth: u32,
        start: usize,
    },
    /// Between the two.
    Moving,
}

struct Encoder<'p, 'w, 'o> {
    plan: &'p RowPlan,
    workspace: &'w mut Workspace,
    target: Target<'o>,
    /// Open levels of something that is not stored.
    skipped: u32,
    /// The row has begun and ended.
    done: bool,
}

impl<'p> Encoder<'p, '_, '_> {
    fn poison(&self, reason: PoisonReason, problem: &str) -> Poison {
        let mut path = String::new();
        for frame in &self.workspace.frames {
            if let Next::Field(field) | Next::Map(field) = frame.next
                && let Some(field) = self.message(frame).and_then(|message| message.fields.get(field))
            {
                path.push_str(if path.is_empty() { "" } else { "." });
                path.push_str(&field.name);
            }
        }
        Poison::new(reason, format!("field {path:?} {problem}"))
    }

    fn invalid(&self, problem: &str) -> Poison {
        self.poison(PoisonReason::InvalidField, problem)
    }

    fn message(&self, frame: &Frame) -> Option<&'p MessagePlan> {
        self.plan.messages.get(frame.message)
    }

    /// The field that the next value is of, with its frame's number; `None` if it is of nothing that is stored.
    fn field(&self) -> Option<(&'p FieldPlan, usize)> {
        let frame = self.workspace.frames.last()?;
        let (Next::Field(place) | Next::Map(place)) = frame.next else { return None };
        Some((self.message(frame)?.fields.get(place)?, place))
    }

    fn open(&mut self, message: usize) {
        let Target::Row(out) = &mut self.target else { return };
        let start = if self.workspace.frames.is_empty() { out.len() } else { begin_delimited(out) };
        let bits = self.workspace.seen.len();
        let fields = self.plan.messages.get(message).map_or(0, |message| message.fields.len());
        self.workspace.seen.resize(bits + fields.div_ceil(64), 0);
        self.workspace.frames.push(Frame {
            message,
            start,
            bits,
            next: Next::Key,
            guess: 0,
            list: false,
            entry: false,
        });
    }

    /// Ends the message opened last: everything that has to be there must be.
    fn close(&mut self) -> Result<(), Poison> {
        let Some(frame) = self.workspace.frames.last() else { return Ok(()) };
        let message = self.message(frame);
        let bits = self.workspace.seen.get(frame.bits..).unwrap_or_default();
        let fields = message.map(|message| message.fields.as_slice()).unwrap_or_default();
        let missing = fields.iter().enumerate().find(|(place, field)| {
            field.mode == Mode::Required
                && bits.get(place / 64).is_none_or(|word| word >> (place % 64) & 1 == 0)
        });
        if let Some((place, _)) = missing {
            if let Some(frame) = self.workspace.frames.last_mut() {
                frame.next = Next::Field(place);
            }
            return Err(self.poison(PoisonReason::MissingField, "is not there, and its column is REQUIRED"));
        }
        let (start, bits) = (frame.start, frame.bits);
        self.workspace.seen.truncate(bits);
        self.workspace.frames.pop();
        if self.workspace.frames.is_empty() {
            self.done = true;
        } else if let Target::Row(out) = &mut self.target {
            end_delimited(out, start);
        }
        self.value_done();
        Ok(())
    }

    /// The value at hand is complete.
    fn value_done(&mut self) {
        if let Some(frame) = self.workspace.frames.last_mut()
            && !frame.list
            && !matches!(frame.next, Next::Map(_))
        {
            frame.next = Next::Key;
        }
    }

    /// Notes that the field is there; it must not be there twice.
    fn see(&mut self, place: usize) -> Result<(), Poison> {
        let Some(frame) = self.workspace.frames.last_mut() else { return Ok(()) };
        frame.next = Next::Field(place);
        frame.guess = place + 1;
        let word = frame.bits + place / 64;
        let bit = 1_u64 << (place % 64);
        if let Some(word) = self.workspace.seen.get_mut(word) {
            if *word & bit != 0 {
                return Err(self.poison(PoisonReason::Malformed, "is there twice"));
            }
            *word |= bit;
        }
        Ok(())
    }

    /// Takes the field back that is null: for a REQUIRED column that is as if it were not there.
    fn unsee(&mut self, place: usize) {
        if let Some(frame) = self.workspace.frames.last()
            && let Some(word) = self.workspace.seen.get_mut(frame.bits + place / 64)
        {
            *word &= !(1_u64 << (place % 64));
        }
    }

    fn begin_json(&mut self, field: &FieldPlan, composite: Composite) -> Result<(), Poison> {
        if let Target::Row(out) = std::mem::replace(&mut self.target, Target::Moving) {
            field.tag.put(out);
            let start = begin_delimited(out);
            let mut text = JsonText::new(out);
            let begun = text.begin(composite);
            self.target = Target::Json { text, depth: 1, start };
            begun?;
        }
        Ok(())
    }

    /// One entry of a map: a record of its key and, next, its value.
    fn begin_entry(&mut self, field: &FieldPlan, name: &str) -> Result<(), Poison> {
        let Some((key, value)) = self.plan.messages.get(field.message).and_then(|message| message.entry)
        else {
            return Ok(());
        };
        if let Target::Row(out) = &mut self.target {
            field.tag.put(out);
        }
        self.open(field.message);
        self.see(key)?;
        self.put(&FieldValue::Str(name.into()))?;
        self.see(value)?;
        if let Some(frame) = self.workspace.frames.last_mut() {
            frame.entry = true;
        }
        Ok(())
    }

    /// The place of the inner list's elements, if the field's message is there to hold a list in a list.
    fn element(&self, field: &FieldPlan) -> Option<usize> {
        // A message that is none has the place of the row itself.
        self.plan.messages.get(field.message).filter(|_| field.message > 0)?.element
    }

    /// One element of a list that is a list or a map itself: BigQuery has no lists of lists, so a record around each. Answers the
    /// place of its elements.
    fn begin_inner(&mut self, field: &FieldPlan) -> usize {
        let place = self.element(field).unwrap_or_default();
        if let Target::Row(out) = &mut self.target {
            field.tag.put(out);
        }
        self.open(field.message);
        if let Some(frame) = self.workspace.frames.last_mut() {
            // It ends with its only value, as an entry does.
            frame.entry = true;
            frame.next = Next::Field(place);
        }
        place
    }

    fn put(&mut self, value: &FieldValue<'_>) -> Result<(), Poison> {
        let Some((field, place)) = self.field() else {
            self.value_done();
            return Ok(());
        };
        let list = self.workspace.frames.last().is_some_and(|frame| frame.list);
        if matches!(value, FieldValue::Null) {
            if list {
                // Except in JSON, where null is a value like any other.
                return Err(self.invalid("has null as an element, which an array of BigQuery cannot hold"));
            }
            self.unsee(place);
        } else if field.mode == Mode::Repeated && !list {
            return Err(self.invalid("is no list, and its column is REPEATED"));
        } else if let Target::Row(out) = &mut self.target {
            let put = put_scalar(field, value, self.plan.options.timestamps, out);
            if let Err(problem) = put {
                let reason = match &field.kind {
                    FieldType::Timestamp | FieldType::Date | FieldType::Time | FieldType::DateTime => {
                        PoisonReason::InvalidTimestamp
                    }
                    _ => PoisonReason::InvalidField,
                };
                return Err(self.poison(reason, &format!("{problem} ({})", field.kind.name())));
            }
        }
        self.value_done();
        Ok(())
    }

    /// After a value inside of an entry, the entry is complete.
    fn end_entry(&mut self) -> Result<(), Poison> {
        match self.workspace.frames.last() {
            Some(frame) if frame.entry && frame.next == Next::Key => self.close(),
            _ => Ok(()),
        }
    }
}

impl ValueVisitor for Encoder<'_, '_, '_> {
    fn scalar(&mut self, value: FieldValue<'_>) -> Result<(), Poison> {
        if let Target::Json { text, .. } = &mut self.target {
            return text.scalar(value);
        }
        if self.skipped > 0 || self.workspace.frames.is_empty() {
            return Ok(());
        }
        self.put(&value)?;
        self.end_entry()
    }

    fn begin(&mut self, composite: Composite) -> Result<(), Poison> {
        if let Target::Json { text, depth, .. } = &mut self.target {
            *depth += 1;
            return text.begin(composite);
        }
        if self.skipped > 0 {
            self.skipped += 1;
            return Ok(());
        }
        if self.workspace.frames.is_empty() {
            if composite == Composite::List || self.done {
                return Err(Poison::new(PoisonReason::Malformed, "the value is no object"));
            }
            self.open(0);
            return Ok(());
        }
        let Some((field, place)) = self.field() else {
            self.skipped = 1;
            return Ok(());
        };
        let in_list = self.workspace.frames.last().is_some_and(|frame| frame.list);
        let repeated = field.mode == Mode::Repeated && !in_list;
        match composite {
            Composite::List if repeated => {
                if let Some(frame) = self.workspace.frames.last_mut() {
                    frame.list = true;
                }
            }
            _ if matches!(field.kind, FieldType::Json) && !repeated => self.begin_json(field, composite)?,
            Composite::List if in_list && self.element(field).is_some() => {
                self.begin_inner(field);
                if let Some(frame) = self.workspace.frames.last_mut() {
                    frame.list = true;
                }
            }
            Composite::List => return Err(self.invalid("is a list, and its column holds one value")),
            Composite::Map
                if repeated && self.plan.messages.get(field.message).is_some_and(|m| m.entry.is_some()) =>
            {
                if let Some(frame) = self.workspace.frames.last_mut() {
                    frame.next = Next::Map(place);
                }
            }
            Composite::Map if in_list && self.element(field).is_some() => {
                let place = self.begin_inner(field);
                if let Some(frame) = self.workspace.frames.last_mut() {
                    frame.next = Next::Map(place);
                }
            }
            Composite::Struct | Composite::Map if field.kind.is_message() && !repeated => {
                if let Target::Row(out) = &mut self.target {
                    field.tag.put(out);
                }
                self.open(field.message);
            }
            Composite::Struct | Composite::Map => {
                return Err(self.invalid("is an object, and its column is not"));
            }
        }
        Ok(())
    }

    fn key(&mut self, name: &str) -> Result<(), Poison> {
        if let Target::Json { text, .. } = &mut self.target {
            return text.key(name);
        }
        if self.skipped > 0 {
            return Ok(());
        }
        let Some(frame) = self.workspace.frames.last_mut() else { return Ok(()) };
        if let Next::Map(_) = frame.next {
            let Some((field, _)) = self.field() else { return Ok(()) };
            return self.begin_entry(field, name);
        }
        let found = self.plan.messages.get(frame.message).and_then(|message| message.find(name, frame.guess));
        match (found, self.plan.options.unknown) {
            (Some(place), _) => self.see(place),
            (None, UnknownFields::Ignore) => {
                frame.next = Next::Nothing;
                Ok(())
            }
            (None, UnknownFields::Refuse) => {
                frame.next = Next::Nothing;
                if self.plan.messages.get(frame.message).is_some_and(|message| message.is_empty(name)) {
                    return Ok(());
                }
                let shown: String = name.chars().take(64).collect();
                let within = self.workspace.frames.len() - 1;
                let detail =
                    format!("field {shown:?}, {within} levels down, is not one of the table's columns");
                Err(Poison::new(PoisonReason::InvalidField, detail))
            }
        }
    }

    fn end(&mut self) -> Result<(), Poison> {
        if let Target::Json { text, depth, .. } = &mut self.target {
            *depth -= 1;
            text.end()?;
            if *depth == 0
                && let Target::Json { text, start, .. } = std::mem::replace(&mut self.target, Target::Moving)
            {
                let out = text.into_out();
                end_delimited(out, start);
                self.target = Target::Row(out);
                self.value_done();
                return self.end_entry();
            }
            return Ok(());
        }
        if self.skipped > 0 {
            self.skipped -= 1;
            if self.skipped == 0 {
                self.value_done();
            }
            return Ok(());
        }
        let Some(frame) = self.workspace.frames.last_mut() else { return Ok(()) };
        if frame.list {
            frame.list = false;
            self.value_done();
            return self.end_entry();
        }
        if matches!(frame.next, Next::Map(_)) {
            frame.next = Next::Key;
            return self.end_entry();
        }
        self.close()?;
        self.end_entry()
    }
}
