//! Certificates for the listeners of a broker, made when it starts: right ones, and one of each mistake.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::install::write;

/// The only name in the broker's certificates: its address, `127.0.0.1`, is a wrong one.
pub(super) const HOST: &str = "localhost";

/// PEM files.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority that everything right is signed by.
    pub ca: PathBuf,
    /// An authority that has signed nothing here.
    pub other_ca: PathBuf,
    /// A client's certificate.
    pub client: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
    /// The broker's key, certificate and chain in one file, as Kafka wants it.
    pub(super) broker: PathBuf,
    /// The same, expired yesterday.
    pub(super) expired: PathBuf,
}

impl Certificates {
    /// Makes all of them below `dir`.
    pub(super) fn make(dir: &Path) -> Result<Self> {
        let (authority, stranger) = (authority("Aqueduct Test CA")?, authority("Some Other CA")?);
        let path = |name: &str| dir.join(name);
        let all = Self {
            ca: path("ca.pem"),
            other_ca: path("other-ca.pem"),
            client: path("client.pem"),
            client_key: path("client-key.pem"),
            broker: path("broker.pem"),
            expired: path("expired.pem"),
        };
        write(&all.ca, &authority.pem())?;
        write(&all.other_ca, &stranger.pem())?;
        for (file, lives) in [(&all.broker, true), (&all.expired, false)] {
            let (certificate, key) = signed(&authority, HOST, ExtendedKeyUsagePurpose::ServerAuth, lives)?;
            write(file, &[key, certificate, authority.pem()].concat())?;
        }
        let (certificate, key) = signed(&authority, "worker", ExtendedKeyUsagePurpose::ClientAuth, true)?;
        write(&all.client, &certificate)?;
        write(&all.client_key, &key)?;
        Ok(all)
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Result<Authority> {
    let mut params = dated(CertificateParams::new(Vec::new())?, true);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?).with_context(|| format!("no authority {name}"))
}

/// Certificate and key in PEM.
fn signed(
    authority: &Authority,
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
    lives: bool,
) -> Result<(String, String)> {
    let mut params = dated(CertificateParams::new(vec![name.to_owned()])?, lives);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    let key = KeyPair::generate()?;
    let certificate =
        params.signed_by(&key, authority).with_context(|| format!("no certificate for {name}"))?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Valid from ten days ago on, for a hundred days or until yesterday.
fn dated(mut params: CertificateParams, lives: bool) -> CertificateParams {
    #[expect(clippy::disallowed_methods, reason = "a certificate is valid by the clock of the machine")]
    let now = SystemTime::now();
    let end = if lives { now + DAY * 90 } else { now - DAY };
    params.not_before = (now - DAY * 10).into();
    params.not_after = end.into();
    params
}

const DAY: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_holds_what_it_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let all = Certificates::make(dir.path()).unwrap();
        let count = |path: &Path, what: &str| std::fs::read_to_string(path).unwrap().matches(what).count();
        for (path, certificates, keys) in [
            (&all.ca, 1, 0),
            (&all.other_ca, 1, 0),
            (&all.client, 1, 0),
            (&all.client_key, 0, 1),
            (&all.broker, 2, 1),
            (&all.expired, 2, 1),
        ] {
            assert_eq!(count(path, "BEGIN CERTIFICATE"), certificates, "{}", path.display());
            assert_eq!(count(path, "BEGIN PRIVATE KEY"), keys, "{}", path.display());
        }
        assert_ne!(std::fs::read(&all.ca).unwrap(), std::fs::read(&all.other_ca).unwrap());
    }
}
