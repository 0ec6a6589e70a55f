//! An endpoint that knows many ways not to do what it is asked.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// What is answered to whatever is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A status and a body.
    Status(u16, &'static str),
    /// Bytes that are not HTTP.
    Garbage,
    /// Half an answer, then the end.
    CutOff,
    /// The end of the connection, at once.
    Reset,
}

/// Listens on loopback until it is dropped; a token service and an S3 in one, or a proxy.
pub(crate) struct Refusing {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    /// What a token service answers; `None` to answer as to everything else.
    session: Arc<Mutex<Option<String>>>,
    received: Arc<Mutex<String>>,
}

impl Refusing {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, session) = (Arc::new(Mutex::new(Answer::Reset)), Arc::new(Mutex::new(None)));
        let received = Arc::<Mutex<String>>::default();
        std::thread::spawn({
            let (answer, session, received) =
                (Arc::clone(&answer), Arc::clone(&session), Arc::clone(&received));
            move || {
                for socket in listener.incoming().flatten() {
                    let (answer, session) = (*lock(&answer), lock(&session).clone());
                    let received = Arc::clone(&received);
                    std::thread::spawn(move || drop(serve(socket, answer, session.as_deref(), &received)));
                }
            }
        });
        Self { address, answer, session, received }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests, one behind the other.
    pub(crate) fn received(&self) -> String {
        lock(&self.received).clone()
    }

    pub(crate) fn answers(&self, answer: Answer) {
        *lock(&self.answer) = answer;
    }

    /// Gives sessions with these secrets from now on, in an answer that can be read or in one that cannot; or none.
    pub(crate) fn sessions(&self, secrets: Option<(&str, &str)>, readable: bool) {
        // The name of its root decides.
        let root = if readable { "AssumeRoleResponse" } else { "Sessions" };
        *lock(&self.session) = secrets.map(|(secret, token)| {
            format!(
                "<{root}><AssumeRoleResult><Credentials><AccessKeyId>ASIA1</AccessKeyId>\
                 <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
                 <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></{root}>"
            )
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request a connection.
fn serve(
    mut socket: TcpStream,
    answer: Answer,
    session: Option<&str>,
    received: &Mutex<String>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !is_whole(&request) {
        let mut chunk = [0; 4096];
        match socket.read(&mut chunk)? {
            0 => break,
            count => request.extend_from_slice(&chunk[..count]),
        }
    }
    let reply = |socket: &mut TcpStream, status: u16, body: &str| {
        let head =
            format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        socket.write_all(head.as_bytes())?;
        socket.write_all(body.as_bytes())
    };
    let text = String::from_utf8_lossy(&request);
    lock(received).push_str(&text);
    match (answer, session) {
        (_, Some(session)) if text.contains("Action=AssumeRoleWithWebIdentity") => {
            reply(&mut socket, 200, &session.replace("AssumeRoleRes", "AssumeRoleWithWebIdentityRes"))?;
        }
        (_, Some(session)) if text.contains("Action=AssumeRole") => reply(&mut socket, 200, session)?,
        (Answer::Status(status, body), _) => reply(&mut socket, status, body)?,
        (Answer::Garbage, _) => socket.write_all(b"\xff\0 no http\r\n\r\n")?,
        (Answer::CutOff, _) => socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n<Err")?,
        (Answer::Reset, _) => {}
    }
    socket.shutdown(Shutdown::Both)
}

/// Whether head and body have arrived.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    request.len() >= head.len() + 4 + length.unwrap_or(0_usize)
}
