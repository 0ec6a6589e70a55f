use super::*;
use crate::KafkaSource;
use crate::properties::ConfigProblem;

const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

fn settled(security: &Security) -> (Properties, Vec<ConfigProblem>) {
    let (mut properties, mut problems) = (Properties::default(), Vec::new());
    security.settle(&mut properties, &mut problems);
    (properties, problems)
}

#[test]
fn each_kind_becomes_its_properties_and_checks_names() {
    let (properties, problems) = settled(&Security::Tls(Tls::system().ca_pem(CA)));
    assert_eq!(problems, []);
    assert_eq!(properties.get("security.protocol"), Some("ssl"));
    assert_eq!(properties.get("ssl.ca.pem"), Some(CA));
    assert_eq!(properties.get("ssl.endpoint.identification.algorithm"), Some("https"));

    let sasl = Sasl::scram_sha_256("me", "secret");
    let (properties, problems) =
        settled(&Security::Sasl(sasl.clone(), Tls::system().danger_accept_invalid_hostnames()));
    assert_eq!(problems, []);
    for (name, value) in [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-256"),
        ("sasl.username", "me"),
        ("sasl.password", "secret"),
        ("ssl.endpoint.identification.algorithm", "none"),
    ] {
        assert_eq!(properties.get(name), Some(value));
    }
    let (properties, problems) = settled(&Security::SaslWithoutTls(sasl));
    assert_eq!((properties.get("security.protocol"), problems), (Some("sasl_plaintext"), vec![]));
}

#[test]
fn a_secret_is_not_sent_in_clear_unless_that_is_meant() {
    let plain = Sasl::plain("me", "secret");
    let (_, problems) = settled(&Security::SaslWithoutTls(plain.clone()));
    assert_eq!(problems, [ConfigProblem::SentInClear { mechanism: "PLAIN" }]);
    assert!(problems[0].to_string().contains("danger_allow_without_tls"));
    let (_, problems) = settled(&Security::SaslWithoutTls(plain.danger_allow_without_tls()));
    assert_eq!(problems, []);
}

#[test]
fn everything_wrong_is_reported_at_once_and_no_secret_with_it() {
    let tls = Tls::system()
        .ca_file("/no/such/ca.pem")
        .client_pem("canary-cert", "canary-key")
        .key_password("canary-password");
    let security = Security::Sasl(Sasl::plain("", "canary-sasl"), tls);
    let builder = KafkaSource::builder()
        .brokers("b:1")
        .topics(["orders"])
        .security(security)
        .property("sasl.mechanism", "GSSAPI");
    let shown = format!("{builder:?}");
    let error = builder.build().unwrap_err();
    let text = format!("{error} {error:?}");
    for part in [
        "/no/such/ca.pem (No such file",
        "Tls::client certificate",
        "Tls::client key",
        "the SASL user name is empty",
        "consumer group",
        "sasl.mechanism is set twice",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("canary") && !shown.contains("canary"), "{text} {shown}");
}

#[test]
fn a_key_is_no_certificate() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    let (_, problems) = settled(&Security::Tls(Tls::system().ca_file(file.path())));
    assert!(matches!(&problems[..], [ConfigProblem::Invalid { what: "Tls::ca", .. }]), "{problems:?}");
    assert!(problems[0].to_string().contains("holds no"), "{}", problems[0]);
}
