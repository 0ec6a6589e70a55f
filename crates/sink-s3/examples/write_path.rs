//! What a row costs from `append` to the socket: `cargo run --release --example write_path -p aqueduct-sink-s3 --
//! [records] [routes] [none|gzip|zstd]`.
//!
//! Four lanes are filled, one after the other, with rows of about 500 bytes, and then published, all at once, to a
//! server that throws bodies away. The server is another process, so the CPU time printed is the sink's alone.

#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct_core::{
    Batch, BatchBuilder, Begun, Envelope, LocalDisk, Offset, OffsetRange, Permit, Pool, RoutePath,
    RouteTable, SegmentStart, Sink, Spool, Timestamp, TopicPartition,
};
use aqueduct_files::{Compression, Delimited};
use aqueduct_sink_s3::S3Sink;
use hyper::body::{Body, Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Says yes to everything.
async fn answer(request: Request<Incoming>) -> Result<Response<s3s::Body>, Failure> {
    let starts_upload = request.method() == Method::POST && request.uri().query() == Some("uploads");
    let completes = request.method() == Method::POST && !starts_upload;
    let mut body = request.into_body();
    while let Some(frame) =
        std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        drop(frame?);
    }
    let answer = if starts_upload {
        "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
    } else if completes {
        "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>"
    } else {
        ""
    };
    Ok(Response::builder()
        .header("etag", "\"e\"")
        .body(s3s::Body::from(Bytes::from_static(answer.as_bytes())))?)
}

async fn serve() -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service_fn(answer)),
        );
    }
}

const BATCH: i64 = 2000;

fn batch(lane: &TopicPartition, first: i64) -> Batch {
    let mut builder = BatchBuilder::new(lane.clone(), 1 << 20);
    let mut row = Vec::with_capacity(600);
    for offset in first..first + BATCH {
        row.clear();
        row.extend_from_slice(format!("{{\"offset\":{offset},\"payload\":\"").as_bytes());
        row.resize(490, b'a' + u8::try_from(offset % 26).unwrap_or_default());
        row.extend_from_slice(b"\"}");
        builder.push(Offset::new(offset), Timestamp::None, None, Some(&row), []);
    }
    builder.build(Permit::unlimited())
}

/// CPU time of this process in user and system mode, in clock ticks of 10 ms.
fn cpu() -> [Duration; 2] {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let mut ticks =
        after.split_whitespace().skip(11).map(|ticks| ticks.parse::<u64>().unwrap_or_default() * 10);
    [(); 2].map(|()| Duration::from_millis(ticks.next().unwrap_or_default()))
}

#[derive(Default)]
struct Step([Duration; 3]);

impl Step {
    async fn time<R>(&mut self, work: impl Future<Output = R>) -> R {
        let (before, begun) = (cpu(), Instant::now());
        let result = work.await;
        let after = cpu();
        let [user, system, wall] = &mut self.0;
        *user += after[0].saturating_sub(before[0]);
        *system += after[1].saturating_sub(before[1]);
        *wall += begun.elapsed();
        result
    }

    fn print(&self, name: &str, records: i64) {
        let [user, system, wall] =
            self.0.map(|time| time.as_nanos() / u128::from(records.unsigned_abs().max(1)));
        println!("{name:<8} {user:>5} ns user {system:>5} ns system {wall:>5} ns wall per row");
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        return serve().await;
    }
    let mut server = Command::new(std::env::current_exe()?).arg("serve").stdout(Stdio::piped()).spawn()?;
    let mut address = String::new();
    if let Some(output) = server.stdout.take() {
        BufReader::new(output).read_line(&mut address)?;
    }
    let measured = measure(&format!("http://{}", address.trim()), &arguments).await;
    server.kill()?;
    server.wait()?;
    measured
}

async fn measure(endpoint: &str, arguments: &[String]) -> Result<(), Failure> {
    let number = |index: usize, default: i64| arguments.get(index).map_or(Ok(default), |text| text.parse());
    let records = number(0, 1_000_000)? / BATCH * BATCH;
    let routes = number(1, 3)?;
    let compression = match arguments.get(2).map(String::as_str) {
        None | Some("none") => Compression::None,
        Some("gzip") => Compression::Gzip,
        Some("zstd") => Compression::Zstd,
        Some(other) => return Err(format!("{other} is not none, gzip or zstd").into()),
    };
    let directory = tempfile::tempdir_in("/var/tmp")?;
    let spool = Spool::open(directory.path(), "bench", Arc::new(LocalDisk), Pool::new(64 << 30))?;
    let sink = S3Sink::builder()
        .bucket("bench")
        .endpoint(endpoint)
        .credentials("bench", "bench")
        .format(Delimited::lines())
        .compression(compression)
        .build()
        .await?;
    let mut paths = Vec::new();
    for route in 0..routes {
        let mut path = RoutePath::default();
        path.push_field("route", &route.to_string())?;
        paths.push(path);
    }
    let (mut fill, mut publish) = (Step::default(), Step::default());
    let memory = Pool::new(24 << 20);
    let mut staged = Vec::new();
    for partition in 0..4 {
        let lane = TopicPartition::new("bench", partition);
        let at = SegmentStart {
            lane: lane.clone(),
            start: Offset::ZERO,
            pinned: None,
            opened_at_ms: 0,
            layout: 0,
            scratch: spool.scratch(),
            memory: memory.clone(),
        };
        let Begun::Fill(mut writer) = sink.begin(at).await? else {
            return Err("published already".into());
        };
        // All of them before: what a batch costs to make is not the question.
        let batches: Vec<Batch> =
            (0..records / 4 / BATCH).map(|number| batch(&lane, number * BATCH)).collect();
        let mut table = RouteTable::new();
        let ids: Vec<_> = paths.iter().map(|path| table.intern(path)).collect();
        fill.time(async {
            for (number, batch) in (0..).zip(&batches) {
                for (index, record) in (0..).zip(batch.iter()) {
                    let route = usize::try_from((number * BATCH + index) % routes).unwrap_or_default();
                    let (Some(path), Some(&route)) = (paths.get(route), ids.get(route)) else {
                        continue;
                    };
                    let Some(value) = record.value_bytes() else {
                        continue;
                    };
                    writer.append(Envelope { record: &record, route, path, value })?;
                }
                writer.spill().await?;
            }
            let range = OffsetRange::new(Offset::ZERO, Offset::new(records)).ok_or("no records")?;
            writer.stage(range).await?;
            Ok::<_, Failure>(())
        })
        .await?;
        staged.push(writer);
    }
    let published = publish
        .time(async {
            let mut lanes = tokio::task::JoinSet::new();
            for mut writer in staged {
                lanes.spawn(async move { writer.publish().await });
            }
            lanes.join_all().await
        })
        .await;
    let mut objects = 0;
    for lane in published {
        objects += lane?.objects.len();
    }
    fill.print("fill", records);
    publish.print("publish", records);
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{objects} objects, {peak}");
    Ok(())
}
