//! Secrets that the host has: in the environment, in a profile, in a mounted token. A process sees one environment all its life,
//! so each has a child of its own.

use std::process::Command;

use super::paths::{ROLE, SECRET, SESSION_SECRET, SESSION_TOKEN, Said, TOKEN, WEB_TOKEN, everything, plain};
use super::refusing::{Answer, Refusing};

/// Where the child finds the server; without it, it is not one.
const SERVER: &str = "AQUEDUCT_CANARY_SERVER";
/// The profile it is to take, if any.
const PROFILE: &str = "AQUEDUCT_CANARY_PROFILE";

/// Set where dependencies are known to say [`SAID`].
const KNOWN: &str = "AQUEDUCT_CANARY_KNOWN";

/// What the SDK's default chain says of an answer of the token service that it cannot read: all of it, as a warning.
/// SECURITY.md names it. A sink that is told of its web identity or its role does not ask that chain.
const SAID: [(&str, &str); 4] = [
    ("secret key of a session", "aws_config::meta::credentials::chain"),
    ("secret key of a session", "aws_config::web_identity_token"),
    ("token of a session", "aws_config::meta::credentials::chain"),
    ("token of a session", "aws_config::web_identity_token"),
];

#[test]
fn no_secret_of_the_host_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        std::fs::write(directory.path().join(name), content).unwrap();
        directory.path().join(name).display().to_string()
    };
    let (secret, token) = (SECRET.secret(), TOKEN.secret());
    let keys =
        format!("aws_access_key_id = AKIA\naws_secret_access_key = {secret}\naws_session_token = {token}\n");
    let profile = file("credentials", &format!("[archive]\n{keys}"));
    let nothing = file("nothing", "");
    let web_token = file("token", WEB_TOKEN.secret());
    let server = Refusing::start();
    let url = server.url();
    let base = file("credentials-base", &format!("[base]\n{keys}"));
    let role = file("config", &format!("[profile archive]\nrole_arn = {ROLE}\nsource_profile = base\n"));
    let environments: [&[(&str, &str)]; 4] = [
        &[("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_SESSION_TOKEN", token)],
        &[("AWS_SHARED_CREDENTIALS_FILE", &profile), (PROFILE, "archive")],
        &[
            ("AWS_CONFIG_FILE", &role),
            ("AWS_SHARED_CREDENTIALS_FILE", &base),
            ("AWS_ENDPOINT_URL_STS", &url),
            (PROFILE, "archive"),
        ],
        &[
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &web_token),
            ("AWS_ROLE_ARN", ROLE),
            ("AWS_ENDPOINT_URL_STS", &url),
        ],
    ];
    for environment in environments {
        for readable in [true, false] {
            server.answers(Answer::Status(403, "<Error><Code>AccessDenied</Code></Error>"));
            server.sessions(Some((SESSION_SECRET.secret(), SESSION_TOKEN.secret())), readable);
            let of_chain = environment.iter().any(|(name, _)| *name == "AWS_WEB_IDENTITY_TOKEN_FILE");
            let mut environment = environment.to_vec();
            if of_chain && !readable {
                environment.push((KNOWN, "1"));
            }
            run_child(&url, &nothing, &environment);
        }
    }
    // They were found: what is sent of them was sent.
    let received = server.received();
    for canary in [&TOKEN, &WEB_TOKEN, &SESSION_TOKEN] {
        assert!(canary.seen_in(&received).is_some(), "{} was not sent to anybody", canary.name());
    }
}

fn run_child(url: &str, nothing: &str, environment: &[(&str, &str)]) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.env_clear().args(["--exact", "host::as_a_child", "--ignored", "--nocapture"]);
    child.envs([(SERVER, url), ("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_REGION", "eu-central-1")]);
    child.envs([("AWS_CONFIG_FILE", nothing), ("AWS_SHARED_CREDENTIALS_FILE", nothing)]);
    let output = child.envs(environment.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{environment:?}: {said} {output:?}");
}

#[tokio::test]
#[ignore = "what the test above runs, with an environment"]
async fn as_a_child() {
    let Ok(server) = std::env::var(SERVER) else { return };
    let mut said = Said::default();
    let profile = std::env::var(PROFILE);
    let builder = plain().endpoint(server);
    let builder = match profile {
        Ok(name) => builder.profile(name),
        Err(_) => builder,
    };
    everything("of the host", builder, &mut said).await;
    let leaks = said.leaks();
    let known: &[(&str, &str)] = if std::env::var(KNOWN).is_ok() { &SAID } else { &[] };
    let found: Vec<_> = leaks.keys().map(|(secret, target)| (*secret, target.as_str())).collect();
    assert_eq!(found, known, "{leaks:#?}");
}
