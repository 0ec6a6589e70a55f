//! Headers with converters of their own, through a pipeline.

#[cfg(test)]
#[cfg(all(feature = "avro", feature = "json-schema"))]
mod pipeline;
