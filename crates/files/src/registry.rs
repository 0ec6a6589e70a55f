//! Telling a catalogue which partitions there are.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct_core::StageError;
use async_trait::async_trait;

/// Told of every route that holds objects, for a catalogue that does not look for itself: Hive, Glue, Athena without
/// partition projection.
///
/// # Contract
/// - **When.** After the objects of a segment are visible and before its end is committed. A process that dies in between is
///   followed by one that publishes the segment again, finds its objects, and tells again: no partition is missed.
/// - **How often.** At least once: a process tells of a route when it first publishes to it, and again once it has
///   published to tens of thousands of others since. Several lanes may tell at the same time, of the same routes too. So
///   registering what is registered must be fine, as with `ADD IF NOT EXISTS`.
/// - **How many.** From one to [`BATCH_MAX`](StoredPartition::BATCH_MAX) in a call, one call after the other in a lane.
/// - **Errors** are classified like the target's, and no class loses anything: the objects are visible, the mark stays where
///   it was with the intent in it. With `Retry` the lane waits for the registry as for a store that is down; with `Fatal` it
///   stops, and goes on from there when the process is started again. After an error all of the call is told of again.
/// - **An answer has to come.** Nobody but the implementation knows how long a statement may run, so it sets the time-out:
///   a call that never ends holds its lane until the partition goes elsewhere.
/// - **Cancellation.** A dropped future may have had its effect.
///
/// It does not enter the layout's identity: names and rows do not depend on it.
///
/// ```
/// use aqueduct_core::StageError;
/// use aqueduct_files::{ObjectOptions, PartitionRegistry, StoredPartition};
/// use async_trait::async_trait;
///
/// /// Gives statements to whoever runs them.
/// struct Statements(tokio::sync::mpsc::Sender<String>);
///
/// #[async_trait]
/// impl PartitionRegistry for Statements {
///     async fn register(&self, partitions: &[StoredPartition]) -> Result<(), StageError> {
///         // What may be in a value is decided by who writes the records: do not build SQL of anything else.
///         let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'));
///         let mut statement = "ALTER TABLE orders ADD IF NOT EXISTS".to_owned();
///         for partition in partitions {
///             let fields = partition.fields();
///             if fields.is_empty() || !fields.iter().all(|(name, value)| plain(name) && plain(value)) {
///                 continue;
///             }
///             let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}='{value}'")).collect();
///             statement += &format!(" PARTITION ({}) LOCATION '{}'", fields.join(", "), partition.location);
///         }
///         self.0.send(statement).await.map_err(|error| StageError::fatal("register", error))
///     }
/// }
///
/// # let (sender, _receiver) = tokio::sync::mpsc::channel(1);
/// let options = ObjectOptions::default().with_partition_registry(Statements(sender));
/// # drop(options);
/// ```
#[async_trait]
pub trait PartitionRegistry: Send + Sync + 'static {
    /// Makes the partitions known.
    async fn register(&self, partitions: &[StoredPartition]) -> Result<(), StageError>;
}

/// A route of a topic under which there are objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StoredPartition {
    /// The topic.
    pub topic: String,
    /// The route as it stands in keys: `year=2021/month=06`, with values percent-encoded.
    pub route: String,
    /// What its objects' names start with, and a slash: `s3://archive/topics/orders/year=2021/month=06/`.
    pub location: String,
}

impl StoredPartition {
    /// The most partitions in one call of [`PartitionRegistry::register`]: what Glue's `BatchCreatePartition` takes.
    pub const BATCH_MAX: usize = 100;

    /// The levels of the form `name=value`, in order, decoded. Other levels are left out.
    pub fn fields(&self) -> Vec<(String, String)> {
        let levels = self.route.split('/').filter_map(|level| level.split_once('='));
        levels.map(|(name, value)| (decoded(name), decoded(value))).collect()
    }
}

/// Undoes the percent-encoding of a level.
fn decoded(text: &str) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%'
            && let Some((&[high, low], after)) = tail.split_first_chunk()
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            bytes.push(high << 4 | low);
            rest = after;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A registry, and what it has been told.
#[derive(Clone)]
pub(crate) struct Registration {
    registry: Arc<dyn PartitionRegistry>,
    told: Arc<Mutex<Told>>,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}

impl Registration {
    pub(crate) fn new(registry: impl PartitionRegistry) -> Self {
        Self { registry: Arc::new(registry), told: Arc::default() }
    }

    /// Tells of those that have not been told of. An error leaves those of its call untold.
    pub(crate) async fn tell(
        &self,
        partitions: impl Iterator<Item = StoredPartition> + Send,
    ) -> Result<(), StageError> {
        let mut untold = Vec::new();
        for partition in partitions {
            if !self.told().knows(&partition.location) {
                untold.push(partition);
            }
            if untold.len() == StoredPartition::BATCH_MAX {
                self.register(&mut untold).await?;
            }
        }
        if untold.is_empty() { Ok(()) } else { self.register(&mut untold).await }
    }

    async fn register(&self, untold: &mut Vec<StoredPartition>) -> Result<(), StageError> {
        self.registry.register(untold).await?;
        tracing::debug!(partitions = untold.len(), "registered");
        let mut told = self.told();
        untold.drain(..).for_each(|partition| told.note(partition.location));
        Ok(())
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The locations told of lately: at most two generations of [`GENERATION_BYTES`](Self::GENERATION_BYTES).
#[derive(Debug, Default)]
struct Told {
    young: HashSet<String>,
    young_bytes: usize,
    old: HashSet<String>,
}

impl Told {
    /// Room for the routes of the largest segment, with names of the usual length; otherwise segment after segment would be
    /// told of again.
    const GENERATION_BYTES: usize = 4 << 20;
    /// What an entry costs beside its text.
    const ENTRY_BYTES: usize = 64;

    fn knows(&mut self, location: &str) -> bool {
        if self.young.contains(location) {
            return true;
        }
        // What is in use moves up, so that only what is not gets lost with its generation.
        match self.old.take(location) {
            Some(location) => {
                self.note(location);
                true
            }
            None => false,
        }
    }

    fn note(&mut self, location: String) {
        let bytes = location.len() + Self::ENTRY_BYTES;
        if self.young_bytes + bytes > Self::GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(location) {
            self.young_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded_and_other_levels_left_out() {
        let route = "raw/year=2021/service=a%2Fb%3D%C3%BC%25/x%zz=100%/y=%+1%2";
        let partition =
            StoredPartition { topic: String::new(), route: route.into(), location: String::new() };
        let fields = partition.fields();
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(fields, [("year", "2021"), ("service", "a/b=ü%"), ("x%zz", "100%"), ("y", "%+1%2")]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_in_use_stays() {
        let mut told = Told::default();
        told.note("in use".to_owned());
        let location = |number: usize| format!("{number:0>1000}");
        for number in 0..5 * Told::GENERATION_BYTES / 1000 {
            told.note(location(number));
            assert!(told.knows("in use"), "after {number} others");
            assert!(told.young_bytes <= Told::GENERATION_BYTES && !told.young.is_empty());
        }
        let held = (told.young.len() + told.old.len()) * 1000;
        assert!(held <= 2 * Told::GENERATION_BYTES && held > Told::GENERATION_BYTES / 2, "{held} bytes");
        assert!(!told.knows(&location(0)), "the oldest is forgotten, and would be told of again");
    }

    #[test]
    fn the_routes_of_the_largest_segment_are_remembered() {
        let mut told = Told::default();
        let location =
            |number: usize| format!("s3://archive/topics/orders/customer={number:0>30}/day=2026-11-23/");
        for _ in 0..2 {
            (0..20_000).for_each(|number| told.note(location(number)));
        }
        assert!((0..20_000).all(|number| told.knows(&location(number))));
    }
}
