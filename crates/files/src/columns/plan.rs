//! A schema, made ready for walking many rows.

use std::sync::LazyLock;

use aqueduct_core::{DataType, Field, Literal, Schema, TimeUnit};
use hashbrown::HashMap;

use crate::tape::Names;

/// The nodes of a schema, parents before children, children in order.
#[derive(Debug)]
pub(crate) struct Plan {
    nodes: Vec<Node>,
    /// Members by name: the struct and the place in it.
    members: HashMap<Box<str>, Vec<(u32, u32)>>,
    /// How many of the segment's names are looked up already.
    resolved: usize,
    /// By source and union: the branches of this plan for the source's.
    branches: HashMap<(u32, u32), Vec<u32>>,
    /// The value stands in the only field of a struct that files have and records have not.
    pub(super) wrapped: bool,
    /// Members that the schema does not have are refused.
    pub(super) strict: bool,
    /// Values are of other schemas than the plan's: a branch they say means nothing unless it was noted.
    declared: bool,
    unions: usize,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: Box<str>,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    pub(crate) default: Option<Literal>,
    /// The first node that is not below this one.
    pub(crate) end: usize,
    /// Members, branches, or the one element or value.
    pub(crate) children: Vec<u32>,
    #[cfg_attr(not(feature = "avro"), expect(dead_code, reason = "other formats write the symbol itself"))]
    pub(crate) symbols: Vec<String>,
    /// Times must be such that text can show them.
    pub(super) shown: bool,
    /// By child: the number of its name, `NONE` while it has none.
    pub(super) numbers: Vec<u32>,
    by_number: HashMap<u32, u32>,
    /// Members, or symbols.
    by_name: HashMap<Box<str>, u32>,
}

const NONE: u32 = u32::MAX;

/// A data type without what is below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    /// Signed, of so many bits.
    Int(u8),
    UInt32,
    UInt64,
    Float32,
    Float64,
    Decimal {
        precision: u32,
        scale: u32,
    },
    String,
    Bytes,
    Fixed(u32),
    Uuid,
    Enum,
    Date,
    Time(TimeUnit),
    Timestamp {
        unit: TimeUnit,
        utc: bool,
    },
    Duration,
    Json,
    List,
    Map,
    Struct,
    Union,
}

/// Decimals with more digits are text: no reader of columns has such a kind.
pub(crate) const DIGITS_MAX: u32 = 76;

impl Plan {
    /// For values of `schema` as they are.
    #[cfg(feature = "avro")]
    pub(crate) fn new(schema: &Schema) -> Self {
        Self::of(schema.root(), false)
    }

    /// For files whose rows are structs: a value that is none is its field `value`.
    #[cfg(any(test, feature = "parquet", feature = "csv"))]
    pub(crate) fn of_columns(schema: &Schema) -> Self {
        match schema.root().data_type() {
            DataType::Struct(fields) if !fields.is_empty() => {
                Self::of(&Field::new("", DataType::Struct(fields.clone())), false)
            }
            _ => {
                let root = schema.root();
                let mut value = Field::new("value", root.data_type().clone());
                if root.is_nullable() {
                    value = value.nullable();
                }
                Self::of(&Field::new("", DataType::Struct(vec![value])), true)
            }
        }
    }

    fn of(root: &Field, wrapped: bool) -> Self {
        let mut plan = Self {
            nodes: Vec::new(),
            members: HashMap::new(),
            resolved: 0,
            branches: HashMap::new(),
            wrapped,
            strict: false,
            declared: false,
            unions: 0,
        };
        plan.add(root);
        plan.unions = plan.nodes.iter().filter(|node| node.kind == Kind::Union).count();
        plan
    }

    /// Refuses dates and times that no calendar of four-digit years shows: they become text.
    #[cfg(feature = "csv")]
    pub(crate) fn shown(mut self) -> Self {
        for node in &mut self.nodes {
            node.shown = true;
        }
        self
    }

    /// Refuses members that the schema does not have.
    pub(crate) fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// For values that come with other schemas, or with none.
    pub(super) fn declared(mut self) -> Self {
        self.declared = true;
        self
    }

    fn add(&mut self, field: &Field) -> u32 {
        let id = self.nodes.len();
        let number = u32::try_from(id).unwrap_or(NONE);
        let (kind, below): (Kind, &[Field]) = match field.data_type() {
            DataType::List(element) => (Kind::List, std::slice::from_ref(&**element)),
            DataType::Map(value) => (Kind::Map, std::slice::from_ref(&**value)),
            DataType::Struct(fields) => (Kind::Struct, fields),
            DataType::Union(branches) => (Kind::Union, branches),
            scalar => (scalar_kind(scalar), &[]),
        };
        let (symbols, by_name) = match field.data_type() {
            DataType::Enum(symbols) => {
                let by_name = symbols.iter().zip(0..).map(|(symbol, place)| (symbol.as_str().into(), place));
                (symbols.clone(), by_name.collect())
            }
            DataType::Struct(fields) => {
                let by_name = fields.iter().zip(0..).map(|(field, place)| (field.name().into(), place));
                (Vec::new(), by_name.collect())
            }
            _ => (Vec::new(), HashMap::new()),
        };
        self.nodes.push(Node {
            name: field.name().into(),
            kind,
            nullable: field.is_nullable() || kind == Kind::Null,
            default: field.default().cloned(),
            end: 0,
            children: Vec::new(),
            symbols,
            shown: false,
            numbers: vec![NONE; if kind == Kind::Struct { below.len() } else { 0 }],
            by_number: HashMap::new(),
            by_name,
        });
        let children: Vec<u32> = below.iter().map(|child| self.add(child)).collect();
        if kind == Kind::Struct {
            for (place, child) in (0..).zip(below) {
                self.members.entry(child.name().into()).or_default().push((number, place));
            }
        }
        let end = self.nodes.len();
        if let Some(node) = self.nodes.get_mut(id) {
            (node.children, node.end) = (children, end);
        }
        number
    }

    /// Notes how the unions of `source`, the schema with this number, become those of this plan, which is of `target`.
    pub(crate) fn note_branches(&mut self, number: u32, source: &Schema, target: &Schema) {
        let root = u32::from(self.wrapped);
        self.note_below(number, source.root().data_type(), target.root().data_type(), root);
    }

    /// Takes [`note_branches`](Self::note_branches) back.
    pub(super) fn forget_branches(&mut self, number: u32) {
        self.branches.retain(|(source, _), _| *source != number);
    }

    fn note_below(&mut self, number: u32, source: &DataType, target: &DataType, node: u32) {
        let child = |plan: &Self, place: usize| {
            plan.nodes.get(node as usize).and_then(|node| node.children.get(place)).copied()
        };
        match (source, target) {
            (DataType::List(from), DataType::List(to)) | (DataType::Map(from), DataType::Map(to)) => {
                if let Some(below) = child(self, 0) {
                    self.note_below(number, from.data_type(), to.data_type(), below);
                }
            }
            (DataType::Struct(from), DataType::Struct(to)) => {
                for (place, field) in to.iter().enumerate() {
                    let same = from.iter().find(|known| known.name() == field.name());
                    if let (Some(same), Some(below)) = (same, child(self, place)) {
                        self.note_below(number, same.data_type(), field.data_type(), below);
                    }
                }
            }
            (DataType::Union(from), DataType::Union(to)) => {
                let Some(branches) = source.projected_branches(target) else { return };
                for (branch, &place) in from.iter().zip(&branches) {
                    if let (Some(other), Some(below)) = (to.get(place), child(self, place)) {
                        self.note_below(number, branch.data_type(), other.data_type(), below);
                    }
                }
                let branches = branches.iter().map(|&place| u32::try_from(place).unwrap_or(NONE)).collect();
                self.branches.insert((number, node), branches);
            }
            _ => {}
        }
    }

    /// Looks up what the segment has got to know since.
    #[inline]
    pub(crate) fn resolve(&mut self, names: &Names) {
        if self.resolved != names.len() {
            self.resolve_new(names);
        }
    }

    #[cold]
    fn resolve_new(&mut self, names: &Names) {
        for number in self.resolved..names.len() {
            self.number(names, number, Some(u32::try_from(number).unwrap_or(NONE)));
        }
        self.resolved = names.len();
    }

    /// Before names are taken back: all but the first `length`.
    pub(crate) fn forget(&mut self, names: &Names, length: usize) {
        for number in length..self.resolved {
            self.number(names, number, None);
        }
        self.resolved = self.resolved.min(length);
    }

    fn number(&mut self, names: &Names, index: usize, given: Option<u32>) {
        let number = u32::try_from(index).unwrap_or(NONE);
        let Some(places) = names.get(number).and_then(|name| self.members.get(name)) else { return };
        for &(node, place) in places {
            let Some(node) = self.nodes.get_mut(node as usize) else { continue };
            if let Some(known) = node.numbers.get_mut(place as usize) {
                *known = given.unwrap_or(NONE);
            }
            if given.is_some() {
                node.by_number.insert(number, place);
            } else {
                node.by_number.remove(&number);
            }
        }
    }

    pub(super) fn has_unions(&self) -> bool {
        self.unions > 0
    }

    /// Whether every value of the plan's own schema fits as it is: there is no kind of which a column holds fewer values than the
    /// schema does, and nothing of which a row may have any number.
    pub(super) fn takes_every_value(&self) -> bool {
        self.nodes.iter().all(|node| match node.kind {
            Kind::Bool
            | Kind::Int(32 | 64)
            | Kind::Float32
            | Kind::Float64
            | Kind::String
            | Kind::Bytes
            | Kind::Uuid
            | Kind::Duration
            | Kind::Struct => true,
            Kind::Date | Kind::Timestamp { .. } => !node.shown,
            _ => false,
        })
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    #[inline]
    pub(crate) fn node(&self, id: usize) -> &Node {
        // Ids come from the plan itself; what it does not have is always null.
        match self.nodes.get(id) {
            Some(node) => node,
            None => Self::nothing(),
        }
    }

    #[cold]
    fn nothing() -> &'static Node {
        static NOTHING: LazyLock<Node> = LazyLock::new(|| Node {
            name: "".into(),
            kind: Kind::Null,
            nullable: true,
            default: None,
            end: 0,
            children: Vec::new(),
            symbols: Vec::new(),
            shown: false,
            numbers: Vec::new(),
            by_number: HashMap::new(),
            by_name: HashMap::new(),
        });
        &NOTHING
    }

    /// The branch of `node` for the branch that a row of this source says; `None` if that says nothing.
    #[inline]
    pub(super) fn branch(&self, source: u32, node: usize, said: u32) -> Option<u32> {
        let own = (!self.declared).then_some(said);
        if self.branches.is_empty() {
            return own;
        }
        let node = u32::try_from(node).unwrap_or(NONE);
        match self.branches.get(&(source, node)) {
            Some(branches) => Some(branches.get(said as usize).copied().unwrap_or(NONE)),
            None => own,
        }
    }

    /// The most bytes the cells of a row take, if it has so many bytes on tape. A guess from above, not from below.
    #[cfg(any(feature = "parquet", feature = "avro"))]
    pub(crate) fn largest_row(&self, row_bytes: usize) -> usize {
        let lists =
            self.nodes.iter().enumerate().filter(|(_, node)| matches!(node.kind, Kind::List | Kind::Map));
        let below = lists.map(|(id, node)| node.end - id).max().unwrap_or_default();
        // An element that is an object has five bytes or more.
        let cells = (row_bytes / 5).saturating_mul(below).min(super::walk::CELLS_MAX);
        (self.nodes.len() * 16).saturating_add(cells * 9).saturating_add(row_bytes.saturating_mul(9))
    }

    /// Names from the root to the node, with a point between them.
    pub(crate) fn path(&self, id: usize) -> String {
        let mut path = String::new();
        let mut at = 0;
        while at < id {
            let below = self.node(at).children.iter().map(|&child| child as usize);
            let Some(next) = below.take_while(|&child| child <= id).last() else { break };
            let part = match self.node(at).kind {
                Kind::List => "[]",
                Kind::Map => "{}",
                _ => &self.node(next).name,
            };
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(part);
            at = next;
        }
        path
    }

    pub(super) fn kind_name(&self, id: usize) -> String {
        let bits = |unit: TimeUnit| match unit {
            TimeUnit::Millis => "milliseconds",
            TimeUnit::Micros => "microseconds",
            TimeUnit::Nanos => "nanoseconds",
        };
        match self.node(id).kind {
            Kind::Int(bits) => format!("int{bits}"),
            Kind::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            Kind::Fixed(length) => format!("fixed({length})"),
            Kind::Time(unit) => format!("time in {}", bits(unit)),
            Kind::Timestamp { unit, utc } => {
                format!("{}timestamp in {}", if utc { "" } else { "local " }, bits(unit))
            }
            other => format!("{other:?}").to_lowercase(),
        }
    }
}

impl Node {
    /// The place of a member.
    pub(super) fn place(&self, number: u32) -> Option<u32> {
        self.by_number.get(&number).copied()
    }

    /// The place of a member, or of a symbol, by name.
    pub(super) fn place_of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }
}

fn scalar_kind(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Null => Kind::Null,
        DataType::Bool => Kind::Bool,
        DataType::Int8 => Kind::Int(8),
        DataType::Int16 => Kind::Int(16),
        DataType::Int32 => Kind::Int(32),
        DataType::Int64 => Kind::Int(64),
        DataType::UInt32 => Kind::UInt32,
        DataType::UInt64 => Kind::UInt64,
        DataType::Float32 => Kind::Float32,
        DataType::Float64 => Kind::Float64,
        &DataType::Decimal { precision, scale } if precision <= DIGITS_MAX && scale <= precision => {
            Kind::Decimal { precision, scale }
        }
        DataType::String => Kind::String,
        DataType::Bytes => Kind::Bytes,
        DataType::Fixed(length) => Kind::Fixed(*length),
        DataType::Uuid => Kind::Uuid,
        DataType::Enum(_) => Kind::Enum,
        DataType::Date => Kind::Date,
        DataType::Time(unit) => Kind::Time(*unit),
        &DataType::Timestamp { unit, utc } => Kind::Timestamp { unit, utc },
        DataType::Duration => Kind::Duration,
        // Also what a later version of core may know, and decimals of more digits than columns have.
        _ => Kind::Json,
    }
}
