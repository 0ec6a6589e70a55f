//! The floor under an object: one bare request of the SDK.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use clap::Args;
use crc_fast::{CrcAlgorithm, checksum};
use tokio::task::JoinSet;
use xtask::services::Endpoint;

use super::{Measured, measured};

/// As many at once as the sink sends by default.
const AT_ONCE: u64 = 16;

#[derive(Debug, Args)]
pub(crate) struct PutArguments {
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    region: String,
    #[arg(long)]
    bucket: String,
    #[arg(long)]
    prefix: String,
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key: String,
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_key: String,
    /// Objects
    #[arg(long)]
    objects: u64,
    /// Bytes of each
    #[arg(long)]
    bytes: usize,
}

impl PutArguments {
    /// Puts the same bytes under many keys: no condition, no metadata, and a checksum that is known already. That is the least
    /// the SDK can be asked for, so what is taken off for it is never too much.
    pub(super) async fn run(self) -> Result<Measured> {
        let endpoint = Endpoint {
            url: self.endpoint,
            region: self.region,
            access_key: self.access_key,
            secret_key: self.secret_key,
        };
        let client = endpoint.client();
        let body = Bytes::from(vec![b'a'; self.bytes]);
        let crc = u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, &body))?;
        let crc = aws_smithy_types::base64::encode(crc.to_be_bytes());
        let next = Arc::new(AtomicU64::new(0));
        let mut senders = JoinSet::new();
        let started = Instant::now();
        for _ in 0..AT_ONCE {
            let (client, body, crc, next) = (client.clone(), body.clone(), crc.clone(), Arc::clone(&next));
            let (bucket, prefix, objects) = (self.bucket.clone(), self.prefix.clone(), self.objects);
            senders.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= objects {
                        return Ok::<(), anyhow::Error>(());
                    }
                    client
                        .put_object()
                        .bucket(&bucket)
                        .key(format!("{prefix}/{number:08}"))
                        .body(ByteStream::from(body.clone()))
                        .checksum_crc32_c(&crc)
                        .customize()
                        .disable_payload_signing()
                        .send()
                        .await
                        .context("a bare PUT")?;
                }
            });
        }
        while let Some(sent) = senders.join_next().await {
            sent??;
        }
        measured(started, 0, self.objects, None)
    }
}
