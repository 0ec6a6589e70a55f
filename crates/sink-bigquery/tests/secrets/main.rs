//! No secret leaves the process but to where it is meant for: with everything logged that anybody can log, on every way on which
//! something goes wrong, none is found in a log, an error or a `Debug`. Nor is anything that a record holds.
//!
//! A process of its own, because it takes all logs of the process.

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use aqueduct_converters::JsonValue;
    use aqueduct_core::testkit::{Canary, LogCapture};
    use aqueduct_core::{
        BatchBuilder, Begun, Envelope, ErrorChain, LocalDisk, Offset, OffsetRange, Permit, Pool, RoutePath,
        RouteTable, SegmentStart, Sink, Spool, StageError, Timestamp, TopicPartition,
    };
    use aqueduct_sink_bigquery::testkit::{
        FakeBigQuery, FakeCall, FakeFault, FakeLimits, FakeTokenAnswer, FakeTokens,
    };
    use aqueduct_sink_bigquery::{
        BigQuerySink, BigQuerySinkBuilder, Credentials, Delivery, Field, FieldType, Impersonation,
        TableSchema,
    };
    use serde_json::{Value, json};

    static TOKEN: Canary = Canary::new("access token", "canary/one+two=three.token");
    static KEY: Canary = Canary::new("private key", "canary/four+five=six.key");
    static PAYLOAD: Canary = Canary::new("payload", "canary/seven+eight=nine.row");

    fn key() -> String {
        format!(
            r#"{{"type": "service_account", "client_email": "a@b", "token_uri": "http://127.0.0.1:1/", "private_key": "{}"}}"#,
            KEY.secret()
        )
    }

    static CLIENT: Canary = Canary::new("client secret", "canary/ten+eleven=twelve.client");
    static REFRESH: Canary = Canary::new("refresh token", "canary/one+three=four.refresh");
    static SUBJECT: Canary = Canary::new("subject's token", "canary/two+four=six.subject");
    /// Made for these tests; nobody trusts it.
    static RSA_KEY: &str = include_str!("../data/service-account.pem");

    /// Every kind of credentials that asks an endpoint.
    fn kinds(tokens: &FakeTokens) -> Vec<(&'static str, Credentials)> {
        let url = |path: &str| format!("{}{path}", tokens.endpoint());
        let of = |json: &Value| Credentials::CredentialsJson(json.to_string().into());
        let key = json!({
            "type": "service_account", "client_email": "a@b", "private_key": RSA_KEY, "token_uri": url("/token"),
        });
        let user = json!({
            "type": "authorized_user", "client_id": "id", "client_secret": CLIENT.secret(),
            "refresh_token": REFRESH.secret(), "token_uri": url("/token"),
        });
        let pool = json!({
            "type": "external_account", "audience": "a", "subject_token_type": "jwt", "token_url": url("/sts"),
            "credential_source": { "url": url("/subject"), "headers": { "x-secret": CLIENT.secret() } },
        });
        let acting = Impersonation::of("c@d").by(of(&user));
        vec![
            ("a key", of(&key)),
            ("a login", of(&user)),
            ("a pool", of(&pool)),
            ("the metadata server", Credentials::MetadataServer),
            ("an impersonation", Credentials::Impersonated(acting)),
        ]
    }

    /// Token endpoints that say no, have trouble or repeat what they were told, and that answer something else.
    async fn fetch_tokens(fake: &FakeBigQuery, said: &mut Vec<(String, String)>) {
        let answers = [
            None,
            Some(FakeTokenAnswer::Echo(400)),
            Some(FakeTokenAnswer::Echo(200)),
            Some(FakeTokenAnswer::Echo(503)),
            Some(FakeTokenAnswer::Redirect("http://127.0.0.1:1/".to_owned())),
        ];
        for answer in answers {
            let tokens = FakeTokens::start().await;
            tokens.set_subject(SUBJECT.secret());
            for (kind, credentials) in kinds(&tokens) {
                let shown = format!("{credentials:?}");
                tokens.answer(answer.iter().cloned().cycle().take(if answer.is_some() { 3 } else { 0 }));
                let sink = builder(fake)
                    .credentials(credentials)
                    .iam_endpoint(tokens.endpoint())
                    .metadata_endpoint(tokens.endpoint())
                    .build()
                    .await
                    .unwrap();
                let checked = Sink::<JsonValue>::check(&sink).await;
                let error = checked.expect_err("nobody knows these tokens");
                said.push((
                    format!("{kind} {answer:?}"),
                    format!("{shown} {} {error:?}", ErrorChain(&error)),
                ));
            }
            let sent = format!("{:?}", tokens.requests());
            if answer.is_none() {
                for canary in [&CLIENT, &REFRESH] {
                    assert!(
                        canary.seen_in(&sent).is_some(),
                        "{} was sent where it is meant for",
                        canary.name()
                    );
                }
            }
        }
    }

    fn builder(fake: &FakeBigQuery) -> BigQuerySinkBuilder {
        let columns = [Field::nullable("text", FieldType::String), Field::nullable("n", FieldType::Int64)];
        BigQuerySink::builder()
            .project("p")
            .dataset("d")
            .schema(TableSchema::new(columns))
            .credentials(Credentials::Token(TOKEN.secret().into()))
            .rest_endpoint(fake.rest_endpoint())
            .grpc_endpoint(fake.grpc_endpoint())
            .allow_plaintext(true)
            .call_timeout(std::time::Duration::from_millis(200))
            .append_timeout(std::time::Duration::from_millis(200))
    }

    /// A segment of a few rows; what went wrong, in words.
    async fn write(sink: &BigQuerySink, directory: &Path) -> Result<Vec<String>, StageError> {
        let spool = Spool::open(directory, "t", Arc::new(LocalDisk), Pool::new(1 << 30)).unwrap();
        let lane = TopicPartition::new("orders", 0);
        Sink::<JsonValue>::check(sink).await?;
        let at = SegmentStart {
            lane: lane.clone(),
            start: Offset::ZERO,
            pinned: None,
            opened_at_ms: 0,
            layout: 0,
            scratch: spool.scratch(),
            memory: Pool::new(1 << 26),
        };
        let Begun::Fill(mut writer) = Sink::<JsonValue>::begin(sink, at).await? else {
            panic!("nothing was published")
        };
        let mut batch = BatchBuilder::new(lane, 4096);
        let secret = PAYLOAD.secret();
        // One that is refused here, one that the service refuses, one that is stored.
        let texts = [
            format!(r#"{{"text": "{secret}", "n": "{secret}"}}"#),
            format!(r#"{{"text": "{secret}", "n": 13}}"#),
            format!(r#"{{"text": "{secret}", "n": 1, "{secret}": 2}}"#),
        ];
        for (offset, text) in (0..).zip(&texts) {
            batch.push(Offset::new(offset), Timestamp::None, None, Some(text.as_bytes()), []);
        }
        let batch = batch.build(Permit::unlimited());
        let (mut routes, path, mut words) = (RouteTable::new(), RoutePath::new(0), Vec::new());
        for record in batch.iter() {
            let value = JsonValue::parse(record.value_bytes().unwrap()).unwrap();
            let route = routes.intern(&path);
            let appended = writer.append(Envelope { record: &record, route, path: &path, value });
            words.extend(appended.err().map(|poison| format!("{poison} {poison:?}")));
        }
        writer.spill().await?;
        let staged = writer.stage(OffsetRange::new(Offset::ZERO, Offset::new(3)).unwrap()).await?;
        words.extend(staged.rejected.iter().map(|rejected| format!("{rejected:?}")));
        words.push(format!("{:?}", writer.publish().await?));
        Ok(words)
    }

    /// The client crate and its key reader log through the other interface.
    struct Other(LogCapture);
    impl log::Log for Other {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            self.0.add(record.target(), record.args().to_string());
        }

        fn flush(&self) {}
    }

    /// What is said where a call meets faults.
    async fn one_way(delivery: Delivery, call: FakeCall, fault: FakeFault) -> (String, String) {
        let fake = FakeBigQuery::start().await;
        fake.create_dataset("p", "d");
        fake.set_limits(FakeLimits::default().without_quotas());
        fake.require_token(TOKEN.secret());
        fake.refuse_rows(|row| row["n"] == 13);
        fake.inject(call, fault, 9);
        let sink = builder(&fake).delivery(delivery).build().await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let words = match write(&sink, directory.path()).await {
            Ok(words) => words.join(" "),
            Err(error) => format!("{} {error:?}", ErrorChain(&error)),
        };
        (format!("{delivery:?} {call:?} {fault:?}"), format!("{words} {sink:?}"))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_secret_is_said_on_any_way() {
        let log = LogCapture::install().unwrap();
        log::set_boxed_logger(Box::new(Other(log.clone()))).unwrap();
        log::set_max_level(log::LevelFilter::Trace);

        let mut said: Vec<(String, String)> = Vec::new();
        let built = BigQuerySink::builder()
            .project("p")
            .dataset("d")
            .credentials(Credentials::ServiceAccountJson(key().into()))
            .build()
            .await;
        said.push(("a key that is none".into(), format!("{built:?} {}", built.as_ref().unwrap_err())));

        let fake = FakeBigQuery::start().await;
        fake.require_token("another");
        fetch_tokens(&fake, &mut said).await;
        for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce, Delivery::InsertAll] {
            for call in FakeCall::ALL {
                for fault in
                    [FakeFault::Pass, FakeFault::Denied, FakeFault::Unauthenticated, FakeFault::LoseAnswer]
                {
                    said.push(one_way(delivery, call, fault).await);
                }
            }
        }
        let lines = log.take();
        assert!(
            lines.iter().any(|line| line.target.starts_with("h2")),
            "the log holds what the transport logs"
        );
        said.extend(lines.into_iter().map(|line| (line.target, line.text)));
        assert!(said.iter().any(|(_, text)| text.contains("refuses the row")), "a row was refused");
        // A line of the private key, and the claims it signs.
        let key_line = RSA_KEY.lines().nth(5).unwrap();
        assert!(
            said.iter().all(|(_, text)| !text.contains(key_line) && !text.contains("eyJ")),
            "a signed claim is told"
        );
        for (way, text) in &said {
            for canary in [&TOKEN, &KEY, &CLIENT, &REFRESH, &SUBJECT] {
                assert_eq!(canary.seen_in(text), None, "{} in {way}: {text}", canary.name());
            }
            // What HTTP/2 logs of its frames is their length; a row has no place in any log of ours.
            assert_eq!(PAYLOAD.seen_in(text), None, "{} in {way}: {text}", PAYLOAD.name());
        }
    }
}
