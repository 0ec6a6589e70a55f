//! What options put on the wire. What they mean is the store's business; that they arrive is ours.

use std::io::Write as _;

use aqueduct_core::{Class, ErrorChain, Sink, StageError};
use aqueduct_files::{Delimited, IDENTITY, ObjectMeta, ObjectTarget};
use aqueduct_sink_s3::{
    AssumeRole, CustomerKey, Encryption, KmsKey, ObjectAttributes, ObjectCannedAcl, Proxy, S3ConfigError,
    S3Sink, S3SinkBuilder, S3Target, StorageClass, WebIdentity,
};
use bytes::Bytes;

use super::recording::{Endpoint, Recorded};

const ROLE: &str = "arn:aws:iam::123456789012:role/archive";

/// An identity, as objects carry it.
const ROWS: &str = "v=1 partition=0 start=7 end=10 rows=2 row-bytes=4 rows-crc32c=00000000 layout=0000000000000000 topic=orders";

fn plain() -> S3SinkBuilder<Delimited> {
    S3Sink::builder().bucket("archive").region("eu-central-1").attempts(1).format(Delimited::lines())
}

fn builder(endpoint: &Endpoint) -> S3SinkBuilder<Delimited> {
    plain().endpoint(endpoint.url()).credentials("AKIA", "canary-secret")
}

fn meta() -> ObjectMeta {
    ObjectMeta { content_type: "text/plain".to_owned(), user: vec![(IDENTITY, ROWS.to_owned())] }
}

async fn put(target: &S3Target) -> Result<(), StageError> {
    target.put("k", Bytes::from("x"), 0, &meta()).await.map(drop)
}

/// Does everything once; answers the requests: put, create, part, complete, head, abort.
async fn everything(target: &S3Target, endpoint: &Endpoint) -> Vec<Recorded> {
    endpoint.take();
    put(target).await.unwrap();
    let upload = target.create_multipart("k", &meta()).await.unwrap();
    let part = target.upload_part(&upload, 1, Bytes::from("x"), 0).await.unwrap();
    target.complete(&upload, &[part]).await.unwrap();
    target.head("k").await.unwrap();
    target.abort(&upload).await.unwrap();
    let seen = endpoint.take();
    assert_eq!(seen.len(), 6, "{seen:#?}");
    seen
}

/// Which of the six requests of [`everything`] have the header, and with one value only.
fn with(seen: &[Recorded], header: &str, value: &str) -> Vec<usize> {
    let found = seen.iter().enumerate().filter_map(|(index, request)| {
        let found = request.header(header)?;
        assert_eq!(found, value, "{header} of {} {}", request.method, request.target);
        Some(index)
    });
    found.collect()
}

const CREATING: [usize; 2] = [0, 1];
/// All but the one that gives an upload up.
const TOUCHING: [usize; 5] = [0, 1, 2, 3, 4];

#[tokio::test]
async fn attributes_go_with_the_requests_that_create() {
    let endpoint = Endpoint::start().await;
    let key = KmsKey::new("alias/archive").context("team", "data").bucket_key(true);
    let attributes = ObjectAttributes::new()
        .encryption(Encryption::Kms(key))
        .canned_acl(ObjectCannedAcl::BucketOwnerFullControl)
        .storage_class(StorageClass::StandardIa)
        .tag("team", "a b")
        .tag_offsets(true)
        .metadata("origin", "aqueduct");
    let sink = builder(&endpoint).attributes(attributes).build().await.unwrap();
    let seen = everything(sink.target(), &endpoint).await;
    for (header, value) in [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "alias/archive"),
        // {"team":"data"}
        ("x-amz-server-side-encryption-context", "eyJ0ZWFtIjoiZGF0YSJ9"),
        ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
        ("x-amz-acl", "bucket-owner-full-control"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-tagging", "team=a%20b&startOffset=7&endOffset=9&recordCount=2"),
        ("x-amz-meta-origin", "aqueduct"),
        ("x-amz-meta-aqueduct", ROWS),
    ] {
        assert_eq!(with(&seen, header, value), CREATING, "{header}");
        let signed = seen[0].header("authorization").unwrap();
        assert!(signed.contains(header), "{header} is signed: {signed}");
    }
    // The check begins an upload with the same, so that a key that is missing is met before the first record.
    Sink::<Bytes>::check(&sink).await.unwrap();
    let seen = endpoint.take();
    let begun = seen.iter().find(|request| request.target.contains("uploads")).unwrap();
    assert_eq!(begun.header("x-amz-server-side-encryption-aws-kms-key-id"), Some("alias/archive"));
    assert_eq!(begun.header("x-amz-tagging"), Some("team=a%20b"));
}

#[tokio::test]
async fn without_options_nothing_is_said() {
    let endpoint = Endpoint::start().await;
    let sink = builder(&endpoint).build().await.unwrap();
    for request in everything(sink.target(), &endpoint).await {
        for (name, _) in &request.headers {
            let said = ["encryption", "x-amz-acl", "storage-class", "tagging", "expected-bucket-owner"];
            assert!(said.iter().all(|part| !name.contains(part)), "{name}");
        }
    }
}

#[tokio::test]
async fn every_encryption_is_asked_for_in_its_own_words() {
    let endpoint = Endpoint::start().await;
    for (encryption, value) in [
        (Encryption::S3Managed, "AES256"),
        (Encryption::Kms(KmsKey::of_account()), "aws:kms"),
        (Encryption::KmsDual(KmsKey::new("k")), "aws:kms:dsse"),
    ] {
        let attributes = ObjectAttributes::new().encryption(encryption);
        let sink = builder(&endpoint).attributes(attributes).build().await.unwrap();
        let seen = everything(sink.target(), &endpoint).await;
        assert_eq!(with(&seen, "x-amz-server-side-encryption", value), CREATING);
    }
}

#[tokio::test]
async fn a_customer_key_goes_with_every_request_that_touches_the_object() {
    let endpoint = Endpoint::start().await;
    let key = CustomerKey::new(b"01234567890123456789012345678901");
    let attributes = ObjectAttributes::new().encryption(Encryption::CustomerKey(key));
    let sink = builder(&endpoint).attributes(attributes.clone()).build().await.unwrap();
    let seen = everything(sink.target(), &endpoint).await;
    for (header, value) in [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
        ("x-amz-server-side-encryption-customer-key-md5", "KYvwGXoFFJ42a2u2GDWhwQ=="),
    ] {
        assert_eq!(with(&seen, header, value), TOUCHING, "{header}");
    }
    // A HEAD that is refused is asked again as a GET, with the key as well.
    endpoint.script("HEAD", 403, "");
    sink.target().head("k").await.unwrap();
    let asked = endpoint.take();
    assert!(asked.last().unwrap().header("x-amz-server-side-encryption-customer-key").is_some());
    assert!(!format!("{sink:?} {:?}", sink.target()).contains("MDEy"), "never printed");

    let open = plain().endpoint("http://s3.example.org").credentials("a", "b").attributes(attributes);
    assert_eq!(open.build().await.unwrap_err().0, [S3ConfigError::CustomerKeyInPlainText]);
}

#[tokio::test]
async fn the_owner_is_named_in_every_request() {
    let endpoint = Endpoint::start().await;
    let sink = builder(&endpoint).expected_bucket_owner("123456789012").build().await.unwrap();
    let seen = everything(sink.target(), &endpoint).await;
    assert_eq!(with(&seen, "x-amz-expected-bucket-owner", "123456789012"), [0, 1, 2, 3, 4, 5]);
    let wrong = builder(&endpoint).expected_bucket_owner("me").build().await.unwrap_err();
    assert_eq!(wrong.0, [S3ConfigError::BucketOwner { account: "me".to_owned() }]);
}

#[tokio::test]
async fn a_role_is_assumed_with_its_external_id_and_renewed_before_it_ends() {
    let endpoint = Endpoint::start().await;
    let role = AssumeRole::new(ROLE).external_id("id-42").session_name("archiver");
    let sink = builder(&endpoint).sts_endpoint(endpoint.url()).assume_role(role).build().await.unwrap();
    put(sink.target()).await.unwrap();
    let seen = endpoint.take();
    assert_eq!(seen.len(), 2, "the token service, then the store: {seen:#?}");
    let asked = &seen[0].body;
    assert!(asked.contains("Action=AssumeRole&") && asked.contains("ExternalId=id-42"), "{asked}");
    assert!(asked.contains("RoleSessionName=archiver") && asked.contains("role%2Farchive"), "{asked}");
    assert_eq!(seen[0].signed_by(), "AKIA", "with the key that was given");
    assert_eq!((seen[1].signed_by(), seen[1].header("x-amz-security-token")), ("ASIA1", Some("token-1")));
    put(sink.target()).await.unwrap();
    assert_eq!(endpoint.take().len(), 1, "the session is kept");
    assert!(!format!("{:?}", sink.target()).contains("canary"), "secrets are not printed");

    // Sessions that are about to end are not used any more.
    endpoint.sessions_last(30);
    let role = AssumeRole::new(ROLE);
    let sink = builder(&endpoint).sts_endpoint(endpoint.url()).assume_role(role).build().await.unwrap();
    put(sink.target()).await.unwrap();
    put(sink.target()).await.unwrap();
    let signed: Vec<_> = endpoint.take().iter().map(|seen| seen.signed_by().to_owned()).collect();
    assert_eq!(signed, ["AKIA", "ASIA2", "AKIA", "ASIA3"]);
    // While the token service is down, what is valid still serves.
    endpoint.script("POST /", 500, "");
    put(sink.target()).await.unwrap();
    assert_eq!(endpoint.take().last().unwrap().signed_by(), "ASIA3");
}

#[tokio::test]
async fn a_session_that_expires_between_parts_is_renewed_and_the_upload_goes_on() {
    let endpoint = Endpoint::start().await;
    let role = AssumeRole::new(ROLE);
    let sink = builder(&endpoint).sts_endpoint(endpoint.url()).assume_role(role).build().await.unwrap();
    let target = sink.target();
    let upload = target.create_multipart("k", &meta()).await.unwrap();
    // An hour is left by our clock, and the store says otherwise.
    endpoint.script("partNumber=1", 400, "<Error><Code>ExpiredToken</Code></Error>");
    let error = target.upload_part(&upload, 1, Bytes::from("x"), 0).await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY, "{}", ErrorChain(&error));
    let part = target.upload_part(&upload, 1, Bytes::from("x"), 0).await.unwrap();
    target.complete(&upload, &[part]).await.unwrap();
    let signed: Vec<_> = endpoint.take().iter().map(|seen| seen.signed_by().to_owned()).collect();
    assert_eq!(signed, ["AKIA", "ASIA1", "ASIA1", "AKIA", "ASIA2", "ASIA2"]);
}

#[tokio::test]
async fn a_web_identity_reads_its_token_again() {
    let endpoint = Endpoint::start().await;
    endpoint.sessions_last(30);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "first").unwrap();
    let sink = plain()
        .endpoint(endpoint.url())
        .sts_endpoint(endpoint.url())
        .web_identity(WebIdentity::new(ROLE, file.path()))
        .build()
        .await
        .unwrap();
    put(sink.target()).await.unwrap();
    std::fs::write(file.path(), "second").unwrap();
    put(sink.target()).await.unwrap();
    let seen = endpoint.take();
    assert_eq!(seen.len(), 4, "{seen:#?}");
    for (index, token, key) in [(0, "first", "ASIA1"), (2, "second", "ASIA2")] {
        let asked = &seen[index].body;
        assert!(asked.contains("Action=AssumeRoleWithWebIdentity"), "{asked}");
        assert!(asked.contains(&format!("WebIdentityToken={token}")), "{asked}");
        assert_eq!(seen[index].header("authorization"), None, "the token is all there is");
        assert_eq!(seen[index + 1].signed_by(), key);
    }
    drop(file);
    let error = put(sink.target()).await;
    assert!(error.is_ok(), "the session is valid for some seconds still");
}

#[tokio::test]
async fn a_role_that_may_not_be_assumed_is_said_so() {
    let endpoint = Endpoint::start().await;
    let role = AssumeRole::new(ROLE);
    let sink = builder(&endpoint).sts_endpoint(endpoint.url()).assume_role(role).build().await.unwrap();
    let denied =
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>";
    endpoint.script("POST /", 403, denied);
    let error = put(sink.target()).await.unwrap_err();
    assert!(ErrorChain(&error).to_string().contains("not you"), "{}", ErrorChain(&error));
}

#[tokio::test]
async fn a_proxy_gets_the_whole_url_and_its_password() {
    let proxy = Endpoint::start().await;
    let through = Proxy::new(proxy.url()).basic_auth("user", "canary-proxy");
    assert!(!format!("{through:?}").contains("canary"));
    let sink = plain()
        .endpoint("http://s3.invalid:9000")
        .credentials("AKIA", "canary-secret")
        .proxy(through.clone())
        .build()
        .await
        .unwrap();
    put(sink.target()).await.unwrap();
    let seen = proxy.take();
    assert!(seen[0].target.starts_with("http://s3.invalid:9000/archive/k"), "{}", seen[0].target);
    // user:canary-proxy
    assert_eq!(seen[0].header("proxy-authorization"), Some("Basic dXNlcjpjYW5hcnktcHJveHk="));

    // What means something in a URL means nothing in a password.
    let odd = Proxy::new(proxy.url()).basic_auth("us/er@", "p@ss/w:rd?#%41+\u{e9}");
    let sink =
        plain().endpoint("http://s3.invalid:9000").credentials("AKIA", "x").proxy(odd).build().await.unwrap();
    put(sink.target()).await.unwrap();
    // printf 'us/er@:p@ss/w:rd?#%%41+é' | base64
    let expected = "Basic dXMvZXJAOnBAc3MvdzpyZD8jJTQxK8Op";
    assert_eq!(proxy.take()[0].header("proxy-authorization"), Some(expected));
    let wrong = plain().credentials("AKIA", "x").proxy(Proxy::new(proxy.url()).basic_auth("a:b", "canary"));
    let error = wrong.build().await.unwrap_err().to_string();
    assert!(error.contains("colon") && !error.contains("canary"), "{error}");

    let hosts = async |builder: S3SinkBuilder<Delimited>| {
        let sink = builder.credentials("AKIA", "canary-secret").proxy(through.clone()).build().await.unwrap();
        put(sink.target()).await.unwrap_err();
        let seen = proxy.take();
        assert!(!seen.is_empty() && seen.iter().all(|request| request.method == "CONNECT"), "{seen:#?}");
        seen[0].target.clone()
    };
    assert_eq!(hosts(plain()).await, "archive.s3.eu-central-1.amazonaws.com:443");
    assert_eq!(hosts(plain().accelerate(true)).await, "archive.s3-accelerate.amazonaws.com:443");
    assert_eq!(hosts(plain().dual_stack(true)).await, "archive.s3.dualstack.eu-central-1.amazonaws.com:443");
    let fips = hosts(plain().region("us-east-1").fips(true)).await;
    assert_eq!(fips, "archive.s3-fips.us-east-1.amazonaws.com:443");
}

#[tokio::test]
async fn what_does_not_go_together_is_named_at_once() {
    let error = S3Sink::builder()
        .bucket("a.b")
        .endpoint("http://localhost:9000")
        .path_style(true)
        .accelerate(true)
        .fips(true)
        .profile("")
        .assume_role(AssumeRole::new("archive").session_name("?").external_id("x"))
        .sts_endpoint("sts")
        .proxy(Proxy::new("http://user:canary@proxy"))
        .attributes(ObjectAttributes::new().encryption(Encryption::Kms(KmsKey::new(""))))
        .format(Delimited::lines())
        .build()
        .await
        .unwrap_err();
    assert_eq!(error.0.len(), 12, "{:#?}", error.0);
    assert!(!error.to_string().contains("canary"));
}

#[tokio::test]
async fn the_right_region_is_named() {
    let endpoint = Endpoint::start().await;
    let sink = builder(&endpoint).build().await.unwrap();
    let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>";
    endpoint.script("PUT", 400, body);
    let error = put(sink.target()).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert_eq!(error.hint(), Some("set the region to eu-west-3"));
}
