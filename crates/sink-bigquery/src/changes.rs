//! Records as changes of rows.

/// Records change rows instead of adding some: change data capture
/// (<https://cloud.google.com/bigquery/docs/change-data-capture>).
///
/// Needs [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce), which is the only stream BigQuery takes changes by, and a
/// [`primary_key`](crate::TableOptions::primary_key).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Changes {
    pub(crate) epoch: u64,
}

impl Changes {
    /// Changes of epoch 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// What weighs more than a record's offset when changes of one row are put in order; 0 by default.
    ///
    /// Raise it when offsets stop telling which change is the later one: the topic was created again, or was given more partitions,
    /// so that keys have moved to others. Everything that is written with a higher epoch counts as later.
    pub fn epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }
}
