//! The embedded servers: librdkafka's own mock cluster, a schema registry, and an S3 server over a directory.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use aqueduct::convert::registry::SchemaKind;
use aqueduct::schema_registry::NewSchema;
use aqueduct_schema_registry::testkit::TestRegistry;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::orders::{Encoder, Order, V1, V2};

const PARTITIONS: u32 = 4;
pub const BUCKET: &str = "orders";
/// The one key pair the S3 server lets in, on the loopback interface.
pub const ACCESS_KEY: &str = "embedded";
/// See [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "embedded-secret";

/// All three, until they are dropped.
pub struct Servers {
    broker: MockCluster<'static, DefaultProducerContext>,
    pub registry: TestRegistry,
    pub s3: String,
    s3_task: JoinHandle<()>,
}

impl Servers {
    /// Starts them; objects become files below `root`.
    pub async fn start(topic: &str, root: &Path) -> Result<Self> {
        let broker = MockCluster::new(1).context("cannot start the embedded broker")?;
        let created = broker.create_topic(topic, PARTITIONS.cast_signed(), 1);
        created.context("the embedded broker does not take the topic")?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot listen on loopback")?;
        let s3 = format!("http://{}", listener.local_addr()?);
        let s3_task = tokio::spawn(serve(listener, root)?);
        Ok(Self { broker, registry: TestRegistry::start().await, s3, s3_task })
    }

    pub fn brokers(&self) -> String {
        self.broker.bootstrap_servers()
    }

    /// Registers both versions and produces the orders, version after version after version.
    pub async fn produce(&self, topic: &str, orders: u32) -> Result<()> {
        let subject = format!("{topic}-value");
        let register = |text| self.registry.register(&subject, &NewSchema::new(SchemaKind::Avro, text));
        let encoder = Encoder::new(register(V1), register(V2))?;
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", self.brokers())
            .set("enable.idempotence", "true")
            .set("compression.type", "zstd")
            .set("linger.ms", "50")
            .set("queue.buffering.max.messages", "200000")
            .create()
            .context("cannot make a producer")?;
        let mut sent = Vec::new();
        for order in Order::all(orders) {
            let value = encoder.encode(order)?;
            // Neighbours in pairs, so that both versions come to every partition.
            let partition = (order.number / 2 % PARTITIONS).cast_signed();
            let record = FutureRecord::<[u8], _>::to(topic).partition(partition).payload(&value);
            let delivery = producer.send_result(record).map_err(|(error, _)| error);
            sent.push(delivery.context("an order cannot be produced")?);
        }
        for delivery in sent {
            let stored = delivery.await.context("the producer has ended")?;
            stored.map_err(|(error, _)| error).context("the embedded broker refused an order")?;
        }
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.s3_task.abort();
    }
}

/// Makes the empty bucket below `root` and serves it for as long as the future is polled.
fn serve(listener: TcpListener, root: &Path) -> Result<impl Future<Output = ()> + Send + use<>> {
    std::fs::create_dir_all(root.join(BUCKET)).context("cannot make the bucket's directory")?;
    let files = FileSystem::new(root).map_err(|error| anyhow!("cannot serve the bucket: {error:?}"))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = service.build();
    Ok(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                socket.set_nodelay(true).ok();
                // A connection that breaks off is its client's to report.
                Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await.ok();
            });
        }
    })
}
