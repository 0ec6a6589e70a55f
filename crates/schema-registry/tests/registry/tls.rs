//! Certificates, ours and the registry's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_converters::registry::SchemaSource;
use aqueduct_core::{Class, ErrorChain};
use aqueduct_schema_registry::testkit::TestRegistry;
use aqueduct_schema_registry::{RegistryBuilder, RegistryClient, RegistryConfigError, RegistryError};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::support::{TEXT, avro, cause, known};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn signed(by: &Authority, name: &str, purpose: ExtendedKeyUsagePurpose, lives: bool) -> Signed {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![purpose];
    if !lives {
        params.not_after = date_time_ymd(2001, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    Signed { certificate: params.signed_by(&key, by).unwrap(), key }
}

/// TLS in front of a registry. `clients` signs the certificates that it asks for.
async fn terminate(registry: &TestRegistry, server: &Signed, clients: Option<&Authority>) -> SocketAddr {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(server.key.serialize_der()).unwrap();
    let config = builder.with_single_cert(vec![server.certificate.der().clone()], key).unwrap();
    let (acceptor, behind) = (TlsAcceptor::from(Arc::new(config)), registry.address());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut tls = acceptor.accept(socket).await?;
                let mut plain = TcpStream::connect(behind).await?;
                tokio::io::copy_bidirectional(&mut tls, &mut plain).await
            });
        }
    });
    address
}

struct Bench {
    registry: TestRegistry,
    authority: Authority,
    files: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let registry = TestRegistry::start().await;
        registry.register("s", &avro(TEXT));
        Self { registry, authority: authority("Test CA"), files: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn server(&self, lives: bool) -> Signed {
        signed(&self.authority, "localhost", ExtendedKeyUsagePurpose::ServerAuth, lives)
    }

    /// A client that believes the authority.
    fn client(&self, host: &str, address: SocketAddr) -> RegistryBuilder {
        RegistryClient::builder(format!("https://{host}:{}", address.port()))
            .backoff(Duration::from_millis(1))
            .ca_file(self.file("ca.pem", &self.authority.pem()))
    }
}

#[tokio::test]
async fn the_authority_of_a_file_is_believed_and_no_other() {
    let bench = Bench::new().await;
    let address = terminate(&bench.registry, &bench.server(true), None).await;
    known(&bench.client("localhost", address).build().unwrap(), 1).await;
    bench.registry.requests();
    let expired = terminate(&bench.registry, &bench.server(false), None).await;
    let stranger = bench.file("other.pem", &authority("Some Other CA").pem());
    for (what, builder) in [
        ("another authority", bench.client("localhost", address).ca_file(stranger)),
        ("a name that is not in the certificate", bench.client("127.0.0.1", address)),
        ("expired", bench.client("localhost", expired)),
        (
            "the system's authorities",
            RegistryClient::builder(format!("https://localhost:{}", address.port())),
        ),
    ] {
        let error = match builder.build() {
            Ok(client) => client.schema(1.into()).await.unwrap_err(),
            // A machine without ca-certificates.
            Err(errors) => {
                assert!(matches!(errors.0[..], [RegistryConfigError::NoAuthority { .. }]), "{errors}");
                continue;
            }
        };
        assert_eq!(error.class(), Class::Fatal, "{what}: {}", ErrorChain(&error));
        assert!(matches!(cause(&error), RegistryError::Certificate { .. }), "{what}: {error:?}");
        assert!(error.hint().is_some());
    }
    assert!(bench.registry.requests().is_empty());
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_it_is_asked_for() {
    let bench = Bench::new().await;
    let address = terminate(&bench.registry, &bench.server(true), Some(&bench.authority)).await;
    let identity = |name: &str, by: &Authority| {
        let Signed { certificate, key } = signed(by, "archive", ExtendedKeyUsagePurpose::ClientAuth, true);
        let chain = bench.file(&format!("{name}.pem"), &certificate.pem());
        (chain, bench.file(&format!("{name}-key.pem"), &key.serialize_pem()))
    };
    let (chain, key) = identity("client", &bench.authority);
    known(&bench.client("localhost", address).client_certificate(&chain, &key).build().unwrap(), 1).await;
    let (strange_chain, strange_key) = identity("stranger", &authority("Some Other CA"));
    for builder in [
        bench.client("localhost", address),
        bench.client("localhost", address).client_certificate(&strange_chain, strange_key),
    ] {
        let error = builder.build().unwrap().schema(1.into()).await.unwrap_err();
        assert_eq!(error.class(), Class::Fatal, "{}", ErrorChain(&error));
        assert!(matches!(cause(&error), RegistryError::Certificate { .. }), "{error:?}");
    }
    // Files that do not fit are told before anything is sent.
    let mixed = bench.client("localhost", address).client_certificate(&strange_chain, &key).build();
    assert!(matches!(mixed.unwrap_err().0[..], [RegistryConfigError::Identity { .. }]));
    let swapped = bench.client("localhost", address).client_certificate(key, strange_chain).build();
    assert!(matches!(
        swapped.unwrap_err().0[..],
        [RegistryConfigError::Pem { .. }, RegistryConfigError::Pem { .. }]
    ));
}

#[tokio::test]
async fn plain_text_is_no_certificate_problem() {
    let bench = Bench::new().await;
    // Both wait for the other to say something sensible.
    let client = bench
        .client("127.0.0.1", bench.registry.address())
        .connect_timeout(Duration::from_millis(100))
        .attempts(1)
        .build()
        .unwrap();
    let error = client.schema(1.into()).await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY, "{}", ErrorChain(&error));
}
