use super::*;
use crate::testkit::Fault;

fn object(values: &[&'static str]) -> MemoryObject {
    let rows = values.iter().zip(0..).map(|(value, offset)| MemoryRow {
        offset: Offset::new(offset),
        value: Bytes::from_static(value.as_bytes()),
    });
    let rows: Vec<_> = rows.collect();
    let end = Offset::new(i64::try_from(rows.len()).unwrap());
    MemoryObject {
        key: "t/t+0+0000000000".into(),
        lane: TopicPartition::new("t", 0),
        route: String::new(),
        range: OffsetRange::new(Offset::ZERO, end).unwrap(),
        layout: 7,
        rows,
    }
}

#[tokio::test]
async fn a_key_is_taken_once_and_the_same_object_is_ours() {
    let store = MemoryStore::new();
    store.create(object(&["a", "b"])).await.unwrap();
    store.create(object(&["a", "b"])).await.unwrap();
    assert_eq!((store.objects().len(), store.created_again()), (1, 1));
    for other in [object(&["a"]), object(&["a", "c"]), MemoryObject { layout: 8, ..object(&["a", "b"]) }] {
        let error = store.create(other).await.unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.downcast_ref::<StoreConflict>().is_some(), "{source}");
    }
    assert_eq!(store.objects(), [object(&["a", "b"])], "what stands there stays");
    store.plant(object(&["x"]));
    assert_eq!(store.objects(), [object(&["x"])]);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_object() {
    let store = MemoryStore::new();
    store.faults().next(Step::Create, Fault::FailAfterWrite(Class::RETRY));
    assert_eq!(store.create(object(&["a"])).await.unwrap_err().class(), Class::RETRY);
    assert_eq!(store.offsets(&TopicPartition::new("t", 0)), [0]);
    store.create(object(&["a"])).await.unwrap();
    assert_eq!(store.objects().len(), 1);
}
