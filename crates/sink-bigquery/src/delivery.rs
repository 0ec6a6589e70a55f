//! How rows get into tables.

/// How rows get into tables, and with which guarantee.
///
/// | | [`ExactlyOnce`](Self::ExactlyOnce) | [`AtLeastOnce`](Self::AtLeastOnce) |
/// | --- | --- | --- |
/// | stream | a pending one for each table and segment | the table's default stream |
/// | rows are visible | when their segment is published, all at once | about a second after their batch |
/// | a crash | repeats nothing | writes again what its segment has written |
/// | rows wait | on scratch disk | in memory, until they are acknowledged |
/// | tables of a segment | few: the intent names their streams | many |
/// | quota | `CreateWriteStream` for each table and segment | connections |
///
/// [`InsertAll`](Self::InsertAll) is as `AtLeastOnce` in its guarantee and in what a crash repeats. Each lane waits for the answer to a
/// request before it sends the next one.
///
/// # At least once
/// Rows are sent when their batch has been encoded, and are visible when they are acknowledged. While they wait for that they hold
/// memory of the publish pool; when there is none the lane waits, and with it its source. A segment's end is committed when every row
/// is acknowledged, or refused and its letter durable: rotation decides how much a crash writes again.
///
/// Rows of a partition are sent in order, and again in order after a failure. A table keeps no order, and rows behind one that was
/// refused may come before its neighbours: the offset is in every row.
///
/// Another one may be chosen while no cut is pending: [`Pipeline::finish_pending`](aqueduct_core::Pipeline::finish_pending) with
/// the one before publishes what is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivery {
    /// Pending streams, committed once: every record is in exactly one row.
    #[default]
    ExactlyOnce,
    /// The default stream of each table (<https://cloud.google.com/bigquery/docs/write-api#default_stream>): every record is in at
    /// least one row. With [`changes`](crate::BigQuerySinkBuilder::changes) repetitions have no effect.
    AtLeastOnce,
    /// The legacy streaming interface, `tabledata.insertAll`
    /// (<https://cloud.google.com/bigquery/docs/streaming-data-into-bigquery>): every record is in at least one row. For what has no
    /// other; it costs more and carries less, and repetitions are removed for about a minute at best. Rows are visible at once.
    InsertAll,
}
