//! One pipeline, from a topic to a prefix.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aqueduct::files::Format;
use aqueduct::{
    BytesRow, Converter, ErrorChain, Fields, Guarantee, JsonRow, KafkaDeadLetters, KafkaSource, MaxRecords,
    OnPoison, Partitioner, Pipeline, RegistryClient, S3Sink, StartAt, StructuredValue, Tombstones,
};
use xtask::services::Endpoint;

use super::Combination;

/// What one pipeline is told.
pub(super) struct Run<'a> {
    pub(super) combination: Combination,
    pub(super) brokers: &'a str,
    pub(super) topic: &'a str,
    pub(super) letters: &'a str,
    /// The address of the schema registry.
    pub(super) registry: &'a str,
    pub(super) endpoint: &'a Endpoint,
    pub(super) bucket: &'a str,
    pub(super) spool_dir: PathBuf,
}

/// What it says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) rows: u64,
    pub(super) dead_letters: u64,
    pub(super) skipped: u64,
}

/// So that every partition has several segments, and routes several objects.
const SEGMENT_RECORDS: u64 = 80;
/// A pipeline that is not done by then hangs.
const LIMIT: Duration = Duration::from_mins(2);

impl Run<'_> {
    /// Half of the combinations skip tombstones, and half take them for poison.
    pub(super) fn tombstones(&self) -> Tombstones {
        if self.combination.skips_tombstones() { Tombstones::Skip } else { Tombstones::Poison }
    }

    /// A client of the registry that believes it at once: nobody registers anything any more.
    pub(super) fn registry(&self) -> Result<RegistryClient> {
        Ok(RegistryClient::builder(self.registry).unknown_again_after(Duration::ZERO).build()?)
    }

    /// With a converter of values with parts.
    pub(super) async fn structured<C>(&self, converter: C) -> Result<Ended>
    where
        C: Converter,
        C::Output: StructuredValue + JsonRow + Fields + Send + 'static,
    {
        let Combination { storage, layout, encoding, .. } = self.combination;
        let format = storage.structured().context("no format for values with parts")?;
        self.pipeline(converter, layout.of_fields(encoding.time)?, format).await
    }

    /// With a converter of values that are bytes.
    pub(super) async fn bytes<C>(&self, converter: C) -> Result<Ended>
    where
        C: Converter,
        C::Output: BytesRow + Send + 'static,
    {
        let Combination { storage, layout, .. } = self.combination;
        let format = storage.bytes().context("no format for bytes")?;
        self.pipeline(converter, layout.plain()?.context("bytes have no fields")?, format).await
    }

    async fn pipeline<C: Converter>(
        &self,
        converter: C,
        layout: Arc<dyn Partitioner<C::Output>>,
        format: Arc<dyn Format<C::Output>>,
    ) -> Result<Ended> {
        let name = self.combination.name();
        let source = KafkaSource::builder()
            .brokers(self.brokers)
            .group(&name)
            .topics([self.topic])
            .start(StartAt::Earliest)
            .until_end()
            .build()?;
        let Endpoint { url, region, access_key, secret_key } = self.endpoint;
        let sink = S3Sink::builder()
            .bucket(self.bucket)
            .prefix(&name)
            .endpoint(url)
            .region(region)
            .path_style(true)
            .credentials(access_key, secret_key.clone())
            .format(format)
            .compression(self.combination.storage.compression())
            .build()
            .await?;
        let letters =
            KafkaDeadLetters::builder().brokers(self.brokers).topic(self.letters).pipeline(&name).build()?;
        let pipeline = Pipeline::from(source)
            .convert(converter)
            .partition(layout)
            .sink(sink)
            .rotate(MaxRecords(SEGMENT_RECORDS))
            .on_poison(OnPoison::DeadLetter(Arc::new(letters)))
            .name(&name)
            .spool_dir(&self.spool_dir)
            .require(Guarantee::ExactlyOnce)
            .build()?;
        let ended = tokio::time::timeout(LIMIT, pipeline.run(std::future::pending::<()>())).await;
        let report = ended.context("it hangs")?.map_err(|error| anyhow::anyhow!("{}", ErrorChain(&error)))?;
        ensure!(report.pending_intents == 0, "intents are pending at the end: {report}");
        let skipped = report.records.saturating_sub(report.rows + report.dead_letters);
        Ok(Ended { rows: report.rows, dead_letters: report.dead_letters, skipped })
    }
}
