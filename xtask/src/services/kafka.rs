//! A real Apache Kafka broker (`KRaft`, combined mode, one node) on loopback, and its topics.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaErrorCode::{TopicAlreadyExists, UnknownTopicOrPartition};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::certificates::Certificates;
use super::daemon::{Daemon, free_ports};
use super::install::{Cache, create_dir, run, write};
use super::secured::{Listeners, Protection};
use crate::process::{Process, Stopped};

/// A broker on `127.0.0.1`. Its port and data stay the same when it is stopped and started again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kafka {
    port: u16,
    protected: Option<Listeners>,
    daemon: Daemon,
}

impl Kafka {
    /// Starts a broker that keeps everything below `home`. Data of an earlier broker found there is served again.
    pub(super) async fn launch(cache: &Cache, home: &Path, heap_mib: u32) -> Result<Self> {
        let [port, controller_port] = free_ports()?;
        let node = Node { id: 1, role: Role::Both, port, controller_port, replicas: 1 };
        let mut broker = Self::prepare(cache, home, heap_mib, &node).await?;
        broker.start().await?;
        Ok(broker)
    }

    /// Starts a broker of its own below `home` that also listens with TLS and SASL, and makes the certificates for it.
    pub async fn launch_protected(cache: &Cache, home: &Path) -> Result<(Self, Certificates)> {
        create_dir(home)?;
        let protection = Protection::new(home)?;
        let [port, controller_port] = free_ports()?;
        let node = Node { id: 1, role: Role::Both, port, controller_port, replicas: 1 };
        let mut broker = Self::prepare_with(cache, home, 512, &node, Some(&protection)).await?;
        broker.start().await?;
        Ok((broker, protection.certificates().clone()))
    }

    /// One that has not been started, and whose data is ready.
    pub(super) async fn prepare(cache: &Cache, home: &Path, heap_mib: u32, node: &Node) -> Result<Self> {
        Self::prepare_with(cache, home, heap_mib, node, None).await
    }

    async fn prepare_with(
        cache: &Cache,
        home: &Path,
        heap_mib: u32,
        node: &Node,
        protection: Option<&Protection>,
    ) -> Result<Self> {
        let cache = cache.clone();
        let program = spawn_blocking(move || cache.kafka()).await??;
        let data = home.join("data");
        create_dir(&data)?;
        let config = home.join("server.properties");
        write(&config, &properties(node, &data, protection))?;
        if !data.join("meta.properties").is_file() {
            let mut format = Command::new(&program.java);
            format.args(["-cp", &program.class_path, "kafka.tools.StorageTool", "format"]);
            format.args(["--cluster-id", CLUSTER_ID, "--config"]).arg(&config);
            if protection.is_some() {
                format.args(Protection::users());
            }
            spawn_blocking(move || run(&mut format, "is it Java 17 or newer?")).await??;
        }
        let args = [
            &format!("-Xms{}m", heap_mib.min(256)),
            &format!("-Xmx{heap_mib}m"),
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-Djava.awt.headless=true",
            "-cp",
            &program.class_path,
            "kafka.Kafka",
            &config.display().to_string(),
        ];
        let daemon = Daemon::new(program.java.clone(), args, [], home.join("kafka.log"));
        let port = if node.role == Role::Controller { node.controller_port } else { node.port };
        Ok(Self { port, protected: protection.map(Protection::addresses), daemon })
    }

    /// The address for `bootstrap.servers`.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The addresses of the listeners with TLS and SASL, if it was started with them.
    pub fn protected(&self) -> Option<&Listeners> {
        self.protected.as_ref()
    }

    /// Starts it again on its port and data, and waits until it serves; no effect if it is up.
    pub async fn start(&mut self) -> Result<()> {
        let brokers = self.brokers();
        self.daemon.start(async || serves(&brokers).await).await
    }

    /// As [`start`](Self::start), of a controller alone: it serves when somebody listens.
    pub(super) async fn start_controller(&mut self) -> Result<()> {
        let address = self.brokers();
        self.daemon.start(async || TcpStream::connect(&address).await.is_ok()).await
    }

    /// Shuts it down in an orderly way; kills it if that takes longer than 15 s.
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

    /// Its topics.
    pub fn topics(&self) -> Result<Topics> {
        Topics::connect(&self.brokers())
    }
}

/// One process of a cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) id: u32,
    pub(super) role: Role,
    /// Where clients connect.
    pub(super) port: u16,
    /// Where the controller, which is node 1, listens.
    pub(super) controller_port: u16,
    /// Of the topics the cluster keeps for itself.
    pub(super) replicas: u32,
}

/// What a process of a cluster does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Serves clients, and is the controller.
    Both,
    Controller,
    Broker,
}

/// Creates and deletes topics of a cluster.
#[expect(missing_debug_implementations, reason = "librdkafka's client has no `Debug`")]
pub struct Topics {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    replicas: i32,
}

impl Topics {
    /// A client; nothing is sent yet.
    pub fn connect(brokers: &str) -> Result<Self> {
        let admin = client(brokers).create().with_context(|| format!("no Kafka client for {brokers}"))?;
        Ok(Self { brokers: brokers.to_owned(), admin, replicas: 1 })
    }

    /// Topics that are created have so many replicas.
    #[must_use]
    pub fn replicated(mut self, replicas: i32) -> Self {
        self.replicas = replicas;
        self
    }

    /// Creates `topic` with `partitions`, and waits until each partition has a leader; a topic that is there
    /// with that many partitions is used as it is. Retention is off, unless `config` says otherwise: what a load has written
    /// must still be there for the audit.
    pub async fn create(&self, topic: &str, partitions: u32, config: &[(&str, &str)]) -> Result<()> {
        let mut new =
            NewTopic::new(topic, i32::try_from(partitions)?, TopicReplication::Fixed(self.replicas));
        let ours = DEFAULTS.iter().filter(|(name, _)| config.iter().all(|(other, _)| other != name));
        for (name, value) in ours.chain(config) {
            new = new.set(name, value);
        }
        let answers = self.admin.create_topics([&new], &options()).await;
        match one(answers.with_context(|| format!("cannot reach {}", self.brokers))?) {
            Ok(()) | Err(TopicAlreadyExists) => {}
            Err(code) => bail!("topic {topic} cannot be created on {}: {code}", self.brokers),
        }
        let ready = self.wait_for(topic, |found| found.leaders == Some(partitions)).await?;
        let found = ready.partitions.unwrap_or(0);
        anyhow::ensure!(
            found == partitions,
            "topic {topic} has {found} partitions, not {partitions}: delete it first"
        );
        Ok(())
    }

    /// Deletes `topic` and waits until its name is free again; no effect if there is none.
    pub async fn delete(&self, topic: &str) -> Result<()> {
        let answers = self.admin.delete_topics(&[topic], &options()).await;
        match one(answers.with_context(|| format!("cannot reach {}", self.brokers))?) {
            Ok(()) | Err(UnknownTopicOrPartition) => {}
            Err(code) => bail!("topic {topic} cannot be deleted on {}: {code}", self.brokers),
        }
        let gone = self.wait_for(topic, |found| found.partitions.is_none()).await?;
        anyhow::ensure!(
            gone.partitions.is_none(),
            "topic {topic} is still there {} s after its deletion",
            WAIT.as_secs()
        );
        Ok(())
    }

    /// Makes `topic` an empty one: deletes it if it exists, and creates it.
    pub async fn recreate(&self, topic: &str, partitions: u32, config: &[(&str, &str)]) -> Result<()> {
        self.delete(topic).await?;
        self.create(topic, partitions, config).await
    }

    /// How many partitions `topic` has; none if there is no such topic.
    pub async fn partitions(&self, topic: &str) -> Result<Option<u32>> {
        Ok(self.look_up(topic).await?.partitions)
    }

    /// What was found last, which `wanted` accepts unless the time was over.
    async fn wait_for(&self, topic: &str, wanted: impl Fn(&Found) -> bool) -> Result<Found> {
        let deadline = Instant::now() + WAIT;
        loop {
            let found = self.look_up(topic).await?;
            if wanted(&found) || Instant::now() >= deadline {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn look_up(&self, topic: &str) -> Result<Found> {
        // A client of its own: it has no cache of topics that might answer for the broker.
        let consumer: BaseConsumer = client(&self.brokers).create()?;
        let (topic, brokers) = (topic.to_owned(), self.brokers.clone());
        spawn_blocking(move || {
            let metadata = consumer.fetch_metadata(None, REQUEST_TIMEOUT);
            let metadata = metadata.map_err(|error| anyhow!("no metadata from {brokers}: {error}"))?;
            let Some(found) = metadata.topics().iter().find(|it| it.name() == topic) else {
                return Ok(Found { partitions: None, leaders: None });
            };
            let led = found.partitions().iter().filter(|partition| partition.leader() >= 0).count();
            Ok(Found {
                partitions: Some(u32::try_from(found.partitions().len())?),
                leaders: Some(u32::try_from(led)?),
            })
        })
        .await?
    }
}

#[derive(Debug)]
struct Found {
    partitions: Option<u32>,
    leaders: Option<u32>,
}

const DEFAULTS: [(&str, &str); 3] =
    [("retention.ms", "-1"), ("message.timestamp.type", "CreateTime"), ("segment.ms", "9223372036854775807")];
const WAIT: Duration = Duration::from_secs(30);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Any 16 bytes in URL-safe base 64 do: no second cluster is ever in sight of this one.
const CLUSTER_ID: &str = "YXF1ZWR1Y3QtbG9jYWwtMQ";

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("client.id", "aqueduct-xtask");
    config
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT)).request_timeout(Some(REQUEST_TIMEOUT))
}

fn one(answers: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<(), RDKafkaErrorCode> {
    answers.into_iter().try_for_each(|answer| answer.map(drop).map_err(|(_, code)| code))
}

/// Whether the broker has registered itself and answers; before that its metadata lists no broker.
async fn serves(brokers: &str) -> bool {
    if TcpStream::connect(brokers).await.is_err() {
        return false;
    }
    let Ok(consumer) = client(brokers).create::<BaseConsumer>() else {
        return false;
    };
    let registered = move || {
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(2));
        metadata.is_ok_and(|metadata| !metadata.brokers().is_empty())
    };
    spawn_blocking(registered).await.unwrap_or(false)
}

/// The broker's configuration. What is not Kafka's default is here because one node has no replicas, because consumers of the
/// integration run time out after 6 s, or because the load's timestamps are not of today.
fn properties(node: &Node, data: &Path, protection: Option<&Protection>) -> String {
    let mut text = String::new();
    let Node { id, role, port, controller_port, replicas } = *node;
    let (id, replicas) = (id.to_string(), replicas.to_string());
    let broker = format!("PLAINTEXT://127.0.0.1:{port}");
    let bound = protection.map(Protection::bound).unwrap_or_default();
    let advertised = protection.map(Protection::advertised).unwrap_or_default();
    let protocols = protection.map(Protection::protocols).unwrap_or_default();
    let controller = format!("CONTROLLER://127.0.0.1:{controller_port}");
    let (roles, listeners) = match role {
        Role::Both => ("broker,controller", format!("{broker},{controller}{bound}")),
        Role::Controller => ("controller", controller),
        Role::Broker => ("broker", broker.clone()),
    };
    if role != Role::Controller {
        let ours =
            format!("advertised.listeners={broker}{advertised}\ninter.broker.listener.name=PLAINTEXT\n");
        text.push_str(&ours);
    }
    let settings = [
        ("process.roles", roles),
        ("node.id", &id),
        ("controller.quorum.voters", &format!("1@127.0.0.1:{controller_port}")),
        ("listeners", &listeners),
        ("controller.listener.names", "CONTROLLER"),
        ("listener.security.protocol.map", &format!("PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}")),
        ("log.dirs", &data.display().to_string()),
        ("num.network.threads", "3"),
        ("num.io.threads", "4"),
        ("socket.send.buffer.bytes", "1048576"),
        ("socket.receive.buffer.bytes", "1048576"),
        ("auto.create.topics.enable", "false"),
        ("offsets.topic.replication.factor", &replicas),
        ("offsets.topic.num.partitions", "4"),
        ("transaction.state.log.replication.factor", &replicas),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "4"),
        ("share.coordinator.state.topic.replication.factor", &replicas),
        ("share.coordinator.state.topic.min.isr", "1"),
        ("share.coordinator.state.topic.num.partitions", "4"),
        // Members name their session timeout under the classic protocol; under KIP-848 the broker does.
        ("group.initial.rebalance.delay.ms", "0"),
        ("group.min.session.timeout.ms", "1000"),
        ("group.consumer.min.session.timeout.ms", "1000"),
        ("group.consumer.session.timeout.ms", "6000"),
        ("group.consumer.min.heartbeat.interval.ms", "500"),
        ("group.consumer.heartbeat.interval.ms", "1000"),
        // Its default is 15 s, in which a test of compaction would do nothing but wait.
        ("log.cleaner.backoff.ms", "1000"),
        ("log.retention.ms", "-1"),
        ("log.retention.bytes", "-1"),
        ("log.roll.hours", "87600"),
    ];
    for (name, value) in protection.map(Protection::settings).unwrap_or_default() {
        writeln!(text, "{name}={value}").unwrap_or_default();
    }
    for (name, value) in settings {
        writeln!(text, "{name}={value}").unwrap_or_default(); // a `String` takes everything
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_there_once_and_both_listeners_are_on_loopback() {
        let node = Node { id: 1, role: Role::Both, port: 1111, controller_port: 2222, replicas: 1 };
        let text = properties(&node, Path::new("/d"), None);
        let mut names: Vec<&str> = text.lines().map(|line| line.split_once('=').unwrap().0).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(
            text.contains("listeners=PLAINTEXT://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222\n"),
            "{text}"
        );
        assert!(text.contains("log.dirs=/d\n"));
    }

    #[test]
    fn a_controller_serves_no_clients_and_a_broker_is_no_controller() {
        let node = Node { id: 1, role: Role::Controller, port: 1111, controller_port: 2222, replicas: 2 };
        let text = properties(&node, Path::new("/d"), None);
        assert!(
            text.contains("\nlisteners=CONTROLLER://127.0.0.1:2222\n") && !text.contains("1111"),
            "{text}"
        );
        let text = properties(&Node { id: 2, role: Role::Broker, ..node }, Path::new("/d"), None);
        assert!(text.contains("\nlisteners=PLAINTEXT://127.0.0.1:1111\n"), "{text}");
        assert!(text.contains("offsets.topic.replication.factor=2\n"), "{text}");
    }

    #[test]
    fn one_refused_topic_is_an_error() {
        assert_eq!(one(vec![Ok("a".to_owned())]), Ok(()));
        assert_eq!(one(vec![Err(("a".to_owned(), TopicAlreadyExists))]), Err(TopicAlreadyExists));
    }
}
