//! A whole sink on [`BatchSink`]: posts rows to an HTTP endpoint as lines of JSON. The README has a table of the answers.

use aqueduct::{BatchSink, BoxError, JsonRow, Poison, PoisonReason, Rejected, RowBatch, StageError};
use http_body_util::Full;
use hyper::{Request, body::Bytes};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use std::{io::Write as _, time::Duration};

/// Posts `{"offset":…,"value":…}` for each row to `<url>/<topic>/<partition>`, which has to store an offset once.
#[derive(Debug)]
pub struct HttpSink {
    /// For TLS, with another connector, such as hyper-rustls's.
    pub client: Client<HttpConnector, Full<Bytes>>,
    /// The endpoint's address, without a slash at its end.
    pub url: String,
}

#[async_trait::async_trait]
impl<T: JsonRow + Send + Sync + 'static> BatchSink<T> for HttpSink {
    fn name(&self) -> &'static str {
        "http-json-lines/1"
    }

    fn idempotent_by_offset(&self) -> bool {
        true
    }

    async fn check(&self) -> Result<(), StageError> {
        self.post(&self.url, Bytes::new()).await.map(drop)
    }

    async fn write(&self, RowBatch { lane, rows }: RowBatch<'_, T>) -> Result<Vec<Rejected>, StageError> {
        let url = format!("{}/{}/{}", self.url, lane.topic(), lane.partition());
        let (mut text, mut rejected) = (Vec::new(), Vec::new());
        for row in rows {
            let (offset, start) = (row.offset, text.len());
            write!(text, r#"{{"offset":{offset},"value":"#).ok();
            match row.value.write_json(&mut text) {
                Ok(()) => text.extend_from_slice(b"}\n"),
                Err(poison) => {
                    text.truncate(start);
                    rejected.push(Rejected { offset, poison });
                }
            }
        }
        if text.is_empty() || self.post(&url, text.into()).await? {
            return Ok(rejected);
        }
        if let [row] = rows {
            let poison = Poison::new(PoisonReason::Rejected, "the endpoint refuses it");
            return Ok(vec![Rejected { offset: row.offset, poison }]);
        }
        // Halved, until the row that is meant stands alone.
        let (front, rows) = rows.split_at(rows.len() / 2);
        let front = self.write(RowBatch { lane, rows: front }).await?;
        Ok([front, self.write(RowBatch { lane, rows }).await?].concat())
    }
}

impl HttpSink {
    /// Whether the lines are stored, or refused for what they are; anything else is an error.
    async fn post(&self, url: &str, lines: Bytes) -> Result<bool, StageError> {
        let exchange = tokio::time::timeout(Duration::from_secs(30), async {
            let request = Request::post(url).header("content-type", "application/x-ndjson");
            Ok::<_, BoxError>(self.client.request(request.body(Full::new(lines))?).await?)
        });
        let answer = exchange.await.unwrap_or_else(|late| Err(late.into()));
        let answer = answer.map_err(|error| StageError::retry("http post", error))?;
        let after = answer.headers().get("retry-after").and_then(|seconds| seconds.to_str().ok());
        let delay = after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let says = format!("{url} answers {}", answer.status());
        match answer.status().as_u16() {
            200..=299 => Ok(true),
            400 | 413 | 422 => Ok(false),
            408 | 425 | 429 | 500.. => Err(StageError::retry("http post", says).not_before(delay)),
            _ => Err(StageError::fatal("http post", says).with_hint("check address and credentials")),
        }
    }
}
