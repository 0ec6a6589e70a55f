//! The whole pipeline over the scripted broker and the in-memory store.

mod chaos;
mod lifecycle;
mod poison;
mod recovery;
mod stages;
