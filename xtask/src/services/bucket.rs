//! One bucket: create, empty, list and read it.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::create_bucket::CreateBucketError;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use bytes::Bytes;

/// A bucket of some server.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: Client,
    name: String,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Bytes stored, compressed as they are.
    pub bytes: u64,
}

/// A multipart upload that nobody has completed or aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The key it would get.
    pub key: String,
    /// Its id.
    pub id: String,
}

impl Bucket {
    /// The bucket `name` as `client` sees it; nothing is sent yet.
    pub fn new(client: Client, name: &str) -> Self {
        Self { client, name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client behind it, for calls that are not here.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Creates it; no effect if it is ours already.
    pub async fn create(&self) -> Result<()> {
        match self
            .client
            .create_bucket()
            .bucket(&self.name)
            .send()
            .await
            .map_err(SdkError::into_service_error)
        {
            Ok(_) | Err(CreateBucketError::BucketAlreadyOwnedByYou(_)) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("bucket {} cannot be created", self.name)),
        }
    }

    /// Removes every object and every unfinished upload, then the bucket.
    pub async fn delete(&self) -> Result<()> {
        self.clear().await?;
        let deleted = self.client.delete_bucket().bucket(&self.name).send().await;
        deleted.with_context(|| format!("bucket {} cannot be deleted", self.name))?;
        Ok(())
    }

    /// Removes every object and every unfinished upload.
    pub async fn clear(&self) -> Result<()> {
        for upload in self.uploads("").await? {
            let abort =
                self.client.abort_multipart_upload().bucket(&self.name).key(&upload.key).upload_id(upload.id);
            abort.send().await.with_context(|| format!("upload of {} cannot be aborted", upload.key))?;
        }
        let objects = self.objects("").await?;
        for chunk in objects.chunks(DELETE_LIMIT) {
            let ids = chunk.iter().map(|object| ObjectIdentifier::builder().key(&object.key).build());
            let delete =
                Delete::builder().set_objects(Some(ids.collect::<Result<_, _>>()?)).quiet(true).build()?;
            let deleted = self.client.delete_objects().bucket(&self.name).delete(delete).send().await;
            let deleted = deleted.with_context(|| format!("objects of {} cannot be deleted", self.name))?;
            if let Some(error) = deleted.errors().first() {
                anyhow::bail!("{} of {} cannot be deleted: {error:?}", error.key().unwrap_or("?"), self.name);
            }
        }
        Ok(())
    }

    /// Removes one object.
    pub async fn remove(&self, key: &str) -> Result<()> {
        let removed = self.client.delete_object().bucket(&self.name).key(key).send().await;
        removed.with_context(|| format!("{key} of {} cannot be deleted", self.name))?;
        Ok(())
    }

    /// Every object whose key begins with `prefix`, in the order of their keys.
    pub async fn objects(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        let mut pages =
            self.client.list_objects_v2().bucket(&self.name).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.with_context(|| format!("bucket {} cannot be listed", self.name))?;
            for object in page.contents() {
                let key = object.key().context("a listed object has no key")?.to_owned();
                found.push(Listed { key, bytes: u64::try_from(object.size().unwrap_or(0))? });
            }
        }
        Ok(found)
    }

    /// Unfinished multipart uploads of keys that begin with `prefix`.
    ///
    /// The prefix is applied here, not by the server: `MinIO` lists all uploads, or those of one whole key. It also forgets
    /// them when it restarts, see `S3::unfinished_uploads`.
    pub async fn uploads(&self, prefix: &str) -> Result<Vec<Upload>> {
        let mut found = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let list = self.client.list_multipart_uploads().bucket(&self.name);
            let page = list.set_key_marker(key_marker).set_upload_id_marker(id_marker).send().await;
            let page = page.with_context(|| format!("uploads of bucket {} cannot be listed", self.name))?;
            for upload in page.uploads() {
                let key = upload.key().context("a listed upload has no key")?.to_owned();
                let id = upload.upload_id().context("a listed upload has no id")?.to_owned();
                found.push(Upload { key, id });
            }
            (key_marker, id_marker) = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) || key_marker.is_none() {
                break;
            }
        }
        found.retain(|upload| upload.key.starts_with(prefix));
        Ok(found)
    }

    /// Opens an object: its headers are here, its body follows as it is read.
    pub async fn open(&self, key: &str) -> Result<GetObjectOutput> {
        let get = self.client.get_object().bucket(&self.name).key(key).send().await;
        get.with_context(|| format!("{key} of bucket {} cannot be read", self.name))
    }

    /// A whole object with its metadata, for small ones.
    pub async fn read(&self, key: &str) -> Result<(Bytes, HashMap<String, String>)> {
        let object = self.open(key).await?;
        let metadata = object.metadata().cloned().unwrap_or_default();
        let body = object
            .body
            .collect()
            .await
            .with_context(|| format!("{key} of bucket {} broke off", self.name))?;
        Ok((body.into_bytes(), metadata))
    }

    /// Writes an object, replacing what is there.
    pub async fn write(&self, key: &str, body: Bytes, metadata: HashMap<String, String>) -> Result<()> {
        let put = self.client.put_object().bucket(&self.name).key(key).set_metadata(Some(metadata));
        let put = put.body(ByteStream::from(body)).send().await;
        put.with_context(|| format!("{key} of bucket {} cannot be written", self.name))?;
        Ok(())
    }
}

/// What one `DeleteObjects` takes.
const DELETE_LIMIT: usize = 1_000;
