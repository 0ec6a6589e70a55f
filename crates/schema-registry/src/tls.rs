//! TLS: rustls with ring, and the system's roots or those of a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::RegistryConfigError;

#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    /// Authorities to believe instead of the system's.
    pub(crate) authorities: Option<PathBuf>,
    /// Our certificate with its chain, and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    pub(crate) fn client_config(&self) -> Result<ClientConfig, Vec<RegistryConfigError>> {
        let mut problems = Vec::new();
        let mut roots = RootCertStore::empty();
        let (certificates, what) = match &self.authorities {
            Some(file) => (read_certificates(file, &mut problems), file.display().to_string()),
            // One that cannot be read among the system's is no reason to do without the others.
            None => (rustls_native_certs::load_native_certs().certs, "the system's store".to_owned()),
        };
        let (good, _) = roots.add_parsable_certificates(certificates);
        if good == 0 && problems.is_empty() {
            problems.push(RegistryConfigError::NoAuthority { place: what });
        }
        let identity = self.identity.as_ref().map(|(chain, key)| {
            (
                read_certificates(chain, &mut problems),
                read_key(key, &mut problems),
                chain.display().to_string(),
            )
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| vec![RegistryConfigError::Client])?
            .with_root_certificates(roots);
        match identity {
            Some((chain, Some(key), file)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| vec![RegistryConfigError::Identity { file }]),
            _ => Ok(builder.with_no_client_auth()),
        }
    }
}

fn read_certificates(file: &Path, problems: &mut Vec<RegistryConfigError>) -> Vec<CertificateDer<'static>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => return certificates,
        Ok(_) => problems.push(unreadable(file, "holds no certificate")),
        Err(_) => problems.push(unreadable(file, "cannot be read as certificates")),
    }
    Vec::new()
}

fn read_key(file: &Path, problems: &mut Vec<RegistryConfigError>) -> Option<PrivateKeyDer<'static>> {
    let key = PrivateKeyDer::from_pem_file(file).ok();
    if key.is_none() {
        problems.push(unreadable(file, "cannot be read as a private key"));
    }
    key
}

/// Without the reader's own words, which may quote the file.
fn unreadable(file: &Path, problem: &'static str) -> RegistryConfigError {
    RegistryConfigError::Pem { file: file.display().to_string(), problem }
}
