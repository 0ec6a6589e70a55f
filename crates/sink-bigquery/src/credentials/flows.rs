//! The ways to a token that are one request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::{Clock, unix_millis};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::cached::{Granted, TokenFlow};
use super::http::{Failure, Http, unreadable};

/// What OAuth endpoints answer (<https://www.rfc-editor.org/rfc/rfc6749#section-5.1>).
#[derive(Deserialize)]
pub(super) struct OAuthToken {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl OAuthToken {
    /// A token that says nothing of its life has an hour, as all of Google's.
    pub(super) fn granted(self, what: &str) -> Result<Granted, Failure> {
        let lifetime = Duration::from_secs(self.expires_in.unwrap_or(3600).min(LIFETIME_MAX_S));
        granted(what, self.access_token, lifetime)
    }
}

/// Twelve hours are the most that Google gives.
const LIFETIME_MAX_S: u64 = 12 * 3600;

pub(super) fn granted(what: &str, token: String, lifetime: Duration) -> Result<Granted, Failure> {
    // It has to fit into a header.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unreadable(what));
    }
    Ok(Granted { token: token.into(), lifetime })
}

/// A service account's key: a signed claim for a token (<https://www.rfc-editor.org/rfc/rfc7523>,
/// <https://developers.google.com/identity/protocols/oauth2/service-account#httprest>).
pub(super) struct ServiceAccount {
    pub(super) http: Http,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) email: String,
    pub(super) key_id: Option<String>,
    pub(super) key: RsaKeyPair,
    pub(super) endpoint: String,
    pub(super) scope: &'static str,
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAccount").field("email", &self.email).finish_non_exhaustive()
    }
}

/// Reads a private key in PEM, PKCS#8 as Google gives it or PKCS#1.
pub(super) fn private_key(pem: &str) -> Option<RsaKeyPair> {
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    }
}

impl ServiceAccount {
    /// The claim, signed.
    fn assertion(&self) -> Result<String, Failure> {
        let now = unix_millis(self.clock.now()).div_euclid(1000);
        let mut header = json!({ "alg": "RS256", "typ": "JWT" });
        if let (Some(id), Some(header)) = (&self.key_id, header.as_object_mut()) {
            header.insert("kid".to_owned(), id.as_str().into());
        }
        let claims = json!({
            "iss": self.email, "scope": self.scope, "aud": self.endpoint, "iat": now, "exp": now + 3600,
        });
        let mut text = URL_SAFE_NO_PAD.encode(header.to_string());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut text);
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| Failure::Denied("the service account's key does not sign".to_owned()))?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Ok(text)
    }
}

#[async_trait]
impl TokenFlow for ServiceAccount {
    async fn fetch(&self) -> Result<Granted, Failure> {
        let what = format!("the token endpoint of service account {}", self.email);
        let assertion = self.assertion()?;
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)];
        let request = self.http.post(&self.endpoint).form(&form);
        self.http.json::<OAuthToken>(&what, request).await?.granted(&what)
    }
}

/// A user's login, as `gcloud auth application-default login` keeps it (<https://www.rfc-editor.org/rfc/rfc6749#section-6>).
pub(super) struct User {
    pub(super) http: Http,
    pub(super) client_id: String,
    pub(super) client_secret: SecretString,
    pub(super) refresh_token: SecretString,
    pub(super) endpoint: String,
}

#[async_trait]
impl TokenFlow for User {
    async fn fetch(&self) -> Result<Granted, Failure> {
        let what = "the token endpoint of the user's login";
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose_secret()),
            ("refresh_token", self.refresh_token.expose_secret()),
        ];
        let request = self.http.post(&self.endpoint).form(&form);
        self.http.json::<OAuthToken>(what, request).await?.granted(what)
    }
}

/// The metadata server of a machine or a workload on Google Cloud, GKE's workload identity included
/// (<https://cloud.google.com/compute/docs/metadata/overview>).
pub(super) struct Metadata {
    pub(super) http: Http,
    /// `http://metadata.google.internal`
    pub(super) endpoint: String,
    pub(super) scope: &'static str,
}

const FLAVOR: &str = "metadata-flavor";

#[async_trait]
impl TokenFlow for Metadata {
    async fn fetch(&self) -> Result<Granted, Failure> {
        let what = "the metadata server";
        let url = format!(
            "{}/computeMetadata/v1/instance/service-accounts/default/token",
            self.endpoint.trim_end_matches('/')
        );
        let request = self.http.get_direct(&url).query(&[("scopes", self.scope)]).header(FLAVOR, "Google");
        let answer = self.http.send(what, request).await?;
        // "If the header is missing, the answer is not the metadata server's."
        if answer.headers.get(FLAVOR).is_none_or(|flavor| flavor != "Google") {
            return Err(Failure::Denied(format!("{what} is none: its answer has no Metadata-Flavor")));
        }
        let token: OAuthToken = serde_json::from_slice(&answer.body).map_err(|_| unreadable(what))?;
        token.granted(what)
    }
}
