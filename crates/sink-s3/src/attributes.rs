//! What objects are created with, beside their bytes.

use std::fmt::Write as _;

use aqueduct_files::{IDENTITY, ObjectIdentity, ObjectMeta};
use aws_sdk_s3::types::{ObjectCannedAcl, StorageClass};

use crate::config::S3ConfigError;
use crate::encryption::{CustomerKey, Encryption};

/// Most tags of an object.
const TAGS_MAX: usize = 10;
/// The tags of [`ObjectAttributes::tag_offsets`], named as Kafka Connect's S3 sink names them.
const OFFSET_TAGS: [&str; 3] = ["startOffset", "endOffset", "recordCount"];
/// Of the 2 KiB of metadata an object may have the identity takes up to about 500 bytes.
const METADATA_MAX: usize = 1024;

/// What every object is created with: encryption, storage class, tags, metadata and ACL.
///
/// All of it goes with the request that creates the object: there is no second request that could fail, and no moment
/// at which the object lacks something. None of it is part of the layout's identity: names and rows do not depend on
/// it, so it can be changed between two runs, and an object created before the change is still recognised as one's own.
///
/// ```
/// use aqueduct_sink_s3::{Encryption, KmsKey, ObjectAttributes, StorageClass};
///
/// let attributes = ObjectAttributes::new()
///     .encryption(Encryption::Kms(KmsKey::new("alias/archive").bucket_key(true)))
///     .storage_class(StorageClass::StandardIa)
///     .tag("team", "data");
/// # drop(attributes);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ObjectAttributes {
    encryption: Option<Encryption>,
    acl: Option<ObjectCannedAcl>,
    storage_class: Option<StorageClass>,
    tags: Vec<(String, String)>,
    tag_offsets: bool,
    metadata: Vec<(String, String)>,
}

impl ObjectAttributes {
    /// Nothing but the bucket's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Server-side encryption; the bucket's default without it.
    pub fn encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = Some(encryption);
        self
    }

    /// A canned ACL. Buckets made since April 2023 refuse all but `BucketOwnerFullControl` unless ACLs were switched on.
    /// Needs `s3:PutObjectAcl`.
    pub fn canned_acl(mut self, acl: ObjectCannedAcl) -> Self {
        self.acl = Some(acl);
        self
    }

    /// The storage class; `STANDARD` without it.
    pub fn storage_class(mut self, class: StorageClass) -> Self {
        self.storage_class = Some(class);
        self
    }

    /// Adds a tag, of at most ten. Needs `s3:PutObjectTagging`.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// Adds the tags `startOffset`, `endOffset` (the last record's, inclusive) and `recordCount`, as Kafka Connect's S3
    /// sink does. The metadata of every object says the same without them.
    pub fn tag_offsets(mut self, tag: bool) -> Self {
        self.tag_offsets = tag;
        self
    }

    /// Adds user metadata (`x-amz-meta-NAME`); at most 1 KiB of it.
    pub fn metadata(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((name.into(), value.into()));
        self
    }

    /// Everything that is wrong with them; empty if nothing is.
    pub fn problems(&self) -> Vec<S3ConfigError> {
        let mut problems: Vec<_> = self.encryption.iter().flat_map(Encryption::problems).collect();
        let offsets = if self.tag_offsets { OFFSET_TAGS.as_slice() } else { &[] };
        for (index, (key, value)) in self.tags.iter().enumerate() {
            let tag = |problem| S3ConfigError::Tag { key: key.clone(), problem };
            if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
                problems.push(tag("needs a key of 1 to 128 characters and a value of at most 256"));
            }
            if !key.chars().chain(value.chars()).all(may_be_in_tag) {
                problems.push(tag("may hold letters, digits, spaces and + - = . _ : / @ only"));
            }
            if key.starts_with("aws:") {
                problems.push(tag("begins with aws:, which is reserved"));
            }
            if self.tags.iter().take(index).any(|(known, _)| known == key) || offsets.contains(&key.as_str())
            {
                problems.push(tag("is there twice"));
            }
        }
        if self.tags.len() + offsets.len() > TAGS_MAX {
            problems.push(S3ConfigError::TooManyTags { tags: self.tags.len() + offsets.len() });
        }
        for (index, (name, value)) in self.metadata.iter().enumerate() {
            let metadata = |problem| S3ConfigError::Metadata { name: name.clone(), problem };
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || !name.bytes().all(plain) {
                problems.push(metadata("needs a name of lower-case letters, digits and -"));
            }
            if name == IDENTITY {
                problems.push(metadata("is the one with the object's identity"));
            }
            if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) || value.trim() != value {
                problems.push(metadata("needs a value of printable ASCII without spaces around it"));
            }
            if self.metadata.iter().take(index).any(|(known, _)| known == name) {
                problems.push(metadata("is there twice"));
            }
        }
        let bytes = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if bytes > METADATA_MAX {
            problems.push(S3ConfigError::MetadataSize { bytes, max: METADATA_MAX });
        }
        problems
    }

    pub(crate) fn requested_encryption(&self) -> crate::encryption::Requested {
        self.encryption.as_ref().map(Encryption::requested).unwrap_or_default()
    }

    pub(crate) fn customer_key(&self) -> Option<&CustomerKey> {
        match &self.encryption {
            Some(Encryption::CustomerKey(key)) => Some(key),
            _ => None,
        }
    }

    pub(crate) fn acl(&self) -> Option<ObjectCannedAcl> {
        self.acl.clone()
    }

    pub(crate) fn class(&self) -> Option<StorageClass> {
        self.storage_class.clone()
    }

    pub(crate) fn own_metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The tags as their header has them.
    pub(crate) fn tagging(&self, meta: &ObjectMeta) -> Option<String> {
        let mut tags: Vec<(&str, String)> =
            self.tags.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        if self.tag_offsets {
            // The check's upload has no rows.
            if let Some(ObjectIdentity { range, rows, .. }) = ObjectIdentity::from_metadata(&meta.user) {
                let last = range.end().get().saturating_sub(1);
                let values = [range.start().to_string(), last.to_string(), rows.to_string()];
                tags.extend(OFFSET_TAGS.into_iter().zip(values));
            }
        }
        let pairs = tags.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value)));
        let header = pairs.collect::<Vec<_>>().join("&");
        (!header.is_empty()).then_some(header)
    }
}

/// The characters that every tagging API of AWS takes.
fn may_be_in_tag(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, ' ' | '+' | '-' | '=' | '.' | '_' | ':' | '/' | '@')
}

/// As in a URL: everything that could mean something in one is percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named_at_once() {
        let mut attributes = ObjectAttributes::new()
            .tag("", "x")
            .tag("a", "<")
            .tag("aws:x", "")
            .tag("a", "1")
            .tag("endOffset", "1")
            .tag_offsets(true)
            .metadata("Upper", "x")
            .metadata("aqueduct", "1")
            .metadata("a", "line\n")
            .metadata("a", "x".repeat(1024));
        assert_eq!(attributes.problems().len(), 10, "{:?}", attributes.problems());
        attributes = ObjectAttributes::new().tag_offsets(true);
        for index in 0..7 {
            attributes = attributes.tag(format!("t{index}"), "grün 1+1=2");
        }
        assert!(attributes.problems().is_empty(), "ten tags are allowed: {:?}", attributes.problems());
        assert_eq!(attributes.tag("t7", "").problems(), [S3ConfigError::TooManyTags { tags: 11 }]);
    }

    #[test]
    fn tags_are_encoded_and_the_last_offset_is_inclusive() {
        let meta = ObjectMeta {
            content_type: String::new(),
            user: vec![(
                IDENTITY,
                "v=1 partition=0 start=7 end=10 rows=2 row-bytes=4 rows-crc32c=00000000 layout=0000000000000000 topic=t"
                    .to_owned(),
            )],
        };
        let attributes = ObjectAttributes::new().tag("a b", "ü/1=2&").tag_offsets(true);
        let expected = "a%20b=%C3%BC%2F1%3D2%26&startOffset=7&endOffset=9&recordCount=2";
        assert_eq!(attributes.tagging(&meta).as_deref(), Some(expected));
        assert_eq!(ObjectAttributes::new().tagging(&meta), None);
    }
}
