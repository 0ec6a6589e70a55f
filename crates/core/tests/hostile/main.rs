//! What others may have written, or damaged: marks in offset metadata, texts that become routes and field paths.

#[cfg(test)]
mod marks;
#[cfg(test)]
mod routes;
