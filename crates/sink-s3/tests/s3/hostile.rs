//! Texts in every option, and answers without sense: errors that say what, and never a panic.

use std::time::Duration;

use aqueduct_core::{ErrorChain, StageError};
use aqueduct_files::{Delimited, ObjectMeta, ObjectTarget, Part, Upload};
use aqueduct_sink_s3::{
    AssumeRole, Encryption, KmsKey, ObjectAttributes, Proxy, S3Sink, S3SinkBuilder, S3Target, WebIdentity,
};
use bytes::Bytes;
use proptest::prelude::*;

use super::recording::Endpoint;

/// What people put into options: nearly right, and anything.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "", "archive", "a.b", "ARCHIVE", "s3://archive", "arn:aws:s3:::x", "arn:aws:iam::123456789012:role/x", "http://[::1",
            "http://[::1]:9", "https://", "http://a:99999", "http://a b", "http://a/b?c#d", "HTTP://a", "ftp://a", "//a", "http://%",
            "http://\u{e9}", "eu-central-1", "../..", "123456789012", "\n", "\0", "a\r\nb: c", " ", "\u{202e}", "{topic}", "0",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => "[ -~]{0,70}",
    ]
}

/// Everything goes to a port on which nobody listens.
fn nowhere() -> Proxy {
    Proxy::new("http://127.0.0.1:1")
}

/// Tries what a target is asked first, if it could be built at all.
fn check(builder: S3SinkBuilder<Delimited>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    drop(format!("{builder:?}"));
    let attempt = Duration::from_millis(500);
    match runtime.block_on(builder.attempts(1).attempt_timeout(attempt).format(Delimited::lines()).build()) {
        Ok(sink) => {
            let error = runtime.block_on(put(sink.target(), "k")).unwrap_err();
            let text = ErrorChain(&error).to_string();
            prop_assert!(!text.is_empty() && !text.contains(['\n', '\r']), "{:?}", text);
        }
        Err(error) => prop_assert!(!error.to_string().contains(['\n', '\r']), "{:?}", error.to_string()),
    }
    Ok(())
}

async fn put(target: &S3Target, key: &str) -> Result<(), StageError> {
    let meta = ObjectMeta { content_type: "text/plain".to_owned(), user: Vec::new() };
    target.put(key, Bytes::from("x"), 0, &meta).await.map(drop)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_texts_are_a_way_to_the_store_or_an_error(
        bucket in text(), region in text(), endpoint in prop::option::of(text()), proxy in prop::option::of((text(), text(), text())),
        key in (text(), text(), text()), prefix in text(), style: Option<bool>, file in prop::option::of(text()),
    ) {
        let proxy = proxy.map_or_else(nowhere, |(url, user, password)| {
            // Only where nobody listens: a name would have to be looked up.
            let url = if url.starts_with("http://[::1]") { url } else { format!("{url}://127.0.0.1:1") };
            Proxy::new(url).basic_auth(user, password)
        });
        let (access, secret, token) = key;
        let mut builder = S3Sink::builder().bucket(bucket).region(region).prefix(prefix).proxy(proxy).format(Delimited::lines());
        builder = builder.session_credentials(access, secret, token);
        if let Some(url) = endpoint {
            builder = builder.endpoint(url);
        }
        if let Some(style) = style {
            builder = builder.path_style(style);
        }
        if let Some(file) = file {
            builder = builder.file_name(file);
        }
        check(builder)?;
    }

    #[test]
    fn any_texts_are_roles_and_attributes_or_errors(
        arn in text(), id in text(), session in text(), sts in text(), token in text(), owner in prop::option::of(text()),
        kms in text(), context in (text(), text()), tag in (text(), text()), metadata in (text(), text()), web: bool,
    ) {
        let attributes = ObjectAttributes::new()
            .encryption(Encryption::Kms(KmsKey::new(kms).context(context.0, context.1)))
            .tag(tag.0, tag.1)
            .metadata(metadata.0, metadata.1);
        let mut builder = S3Sink::builder()
            .bucket("archive")
            .region("eu-central-1")
            .sts_endpoint(sts)
            .proxy(nowhere())
            .attributes(attributes)
            .format(Delimited::lines());
        builder = if web {
            builder.web_identity(WebIdentity::new(arn, format!("/no/such/{token}")).session_name(session))
        } else {
            builder.credentials("AKIA", "x").assume_role(AssumeRole::new(arn).external_id(id).session_name(session))
        };
        if let Some(owner) = owner {
            builder = builder.expected_bucket_owner(owner);
        }
        check(builder)?;
    }
}

/// Answers that are no S3's: each is an error with a class, none is taken for a success it is not.
#[tokio::test]
async fn answers_without_sense_are_errors() {
    let endpoint = Endpoint::start().await;
    let forever = Duration::MAX;
    let sink = S3Sink::builder()
        .bucket("archive")
        .endpoint(endpoint.url())
        .credentials("AKIA", "x")
        .attempts(1)
        .connect_timeout(forever)
        .attempt_timeout(forever)
        .format(Delimited::lines())
        .build()
        .await
        .unwrap();
    let target = sink.target();
    let upload = Upload { key: "k".to_owned(), id: "u".to_owned() };
    let meta = ObjectMeta::default();
    let deep: &'static str = Box::leak(format!("<Error>{}", "<a>".repeat(100_000)).into_boxed_str());
    let long: &'static str = Box::leak(
        format!("<Error><Code>X</Code><Message>{}</Message></Error>", "é\n".repeat(100_000)).into_boxed_str(),
    );
    let laughs =
        "<!DOCTYPE x [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">]><Error><Code>&b;</Code></Error>";
    for body in [
        "",
        "<",
        "not xml",
        "<html><body>502</body></html>",
        deep,
        long,
        laughs,
        "\u{feff}<Error/>",
        "{}",
        "\0\0\0",
    ] {
        for status in [200, 204, 302, 404, 418, 500] {
            endpoint.script("uploads", status, body);
            let created = target.create_multipart("k", &meta).await;
            let error = created.expect_err("an upload without an id");
            let text = ErrorChain(&error).to_string();
            assert!(
                !text.contains('\n') && text.len() < 4096,
                "{status}: {} bytes: {:.200}",
                text.len(),
                text
            );
            endpoint.script("PUT", status, body);
            let stored = put(target, "k").await;
            assert!(stored.is_err(), "{status} {body:.50}");
        }
        // The body of a completion decides, whatever the status says.
        endpoint.script("uploadId", 200, body);
        let part = Part { number: 1, tag: "t".to_owned(), crc32c: 0 };
        let completed = target.complete(&upload, &[part]).await;
        assert!(completed.is_err(), "{body:.50}: {completed:?}");
        endpoint.script("HEAD", 200, body);
        assert!(target.head("k").await.unwrap().unwrap().user.is_empty());
    }
}
