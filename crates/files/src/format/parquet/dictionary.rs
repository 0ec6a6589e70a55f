//! Which columns of a file get a dictionary.
//!
//! A dictionary pays where values repeat. Where they do not, such as ids, times and messages, each is hashed, looked up and stored
//! with a number beside it, for nothing; the writer only notices when its dictionary is full, which that of a small file may
//! never be. So some rows of the first batch, spread over it, tell: with `c` different values, all alike often, a sample of `s`
//! is expected to have `c * (1 - e^(-s/c))` different ones. A column that has clearly more than the largest `c` that pays would
//! give is written plainly. In doubt there is a dictionary: it costs time, and its absence may cost space. The rows alone
//! decide, so the same rows give the same file.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, RecordBatch};
use arrow_buffer::ToByteSlice;
use arrow_schema::DataType as ArrowType;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Fewer values tell nothing.
const SAMPLE_MIN: usize = 64;
/// The most values that are looked at.
const SAMPLE_MAX: usize = 2048;
/// Of so many values one is looked at, if that gives enough.
const SAMPLE_OF: usize = 8;

/// How a file's row groups will look, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    /// Rows of a row group.
    pub(super) rows: usize,
    /// The most of a column's dictionary, in bytes.
    pub(super) dictionary_bytes: usize,
}

/// For each leaf of the columns, in Parquet's order, whether its values repeat often enough.
pub(super) fn repeating(batch: &RecordBatch, outlook: Outlook) -> Vec<bool> {
    let mut told = Vec::new();
    let mut sample = Sample::default();
    let growth = real(outlook.rows) / real(batch.num_rows().max(1));
    for column in batch.columns() {
        leaves(column, &mut |leaf| {
            let values = real(leaf.len()) * growth.max(1.0);
            told.push(sample.of(leaf).is_none_or(|found| found.repeats(values, outlook.dictionary_bytes)));
        });
    }
    told
}

/// Gives each leaf of a column to `each`.
fn leaves(array: &ArrayRef, each: &mut impl FnMut(&ArrayRef)) {
    match array.data_type() {
        ArrowType::Struct(_) => array.as_struct().columns().iter().for_each(|column| leaves(column, each)),
        ArrowType::List(_) => leaves(array.as_list::<i32>().values(), each),
        ArrowType::Map(..) => {
            array.as_map().entries().columns().iter().for_each(|column| leaves(column, each));
        }
        _ => each(array),
    }
}

/// What was looked at.
#[derive(Default)]
struct Sample {
    /// Places of a column with so many values: most columns of a batch have the same number.
    places: Vec<usize>,
    values: usize,
    /// Hashes of the different values of the column at hand.
    different: HashTable<u64>,
}

/// What a sample shows.
#[derive(Clone, Copy, Debug)]
struct Found {
    looked_at: usize,
    different: usize,
    /// Of a value, on the average.
    bytes: f64,
}

impl Sample {
    /// `None` if there is too little to tell.
    fn of(&mut self, leaf: &ArrayRef) -> Option<Found> {
        match leaf.data_type() {
            ArrowType::Binary => {
                let values = leaf.as_binary::<i32>();
                self.look_at(leaf, |place| values.value(place))
            }
            ArrowType::FixedSizeBinary(_) => {
                let values = leaf.as_fixed_size_binary();
                self.look_at(leaf, |place| values.value(place))
            }
            ArrowType::Int32 => self.look_at_numbers::<Int32Type>(leaf),
            ArrowType::Int64 => self.look_at_numbers::<Int64Type>(leaf),
            ArrowType::Float32 => self.look_at_numbers::<Float32Type>(leaf),
            ArrowType::Float64 => self.look_at_numbers::<Float64Type>(leaf),
            _ => None,
        }
    }

    fn look_at_numbers<T: ArrowPrimitiveType>(&mut self, leaf: &ArrayRef) -> Option<Found> {
        let values = leaf.as_primitive::<T>().values();
        self.look_at(leaf, |place| values.get(place).map_or(&[][..], ToByteSlice::to_byte_slice))
    }

    /// Looks at some values, given by their places.
    fn look_at<'v>(&mut self, leaf: &ArrayRef, value: impl Fn(usize) -> &'v [u8]) -> Option<Found> {
        self.choose(leaf.len());
        self.different.clear();
        let (mut looked_at, mut bytes) = (0, 0);
        for &place in self.places.iter().filter(|place| leaf.is_valid(**place)) {
            let value = value(place);
            bytes += value.len();
            looked_at += 1;
            let hash = xxh3_64(value);
            self.different.entry(hash, |known| *known == hash, |known| *known).or_insert(hash);
        }
        let different = self.different.len();
        (looked_at >= SAMPLE_MIN).then(|| Found {
            looked_at,
            different,
            bytes: real(bytes) / real(looked_at),
        })
    }

    /// Chooses the places of a column with so many values.
    fn choose(&mut self, values: usize) {
        if self.values == values {
            return;
        }
        self.values = values;
        let wanted = (values / SAMPLE_OF).clamp(2 * SAMPLE_MIN, SAMPLE_MAX);
        let step = (2 * values / wanted).max(2);
        let places = (0..values).step_by(step).map(|start| start + jitter(start, step - 1));
        // And the one behind it: values that come several times in a row.
        let places = places.flat_map(|place| [place, place + 1]).filter(|place| *place < values);
        self.places.clear();
        self.places.extend(places);
    }
}

/// How far into its step a place is, the same for the same place. Values that come in turns would else be met once each, or one of
/// them again and again.
fn jitter(start: usize, step: usize) -> usize {
    let mixed = xxh3_64(&start.to_le_bytes()) % step as u64;
    usize::try_from(mixed).unwrap_or_default()
}

impl Found {
    /// Whether a dictionary pays for `values` of them: if at most every second one is new, and if all that are fit in.
    fn repeats(self, values: f64, dictionary_bytes: usize) -> bool {
        // Each has its length in front of it.
        let fit = real(dictionary_bytes) / (self.bytes + 4.0);
        let most = (values / 2.0).min(fit).max(1.0);
        let looked_at = real(self.looked_at);
        let expected = most * (1.0 - (-looked_at / most).exp());
        // Two standard deviations, from the number of pairs that are alike by chance.
        let doubt = 2.0 * (looked_at * looked_at / (2.0 * most)).sqrt();
        real(self.different) <= expected + doubt
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of what is in memory, for an estimate")]
fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{BinaryArray, Int64Array, StructArray};
    use arrow_schema::{Field, Fields};

    use super::*;

    const OUTLOOK: Outlook = Outlook { rows: 1_000, dictionary_bytes: 16 << 10 };

    fn told(column: ArrayRef, outlook: Outlook) -> Vec<bool> {
        repeating(&RecordBatch::try_from_iter([("column", column)]).unwrap(), outlook)
    }

    fn numbers(of: impl Fn(i64) -> i64) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((0..1_000).map(of)))
    }

    #[test]
    fn values_that_repeat_get_a_dictionary_and_others_none() {
        let scattered = |n: i64| xxh3_64(&n.to_le_bytes()).cast_signed();
        for different in [1, 2, 7, 10, 100, 300] {
            let random = numbers(|n| scattered(n).rem_euclid(different));
            assert_eq!(told(random, OUTLOOK), [true], "{different} of 1,000");
            let in_turns = numbers(|n| n % different);
            assert_eq!(told(in_turns, OUTLOOK), [true], "{different} of 1,000, in turns");
            let sorted = numbers(|n| n * different / 1_000);
            assert_eq!(told(sorted, OUTLOOK), [true], "{different} of 1,000, sorted");
        }
        assert_eq!(told(numbers(|n| n), OUTLOOK), [false]);
        assert_eq!(told(numbers(scattered), OUTLOOK), [false]);
    }

    #[test]
    fn values_that_do_not_fit_into_a_dictionary_get_none() {
        let texts = |bytes: usize, different: usize| -> ArrayRef {
            let text = |n: usize| format!("{:0bytes$}", n * 7_919 % different);
            Arc::new(BinaryArray::from_iter_values((0..1_000).map(text)))
        };
        assert_eq!(told(texts(20, 300), OUTLOOK), [true]);
        assert_eq!(told(texts(1_000, 300), OUTLOOK), [false], "16 of them fit");
    }

    #[test]
    fn in_doubt_there_is_a_dictionary() {
        // In a million rows each of them may come back, and a MiB has room for many.
        let long = Outlook { rows: 1_000_000, dictionary_bytes: 1 << 20 };
        let column = numbers(|n| n * 13 % 997);
        assert_eq!(told(column, long), [true]);
        let few: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50));
        assert_eq!(told(few, OUTLOOK), [true]);
        let absent: ArrayRef = Arc::new(Int64Array::from(vec![None; 1_000]));
        assert_eq!(told(absent, OUTLOOK), [true]);
    }

    #[test]
    fn every_leaf_is_told_of_in_the_order_of_the_columns() {
        let fields = Fields::from(vec![
            Field::new("a", ArrowType::Int64, true),
            Field::new("b", ArrowType::Int64, true),
        ]);
        let inner: ArrayRef =
            Arc::new(StructArray::new(fields, vec![numbers(|n| n % 3), numbers(|n| n)], None));
        let batch =
            RecordBatch::try_from_iter([("x", numbers(|n| n)), ("y", inner), ("z", numbers(|n| n % 2))])
                .unwrap();
        assert_eq!(repeating(&batch, OUTLOOK), [false, true, false, true]);
    }
}
