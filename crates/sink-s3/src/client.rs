//! The SDK's client, built without the SDK's defaults that do not fit.
//!
//! - **TLS** is rustls with ring and the system's roots. The SDK without its default features has no HTTP client and
//!   panics at run time, so one is passed everywhere.
//! - **Checksums** are computed once, by the writer, and sent as a header. `WhenRequired` keeps the SDK from computing
//!   another one and from wrapping the body into chunks with a trailer.
//! - **Credentials** are cached by us, because the SDK's cache keeps what the store has refused until it expires.
//! - **Stalled-stream protection** is off: bodies are in memory and an attempt has a timeout.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation, RuntimeComponents,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector, tls};

use crate::config::Connection;
use crate::credentials::{Base, Renewing, Role, RoleSession};
use crate::proxy::Proxy;

/// Idle connections are closed before the usual servers and balancers do, or a request would meet a closed one.
const POOL_IDLE: Duration = Duration::from_secs(15);

pub(crate) fn http_client(requests: usize, proxy: Option<&Proxy>) -> SharedHttpClient {
    let proxy = proxy.map_or_else(ProxyConfig::disabled, Proxy::to_sdk);
    Builder::new()
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(requests)
        // The one way to a connector with a proxy; what it is given is what the builder would set itself.
        .build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder()
                .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
                .proxy_config(proxy.clone())
                .pool_idle_timeout(POOL_IDLE)
                .pool_max_idle_per_host(requests);
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
            connector.build()
        })
}

/// Builds the client; asks the environment only for what is not configured.
pub(crate) async fn connect(
    connection: &Connection,
    http: SharedHttpClient,
) -> (aws_sdk_s3::Client, Renewing) {
    let (region, credentials, loaded) = base(connection, &http).await;
    let sts = |credentials: Option<SharedCredentialsProvider>| {
        let mut builder = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http.clone())
            .timeout_config(timeouts(connection))
            .retry_config(RetryConfig::standard().with_max_attempts(connection.attempts));
        builder.set_region(region.clone()).set_credentials_provider(credentials);
        builder.set_endpoint_url(connection.sts_endpoint.as_deref().map(str::to_owned));
        aws_sdk_sts::Client::from_conf(builder.build())
    };
    let mut credentials = match (credentials, &connection.base) {
        (None, Base::WebIdentity(role)) => {
            let role = Role::WebIdentity(role.clone());
            Some(SharedCredentialsProvider::new(RoleSession { sts: sts(None), role }))
        }
        (credentials, _) => credentials,
    };
    if let Some(role) = &connection.assume_role {
        // Each session with the role asks for the credentials behind it anew unless they are held, too.
        let behind = credentials.map(|behind| SharedCredentialsProvider::new(Renewing::new(behind)));
        let role = Role::Assumed(role.clone());
        credentials = Some(SharedCredentialsProvider::new(RoleSession { sts: sts(behind), role }));
    }
    let credentials = credentials.unwrap_or_else(|| SharedCredentialsProvider::new(NoProvider));
    let renewing = Renewing::new(credentials);
    let mut builder = loaded.as_ref().map_or_else(
        || aws_sdk_s3::Config::builder().behavior_version(BehaviorVersion::latest()),
        aws_sdk_s3::config::Builder::from,
    );
    builder.set_region(region);
    let mut builder = builder
        .credentials_provider(renewing.clone())
        .identity_cache(IdentityCache::no_cache())
        .http_client(http)
        .timeout_config(timeouts(connection))
        .retry_config(RetryConfig::standard().with_max_attempts(connection.attempts))
        .force_path_style(connection.path_style.unwrap_or(connection.endpoint.is_some()))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if connection.accelerate {
        builder = builder.accelerate(true);
    }
    if connection.dual_stack {
        builder = builder.use_dual_stack(true);
    }
    if connection.fips {
        builder = builder.use_fips(true);
    }
    if let Some(endpoint) = &connection.endpoint {
        builder = builder.endpoint_url(&**endpoint);
    }
    (aws_sdk_s3::Client::from_conf(builder.build()), renewing)
}

fn timeouts(connection: &Connection) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(connection.connect_timeout)
        .operation_attempt_timeout(connection.attempt_timeout)
        .build()
}

/// Region and credentials, and what else the host's configuration says where it was asked. The instance's metadata service
/// is asked by the default chain only.
async fn base(
    connection: &Connection,
    http: &SharedHttpClient,
) -> (Option<Region>, Option<SharedCredentialsProvider>, Option<SdkConfig>) {
    let given = connection.region.clone().or_else(|| {
        // Stores with an endpoint of their own mostly ignore the region, but a signature needs one.
        connection.endpoint.as_ref().map(|_| "us-east-1".to_owned())
    });
    let given = given.map(Region::new);
    let profile = match &connection.base {
        Base::Profile(name) => Some(name.clone()),
        _ => None,
    };
    let region = match given {
        Some(region) => Some(region),
        None if matches!(connection.base, Base::Default) => None,
        None => {
            let mut profiles = ProfileFileRegionProvider::builder();
            if let Some(name) = &profile {
                profiles = profiles.profile_name(name);
            }
            let environment = EnvironmentVariableRegionProvider::new();
            RegionProviderChain::first_try(environment).or_else(profiles.build()).region().await
        }
    };
    let mut host = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
    if let Some(region) = &region {
        host = host.region(region.clone());
    }
    match &connection.base {
        // With region and key given, nothing of the host decides where records go.
        Base::Static(key) => {
            let credentials = SharedCredentialsProvider::new(key.to_sdk());
            (region, Some(credentials), None)
        }
        Base::WebIdentity(_) => (region, None, None),
        Base::Profile(name) => {
            let config = ProviderConfig::without_region().with_http_client(http.clone());
            let credentials = ProfileFileCredentialsProvider::builder()
                .profile_name(name)
                .configure(&config.with_region(region.clone()))
                .build();
            let credentials = SharedCredentialsProvider::new(credentials);
            let host = host.profile_name(name).credentials_provider(credentials.clone());
            (region, Some(credentials), Some(host.load().await))
        }
        Base::Default => {
            let loaded = host.load().await;
            let region = region.or_else(|| loaded.region().cloned());
            (region, loaded.credentials_provider(), Some(loaded))
        }
    }
}

/// Where not even the default chain has anybody to ask.
#[derive(Debug)]
struct NoProvider;

impl aws_credential_types::provider::ProvideCredentials for NoProvider {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let none =
            aws_credential_types::provider::error::CredentialsError::not_loaded("no provider is configured");
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(none))
    }
}
