//! What is in the spool is not what was written: torn, flipped, zeroed, mixed up.

use aqueduct_core::testkit::check_corpus;

use super::*;

/// One object of three parts and one that is sent whole, in three batches: six runs in the index.
fn rows() -> Vec<Spec> {
    [(0, 1000), (0, 1000), (0, 1000), (1, 100)].repeat(3)
}

/// Publishes [`rows`] after `damage` was done to the two files; says what came of it. Never a panic, and never an object that
/// is not what it would have been.
async fn publish_after(codec: Compression, damage: impl Fn(&Path, &Path)) -> Result<String, TestCaseError> {
    let (rig, target) = (Rig::new(1 << 20), Arc::new(MemoryTarget::with_limits(limits())));
    let mut writer = begin(&sink(&target, options().with_compression(codec)), rig.start(0, 0)).await;
    fill(&mut *writer, 0, 0, &rows(), &[4]).await;
    stage(&mut *writer, 0, &rows()).await;
    let files = rig.scratch_files();
    damage(&files[0], &files[1]);
    let result = writer.publish().await;
    let expected = model(0, 0, &rows(), 40 << 10, codec.extension());
    let stored = decoded(&target, codec);
    for (key, found) in &stored {
        prop_assert!(found == &expected[key], "{} was published with damage", key);
    }
    prop_assert_eq!(target.open_uploads(), 0);
    match result {
        Ok(_) => {
            prop_assert_eq!(stored.len(), expected.len());
            Ok("published as it was written".to_owned())
        }
        Err(error) => {
            prop_assert_eq!(error.class(), Class::Fatal, "{}", ErrorChain(&error));
            Ok(ErrorChain(&error).to_string())
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Each specimen is an index in place of the one that was written.
#[test]
fn indexes_of_the_corpus_are_published_as_written_or_not_at_all() {
    let runtime = runtime();
    check_corpus(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/spool-index"), |_, bytes| {
        let outcome = publish_after(Compression::None, |_, index| std::fs::write(index, &bytes).unwrap());
        runtime.block_on(outcome).unwrap()
    });
}

#[derive(Clone, Debug)]
enum Damage {
    /// One bit.
    Flip(u8),
    /// The end is missing.
    Cut,
    /// The end is zeros, as after a file was extended and not written.
    Zero,
    /// Other bytes.
    Overwrite(Vec<u8>),
    /// Bytes of an earlier place, as of a file that was used before.
    Repeat(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (0..8_u8).prop_map(Damage::Flip),
        Just(Damage::Cut),
        Just(Damage::Zero),
        proptest::collection::vec(any::<u8>(), 1..40).prop_map(Damage::Overwrite),
        (1..64_usize).prop_map(Damage::Repeat),
    ]
}

fn apply(path: &Path, at: proptest::sample::Index, damage: &Damage) {
    let mut bytes = std::fs::read(path).unwrap();
    let (at, length) = (at.index(bytes.len()), bytes.len());
    match damage {
        Damage::Flip(bit) => bytes[at] ^= 1 << bit,
        Damage::Cut => bytes.truncate(at),
        Damage::Zero => bytes[at..].fill(0),
        Damage::Overwrite(other) => {
            let end = length.min(at + other.len());
            bytes[at..end].copy_from_slice(&other[..end - at]);
        }
        Damage::Repeat(count) => bytes.copy_within(..length.min(*count).min(length - at), at),
    }
    std::fs::write(path, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_happens_to_the_spool_is_published_as_written_or_not_at_all(
        blows in proptest::collection::vec((any::<bool>(), any::<proptest::sample::Index>(), damage()), 1..4),
        compressed: bool,
    ) {
        let codec = if compressed { Compression::Zstd } else { Compression::None };
        runtime().block_on(publish_after(codec, |rows, index| {
            for (in_rows, at, damage) in &blows {
                let path = if *in_rows { rows } else { index };
                if std::fs::metadata(path).unwrap().len() > 0 {
                    apply(path, *at, damage);
                }
            }
        }))?;
    }
}

/// The property above can fail: a spool that nothing happened to is published whole.
#[test]
fn what_is_not_damaged_is_published() {
    let outcome = runtime().block_on(publish_after(Compression::None, |_, index| {
        // The golden index: what the corpus damages.
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/spool-index/whole.bin");
        assert_eq!(std::fs::read(index).unwrap(), std::fs::read(golden).unwrap());
    }));
    assert_eq!(outcome.unwrap(), "published as it was written");
}
