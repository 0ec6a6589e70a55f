//! The SDK's client, built without the SDK's defaults that do not fit.
//!
//! - **TLS** is rustls with ring and the system's roots. The SDK without its default features has no HTTP client and
//!   panics at run time, so one is passed everywhere.
//! - **Checksums** are computed once, by the writer, and sent as a header. `WhenRequired` keeps the SDK from computing
//!   another one and from wrapping the body into chunks with a trailer.
//! - **Stalled-stream protection** is off: bodies are in memory and an attempt has a timeout.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::{Builder, tls};

use crate::config::Connection;
use crate::credentials::StaticCredentials;

/// Idle connections are closed before the usual servers and balancers do, or a request would meet a closed one.
const POOL_IDLE: Duration = Duration::from_secs(15);

pub(crate) fn http_client(requests: usize) -> SharedHttpClient {
    Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(requests)
        .build_https()
}

/// Builds the client; asks the environment only for what is not configured.
pub(crate) async fn connect(connection: &Connection, http: SharedHttpClient) -> aws_sdk_s3::Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(connection.connect_timeout)
        .operation_attempt_timeout(connection.attempt_timeout)
        .build();
    let retries = RetryConfig::standard().with_max_attempts(connection.attempts);
    let region = connection.region.clone().or_else(|| {
        // Stores with an endpoint of their own mostly ignore the region, but a signature needs one.
        connection.endpoint.as_ref().map(|_| "us-east-1".to_owned())
    });
    let credentials = connection.credentials.as_ref().map(StaticCredentials::to_sdk);
    let builder = match (region, credentials) {
        (Some(region), Some(credentials)) => configured(region, credentials),
        (region, credentials) => {
            let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
            if let Some(region) = region {
                loader = loader.region(Region::new(region));
            }
            if let Some(credentials) = credentials {
                loader = loader.credentials_provider(SharedCredentialsProvider::new(credentials));
            }
            aws_sdk_s3::config::Builder::from(&loader.load().await)
        }
    };
    let mut builder = builder
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(retries)
        .force_path_style(connection.path_style.unwrap_or(connection.endpoint.is_some()))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(endpoint) = &connection.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    aws_sdk_s3::Client::from_conf(builder.build())
}

/// With region and key given, nothing of the host decides where records go.
fn configured(region: String, credentials: Credentials) -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
}
