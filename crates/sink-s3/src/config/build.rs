//! From options to a sink, or to everything that is wrong with them.

use std::net::IpAddr;

use aqueduct_files::{
    Delimited, FileKind, KeyTemplate, ObjectDeadLetters, ObjectOptions, ObjectRepairs, ObjectSink,
    ObjectTarget, OptionError,
};
use aws_sdk_s3::Client;
use secrecy::ExposeSecret;

use super::{Connection, Place, S3ConfigError, S3ConfigErrors, S3SinkBuilder};
use crate::client;
use crate::credentials::{AssumeRole, Base};
use crate::proxy::Proxy;
use crate::sink::{S3DeadLetters, S3Sink};
use crate::target::S3Target;

impl S3ConfigErrors {
    fn of_files(problems: Vec<OptionError>) -> Self {
        Self(problems.into_iter().map(S3ConfigError::Files).collect())
    }
}

impl<F> S3SinkBuilder<F> {
    /// Builds a target of dead letters below the builder's [`prefix`](Self::prefix), which should be another one than the
    /// sink's. No format is needed; compression, names and sizes do not matter.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn build_dead_letters(self) -> Result<S3DeadLetters, S3ConfigErrors> {
        let prefix = self.prefix.clone();
        let (_, target, _) = self.format(Delimited::lines()).parts().await?;
        let letters = ObjectDeadLetters::new(target, prefix);
        letters.map_err(|problem| S3ConfigErrors::of_files(vec![problem.into()]))
    }
}

impl<F: FileKind> S3SinkBuilder<F> {
    /// Builds the sink. Asks the environment for what is not configured, and nobody else: whether the bucket exists
    /// and lets us in is seen when the pipeline starts.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration, at once.
    pub async fn build(self) -> Result<S3Sink<F>, S3ConfigErrors> {
        let (format, target, options) = self.parts().await?;
        ObjectSink::new(format, target, options).map(S3Sink::new).map_err(S3ConfigErrors::of_files)
    }

    /// Builds what stores the records of letters where the sink would have: give it the sink's own configuration.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn build_repairs(self) -> Result<ObjectRepairs<F, S3Target>, S3ConfigErrors> {
        let (format, target, options) = self.parts().await?;
        ObjectRepairs::new(format, target, options).map_err(S3ConfigErrors::of_files)
    }

    /// What all of them are made of.
    async fn parts(self) -> Result<(F, S3Target, ObjectOptions), S3ConfigErrors> {
        let mut keys = KeyTemplate::new(self.prefix.clone());
        if let Some(template) = &self.file_name {
            keys = keys.with_file_name(template);
        }
        if let Some(digits) = self.pad_width {
            keys = keys.with_pad_width(digits);
        }
        let options = self.options.clone().with_keys(keys);
        let mut problems = self.problems();
        let (client, credentials) = match &self.client {
            Some(client) => (client.clone(), None),
            // A builder with problems may name an endpoint nobody should talk to.
            None if !problems.is_empty() => {
                let limits = aqueduct_files::TargetLimits::default();
                problems
                    .extend(options.problems(&self.format, &limits).into_iter().map(S3ConfigError::Files));
                return Err(S3ConfigErrors(problems));
            }
            None => {
                let http = client::http_client(options.requests, self.connection.proxy.as_ref());
                // Boxed: the SDK's futures are large, and this one is awaited once.
                let (client, credentials) = Box::pin(client::connect(&self.connection, http)).await;
                (client, Some(credentials))
            }
        };
        if client.config().region().is_none() {
            problems.push(S3ConfigError::NoRegion);
        }
        let endpoint = self.endpoint_name(&client);
        let mut target = S3Target::from_client(client, &*self.bucket)
            .with_payload_signing(self.sign_payloads)
            .with_conditional_writes(self.conditional)
            .with_stale_upload_abort(self.abort_stale_uploads)
            .with_check_prefix(&self.prefix)
            .with_attributes(self.attributes)
            .with_credentials(credentials)
            .with_endpoint_name(endpoint);
        if let Some(account) = self.expected_owner {
            target = target.with_expected_bucket_owner(account);
        }
        if problems.is_empty() {
            return Ok((self.format, target, options));
        }
        problems
            .extend(options.problems(&self.format, &target.limits()).into_iter().map(S3ConfigError::Files));
        Err(S3ConfigErrors(problems))
    }

    /// How messages name the store.
    fn endpoint_name(&self, client: &Client) -> String {
        match (&self.connection.endpoint, client.config().region()) {
            (Some(endpoint), _) => endpoint.shown(),
            (None, Some(region)) => format!("S3 in {region}"),
            (None, None) => "S3".to_owned(),
        }
    }

    fn problems(&self) -> Vec<S3ConfigError> {
        let mut problems = Vec::new();
        let bucket = |problem| S3ConfigError::Bucket { bucket: self.bucket.shown(), problem };
        if self.bucket.is_empty() {
            problems.push(bucket("is empty; name the bucket to write to"));
        } else if self.bucket.contains("://") {
            problems.push(bucket("is a URL; give the bucket's name alone, and the rest as prefix"));
        } else if !self.bucket.starts_with("arn:") && self.bucket.contains('/') {
            problems.push(bucket("has a slash; give what follows it as prefix"));
        }
        let connection = &self.connection;
        let Connection {
            region, endpoint, path_style, base, connect_timeout, attempt_timeout, attempts, ..
        } = connection;
        if let Some(url) = endpoint {
            problems.extend(check_url(url).map(|problem| S3ConfigError::Endpoint { problem }));
        }
        if let Some(url) = &connection.sts_endpoint {
            problems.extend(check_url(url).map(|problem| S3ConfigError::StsEndpoint { problem }));
        }
        if let Some(region) = region
            && (region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'))
        {
            problems.push(S3ConfigError::Region { region: region.clone() });
        }
        problems.extend(self.who_problems());
        problems.extend(self.way_problems());
        problems.extend(self.attributes.problems());
        // On loopback nobody else listens; everywhere else a key in plain text is a key given away.
        let in_plain_text = |url: &Place| !url.starts_with("https://") && !is_loopback(url);
        if self.attributes.customer_key().is_some() && endpoint.as_ref().is_some_and(in_plain_text) {
            problems.push(S3ConfigError::CustomerKeyInPlainText);
        }
        for (option, timeout) in [("connect_timeout", connect_timeout), ("attempt_timeout", attempt_timeout)]
        {
            if timeout.is_zero() {
                problems.push(S3ConfigError::Zero { option });
            }
        }
        if *attempts == 0 {
            problems.push(S3ConfigError::Zero { option: "attempts" });
        }
        if self.client.is_some() {
            let set = [
                ("region", region.is_some()),
                ("endpoint", endpoint.is_some()),
                ("path_style", path_style.is_some()),
                ("credentials", !matches!(base, Base::Default)),
                ("assume_role", connection.assume_role.is_some()),
                ("sts_endpoint", connection.sts_endpoint.is_some()),
                ("proxy", connection.proxy.is_some()),
                ("accelerate", connection.accelerate),
                ("dual_stack", connection.dual_stack),
                ("fips", connection.fips),
            ];
            problems.extend(
                set.into_iter()
                    .filter(|(_, set)| *set)
                    .map(|(option, _)| S3ConfigError::WithClient { option }),
            );
        }
        problems
    }

    /// Who we say we are, and who the bucket's owner is said to be.
    fn who_problems(&self) -> Vec<S3ConfigError> {
        let mut problems = Vec::new();
        match &self.connection.base {
            Base::Static(key) => {
                if key.access_key.is_empty() {
                    problems.push(S3ConfigError::EmptyCredential { what: "access key" });
                }
                if key.secret.expose_secret().is_empty() {
                    problems.push(S3ConfigError::EmptyCredential { what: "secret" });
                }
            }
            Base::Profile(name) if name.is_empty() => problems.push(S3ConfigError::Profile),
            Base::Default | Base::Profile(_) => {}
            Base::WebIdentity(role) => problems.extend(role.problems()),
        }
        problems.extend(self.connection.assume_role.iter().flat_map(AssumeRole::problems));
        if let Some(account) = &self.expected_owner
            && (account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()))
        {
            problems.push(S3ConfigError::BucketOwner { account: account.clone() });
        }
        problems
    }

    /// Which way requests take: proxy, and the kinds of AWS's own endpoints.
    fn way_problems(&self) -> Vec<S3ConfigError> {
        let Connection { accelerate, dual_stack, fips, endpoint, path_style, proxy, .. } = &self.connection;
        let mut problems: Vec<_> = proxy.iter().filter_map(Proxy::problem).collect();
        let own = [("accelerate", accelerate), ("dual_stack", dual_stack), ("fips", fips)];
        for (option, _) in own.into_iter().filter(|(_, set)| **set) {
            if endpoint.is_some() {
                problems.push(S3ConfigError::Excluded { option, other: "endpoint" });
            }
        }
        let accelerated = [
            ("path_style", *path_style == Some(true)),
            ("fips", *fips),
            ("a bucket whose name has dots", self.bucket.contains('.')),
        ];
        for (other, _) in accelerated.into_iter().filter(|(_, set)| *accelerate && *set) {
            problems.push(S3ConfigError::Excluded { option: "accelerate", other });
        }
        problems
    }
}

/// Whether the URL's host is this machine.
fn is_loopback(url: &str) -> bool {
    let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Never repeats the URL: it may hold a password.
pub(crate) fn check_url(url: &str) -> Option<&'static str> {
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return Some("does not start with http:// or https://");
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Some("holds a user name or password; use the option for them");
    }
    if host.is_empty() || host.starts_with(':') || host.contains(char::is_whitespace) {
        return Some("has no host name");
    }
    if rest.contains(['?', '#']) {
        return Some("has a query or fragment");
    }
    None
}
