//! The whole pipeline over the scripted broker and the in-memory store.

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod lane_model;
#[cfg(test)]
mod letters;
mod lifecycle;
#[cfg(test)]
mod poison;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod stages;
