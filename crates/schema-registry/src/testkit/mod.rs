//! A registry in this process, for tests (feature `testkit`).
//!
//! It speaks the part of Confluent's API that clients of records need, on loopback, and fails as told. Written from the API's
//! public documentation; it checks no schema and no compatibility.
//!
//! Everything here is a test helper: it panics where it is used wrongly. It is not covered by the crate's promise of compatibility.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aqueduct_converters::registry::SchemaGuid;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::client::NewSchema;
use store::Store;

mod serve;
mod store;

/// A registry on a port of its own, until it is dropped.
///
/// ```
/// use aqueduct_converters::registry::{SchemaAnswer, SchemaKind, SchemaSource};
/// use aqueduct_schema_registry::testkit::{RegistryFault, TestRegistry};
/// use aqueduct_schema_registry::{NewSchema, RegistryClient};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let registry = TestRegistry::start().await;
/// let id = registry.register("orders-value", &NewSchema::new(SchemaKind::Avro, r#""string""#));
/// registry.next(RegistryFault::Status(503));
///
/// let client = RegistryClient::builder(registry.url()).build()?;
/// assert!(matches!(client.schema(id.into()).await?, SchemaAnswer::Known(_)));
/// assert_eq!(registry.requests().len(), 3, "tried again after the 503, and asked for its versions");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct TestRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    store: Store,
    next: VecDeque<RegistryFault>,
    always: Option<RegistryFault>,
    authorization: Option<String>,
    requests: Vec<SeenRequest>,
}

/// What happens to a request instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryFault {
    /// A status with the body that a registry has for it.
    Status(u16),
    /// A status with a `Retry-After` of so many seconds.
    RetryAfter(u16, u64),
    /// A status with the registry's own number and words.
    Complaint(u16, u32, String),
    /// A status with any body.
    Body(u16, String),
    /// A redirection to this place.
    Redirect(String),
    /// A good answer of so many bytes, of announced length or not.
    Huge {
        /// How many bytes.
        bytes: usize,
        /// Whether the length is announced.
        announced: bool,
    },
    /// No answer, and no end either.
    Stall,
    /// The right answer, a byte at a time.
    Drip(Duration),
    /// Bytes that are not HTTP.
    Garbage,
    /// Half an answer, then the end.
    CutOff,
    /// The end of the connection, at once.
    Reset,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    /// `GET`, `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl SeenRequest {
    /// A header's value; the first one of several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

impl TestRegistry {
    /// Starts an empty one on `127.0.0.1`.
    ///
    /// # Panics
    /// If there is no port.
    #[expect(clippy::expect_used, reason = "a test helper")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::<Mutex<State>>::default();
        let task = tokio::spawn(serve::serve(listener, Arc::clone(&state)));
        Self { address, state, task }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers a schema without a request, and gives its id.
    ///
    /// # Panics
    /// If it refers to what is not there.
    pub fn register(&self, subject: &str, schema: &NewSchema) -> u32 {
        let NewSchema { kind, text, references } = schema.clone();
        match self.state().store.register(subject, kind.as_str(), text, references) {
            Ok(id) => id,
            Err((_, message)) => panic!("{message}"),
        }
    }

    /// Puts a schema in with the references as they are, whether there is something at their other end or not.
    pub fn register_unchecked(&self, subject: &str, schema: &NewSchema) -> u32 {
        let NewSchema { kind, text, references } = schema.clone();
        self.state().store.insert(subject, kind.as_str(), text, references)
    }

    /// Registers a text of a kind that has no [`SchemaKind`](aqueduct_converters::registry::SchemaKind).
    pub fn register_kind(&self, subject: &str, kind: &str, text: &str) -> u32 {
        self.state().store.insert(subject, kind, text.to_owned(), Vec::new())
    }

    /// Deletes a version as registries do it at first: it is still there for its id and for who asks for deleted ones.
    pub fn delete(&self, subject: &str, version: u32) {
        self.state().store.delete(subject, version);
    }

    /// The GUID of the schema with that id: made from the number, where a real registry hashes the contents.
    pub fn guid(&self, id: u32) -> SchemaGuid {
        Store::guid(id)
    }

    /// What happens to the next request; several calls are for as many requests.
    pub fn next(&self, fault: RegistryFault) {
        self.state().next.push_back(fault);
    }

    /// What happens to every request behind those; `None` to answer.
    pub fn always(&self, fault: Option<RegistryFault>) {
        self.state().always = fault;
    }

    /// Answers 401 to who does not send this `Authorization`; `None` to answer everybody.
    pub fn require(&self, authorization: Option<&str>) {
        self.state().authorization = authorization.map(str::to_owned);
    }

    /// The requests so far, and forgets them.
    pub fn requests(&self) -> Vec<SeenRequest> {
        std::mem::take(&mut self.state().requests)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
