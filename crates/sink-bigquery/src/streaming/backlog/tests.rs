use aqueduct_core::TopicPartition;
use proptest::prelude::*;

use super::*;
use crate::error::{Answer, At};
use crate::name::TableName;
use crate::streaming::progress::Progress;

struct World {
    ledger: Arc<Ledger>,
    table: usize,
    next: i64,
}

impl World {
    fn new() -> Self {
        let ledger = Arc::new(Ledger::new(Progress::new("p.d", &TopicPartition::new("t", 0))));
        let table = ledger.add_table(TableName::parse("p.d.t").unwrap());
        Self { ledger, table, next: 0 }
    }

    /// A piece of this many rows of one byte, at the next offsets.
    fn piece(&mut self, rows: usize) -> Piece {
        let mut chunk = Chunk::default();
        for _ in 0..rows {
            let row = u8::try_from(self.next % 256).unwrap();
            let add = |out: &mut Vec<u8>| -> Result<(), ()> {
                out.push(row);
                Ok(())
            };
            chunk.push(self.next, add).unwrap();
            self.next += 1;
        }
        Piece::new(chunk, self.table, Arc::clone(&self.ledger), Permit::unlimited())
    }

    fn error() -> Arc<BigQueryError> {
        let (at, answer) = (At::new("append rows", "p.d.t"), Answer::default());
        Arc::new(BigQueryError::AccessDenied { at, answer })
    }
}

/// Two rows to a request.
fn window(bytes: usize) -> Window {
    Window::new(22, bytes)
}

fn sent(backlog: &mut Backlog, window: &Window) -> Vec<u8> {
    assert!(backlog.may_send(window));
    backlog.send(window).concat()
}

#[test]
fn what_broke_goes_out_again_in_order_and_before_the_rest() {
    let (mut world, mut backlog, window) = (World::new(), Backlog::default(), window(1000));
    for rows in [1, 1, 2, 1, 2] {
        backlog.push(world.piece(rows));
    }
    assert_eq!(sent(&mut backlog, &window), [0, 1], "small pieces share a request");
    assert_eq!(sent(&mut backlog, &window), [2, 3]);
    assert_eq!(sent(&mut backlog, &window), [4], "a piece is not divided");
    backlog.appended();
    backlog.failed();
    backlog.broke();
    assert!(backlog.is_quiet());
    assert_eq!(sent(&mut backlog, &window), [2, 3]);
    assert_eq!(sent(&mut backlog, &window), [4]);
    assert_eq!(sent(&mut backlog, &window), [5, 6]);
    assert!(!backlog.may_send(&window) && !backlog.is_empty());
    for _ in 0..3 {
        backlog.appended();
    }
    assert!(backlog.is_empty() && world.ledger.look().unwrap());
    let published = world.ledger.published();
    assert_eq!((published.objects[0].rows, published.objects[0].range.end().get()), (7, 7));
}

#[test]
fn refused_rows_leave_their_request_and_the_others_come_first() {
    let (mut world, mut backlog, window) = (World::new(), Backlog::default(), Window::new(60, 1000));
    for rows in [3, 2, 1] {
        backlog.push(world.piece(rows));
    }
    assert_eq!(sent(&mut backlog, &window), [0, 1, 2, 3, 4]);
    assert!(backlog.refused(&[0, 3, 4]));
    assert_eq!(sent(&mut backlog, &window), [1, 2, 5]);
    assert!(!backlog.refused(&[7]), "there is no such row");
    assert_eq!(sent(&mut backlog, &window), [1, 2, 5], "and none is lost for that");
    backlog.appended();
    assert!(world.ledger.look().unwrap());
    let published = world.ledger.published();
    let refused: Vec<_> = published.rejected.iter().map(|rejected| rejected.offset.get()).collect();
    assert_eq!((published.objects[0].rows, refused), (3, vec![0, 3, 4]));
    assert_eq!((published.objects[0].range.start().get(), published.objects[0].range.end().get()), (1, 6));
}

#[test]
fn requests_are_bounded_by_bytes_and_by_number() {
    let (mut world, mut backlog) = (World::new(), Backlog::default());
    for _ in 0..300 {
        backlog.push(world.piece(2));
    }
    let narrow = window(50);
    assert_eq!(sent(&mut backlog, &narrow).len() + sent(&mut backlog, &narrow).len(), 4);
    assert!(!backlog.may_send(&narrow), "66 bytes would be under way");
    let mut small = Backlog::default();
    (0..9).for_each(|_| small.push(world.piece(1)));
    let lengths: Vec<_> = (0..3).map(|_| sent(&mut small, &window(55)).len()).collect();
    assert_eq!(
        (lengths, small.may_send(&window(55))),
        (vec![2, 2, 1], false),
        "nor by rows that share a request"
    );
    let mut wide = window(1_000_000);
    while backlog.may_send(&wide) {
        backlog.send(&wide);
    }
    assert_eq!(backlog.under_way.len(), Window::REQUESTS_MAX);
    for _ in 0..10 {
        wide.halve();
    }
    for _ in 1..Window::REQUESTS_MAX {
        backlog.appended();
        assert!(!backlog.may_send(&wide), "one at a time after a quota was used up");
    }
    backlog.appended();
    assert!(backlog.may_send(&wide));
    wide.widen();
    backlog.send(&wide);
    assert!(backlog.may_send(&wide), "and one more with each that gets through");
    // One that is larger than the window passes, alone.
    let mut large = Backlog::default();
    large.push(world.piece(9));
    large.push(world.piece(1));
    assert_eq!(sent(&mut large, &narrow).len(), 9);
    assert!(!large.may_send(&narrow));
}

#[test]
fn failures_are_told_once_and_for_good_every_time() {
    let (mut world, mut backlog) = (World::new(), Backlog::default());
    backlog.push(world.piece(1));
    let (at, answer) = (At::new("append rows", "p.d.t"), Answer::default());
    backlog.tell(&Arc::new(BigQueryError::Throttled { at, answer }));
    let error = world.ledger.look().unwrap_err();
    assert_eq!(error.class(), aqueduct_core::Class::Retry { after: Some(BigQueryError::THROTTLED_MIN) });
    assert!(!world.ledger.look().unwrap(), "it was said");
    backlog.fail(&World::error());
    for _ in 0..2 {
        let error = world.ledger.look().unwrap_err();
        assert_eq!(error.class(), aqueduct_core::Class::Fatal);
        assert!(aqueduct_core::ErrorChain(&error).to_string().contains("access is denied"));
    }
    assert!(backlog.is_empty());
}

#[test]
fn rows_that_are_dropped_are_a_failure_and_not_a_wait() {
    let mut world = World::new();
    drop(world.piece(1));
    assert_eq!(world.ledger.look().unwrap_err().class(), aqueduct_core::Class::Fatal);
    let mut world = World::new();
    let piece = world.piece(1);
    world.ledger.abandon();
    let mut backlog = Backlog::default();
    backlog.push(piece);
    backlog.forget_abandoned();
    assert!(backlog.is_empty() && world.ledger.look().is_ok(), "unless nobody wants them");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(usize),
    Send,
    Appended,
    Refused(usize),
    Failed,
    Broke,
}

proptest! {
    /// Whatever happens, in any order: every row is acknowledged or refused once, and nothing is under way beyond the window.
    #[test]
    fn no_row_is_lost(steps in prop::collection::vec(
        prop_oneof![
            (1..4_usize).prop_map(Step::Push),
            Just(Step::Send),
            Just(Step::Send),
            Just(Step::Appended),
            (0..3_usize).prop_map(Step::Refused),
            Just(Step::Failed),
            Just(Step::Broke),
        ],
        0..60,
    )) {
        let (mut world, mut backlog, window) = (World::new(), Backlog::default(), window(60));
        for step in steps {
            match step {
                Step::Push(rows) => backlog.push(world.piece(rows)),
                Step::Send if backlog.may_send(&window) => drop(backlog.send(&window)),
                Step::Send => {}
                Step::Appended => drop(backlog.appended()),
                Step::Refused(place) => drop(backlog.refused(&[place])),
                Step::Failed => backlog.failed(),
                Step::Broke => backlog.broke(),
            }
            prop_assert!(backlog.under_way_cost <= 60 || backlog.under_way.len() == 1);
        }
        backlog.broke();
        while backlog.may_send(&window) {
            backlog.send(&window);
            backlog.appended();
        }
        prop_assert!(backlog.is_empty() && world.ledger.look().unwrap());
        let published = world.ledger.published();
        let rows: u64 = published.objects.iter().map(|object| object.rows).sum();
        prop_assert_eq!(rows + published.rejected.len() as u64, world.next.unsigned_abs());
    }
}
