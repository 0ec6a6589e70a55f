//! Which values of one schema are values of another.

use std::fmt;

use super::{DataType, Field, Schema};

/// What may share a file with what, where producers change their schema: Connect's `schema.compatibility`.
///
/// Values are [projected](Schema::check_projection) to the schema of their file. What cannot be projected has a file of its
/// own, under every mode; nothing is dropped because schemas differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compatibility {
    /// Every schema has its own files.
    #[default]
    None,
    /// Files have the newest schema: readers of the newest read all data.
    ///
    /// The registry says which is the newest, by versions. Where schemas come without, it is the one a segment has met last, and
    /// what only another one has is left out of its files.
    Backward,
    /// Files have the oldest schema: readers of the oldest go on.
    Forward,
    /// As [`Backward`](Self::Backward), but only schemas share a file of which each can be read as the other.
    Full,
}

impl Compatibility {
    /// The name in fingerprints and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Backward => "backward",
            Self::Forward => "forward",
            Self::Full => "full",
        }
    }

    /// Whether `next`, met after `known`, replaces it as the schema of their files. By version where both have one; the one
    /// met later is the newer one where not.
    pub fn prefers(self, next: &Schema, known: &Schema) -> bool {
        let newer = match (next.version(), known.version()) {
            (Some(next), Some(known)) => next > known,
            _ => true,
        };
        match self {
            Self::None => false,
            Self::Backward | Self::Full => newer,
            Self::Forward => !newer,
        }
    }

    /// Whether values of `source` may be in files of `target`, as far as the mode decides it.
    pub fn admits(self, source: &Schema, target: &Schema) -> bool {
        match self {
            Self::None => source == target,
            Self::Backward | Self::Forward => source.check_projection(target).is_ok(),
            Self::Full => source.check_projection(target).is_ok() && target.check_projection(source).is_ok(),
        }
    }
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why values of one schema are none of another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", if .path.is_empty() { "the value" } else { .path.as_str() })]
pub struct Incompatible {
    path: String,
    problem: String,
}

impl Incompatible {
    /// The field, as a path of names; empty for the value itself.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Schema {
    /// Whether every value of this schema can be written as a value of `target`, by the rules of Connect's `SchemaProjector`:
    ///
    /// - names of schemas are the same;
    /// - kinds are the same, or numbers become wider: int8 → int16 → int32 → int64 → float32 → float64; unsigned ones into
    ///   what holds all of them; decimals of one scale into more digits;
    /// - a field that `target` has and this has not takes its default, or null if it may be null;
    /// - a field that only this has is left out;
    /// - what may be null here may be null there, or takes the default;
    /// - structs, lists, maps and the branches of unions in the same way; the symbols of an enum are among the target's.
    ///
    /// # Errors
    /// The first field that does not fit.
    pub fn check_projection(&self, target: &Self) -> Result<(), Incompatible> {
        let mut path = Vec::new();
        let problem = if self.name() == target.name() {
            match project(&self.root, &target.root, &mut path) {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            }
        } else {
            let name = |schema: &Self| schema.name().unwrap_or("without a name").to_owned();
            format!("its schema is {}, not {}", name(self), name(target))
        };
        Err(Incompatible { path: path.join("."), problem })
    }
}

impl DataType {
    /// By branch of this union: the branch of `target` its values become. `None` if one has none, or these are no unions.
    pub fn projected_branches(&self, target: &Self) -> Option<Vec<usize>> {
        let (Self::Union(from), Self::Union(to)) = (self, target) else { return None };
        let of = |branch: &Field| {
            let fits =
                |other: &Field| project_type(branch.data_type(), other.data_type(), &mut Vec::new()).is_ok();
            let same = |other: &&Field| other.name() == branch.name() && fits(other);
            to.iter()
                .position(|other| same(&other) && other.data_type() == branch.data_type())
                .or_else(|| to.iter().position(|other| same(&other)))
                .or_else(|| {
                    to.iter()
                        .position(|other| other.name().is_empty() == branch.name().is_empty() && fits(other))
                })
        };
        from.iter().map(of).collect()
    }
}

/// On an error `path` leads to the field.
fn project(from: &Field, to: &Field, path: &mut Vec<String>) -> Result<(), String> {
    if from.nullable && !to.nullable && to.default.is_none() {
        return Err("it may be null, and the target has no default".to_owned());
    }
    if from.data_type == DataType::Null && (to.nullable || to.default.is_some()) {
        return Ok(());
    }
    project_type(&from.data_type, &to.data_type, path)
}

fn project_type(from: &DataType, to: &DataType, path: &mut Vec<String>) -> Result<(), String> {
    match (from, to) {
        (DataType::Struct(from), DataType::Struct(to)) => project_fields(from, to, path),
        (DataType::List(from), DataType::List(to)) | (DataType::Map(from), DataType::Map(to)) => {
            project(from, to, path)
        }
        (DataType::Union(_), DataType::Union(_)) => match from.projected_branches(to) {
            Some(_) => Ok(()),
            None => Err("a branch of the union has no branch in the target".to_owned()),
        },
        (DataType::Enum(from), DataType::Enum(to)) => match from.iter().find(|symbol| !to.contains(symbol)) {
            Some(symbol) => Err(format!("the target has no symbol {symbol}")),
            None => Ok(()),
        },
        _ if from == to || promotes(from, to) => Ok(()),
        _ => Err(format!("{from} does not become {to}")),
    }
}

fn project_fields(from: &[Field], to: &[Field], path: &mut Vec<String>) -> Result<(), String> {
    for target in to {
        path.push(target.name.clone());
        match from.iter().find(|field| field.name == target.name) {
            Some(field) => project(field, target, path)?,
            None if target.default.is_some() || target.nullable => {}
            None => return Err("it is absent, and has neither a default nor null in the target".to_owned()),
        }
        path.pop();
    }
    Ok(())
}

fn promotes(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal, Enum, Float32, Float64, Int8, Int16, Int32, Int64, String, UInt32, UInt64};
    match (from, to) {
        (Int8, Int16 | Int32 | Int64)
        | (Int16, Int32 | Int64)
        | (UInt32, UInt64 | Int64)
        | (Int32, Int64)
        | (Int8 | Int16 | Int32 | Int64 | UInt32 | UInt64, Float32 | Float64)
        | (Float32, Float64)
        | (Enum(_), String) => true,
        (Decimal { precision: from, scale }, Decimal { precision: to, scale: same }) => {
            scale == same && from <= to
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
