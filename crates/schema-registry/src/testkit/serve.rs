//! HTTP/1.1, one request a connection.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::store::complaint;
use super::{RegistryFault, SeenRequest, State, lock};

pub(super) async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    // Connections end with the task that owns them.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((socket, _)) = accepted {
                    let state = Arc::clone(&state);
                    connections.spawn(async move { answer(socket, &state).await.ok() });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(mut socket: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let Some(request) = read(&mut socket).await? else { return Ok(()) };
    let (fault, good) = {
        let mut state = lock(state);
        let is_known = state.authorization.is_none()
            || state.authorization.as_deref() == request.header("authorization");
        let fault = state.next.pop_front().or_else(|| state.always.clone());
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let path: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decode).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let good = if is_known {
            state.store.answer(&request.method, &path, query, &request.body)
        } else {
            complaint(401, 40_101, "Unauthorized")
        };
        state.requests.push(request);
        (fault, good)
    };
    let (status, body) = (good.0, good.1.to_string());
    match fault {
        None => socket.write_all(&head_and(status, "", &body)).await?,
        Some(RegistryFault::Status(status)) => {
            let (_, body) = complaint(status, u32::from(status) * 100 + 1, "scripted");
            socket.write_all(&head_and(status, "", &body.to_string())).await?;
        }
        Some(RegistryFault::RetryAfter(status, seconds)) => {
            let header = format!("retry-after: {seconds}\r\n");
            socket.write_all(&head_and(status, &header, "later")).await?;
        }
        Some(RegistryFault::Complaint(status, code, message)) => {
            let (_, body) = complaint(status, code, &message);
            socket.write_all(&head_and(status, "", &body.to_string())).await?;
        }
        Some(RegistryFault::Body(status, body)) => socket.write_all(&head_and(status, "", &body)).await?,
        Some(RegistryFault::Redirect(to)) => {
            socket.write_all(&head_and(302, &format!("location: {to}\r\n"), "")).await?;
        }
        Some(RegistryFault::Huge { bytes, announced }) => huge(&mut socket, bytes, announced).await?,
        Some(RegistryFault::Stall) => std::future::pending::<()>().await,
        Some(RegistryFault::Drip(pause)) => {
            for byte in head_and(status, "", &body) {
                socket.write_all(&[byte]).await?;
                tokio::time::sleep(pause).await;
            }
        }
        Some(RegistryFault::Garbage) => socket.write_all(b"\xff\0 no http\r\n\r\n").await?,
        Some(RegistryFault::CutOff) => {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{\"schema\":").await?;
        }
        // Unread bytes make the kernel send a reset; without them it is a plain end, which is one as well.
        Some(RegistryFault::Reset) => return Ok(()),
    }
    socket.shutdown().await
}

async fn huge(socket: &mut TcpStream, bytes: usize, announced: bool) -> io::Result<()> {
    let length = if announced { format!("content-length: {bytes}\r\n") } else { String::new() };
    socket.write_all(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{length}\r\n").as_bytes()).await?;
    let block = vec![b' '; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(block.len());
        socket.write_all(block.get(..now).unwrap_or_default()).await?;
        left -= now;
    }
    Ok(())
}

fn head_and(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/vnd.schemaregistry.v1+json\r\ncontent-length: {}\r\n\
         connection: close\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A whole request; `None` if the other side changed its mind.
async fn read(socket: &mut TcpStream) -> io::Result<Option<SeenRequest>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if bytes.len() > HEAD_MAX || !more(socket, &mut bytes).await? {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(bytes.get(..head).unwrap_or_default()).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = SeenRequest { method, target, headers, body: String::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < head + 4 + length {
        if !more(socket, &mut bytes).await? {
            return Ok(None);
        }
    }
    request.body = String::from_utf8_lossy(bytes.get(head + 4..).unwrap_or_default()).into_owned();
    Ok(Some(request))
}

async fn more(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let read = tokio::time::timeout(Duration::from_mins(1), socket.read_buf(bytes)).await;
    Ok(read.unwrap_or(Ok(0))? > 0)
}

/// A segment of a path without its percent signs.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let [first, behind @ ..] = rest {
        let hex = |at: usize| behind.get(at).and_then(|&byte| (byte as char).to_digit(16));
        let byte = hex(0)
            .zip(hex(1))
            .filter(|_| *first == b'%')
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const HEAD_MAX: usize = 64 << 10;
