//! core
pub use batch::{Arenas, Batch, BatchBuilder};
pub use batch_sink::{BatchSink, Batched, Row, RowBatch};
pub use budget::{Budget, InFlight, Permit, Pool};
pub use clock::{Clock, SystemClock, from_unix_millis, unix_millis};
pub use convert::{Converted, Converter, ConverterExt, Filter, KeyedConverter, Map, SkipReason, TryMap};
pub use dead_letter::{DeadLetter, DeadLetterSink, OnPoison, PoisonBreaker, Rejected, StoredLetter};
pub use error::{
    BoxError, Class, Classify, ErrorChain, Poison, PoisonPart, PoisonReason, PoisonStage, StageError,
};
pub use failpoint::Failpoint;
#[cfg(feature = "failpoints")]
pub use failpoint::{FailpointError, configure as configure_failpoints};
pub use fingerprint::Fingerprint;
pub use intent::{Intent, Mark, MarkError, OffsetsHash};
pub use lane::LaneError;
pub use lease::{Lease, LeaseEnded, LeaseGuard};
pub use observe::{LaneState, LaneStatus, MetricInfo, PipelineStatus, Report, metrics_reference};
pub use partition::{Partitioner, Replay, RouteId, RoutePath, RouteTable};
pub use pipeline::{
    BuildErrors, Builder, Guarantee, Handle, Limits, OnLaneFailure, Pipeline, PipelineError,
    PublishedSegment, Unset,
};
pub use record::{
    Headers, Offset, OffsetRange, OwnedRecord, Record, SharedHeaders, Timestamp, TopicPartition,
};
pub use redrive::{
    LetterFilter, LetterSource, Redrive, RedriveError, RedriveReport, RepairBatch, RepairRow, RepairSink,
    Repaired, StillPoison, UnfinishedRepair, UnreadableLetter,
};
pub use rotate::{
    Any, Cut, CutReason, Idle, MaxAge, MaxBytes, MaxRecords, RecordTime, RotationPolicy, Schedule,
    SegmentStats, any,
};
pub use row::{BytesRow, JsonRow};
pub use schema::{Compatibility, DataType, Field, Incompatible, Literal, Schema};
pub use sink::{
    Begun, CommitStyle, Envelope, PipelinePlan, Published, PublishedObject, SegmentStart, SegmentWriter,
    Sink, SinkCapabilities, Staged,
};
pub use source::{Assignment, MarkOrigin, Reply, Source, SourceContext, SourceControl, SourceEvent};
pub use spool::{Disk, DiskFile, LocalDisk, Offload, Scratch, ScratchFile, Spool, SpoolError};
pub use value::{
    Composite, Decimal, FieldPath, FieldPathError, FieldValue, Fields, JsonText, Keyed, MemberName,
    NESTING_MAX, StructuredValue, TimeText, TimeUnit, ValueVisitor, write_json,
};

mod batch;
mod batch_sink;
mod budget;
mod clock;
mod convert;
mod dead_letter;
mod error;
mod failpoint;
mod fingerprint;
mod intent;
mod lane;
mod lease;
mod observe;
mod partition;
mod pipeline;
mod record;
mod redrive;
mod rotate;
mod row;
mod schema;
mod sink;
mod source;
mod spool;
mod sync;
#[cfg(feature = "testkit")]
pub mod testkit;
mod value;

/// The tutorial's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/writing-a-sink.md")]
mod writing_a_sink {}
