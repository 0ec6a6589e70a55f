//! One failure told to several that wait.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use aqueduct_core::{Class, Classify, StageError};

/// A [`StageError`] that can be given out more than once: same class, hint and words.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<StageError>);

impl Shared {
    pub(super) fn new(error: StageError) -> Self {
        Self(Arc::new(error))
    }

    pub(super) fn to_stage_error(&self) -> StageError {
        StageError::new(self.0.stage(), self.clone())
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The error it becomes says the stage again.
        match self.0.source() {
            Some(source) => fmt::Display::fmt(source, f),
            None => fmt::Display::fmt(&*self.0, f),
        }
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()?.source()
    }
}

impl Classify for Shared {
    fn class(&self) -> Class {
        self.0.class()
    }

    fn hint(&self) -> Option<String> {
        self.0.hint().map(str::to_owned)
    }
}
