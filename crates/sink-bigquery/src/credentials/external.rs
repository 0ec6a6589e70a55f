//! Workload identity federation: a token of somebody else's, exchanged for one of Google's
//! (<https://google.aip.dev/auth/4117>, <https://www.rfc-editor.org/rfc/rfc8693>).

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::cached::{Granted, TokenFlow};
use super::flows::OAuthToken;
use super::http::{ANSWER_MAX, Failure, Http};

/// Exchanges the subject's token.
pub(super) struct External {
    pub(super) http: Http,
    pub(super) subject: Subject,
    pub(super) audience: String,
    pub(super) subject_token_type: String,
    pub(super) endpoint: String,
    /// Of workforce pools.
    pub(super) client: Option<(String, SecretString)>,
    pub(super) user_project: Option<String>,
    pub(super) scope: &'static str,
}

/// Where the subject's token is; it is read anew for every exchange, because whoever put it there renews it.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) place: Place,
    /// The member of a JSON object that holds it; without one the whole text is it.
    pub(super) member: Option<String>,
}

#[derive(Debug)]
pub(super) enum Place {
    File(PathBuf),
    Url { url: String, headers: BTreeMap<String, SecretString> },
}

/// `credential_source` of a configuration.
#[derive(Deserialize)]
pub(super) struct SourceJson {
    #[serde(default)]
    file: Option<PathBuf>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    headers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    format: Option<FormatJson>,
    #[serde(default)]
    environment_id: Option<String>,
    #[serde(default)]
    executable: Option<Value>,
}

#[derive(Deserialize)]
struct FormatJson {
    r#type: String,
    #[serde(default)]
    subject_token_field_name: Option<String>,
}

impl SourceJson {
    /// The error is what is wrong, in words.
    pub(super) fn subject(self) -> Result<Subject, &'static str> {
        let member = match self.format {
            None => None,
            Some(FormatJson { r#type, subject_token_field_name }) => {
                match (r#type.as_str(), subject_token_field_name) {
                    ("text", _) => None,
                    ("json", Some(name)) => Some(name),
                    ("json", None) => {
                        return Err("has a credential_source of JSON without subject_token_field_name");
                    }
                    _ => return Err("has a credential_source of another format than text and json"),
                }
            }
        };
        if self.environment_id.is_some() {
            return Err("takes its identity from AWS, which is not supported; a file or a URL is");
        }
        if self.executable.is_some() {
            return Err("takes its identity from a program, which is not supported; a file or a URL is");
        }
        let place = match (self.file, self.url) {
            (Some(file), None) => Place::File(file),
            (None, Some(url)) => {
                let is_web =
                    reqwest::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
                if !is_web {
                    return Err("has a credential_source whose url is none");
                }
                let headers = self.headers.unwrap_or_default().into_iter();
                Place::Url { url, headers: headers.map(|(name, value)| (name, value.into())).collect() }
            }
            _ => return Err("has a credential_source that is neither a file nor a URL"),
        };
        Ok(Subject { place, member })
    }
}

impl External {
    async fn subject_token(&self) -> Result<SecretString, Failure> {
        let what = "the source of the subject's token";
        let body = match &self.subject.place {
            Place::File(path) => {
                let what = || format!("the file of the subject's token, {},", path.display());
                let size = tokio::fs::metadata(path).await.map(|file| file.len());
                if size.is_ok_and(|size| size > ANSWER_MAX as u64) {
                    return Err(Failure::Denied(format!("{} has more than {ANSWER_MAX} bytes", what())));
                }
                // It may be in the middle of being replaced.
                tokio::fs::read(path).await.map_err(|error| {
                    Failure::Unavailable(format!("{} cannot be read: {}", what(), error.kind()))
                })?
            }
            Place::Url { url, headers } => {
                let request = headers.iter().fold(self.http.get_direct(url), |request, (name, value)| {
                    request.header(name, value.expose_secret())
                });
                self.http.send(what, request).await?.body
            }
        };
        let denied = |problem: &str| Failure::Denied(format!("{what} {problem}"));
        let text = String::from_utf8(body).map_err(|_| denied("holds no text"))?;
        let token = match &self.subject.member {
            None => text.trim().to_owned(),
            Some(name) => serde_json::from_str::<Value>(&text)
                .ok()
                .and_then(|json| json.get(name)?.as_str().map(str::to_owned))
                .ok_or_else(|| denied("has no text where subject_token_field_name says"))?,
        };
        if token.is_empty() {
            return Err(Failure::Unavailable(format!("{what} is empty")));
        }
        Ok(token.into())
    }
}

#[async_trait]
impl TokenFlow for External {
    async fn fetch(&self) -> Result<Granted, Failure> {
        let what = "the token exchange of the workload identity pool";
        let subject = self.subject_token().await?;
        let options = self
            .user_project
            .as_ref()
            .map(|project| serde_json::json!({ "userProject": project }).to_string());
        let mut form = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("audience", &self.audience),
            ("subject_token_type", &self.subject_token_type),
            ("subject_token", subject.expose_secret()),
            ("scope", self.scope),
        ];
        form.extend(options.as_deref().map(|options| ("options", options)));
        let mut request = self.http.post(&self.endpoint).form(&form);
        if let Some((id, secret)) = &self.client {
            request = request.basic_auth(id, Some(secret.expose_secret()));
        }
        self.http.json::<OAuthToken>(what, request).await?.granted(what)
    }
}
