//! Why a value is none of its schema.

use aqueduct_core::{Poison, PoisonReason};

use super::plan::Plan;
use crate::tape::Damaged;

/// What does not fit, and where.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// The node of the plan.
    pub(super) node: usize,
    pub(super) problem: Problem,
}

#[derive(Debug)]
pub(super) enum Problem {
    /// Null, where null may not be.
    Null,
    /// Absent, and neither nullable nor with a default.
    Missing,
    /// Of another kind: this one.
    Kind(&'static str),
    /// Of the right kind, but outside of what the schema's holds.
    Range,
    /// Text that is no value of the kind.
    Spelling,
    /// No symbol of the enum.
    Symbol,
    /// A member that the schema does not have.
    Unknown(String),
    /// A member that comes twice.
    Twice(String),
    /// It cannot be written as JSON text.
    Json(Poison),
    /// No branch of the union holds it.
    Branch,
    /// The row is no tape.
    Damaged,
}

impl Misfit {
    /// What the record's reader is told. Holds names and kinds, never a value.
    pub(crate) fn poison(&self, plan: &Plan) -> Poison {
        let path = plan.path(self.node);
        let kind = plan.kind_name(self.node);
        let place = if path.is_empty() { "the value".to_owned() } else { format!("field {path:?}") };
        let (reason, detail) = match &self.problem {
            Problem::Null if path.is_empty() => {
                (PoisonReason::NullValue, format!("the value is null, its schema is {kind}"))
            }
            Problem::Null => (PoisonReason::InvalidField, format!("{place} is null, its schema is {kind}")),
            Problem::Missing => (PoisonReason::MissingField, format!("{place} is absent")),
            Problem::Kind(found) => {
                (PoisonReason::InvalidField, format!("{place} is {found}, its schema is {kind}"))
            }
            Problem::Range => (PoisonReason::InvalidField, format!("{place} does not fit into {kind}")),
            Problem::Spelling => (PoisonReason::InvalidField, format!("{place} is text that is no {kind}")),
            Problem::Symbol => {
                (PoisonReason::InvalidField, format!("{place} is none of the symbols of its enum"))
            }
            Problem::Unknown(name) => {
                (PoisonReason::InvalidField, format!("{place} has the member {name:?}, its schema has not"))
            }
            Problem::Twice(name) => {
                (PoisonReason::Malformed, format!("{place} has the member {name:?} twice"))
            }
            Problem::Json(poison) => (poison.reason(), format!("{place}: {}", poison.detail())),
            Problem::Branch => (PoisonReason::InvalidField, format!("{place} fits no branch of its union")),
            Problem::Damaged => (PoisonReason::Malformed, Damaged.to_string()),
        };
        Poison::new(reason, detail)
    }
}
