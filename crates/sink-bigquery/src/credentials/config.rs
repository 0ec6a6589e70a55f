//! Credential files, as Google's tools write them.
//!
//! The words of a parser may quote what they are about, so none of them is passed on.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::external::{External, SourceJson};
use super::flows::{ServiceAccount, User, private_key};
use super::impersonation::{Impersonate, delegate};
use super::{IMPERSONATING_SCOPE, Opener, TokenSource, cached, none};
use crate::error::BigQueryError;

/// Which types are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    KeyOnly,
    Any,
    /// The source of an impersonation: any but another impersonation.
    Source,
}

const TOKEN_ENDPOINT: &str = "https://oauth2.googleapis.com/token";

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
struct KeyJson {
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: Option<String>,
    #[serde(default)]
    token_uri: Option<String>,
}

#[derive(Deserialize)]
struct UserJson {
    client_id: String,
    client_secret: String,
    refresh_token: String,
    #[serde(default)]
    token_uri: Option<String>,
}

#[derive(Deserialize)]
struct ExternalJson {
    audience: String,
    subject_token_type: String,
    token_url: String,
    credential_source: SourceJson,
    #[serde(default)]
    service_account_impersonation_url: Option<String>,
    #[serde(default)]
    service_account_impersonation: Option<ImpersonationJson>,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    client_secret: Option<String>,
    #[serde(default)]
    workforce_pool_user_project: Option<String>,
}

#[derive(Deserialize)]
struct ImpersonationJson {
    #[serde(default)]
    token_lifetime_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct ImpersonatedJson {
    service_account_impersonation_url: String,
    source_credentials: Value,
    #[serde(default)]
    delegates: Vec<String>,
}

impl Opener {
    /// Makes a token source of a file's text; `what` is the file, in words.
    pub(super) fn read(
        &self,
        what: &str,
        json: &str,
        scope: &'static str,
        accepted: Accepted,
    ) -> Result<Box<dyn TokenSource>, BigQueryError> {
        let value: Value = serde_json::from_str(json).map_err(|_| none(format!("{what} is not usable")))?;
        self.of_json(what, &value, scope, accepted)
    }

    fn of_json(
        &self,
        what: &str,
        json: &Value,
        scope: &'static str,
        accepted: Accepted,
    ) -> Result<Box<dyn TokenSource>, BigQueryError> {
        let kind: Kind = parse(what, json)?;
        match (kind.r#type.as_str(), accepted) {
            ("service_account", _) => self.key(what, json, scope),
            ("authorized_user", Accepted::Any | Accepted::Source) => self.user(what, json),
            ("external_account", Accepted::Any | Accepted::Source) => self.external(what, json, scope),
            ("impersonated_service_account", Accepted::Any) => self.impersonated(what, json, scope),
            _ => Err(none(format!("{what} holds credentials of a type that is not supported here"))),
        }
    }

    fn key(
        &self,
        what: &str,
        json: &Value,
        scope: &'static str,
    ) -> Result<Box<dyn TokenSource>, BigQueryError> {
        let json: KeyJson = parse(what, json)?;
        let key = private_key(&json.private_key)
            .ok_or_else(|| none(format!("{what} has no private RSA key that is usable")))?;
        let endpoint = json.token_uri.as_deref().unwrap_or(TOKEN_ENDPOINT);
        Ok(cached(ServiceAccount {
            http: self.http.clone(),
            clock: Arc::clone(&self.clock),
            email: json.client_email,
            key_id: json.private_key_id,
            key,
            endpoint: self.endpoint(&format!("the token_uri of {what}"), endpoint)?,
            scope,
        }))
    }

    fn user(&self, what: &str, json: &Value) -> Result<Box<dyn TokenSource>, BigQueryError> {
        let json: UserJson = parse(what, json)?;
        let endpoint = json.token_uri.as_deref().unwrap_or(TOKEN_ENDPOINT);
        Ok(cached(User {
            http: self.http.clone(),
            client_id: json.client_id,
            client_secret: json.client_secret.into(),
            refresh_token: json.refresh_token.into(),
            endpoint: self.endpoint(&format!("the token_uri of {what}"), endpoint)?,
        }))
    }

    fn external(
        &self,
        what: &str,
        json: &Value,
        scope: &'static str,
    ) -> Result<Box<dyn TokenSource>, BigQueryError> {
        let json: ExternalJson = parse(what, json)?;
        let subject = json.credential_source.subject();
        let subject = subject.map_err(|problem| none(format!("{what} {problem}")))?;
        let impersonation = json.service_account_impersonation_url;
        let exchange = External {
            http: self.http.clone(),
            subject,
            audience: json.audience,
            subject_token_type: json.subject_token_type,
            endpoint: self.endpoint(&format!("the token_url of {what}"), &json.token_url)?,
            client: json.client_id.zip(json.client_secret.map(SecretString::from)),
            user_project: json.workforce_pool_user_project,
            scope: if impersonation.is_some() { IMPERSONATING_SCOPE } else { scope },
        };
        let Some(url) = impersonation else { return Ok(cached(exchange)) };
        let seconds = json.service_account_impersonation.and_then(|options| options.token_lifetime_seconds);
        self.act(what, cached(exchange), &url, &[], seconds, scope)
    }

    fn impersonated(
        &self,
        what: &str,
        json: &Value,
        scope: &'static str,
    ) -> Result<Box<dyn TokenSource>, BigQueryError> {
        let json: ImpersonatedJson = parse(what, json)?;
        let by = self.of_json(
            &format!("source_credentials of {what}"),
            &json.source_credentials,
            IMPERSONATING_SCOPE,
            Accepted::Source,
        )?;
        self.act(what, by, &json.service_account_impersonation_url, &json.delegates, None, scope)
    }

    fn act(
        &self,
        what: &str,
        by: Box<dyn TokenSource>,
        url: &str,
        delegates: &[String],
        seconds: Option<u64>,
        scope: &'static str,
    ) -> Result<Box<dyn TokenSource>, BigQueryError> {
        let seconds = seconds.unwrap_or(3600);
        if !(60..=12 * 3600).contains(&seconds) {
            return Err(none(format!("{what} has a token_lifetime_seconds that is not 60 to 43200")));
        }
        Ok(cached(Impersonate {
            http: self.http.clone(),
            clock: Arc::clone(&self.clock),
            by,
            url: self.endpoint(&format!("the service_account_impersonation_url of {what}"), url)?,
            delegates: delegates.iter().map(|account| delegate(account)).collect(),
            lifetime: Duration::from_secs(seconds),
            scope,
        }))
    }
}

fn parse<T: DeserializeOwned>(what: &str, json: &Value) -> Result<T, BigQueryError> {
    T::deserialize(json).map_err(|_| none(format!("{what} is not usable")))
}
