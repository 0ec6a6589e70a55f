//! Objects of a bucket, and what they say of themselves without being read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xtask::services::Bucket;

/// An object, as far as it can be told without reading it.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) key: String,
    pub(crate) claims: BTreeMap<String, String>,
    /// Where it was put to be read.
    pub(crate) path: PathBuf,
}

/// Downloads everything below `prefix/` into files of `dir`.
pub(crate) async fn download(bucket: &Bucket, prefix: &str, dir: &Path) -> Result<Vec<Object>> {
    download_if(bucket, prefix, dir, |_| true).await
}

/// Downloads what is below `prefix/` and whose key is `wanted`.
pub(crate) async fn download_if(
    bucket: &Bucket,
    prefix: &str,
    dir: &Path,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    let listed = bucket.objects(&format!("{prefix}/")).await?;
    for (index, listed) in listed.into_iter().filter(|listed| wanted(&listed.key)).enumerate() {
        let (bytes, metadata) = bucket.read(&listed.key).await?;
        let path = dir.join(format!("{prefix}-{index:05}"));
        tokio::fs::write(&path, bytes).await?;
        let claims =
            metadata.get("aqueduct").with_context(|| format!("{} has none of our metadata", listed.key))?;
        let claims =
            claims.split(' ').filter_map(|it| it.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned()));
        objects.push(Object { key: listed.key, claims: claims.collect(), path });
    }
    Ok(objects)
}

impl Object {
    /// What it claims under this name.
    pub(crate) fn claim(&self, name: &str) -> Result<i64> {
        let claim = self.claims.get(name).with_context(|| format!("{} claims no {name}", self.key))?;
        Ok(claim.parse()?)
    }

    /// Partition, offset of the first row, and the offset behind the last.
    pub(crate) fn range(&self) -> Result<(i32, i64, i64)> {
        Ok((i32::try_from(self.claim("partition")?)?, self.claim("start")?, self.claim("end")?))
    }

    /// What is in its key between the topic's folder below `prefix` and its name.
    pub(crate) fn route(&self, prefix: &str, topic: &str) -> Option<&str> {
        let rest = self.key.strip_prefix(&format!("{prefix}/{topic}/"))?;
        Some(rest.rsplit_once('/').map_or("", |(route, _)| route))
    }
}
