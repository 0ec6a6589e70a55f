//! The embedded S3 server: `s3s` over a directory, on a free port of the loopback interface.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

use crate::child::told_to_end;

/// The one key pair the server lets in. It listens on the loopback interface only and keeps nothing worth stealing.
pub const ACCESS_KEY: &str = "quickstart";
/// See [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "quickstart-secret";
/// The region it pretends to be in.
pub const REGION: &str = "ap-northeast-2";

/// Serves `bucket` from a directory below `keep`, or from a temporary one that goes away with the process. Says where
/// it listens on standard output; ends when the parent does.
pub async fn serve(bucket: &str, keep: Option<&Path>) -> Result<()> {
    let temporary =
        tempfile::Builder::new().prefix("quickstart-s3-").tempdir().context("cannot make a directory")?;
    let listener =
        TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen on the loopback interface")?;
    let address = listener.local_addr()?;
    let server = accept(listener, keep.unwrap_or(temporary.path()), bucket)?;
    println!("http://{address}");
    tokio::select! {
        () = server => {}
        _ = told_to_end() => {}
    }
    Ok(())
}

/// Makes the empty bucket below `root` and serves it for as long as the future is polled.
pub fn accept(
    listener: TcpListener,
    root: &Path,
    bucket: &str,
) -> Result<impl Future<Output = ()> + Send + use<>> {
    let directory = root.join(bucket);
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut found =
        std::fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    ensure!(found.next().is_none(), "{} is not empty: give --keep another directory", directory.display());

    let files =
        FileSystem::new(root).map_err(|error| anyhow!("cannot serve {}: {error:?}", root.display()))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = service.build();
    Ok(async move {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    let service = service.clone();
                    tokio::spawn(async move {
                        // Answers are small: without this, each waits for the client's delayed acknowledgement.
                        socket.set_nodelay(true).ok();
                        let server = Builder::new(TokioExecutor::new());
                        // A connection that breaks off is its client's to report.
                        server.serve_connection(TokioIo::new(socket), service).await.ok();
                    });
                }
                Err(error) => {
                    eprintln!("the S3 server cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}

/// A client of Amazon's own for the embedded server: the audit shall not read with our code.
pub fn client(endpoint: &str) -> Client {
    // Without the SDK's default features it has no HTTP client of its own.
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .credentials_provider(Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "quickstart"))
        .build();
    Client::from_conf(config)
}
