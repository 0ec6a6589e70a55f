//! Configurations that are wrong.

use std::time::Duration;

use aqueduct_schema_registry::{RegistryBuilder, RegistryClient, RegistryConfigError, SecretString};

fn problems(builder: RegistryBuilder) -> Vec<RegistryConfigError> {
    builder.build().unwrap_err().0
}

#[test]
fn urls_are_checked_and_not_repeated() {
    for (url, problem) in [
        ("registry.example.org:8081", "does not begin with http:// or https://"),
        ("registry", "is not a URL"),
        ("", "is not a URL"),
        ("ftp://registry", "does not begin with http:// or https://"),
        ("http://", "is not a URL"),
        ("http://user:hunter2@registry", "has a user or a password in it: give them to basic_auth()"),
        ("http://hunter2@registry", "has a user or a password in it: give them to basic_auth()"),
        ("http://registry/?key=hunter2", "has a query or a fragment"),
        ("http://registry/#hunter2", "has a query or a fragment"),
    ] {
        let builder = RegistryClient::builder(url);
        assert!(!format!("{builder:?}").contains("hunter2"));
        let found = problems(builder);
        assert_eq!(found, [RegistryConfigError::Url { problem }], "{url}");
        assert!(!found[0].to_string().contains("hunter2"));
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let builder = RegistryClient::builder("registry")
        .url("also wrong")
        .bearer_auth(SecretString::from("t"))
        .basic_auth("a:b", "")
        .header("no header", "v")
        .header("x-value", "hunter2\n")
        .attempts(0)
        .connect_timeout(Duration::ZERO)
        .request_timeout(Duration::ZERO)
        .total_timeout(Duration::ZERO)
        .backoff(Duration::ZERO)
        .response_max(0)
        .texts_max(0)
        .ca_file("/no/such/authority.pem")
        .client_certificate("/no/such/chain.pem", "/no/such/key.pem");
    let errors = builder.build().unwrap_err();
    assert_eq!(errors.0.len(), 2 + 2 + 1 + 2 + 7 + 3, "{errors}");
    let text = errors.to_string();
    for part in ["x-value", "attempts is zero", "/no/such/key.pem", "exclude each other", "colon"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}
