//! A cluster of two brokers and a controller, for what one broker cannot show: a coordinator that moves.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::task::spawn_blocking;

use super::daemon::free_ports;
use super::install::{Cache, create_dir};
use super::kafka::{Kafka, Node, Role, Topics};

/// Two brokers, each with a replica of everything, and a controller that is none of them. Killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    _controller: Kafka,
    brokers: [Kafka; 2],
}

impl Cluster {
    /// Starts it below `home`.
    pub async fn start(cache: &Cache, home: &Path) -> Result<Self> {
        let [controller_port, first, second] = free_ports()?;
        let mut nodes = Vec::new();
        for (id, role, port) in
            [(1, Role::Controller, controller_port), (2, Role::Broker, first), (3, Role::Broker, second)]
        {
            let node = Node { id, role, port, controller_port, replicas: REPLICAS };
            let home = home.join(format!("node-{id}"));
            create_dir(&home)?;
            nodes.push(Kafka::prepare(cache, &home, HEAP_MIB, &node).await?);
        }
        let [mut controller, mut first, mut second] =
            <[Kafka; 3]>::try_from(nodes).ok().context("a cluster has three nodes")?;
        controller.start_controller().await?;
        let (one, two) = tokio::join!(first.start(), second.start());
        one.and(two)?;
        Ok(Self { _controller: controller, brokers: [first, second] })
    }

    /// The addresses for `bootstrap.servers`.
    pub fn brokers(&self) -> String {
        self.brokers.each_ref().map(Kafka::brokers).join(",")
    }

    /// Its topics, each with a replica on either broker.
    pub fn topics(&self) -> Result<Topics> {
        Ok(Topics::connect(&self.brokers())?.replicated(2))
    }

    /// The broker that coordinates `group`: the leader of the group's partition of the offsets topic.
    pub async fn coordinator(&mut self, group: &str) -> Result<&mut Kafka> {
        let (leader, _) = self.offsets_partition(group).await?;
        let index = usize::try_from(leader - 2).context("no broker coordinates the group")?;
        self.brokers.get_mut(index).with_context(|| format!("broker {leader} is none of ours"))
    }

    /// Waits until both brokers have all of the group's offsets.
    pub async fn in_sync(&self, group: &str) -> Result<()> {
        let deadline = Instant::now() + IN_SYNC;
        while self.offsets_partition(group).await?.1 < 2 {
            ensure!(Instant::now() < deadline, "a broker is behind after {} s", IN_SYNC.as_secs());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Leader and number of replicas in sync.
    async fn offsets_partition(&self, group: &str) -> Result<(i32, usize)> {
        let brokers = self.brokers();
        let hash = java_hash(group);
        spawn_blocking(move || {
            let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &brokers).create()?;
            let metadata = consumer.fetch_metadata(Some(OFFSETS), REQUEST)?;
            let topic = metadata.topics().first().context("no offsets topic")?;
            let partitions = topic.partitions();
            let count = i32::try_from(partitions.len())?;
            // As the broker does: without the sign.
            let id = (hash & i32::MAX).checked_rem(count).context("no offsets topic yet")?;
            let found = partitions.iter().find(|it| it.id() == id);
            let found = found.with_context(|| format!("{OFFSETS} has no partition {id}"))?;
            Ok((found.leader(), found.isr().len()))
        })
        .await?
    }
}

/// `String.hashCode` of Java, for names in ASCII.
fn java_hash(text: &str) -> i32 {
    text.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)))
}

const OFFSETS: &str = "__consumer_offsets";
const REPLICAS: u32 = 2;
const HEAP_MIB: u32 = 320;
const REQUEST: Duration = Duration::from_secs(10);
const IN_SYNC: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hash_as_in_java() {
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("hello"), 99_162_322);
        assert_eq!(java_hash("coordinator-group-of-a-longer-name"), {
            let mut hash = 0_i64;
            for byte in b"coordinator-group-of-a-longer-name" {
                hash = (hash * 31 + i64::from(*byte)) & 0xffff_ffff;
            }
            u32::try_from(hash).unwrap().cast_signed()
        });
    }
}
