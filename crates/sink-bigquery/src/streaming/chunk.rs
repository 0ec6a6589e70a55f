//! Rows between their encoding and their acknowledgement.

/// Rows of one table in the order of their records, in one buffer: they are kept until the service has them, because a connection
/// may break at any time.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<u32>,
    offsets: Vec<i64>,
}

impl Chunk {
    /// What a row takes in a request beside its bytes is below this.
    const ROW_COST: usize = 10;
    /// What a row takes in memory beside its bytes: its place in here, and an allocation of its own on its way out.
    const ROW_MEMORY: usize = 56;

    /// Adds the row of a record, unless `encode` fails, which then leaves the buffer as it was.
    pub(super) fn push<E>(
        &mut self,
        offset: i64,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        encode(&mut self.bytes)?;
        self.end_row(offset);
        Ok(())
    }

    fn end_row(&mut self, offset: i64) {
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        self.offsets.push(offset);
    }

    /// Moves the last row into a chunk of its own.
    pub(super) fn split_last(&mut self) -> Self {
        let (Some(_), Some(offset)) = (self.ends.pop(), self.offsets.pop()) else { return Self::default() };
        let start = self.ends.last().map_or(0, |end| *end as usize);
        let mut last = Self { bytes: self.bytes.split_off(start), ..Self::default() };
        last.end_row(offset);
        last
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Its part of a request, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.bytes.len() + self.len() * Self::ROW_COST
    }

    /// Its rows, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What it takes of the memory budget, in bytes: its rows are there a second time while they are sent.
    pub(super) fn memory(&self) -> u64 {
        (2 * self.bytes.len() + self.len() * Self::ROW_MEMORY) as u64
    }

    pub(super) fn offsets(&self) -> &[i64] {
        &self.offsets
    }

    /// Its rows, one after the other.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|end| *end as usize));
        let bounds = starts.zip(self.ends.iter().map(|end| *end as usize));
        bounds.map(|(start, end)| self.bytes.get(start..end).unwrap_or_default())
    }

    /// The rows at these places, ascending, leave it; answers them as a chunk.
    pub(super) fn take(&mut self, places: &[usize]) -> Self {
        let (mut kept, mut taken) = (Self::default(), Self::default());
        for (place, (row, offset)) in self.rows().zip(&self.offsets).enumerate() {
            let to = if places.binary_search(&place).is_ok() { &mut taken } else { &mut kept };
            to.bytes.extend_from_slice(row);
            to.end_row(*offset);
        }
        *self = kept;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(chunk: &mut Chunk, offset: i64, row: &str) {
        let add = |out: &mut Vec<u8>| -> Result<(), ()> {
            out.extend_from_slice(row.as_bytes());
            Ok(())
        };
        chunk.push(offset, add).unwrap();
    }

    fn told(chunk: &Chunk) -> Vec<(i64, &str)> {
        chunk
            .offsets()
            .iter()
            .copied()
            .zip(chunk.rows().map(|row| std::str::from_utf8(row).unwrap()))
            .collect()
    }

    #[test]
    fn rows_come_out_as_they_went_in() {
        let mut rows = Chunk::default();
        for (offset, row) in [(3, "a"), (5, ""), (9, "ccc")] {
            add(&mut rows, offset, row);
        }
        assert_eq!((rows.bytes(), rows.cost()), (4, 34));
        assert_eq!(rows.push(10, |_| Err("refused")), Err("refused"));
        assert_eq!(told(&rows), [(3, "a"), (5, ""), (9, "ccc")]);
        assert_eq!(told(&rows.split_last()), [(9, "ccc")]);
        assert_eq!(told(&rows), [(3, "a"), (5, "")]);
        add(&mut rows, 11, "dd");
        let taken = rows.take(&[0, 2]);
        assert_eq!((told(&taken), told(&rows)), (vec![(3, "a"), (11, "dd")], vec![(5, "")]));
    }
}
