//! A visitor that looks at nothing: going through a value is how it is checked.

use aqueduct_core::{Composite, FieldValue, Poison, ValueVisitor};

pub(crate) struct Nobody;

impl ValueVisitor for Nobody {
    fn scalar(&mut self, _: FieldValue<'_>) -> Result<(), Poison> {
        Ok(())
    }

    fn begin(&mut self, _: Composite) -> Result<(), Poison> {
        Ok(())
    }

    fn key(&mut self, _: &str) -> Result<(), Poison> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), Poison> {
        Ok(())
    }
}
