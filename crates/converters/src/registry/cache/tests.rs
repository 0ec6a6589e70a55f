use std::collections::BTreeMap;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use aqueduct_core::testkit::ManualClock;
use aqueduct_core::{Class, ErrorChain};
use async_trait::async_trait;
use tokio::sync::Notify;

use super::super::schema::{Reference, SchemaKind};
use super::*;

/// A registry that counts, can be changed, can fail and can be made to wait.
#[derive(Clone, Default)]
struct Registry(Arc<State>);

#[derive(Default)]
struct State {
    texts: Mutex<BTreeMap<SchemaId, &'static str>>,
    asked: Mutex<Vec<SchemaId>>,
    down: Mutex<Option<Class>>,
    open: Notify,
    closed: Mutex<bool>,
    running: Mutex<(usize, usize)>,
}

impl Registry {
    fn of(ids: impl IntoIterator<Item = u32>) -> Self {
        let registry = Self::default();
        for id in ids {
            registry.register(id, "text");
        }
        registry
    }

    fn register(&self, id: u32, text: &'static str) {
        self.0.texts.lock().unwrap().insert(id.into(), text);
    }

    fn down(&self, class: Option<Class>) {
        *self.0.down.lock().unwrap() = class;
    }

    /// Answers wait until [`open`](Self::open).
    fn close(&self) {
        *self.0.closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.0.closed.lock().unwrap() = false;
        self.0.open.notify_waiters();
    }

    fn asked(&self) -> Vec<u32> {
        let number = |id| match id {
            SchemaId::Number(number) => number,
            SchemaId::Guid(_) => panic!("{id}"),
        };
        let mut asked: Vec<_> =
            std::mem::take(&mut *self.0.asked.lock().unwrap()).into_iter().map(number).collect();
        asked.sort_unstable();
        asked
    }
}

#[async_trait]
impl SchemaSource for Registry {
    async fn schema(&self, id: SchemaId) -> Result<SchemaAnswer, StageError> {
        self.0.asked.lock().unwrap().push(id);
        {
            let mut running = self.0.running.lock().unwrap();
            running.0 += 1;
            running.1 = running.1.max(running.0);
        }
        let opened = self.0.open.notified();
        let closed = *self.0.closed.lock().unwrap();
        if closed {
            opened.await;
        }
        self.0.running.lock().unwrap().0 -= 1;
        if let Some(class) = *self.0.down.lock().unwrap() {
            let error = std::io::Error::other("connection refused");
            return Err(match class {
                Class::Fatal => StageError::fatal("schema registry", error).with_hint("look at it"),
                _ => StageError::retry("schema registry", error),
            });
        }
        let text = self.0.texts.lock().unwrap().get(&id).copied();
        Ok(text.map_or(SchemaAnswer::Unknown, |text| {
            SchemaAnswer::Known(RegisteredSchema::new(id, SchemaKind::Avro, text))
        }))
    }
}

/// Parses anything but `bad`, into its length.
fn cache(registry: &Registry) -> SchemaCache<usize> {
    SchemaCache::new(registry.clone(), |schema| {
        if schema.text == "bad" { Err("it is bad".to_owned()) } else { Ok(schema.text.len()) }
    })
}

fn lane(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn ids(ids: impl IntoIterator<Item = u32>) -> Vec<SchemaId> {
    ids.into_iter().map(SchemaId::from).collect()
}

fn entry(cache: &SchemaCache<usize>, partition: i32, id: u32) -> Option<Entry<usize>> {
    cache.read_entry(&lane(partition), id.into(), |entry| Some(entry?.clone()))
}

#[tokio::test]
async fn every_id_is_asked_for_once() {
    let registry = Registry::of([1, 2]);
    let cache = cache(&registry);
    cache.prepare(&lane(0), ids([1, 1, 2, 1, 3, 2])).await.unwrap();
    assert_eq!(registry.asked(), [1, 2, 3]);
    assert_eq!(entry(&cache, 0, 1), Some(Entry::Known(4)));
    assert_eq!(entry(&cache, 0, 3), Some(Entry::Unknown));
    assert_eq!(entry(&cache, 0, 4), None);
    // Another batch, another lane, another subset.
    cache.prepare(&lane(0), ids([1, 2, 3])).await.unwrap();
    cache.prepare(&lane(1), ids([2])).await.unwrap();
    assert!(registry.asked().is_empty());
    assert_eq!(entry(&cache, 1, 2), Some(Entry::Known(4)));
    assert_eq!(entry(&cache, 1, 4), None);
    assert_eq!(cache.len(), 3);
}

#[tokio::test]
async fn what_is_of_no_use_is_a_poison_that_says_why() {
    let registry = Registry::of([1]);
    registry.register(2, "bad");
    let cache = cache(&registry);
    cache.prepare(&lane(0), ids([1, 2, 3])).await.unwrap();
    let read = |id: u32| cache.read(&lane(0), id.into(), |len| Ok(*len)).map_err(|poison| poison.to_string());
    assert_eq!(read(1), Ok(4));
    assert_eq!(read(2), Err("malformed: schema 2 cannot be used: it is bad".to_owned()));
    assert_eq!(read(3), Err("malformed: schema 3 is not in the registry".to_owned()));
    assert!(read(4).unwrap_err().contains("schema 4 was not fetched"), "{:?}", read(4));
    let refused = cache.read(&lane(0), 1.into(), |_| Err::<(), _>(Poison::new(PoisonReason::NullValue, "x")));
    assert_eq!(refused.unwrap_err().reason(), PoisonReason::NullValue);
}

#[tokio::test]
async fn a_schema_that_comes_late_is_seen_by_a_later_batch_only() {
    let clock = ManualClock::at_millis(1_000_000);
    let registry = Registry::of([]);
    registry.register(2, "bad");
    let cache = cache(&registry).with_clock(Arc::new(clock.clone()));
    cache.prepare(&lane(0), ids([1, 2])).await.unwrap();
    registry.register(1, "late");
    registry.asked();

    clock.advance(Duration::from_millis(29_999));
    cache.prepare(&lane(0), ids([1, 2])).await.unwrap();
    assert_eq!((registry.asked(), entry(&cache, 0, 1)), (vec![], Some(Entry::Unknown)));
    // Another lane meets it after the time is over; this one still has its batch in hand.
    clock.advance(Duration::from_millis(1));
    cache.prepare(&lane(1), ids([1])).await.unwrap();
    assert_eq!((registry.asked(), entry(&cache, 1, 1)), (vec![1], Some(Entry::Known(4))));
    assert_eq!(entry(&cache, 0, 1), Some(Entry::Unknown));
    cache.prepare(&lane(0), ids([1, 2])).await.unwrap();
    assert_eq!((registry.asked(), entry(&cache, 0, 1)), (vec![2], Some(Entry::Known(4))));
    // What is known does not expire; what is not does not last longer when the clock is set back.
    clock.step_back(Duration::from_hours(1));
    cache.prepare(&lane(0), ids([1, 2])).await.unwrap();
    assert_eq!(registry.asked(), [2]);
}

#[tokio::test]
async fn what_a_lane_has_in_hand_is_not_thrown_out_and_the_rest_is() {
    let registry = Registry::of(0..100);
    let cache = cache(&registry).with_capacity(3);
    cache.prepare(&lane(0), ids([1, 2])).await.unwrap();
    cache.prepare(&lane(1), ids([3])).await.unwrap();
    // At the limit, then one past it: nobody's is kept, and the next batch takes its place.
    assert_eq!(cache.len(), 3);
    cache.prepare(&lane(1), ids([4])).await.unwrap();
    assert_eq!(cache.len(), 3);
    assert_eq!(entry(&cache, 0, 2), Some(Entry::Known(4)));
    cache.prepare(&lane(1), ids([3])).await.unwrap();
    assert_eq!(registry.asked(), [1, 2, 3, 3, 4], "3 was thrown out, 1 and 2 were not");
    // Grows for a batch and shrinks after.
    cache.prepare(&lane(1), ids(10..60)).await.unwrap();
    assert_eq!(cache.len(), 52);
    assert!((10..60).all(|id| entry(&cache, 1, id) == Some(Entry::Known(4))));
    assert_eq!(entry(&cache, 0, 1), Some(Entry::Known(4)));
    cache.prepare(&lane(1), ids([10])).await.unwrap();
    assert_eq!(cache.len(), 3);
}

#[tokio::test]
async fn the_least_recently_used_goes_first() {
    let registry = Registry::of(0..10);
    let cache = cache(&registry).with_capacity(2);
    for id in [1, 2, 1, 3] {
        cache.prepare(&lane(0), ids([id])).await.unwrap();
    }
    registry.asked();
    cache.prepare(&lane(0), ids([1])).await.unwrap();
    assert!(registry.asked().is_empty(), "2 was used before 1");
    cache.prepare(&lane(0), ids([2])).await.unwrap();
    assert_eq!(registry.asked(), [2]);
}

#[tokio::test]
async fn lanes_that_meet_a_schema_at_once_share_one_fetch() {
    let registry = Registry::of([1]);
    registry.close();
    let cache = Arc::new(cache(&registry));
    let prepare = |partition| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move { cache.prepare(&lane(partition), ids([1])).await })
    };
    let tasks: Vec<_> = (0..20).map(prepare).collect();
    while registry.0.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    registry.open();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(registry.asked(), [1]);
    assert_eq!(entry(&cache, 19, 1), Some(Entry::Known(4)));
}

#[tokio::test]
async fn a_failure_is_told_to_all_that_wait_and_forgotten() {
    for class in [Class::RETRY, Class::Fatal] {
        let registry = Registry::of([1, 2]);
        registry.close();
        registry.down(Some(class));
        let cache = cache(&registry);
        let (first, second) = (lane(0), lane(1));
        let both = async { tokio::join!(cache.prepare(&first, ids([1])), cache.prepare(&second, ids([1]))) };
        let open = async {
            tokio::task::yield_now().await;
            registry.open();
        };
        let ((first, second), ()) = tokio::join!(both, open);
        let (first, second) = (first.unwrap_err(), second.unwrap_err());
        assert_eq!((first.class(), second.class()), (class, class));
        assert_eq!(ErrorChain(&first).to_string(), ErrorChain(&second).to_string());
        assert!(ErrorChain(&first).to_string().ends_with("connection refused"), "{first}");
        assert_eq!(first.hint().is_some(), class == Class::Fatal);
        assert_eq!(registry.asked(), [1]);
        assert_eq!(entry(&cache, 0, 1), None);
        registry.down(None);
        cache.prepare(&lane(1), ids([1])).await.unwrap();
        assert_eq!((registry.asked(), entry(&cache, 1, 1)), (vec![1], Some(Entry::Known(4))));
    }
}

#[tokio::test]
async fn a_failed_batch_changes_nothing_of_the_one_in_hand() {
    let registry = Registry::of([1, 2]);
    let cache = cache(&registry).with_capacity(0);
    cache.prepare(&lane(0), ids([1])).await.unwrap();
    registry.down(Some(Class::RETRY));
    cache.prepare(&lane(0), ids([1, 2])).await.unwrap_err();
    assert_eq!((entry(&cache, 0, 1), entry(&cache, 0, 2)), (Some(Entry::Known(4)), None));
    assert_eq!(cache.len(), 1);
}

#[tokio::test]
async fn two_that_share_a_lane_do_not_take_each_others_schemas_away() {
    let registry = Registry::of(0..100);
    let cache = cache(&registry);
    // As a converter and its clone for keys, or in another pipeline.
    cache.prepare(&lane(0), ids(0..50)).await.unwrap();
    cache.prepare(&lane(0), ids(50..100)).await.unwrap();
    for id in 0..100 {
        assert_eq!(entry(&cache, 0, id), Some(Entry::Known(4)), "{id}");
    }
    assert_eq!(entry(&cache, 0, 100), None);
}

#[tokio::test]
async fn who_stops_waiting_leaves_the_fetch_to_the_next() {
    let registry = Registry::of([1]);
    registry.close();
    let cache = cache(&registry);
    let lanes = [lane(0), lane(1)];
    let mut context = Context::from_waker(Waker::noop());
    let mut fetches = Box::pin(cache.prepare(&lanes[0], ids([1])));
    assert!(fetches.as_mut().poll(&mut context).is_pending());
    let mut waits = Box::pin(cache.prepare(&lanes[1], ids([1])));
    assert!(waits.as_mut().poll(&mut context).is_pending());
    assert_eq!(registry.asked(), [1]);
    // A lane whose lease has ended drops what it was doing.
    drop(fetches);
    assert!(waits.as_mut().poll(&mut context).is_pending());
    assert_eq!(registry.asked(), [1], "asked again");
    registry.open();
    assert!(matches!(waits.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
}

#[tokio::test]
async fn fetches_are_bounded_over_all_lanes() {
    const MAX: usize = SchemaCache::<usize>::FETCHES_MAX;
    let registry = Registry::of(0..100);
    registry.close();
    let cache = cache(&registry);
    let lanes = [lane(0), lane(1)];
    let both = async {
        tokio::try_join!(cache.prepare(&lanes[0], ids(0..50)), cache.prepare(&lanes[1], ids(50..100)))
            .unwrap()
    };
    let open = async {
        while registry.0.running.lock().unwrap().0 < MAX {
            tokio::task::yield_now().await;
        }
        registry.open();
    };
    tokio::join!(both, open);
    assert_eq!(registry.0.running.lock().unwrap().1, MAX);
    assert_eq!(registry.asked().len(), 100);
}

#[tokio::test]
async fn one_name_for_two_schemas_cannot_be_used() {
    let reference = |name: &str, version, text: &str| Reference {
        name: name.to_owned(),
        subject: "s".to_owned(),
        version,
        text: text.to_owned(),
    };
    let mut schema = RegisteredSchema::new(1, SchemaKind::Json, "{}");
    schema.references = vec![reference("a", 1, "1"), reference("b", 1, "2"), reference("a", 2, "1")];
    assert_eq!(ambiguous(&schema), None, "the same text twice is the same schema");
    schema.references.push(reference("b", 2, "3"));
    let source = super::super::FixedSchemas::new().with_schema(schema);
    let cache = SchemaCache::new(source, |_| Ok(0_usize));
    cache.prepare(&lane(0), ids([1])).await.unwrap();
    let why = "it refers to two schemas by the name \"b\"".to_owned();
    assert_eq!(entry(&cache, 0, 1), Some(Entry::Unreadable(why)));
}
