//! A real S3 server that is not ours (`MinIO`) on loopback, and clients of any S3 server.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::bucket::Bucket;
use super::daemon::{Daemon, free_ports};
use super::install::{Cache, create_dir};
use crate::process::{Process, Stopped};

/// How to reach an S3 server over plain HTTP: what a service, a worker process or a command line hands around.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `http://host:port`.
    pub url: String,
    /// The region to sign for.
    pub region: String,
    /// The access key's id.
    pub access_key: String,
    /// The access key's secret. It opens a throw-away server on loopback and nothing else.
    pub secret_key: String,
}

impl Endpoint {
    /// A client with path-style addresses and the SDK's own retries.
    pub fn client(&self) -> Client {
        // The SDK is built without an HTTP client of its own and panics on its first call unless it is given one.
        let http = aws_smithy_http_client::Builder::new().build_http();
        let credentials = Credentials::new(&self.access_key, &self.secret_key, None, None, "xtask");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http)
            .endpoint_url(&self.url)
            .region(Region::new(self.region.clone()))
            .credentials_provider(credentials)
            .force_path_style(true)
            .build();
        Client::from_conf(config)
    }

    /// The bucket `name` of this server; nothing is sent yet.
    pub fn bucket(&self, name: &str) -> Bucket {
        Bucket::new(self.client(), name)
    }
}

/// An S3 server on `127.0.0.1`. Its port, credentials and data stay the same when it is stopped and started again.
#[derive(Debug, Serialize, Deserialize)]
pub struct S3 {
    endpoint: Endpoint,
    data: PathBuf,
    daemon: Daemon,
}

impl S3 {
    /// Starts a server that keeps everything below `home`. Data of an earlier server found there is served again.
    pub(super) async fn launch(cache: &Cache, home: &Path) -> Result<Self> {
        let cache = cache.clone();
        let program = spawn_blocking(move || cache.minio()).await??;
        let [port] = free_ports()?;
        let data = home.join("data");
        create_dir(&data)?;
        let endpoint = Endpoint {
            url: format!("http://127.0.0.1:{port}"),
            region: "us-east-1".to_owned(),
            access_key: "aqueduct".to_owned(),
            secret_key: format!("{:032x}", rand::random::<u128>()),
        };
        let args =
            ["server", "--quiet", "--address", &format!("127.0.0.1:{port}"), &data.display().to_string()];
        let env = [
            ("MINIO_ROOT_USER", endpoint.access_key.as_str()),
            ("MINIO_ROOT_PASSWORD", endpoint.secret_key.as_str()),
            ("MINIO_BROWSER", "off"),
            // Or it refuses a directory on the disk that holds `/`.
            ("MINIO_CI_CD", "1"),
            ("MINIO_UPDATE", "off"),
            ("MINIO_CALLHOME_ENABLE", "off"),
            // Its background scan would compete with what is measured.
            ("MINIO_SCANNER_SPEED", "slowest"),
        ];
        let daemon = Daemon::new(program, args, env, home.join("minio.log"));
        let mut server = Self { endpoint, data, daemon };
        server.start().await?;
        Ok(server)
    }

    /// How to reach it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Starts it again on its port and data, and waits until it serves; no effect if it is up.
    pub async fn start(&mut self) -> Result<()> {
        let client = self.endpoint.client();
        self.daemon.start(async || client.list_buckets().send().await.is_ok()).await
    }

    /// Shuts it down; kills it if that takes longer than 15 s.
    pub async fn stop(&mut self) -> Result<Stopped> {
        self.daemon.stop().await
    }

    /// Kills it without a chance to shut down, and waits until it is gone.
    pub async fn kill(&mut self) -> Result<Stopped> {
        self.daemon.kill().await
    }

    /// The process, to suspend it or to read its usage.
    pub fn process(&self) -> Result<Process> {
        self.daemon.running()
    }

    /// Whether the process runs.
    pub fn is_alive(&self) -> bool {
        self.daemon.is_alive()
    }

    /// What it writes; the first place to look when something is wrong.
    pub fn log(&self) -> &Path {
        self.daemon.log()
    }

    pub(super) fn detach(&mut self) {
        self.daemon.detach();
    }

    /// Multipart uploads of all buckets that were neither completed nor aborted, counted on the server's disk.
    ///
    /// `MinIO` answers `ListMultipartUploads` from memory, which a restart empties, so after a scenario that stops the server
    /// only its disk knows.
    pub fn unfinished_uploads(&self) -> Result<u64> {
        unfinished_uploads(&self.data)
    }
}

/// One directory an object, named by a hash, and one an upload below it.
fn unfinished_uploads(data: &Path) -> Result<u64> {
    let root = data.join(".minio.sys").join("multipart");
    let mut uploads = 0;
    for object in directories(&root)? {
        uploads += u64::try_from(directories(&object)?.len())?;
    }
    Ok(uploads)
}

/// The directories in `path`; none if it is gone, since the server tidies up while we look.
fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_counted_not_objects_nor_files() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(unfinished_uploads(data.path()).unwrap(), 0);
        let root = data.path().join(".minio.sys/multipart");
        for upload in ["aa/1", "aa/2", "bb/1"] {
            fs::create_dir_all(root.join(upload)).unwrap();
        }
        fs::create_dir_all(root.join("cc")).unwrap();
        fs::write(root.join("bb/file"), "").unwrap();
        assert_eq!(unfinished_uploads(data.path()).unwrap(), 3);
    }

    #[tokio::test]
    async fn a_client_can_be_made_and_a_dead_server_is_an_error() {
        let [port] = free_ports().unwrap();
        let endpoint = Endpoint {
            url: format!("http://127.0.0.1:{port}"),
            region: "us-east-1".to_owned(),
            access_key: "a".to_owned(),
            secret_key: "b".to_owned(),
        };
        let error = endpoint.bucket("nobody-home").objects("").await.unwrap_err();
        assert!(format!("{error:#}").contains("nobody-home"), "{error:#}");
    }
}
