use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aqueduct_core::testkit::ManualClock;
use aqueduct_core::{Class, Classify as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cached::Granted;
use super::http::{ANSWER_MAX, Failure};
use super::*;
use crate::testkit::{FakeTokenAnswer, FakeTokenRequest, FakeTokens};

/// Made for these tests; nobody trusts it.
const KEY: &str = include_str!("../../tests/data/service-account.pem");
const KEY_PKCS1: &str = include_str!("../../tests/data/service-account.pkcs1.pem");
const NOW_S: i64 = 1_700_000_000;

async fn open(fake: &FakeTokens, credentials: &Credentials) -> Result<Box<dyn TokenSource>, BigQueryError> {
    let endpoint = fake.endpoint().to_owned();
    let endpoints = AuthEndpoints { iam: endpoint.clone(), metadata: Some(endpoint), plaintext: true };
    let clock = Arc::new(ManualClock::at_millis(NOW_S * 1000));
    Opener::new(endpoints, clock).unwrap().open(credentials, SCOPE).await
}

async fn token(fake: &FakeTokens, credentials: &Credentials) -> Result<String, BigQueryError> {
    let token = open(fake, credentials).await?.token().await?;
    Ok(token.unwrap().expose_secret().to_owned())
}

fn json_of(value: &Value) -> Credentials {
    Credentials::CredentialsJson(value.to_string().into())
}

fn key(fake: &FakeTokens, pem: &str) -> Value {
    json!({
        "type": "service_account", "client_email": "a@p.iam", "private_key": pem, "private_key_id": "k1",
        "token_uri": format!("{}/token", fake.endpoint()),
    })
}

fn user(fake: &FakeTokens) -> Value {
    json!({
        "type": "authorized_user", "client_id": "id", "client_secret": "client&secret", "refresh_token": "refresh=token",
        "token_uri": format!("{}/token", fake.endpoint()),
    })
}

fn pool(fake: &FakeTokens, source: &Value) -> Value {
    json!({
        "type": "external_account", "audience": "//iam.googleapis.com/pool", "credential_source": source,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": format!("{}/sts", fake.endpoint()),
    })
}

fn form(request: &FakeTokenRequest) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://h/?{}", request.body)).unwrap();
    url.query_pairs().into_owned().collect()
}

#[tokio::test]
async fn a_key_signs_a_claim_that_the_endpoint_can_verify() {
    for pem in [KEY, KEY_PKCS1] {
        let fake = FakeTokens::start().await;
        let credentials = Credentials::ServiceAccountJson(key(&fake, pem).to_string().into());
        assert_eq!(token(&fake, &credentials).await.unwrap(), "oauth-1");
        let form = form(&fake.requests()[0]);
        assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
        let (signed, signature) = form["assertion"].rsplit_once('.').unwrap();
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let public = flows::private_key(KEY).unwrap().public_key().as_ref().to_vec();
        let verifier = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
        verifier.verify(signed.as_bytes(), &decode(signature)).unwrap();
        assert!(verifier.verify(format!("{signed}x").as_bytes(), &decode(signature)).is_err());
        let (header, claims) = signed.split_once('.').unwrap();
        let read = |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap();
        assert_eq!(read(header), json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" }));
        let expected = json!({
            "iss": "a@p.iam", "scope": SCOPE, "aud": format!("{}/token", fake.endpoint()),
            "iat": NOW_S, "exp": NOW_S + 3600,
        });
        assert_eq!(read(claims), expected);
    }
}

#[tokio::test]
async fn a_users_login_is_refreshed() {
    let fake = FakeTokens::start().await;
    assert_eq!(token(&fake, &json_of(&user(&fake))).await.unwrap(), "oauth-1");
    let form = form(&fake.requests()[0]);
    assert_eq!((&*form["client_secret"], &*form["refresh_token"]), ("client&secret", "refresh=token"));
}

#[tokio::test]
async fn the_metadata_server_is_asked_and_recognised() {
    let fake = FakeTokens::start().await;
    assert_eq!(token(&fake, &Credentials::MetadataServer).await.unwrap(), "metadata-1");
    assert!(fake.requests()[0].path.contains("scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fbigquery"));
    // Something that answers any name on a network without a metadata server.
    let stranger = r#"{"access_token": "x", "expires_in": 60}"#.to_owned();
    fake.answer([FakeTokenAnswer::Status(200, stranger)]);
    let error = token(&fake, &Credentials::MetadataServer).await.unwrap_err();
    assert!(error.to_string().contains("Metadata-Flavor"), "{error}");
}

#[tokio::test]
async fn a_pools_token_is_exchanged_wherever_the_subjects_token_is() {
    let fake = FakeTokens::start().await;
    let directory = tempfile::tempdir().unwrap();
    let [text, document] = ["text", "json"].map(|name| directory.path().join(name));
    std::fs::write(&text, "subject-token\n").unwrap();
    std::fs::write(&document, r#"{"id": {}, "token": "subject-token"}"#).unwrap();
    let url = |path: &str| format!("{}{path}", fake.endpoint());
    let json_format = |name: &str| json!({ "type": "json", "subject_token_field_name": name });
    let sources = [
        json!({ "file": text }),
        json!({ "file": document, "format": json_format("token") }),
        json!({ "url": url("/subject"), "format": { "type": "text" } }),
        json!({ "url": url("/subject.json"), "headers": { "x-api": "h" }, "format": json_format("access_token") }),
    ];
    for source in sources {
        let credentials = json_of(&pool(&fake, &source));
        assert!(token(&fake, &credentials).await.unwrap().starts_with("sts-"), "{source}");
        let requests = fake.requests();
        let form = form(requests.last().unwrap());
        let expected = [
            ("audience", "//iam.googleapis.com/pool"),
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("scope", SCOPE),
            ("subject_token", "subject-token"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(form, BTreeMap::from(expected), "{source}");
    }
    assert_eq!(fake.requests()[3].headers.get("x-api").map(String::as_str), None);
    assert!(
        fake.requests().iter().any(|request| request.headers.get("x-api").is_some_and(|value| value == "h"))
    );
}

/// Whoever renews the file has renewed it: the next exchange reads it again.
#[tokio::test]
async fn a_subjects_token_is_read_for_every_exchange() {
    let fake = FakeTokens::start().await;
    let source = json!({ "url": format!("{}/subject", fake.endpoint()) });
    let tokens = open(&fake, &json_of(&pool(&fake, &source))).await.unwrap();
    tokens.token().await.unwrap();
    fake.set_subject("renewed");
    tokens.renew();
    tokens.token().await.unwrap();
    assert_eq!(form(fake.requests().last().unwrap())["subject_token"], "renewed");
}

#[tokio::test]
async fn accounts_are_impersonated_with_their_delegates() {
    let fake = FakeTokens::start().await;
    let iam = |account: &str| {
        format!("{}/v1/projects/-/serviceAccounts/{account}:generateAccessToken", fake.endpoint())
    };
    let explicit = Credentials::Impersonated(
        Impersonation::of("loader@p.iam")
            .by(json_of(&key(&fake, KEY)))
            .delegates(["d@p.iam"])
            .lifetime(Duration::from_mins(30)),
    );
    let source = json!({ "url": format!("{}/subject", fake.endpoint()) });
    let mut external = pool(&fake, &source);
    external["service_account_impersonation_url"] = iam("loader@p.iam").into();
    external["service_account_impersonation"] = json!({ "token_lifetime_seconds": 1800 });
    let file = json!({
        "type": "impersonated_service_account", "source_credentials": user(&fake), "delegates": ["d@p.iam"],
        "service_account_impersonation_url": iam("loader@p.iam"),
    });
    let cases = [
        (explicit, "Bearer oauth-", 1800, true),
        (json_of(&external), "Bearer sts-", 1800, false),
        (json_of(&file), "Bearer oauth-", 3600, true),
    ];
    for (credentials, by, seconds, delegated) in cases {
        assert!(token(&fake, &credentials).await.unwrap().starts_with("iam-"));
        let request = fake.requests().pop().unwrap();
        assert_eq!(request.path, "/v1/projects/-/serviceAccounts/loader@p.iam:generateAccessToken");
        assert!(request.headers["authorization"].starts_with(by), "{request:?}");
        let mut expected = json!({ "scope": [SCOPE], "lifetime": format!("{seconds}s") });
        if delegated {
            expected["delegates"] = json!(["projects/-/serviceAccounts/d@p.iam"]);
        }
        assert_eq!(serde_json::from_str::<Value>(&request.body).unwrap(), expected);
    }
    // Whoever acts asks for more than tables: the exchange before an impersonation says so.
    let exchange = fake.requests().into_iter().find(|request| request.path == "/sts").unwrap();
    assert_eq!(form(&exchange)["scope"], IMPERSONATING_SCOPE);
}

#[tokio::test]
async fn what_cannot_be_used_is_named_and_not_shown() {
    let fake = FakeTokens::start().await;
    let source = |source: Value| json_of(&pool(&fake, &source));
    let mut no_key = key(&fake, KEY);
    no_key["private_key"] = "canary".into();
    let nested = json!({
        "type": "impersonated_service_account", "service_account_impersonation_url": "https://iam/canary",
        "source_credentials": { "type": "impersonated_service_account" },
    });
    let mut long = pool(&fake, &json!({ "file": "/f" }));
    long["service_account_impersonation_url"] = "https://iam/canary".into();
    long["service_account_impersonation"] = json!({ "token_lifetime_seconds": 59 });
    for (credentials, problem) in [
        (
            Credentials::ServiceAccountJson(r#"{"type":"service_account","private_key":12}"#.into()),
            "not usable",
        ),
        (Credentials::ServiceAccountJson(user(&fake).to_string().into()), "not supported"),
        (Credentials::CredentialsJson("canary".into()), "not usable"),
        (json_of(&no_key), "no private RSA key"),
        (json_of(&json!({ "type": "canary" })), "not supported"),
        (json_of(&nested), "not supported"),
        (json_of(&long), "token_lifetime_seconds"),
        (source(json!({ "environment_id": "aws1" })), "AWS"),
        (source(json!({ "executable": { "command": "canary" } })), "a program"),
        (source(json!({ "file": "/f", "url": "http://h" })), "neither"),
        (source(json!({ "url": "canary" })), "url is none"),
        (source(json!({ "file": "/f", "format": { "type": "json" } })), "subject_token_field_name"),
        (source(json!({ "file": "/f", "format": { "type": "xml" } })), "another format"),
        (Credentials::CredentialsFile("/nonexistent/key.json".into()), "/nonexistent/key.json"),
        (
            Credentials::Impersonated(Impersonation::of("a/b").by(Credentials::Anonymous)),
            "no service account",
        ),
        (
            Credentials::Impersonated(Impersonation::of("a@b").lifetime(Duration::from_secs(59))),
            "a minute to twelve hours",
        ),
    ] {
        let error = open(&fake, &credentials).await.err().unwrap();
        assert_eq!(error.class(), Class::Fatal);
        assert!(error.to_string().contains(problem), "{problem}: {error}");
        assert!(!format!("{error} {error:?} {credentials:?}").contains("canary"), "{error:?}");
    }
    let plain = json_of(&key(&fake, KEY)).open(&AuthEndpoints::default()).await.err().unwrap();
    assert!(plain.to_string().contains("allow_plaintext"), "{plain}");
    assert!(fake.requests().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn an_endpoint_that_says_no_ends_it_at_once_and_one_in_trouble_is_asked_again() {
    let fake = FakeTokens::start().await;
    let credentials = json_of(&key(&fake, KEY));
    let status = |status: u16, body: &str| FakeTokenAnswer::Status(status, body.to_owned());
    let large = "x".repeat(ANSWER_MAX + 1);
    let cases = [
        (
            vec![status(400, r#"{"error": "invalid_grant", "error_description": "canary"}"#)],
            "400 invalid_grant",
            1,
        ),
        (
            vec![status(403, r#"{"error": {"status": "PERMISSION_DENIED", "message": "canary"}}"#)],
            "403 PERMISSION_DENIED",
            1,
        ),
        (vec![status(401, r#"{"error": "canary canary"}"#)], "answers 401", 1),
        (vec![status(200, "canary")], "no token", 1),
        (vec![status(200, r#"{"access_token": "canary\nx"}"#)], "no token", 1),
        (vec![status(200, &large)], "more than", 1),
        (vec![FakeTokenAnswer::Echo(400)], "answers 400", 1),
        (vec![FakeTokenAnswer::Redirect(format!("{}/token?canary", fake.endpoint()))], "answers 307", 1),
        (vec![status(503, "canary"), status(429, ""), status(500, "")], "answers 500", 3),
    ];
    for (answers, problem, requests) in cases {
        let before = fake.requests().len();
        fake.answer(answers);
        let error = token(&fake, &credentials).await.unwrap_err();
        let told = aqueduct_core::ErrorChain(&error).to_string();
        assert!(told.contains(problem), "{problem}: {told}");
        assert!(!format!("{told} {error:?}").contains("canary"), "{error:?}");
        assert_eq!(fake.requests().len() - before, requests, "{problem}");
        assert_eq!(error.class(), if requests == 1 { Class::Fatal } else { Class::RETRY });
    }
    fake.answer([status(503, ""), status(503, "")]);
    assert!(token(&fake, &credentials).await.is_ok());
    // Nobody listens: the caller waits for better times.
    let mut nobody = key(&fake, KEY);
    nobody["token_uri"] = "http://127.0.0.1:1/token".into();
    assert_eq!(token(&fake, &json_of(&nobody)).await.unwrap_err().class(), Class::RETRY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_one_request_and_its_failure() {
    let fake = FakeTokens::start().await;
    fake.set_delay(Duration::from_millis(20));
    let tokens: Arc<dyn TokenSource> = open(&fake, &json_of(&key(&fake, KEY))).await.unwrap().into();
    let ask = async || {
        let callers = (0..50).map(|_| {
            let tokens = Arc::clone(&tokens);
            tokio::spawn(async move {
                tokens.token().await.map(|token| token.unwrap().expose_secret().to_owned())
            })
        });
        let answers = futures::future::join_all(callers).await;
        answers
            .into_iter()
            .map(|answer| answer.unwrap().map_err(|error| error.to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(ask().await, vec![Ok("oauth-1".to_owned()); 50]);
    tokens.renew();
    assert_eq!(ask().await, vec![Ok("oauth-2".to_owned()); 50]);
    tokens.renew();
    fake.answer([FakeTokenAnswer::Status(400, r#"{"error": "invalid_grant"}"#.to_owned())]);
    let failed = ask().await;
    assert!(
        failed.iter().all(|answer| answer.as_ref().is_err_and(|told| told.contains("invalid_grant"))),
        "{failed:?}"
    );
    assert_eq!(fake.requests().len(), 3);
}

/// Gives numbered tokens of an hour, or fails.
#[derive(Clone, Default)]
struct Scripted(Arc<(AtomicUsize, Mutex<Option<Failure>>)>);

#[async_trait]
impl TokenFlow for Scripted {
    async fn fetch(&self) -> Result<Granted, Failure> {
        let number = self.0.0.fetch_add(1, Ordering::Relaxed) + 1;
        match &*self.0.1.lock().unwrap() {
            Some(failure) => Err(failure.clone()),
            None => Ok(Granted { token: number.to_string().into(), lifetime: Duration::from_hours(1) }),
        }
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_and_an_old_one_used_as_long_as_it_is_good() {
    let (flow, now) = (Scripted::default(), Arc::new(Mutex::new(Instant::now())));
    let clock = Arc::clone(&now);
    let cached = Cached::by_clock(flow.clone(), move || *clock.lock().unwrap());
    let pass = |seconds| *now.lock().unwrap() += Duration::from_secs(seconds);
    let get = async || cached.get().await.map(|token| token.expose_secret().to_owned());
    assert_eq!(get().await.unwrap(), "1");
    pass(3600 - 226);
    assert_eq!(get().await.unwrap(), "1");
    pass(2);
    assert_eq!(get().await.unwrap(), "2", "four minutes before it expires");
    *flow.0.1.lock().unwrap() = Some(Failure::Unavailable("down".into()));
    pass(3600 - 200);
    assert_eq!(get().await.unwrap(), "2", "the endpoint is down, and the token is still good");
    pass(300);
    assert_eq!(get().await.unwrap_err(), Failure::Unavailable("down".into()));
    *flow.0.1.lock().unwrap() = None;
    assert!(get().await.is_err(), "the failure answers for a moment");
    pass(2);
    assert!(get().await.is_ok());
    cached.renew();
    *flow.0.1.lock().unwrap() = Some(Failure::Unavailable("down".into()));
    assert!(get().await.is_err(), "one that was refused is not used again");
}

#[tokio::test]
async fn a_given_token_is_used_and_never_shown() {
    let credentials = Credentials::Token("canary".into());
    assert!(!format!("{credentials:?}").contains("canary"));
    let endpoints = AuthEndpoints::default();
    let token = credentials.open(&endpoints).await.unwrap().token().await.unwrap().unwrap();
    assert_eq!(token.expose_secret(), "canary");
    assert!(Credentials::Anonymous.open(&endpoints).await.unwrap().token().await.unwrap().is_none());
}
