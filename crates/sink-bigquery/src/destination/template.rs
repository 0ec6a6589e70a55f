//! Names of tables with places that are filled in: `logs.$app`, `${region}.events_${tenant.id}`.

use super::legal::{self, Part};
use crate::name::{TableName, TableNameError, check_dataset, check_project};

/// `table`, `dataset.table` or `project.dataset.table`, with places. Dots within a place's name, and within what it is filled with,
/// separate nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) project: Option<String>,
    pub(super) dataset: Option<Vec<Piece>>,
    pub(super) table: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Place(String),
}

impl Template {
    /// Reads a template; the error is what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = vec![Vec::new()];
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let part = parts.last_mut().ok_or("is empty")?;
            let after = rest.get(character.len_utf8()..).unwrap_or_default();
            rest = match character {
                '.' => {
                    parts.push(Vec::new());
                    after
                }
                '$' if after.starts_with('$') => {
                    push_text(part, "$");
                    after.get(1..).unwrap_or_default()
                }
                '$' => {
                    let (name, after) = place(after)?;
                    part.push(Piece::Place(name.to_owned()));
                    after
                }
                _ => {
                    push_text(part, rest.get(..character.len_utf8()).unwrap_or_default());
                    after
                }
            };
        }
        let table = parts.pop().ok_or("is empty")?;
        let dataset = parts.pop();
        let project = (!parts.is_empty()).then(|| project(&parts)).transpose()?;
        let template = Self { project, dataset, table };
        template.check().map_err(|error| format!("is no name of a table: {error}"))?;
        Ok(template)
    }

    /// Whatever stands for certain must be legal.
    fn check(&self) -> Result<(), TableNameError> {
        self.project.as_deref().map_or(Ok(()), check_project)?;
        let fixed = |part: Part, pieces: &[Piece]| match pieces {
            [] => Some(String::new()),
            [Piece::Text(text)] => Some(text.clone()),
            // With places the texts between are looked at alone.
            pieces => pieces.iter().find_map(|piece| match piece {
                Piece::Text(text) if !legal::is_legal(part, text) => Some(text.clone()),
                _ => None,
            }),
        };
        if let Some(dataset) = self.dataset.as_ref().and_then(|pieces| fixed(Part::Dataset, pieces)) {
            check_dataset(&dataset)?;
        }
        match fixed(Part::Table, &self.table) {
            Some(table) => TableName::new("project", "dataset", table).map(drop),
            None => Ok(()),
        }
    }

    /// The names of its places.
    pub(super) fn places(&self) -> impl Iterator<Item = &str> {
        self.dataset.iter().flatten().chain(&self.table).filter_map(|piece| match piece {
            Piece::Place(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Its dataset, if there is one that is always the same.
    pub(super) fn fixed_dataset(&self) -> Option<&str> {
        match self.dataset.as_deref() {
            Some([Piece::Text(text)]) => Some(text),
            _ => None,
        }
    }
}

fn push_text(part: &mut Vec<Piece>, text: &str) {
    match part.last_mut() {
        Some(Piece::Text(before)) => before.push_str(text),
        _ => part.push(Piece::Text(text.to_owned())),
    }
}

/// The name behind a `$`, and what comes after it.
fn place(text: &str) -> Result<(&str, &str), String> {
    let (name, after) = if let Some(braced) = text.strip_prefix('{') {
        braced.split_once('}').ok_or("has a ${ without its }")?
    } else {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        text.split_at(end)
    };
    if name.is_empty() {
        return Err("has a $ without a name; $$ is a $ itself".to_owned());
    }
    Ok((name, after))
}

/// A project of a domain has dots of its own.
fn project(parts: &[Vec<Piece>]) -> Result<String, String> {
    let mut project = String::new();
    for (place, part) in parts.iter().enumerate() {
        project.push_str(if place > 0 { "." } else { "" });
        for piece in part {
            match piece {
                Piece::Text(text) => project.push_str(text),
                Piece::Place(_) => {
                    return Err("has a place in the project, which must be spelled out".to_owned());
                }
            }
        }
    }
    Ok(project)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_up_to_three_parts() {
        let template = Template::parse("example.com:p.logs_${a.b}.$app-$$x").unwrap_err();
        assert!(template.contains("is no name of a table"), "{template}");
        let template = Template::parse("example.com:p.logs_${a.b}.${app}_v$1").unwrap();
        assert_eq!(template.project.as_deref(), Some("example.com:p"));
        assert_eq!(template.places().collect::<Vec<_>>(), ["a.b", "app", "1"]);
        assert_eq!(template.fixed_dataset(), None);
        assert_eq!(Template::parse("d.$t").unwrap().fixed_dataset(), Some("d"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, problem) in [
            ("", "is empty"),
            ("a.", "is empty"),
            ("d-d.t", "dataset"),
            ("d.t/$x", "table"),
            ("$", "without a name"),
            ("${a", "without its }"),
            ("$p.d.t", "must be spelled out"),
            ("p d.d.t", "project"),
            (".d.t", "project"),
        ] {
            let told = Template::parse(text).unwrap_err();
            assert!(told.contains(problem), "{text}: {told}");
        }
    }
}
