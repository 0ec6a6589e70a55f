//! A connection that can be slowed down to a drip, or broken off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// What happens to a connection from now on.
#[derive(Debug, Default)]
pub(super) struct Fate {
    drips: AtomicBool,
    breaks: AtomicBool,
}

impl Fate {
    /// About 1 KiB a second goes through, in both directions together.
    pub(super) fn drip(&self) {
        self.drips.store(true, Ordering::Relaxed);
    }

    /// When it ends, the other side sees a reset instead of an orderly end.
    pub(super) fn break_off(&self) {
        self.breaks.store(true, Ordering::Relaxed);
    }
}

/// A connection with its fate.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    fate: Arc<Fate>,
    pause: Pin<Box<Sleep>>,
}

const DROP: usize = 64;
const PAUSE: Duration = Duration::from_micros(62_500);

impl Wire {
    pub(super) fn new(stream: TcpStream, fate: Arc<Fate>) -> Self {
        Self { stream, fate, pause: Box::pin(sleep(Duration::ZERO)) }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.pause.as_mut().poll(cx)
    }

    fn rest(&mut self) {
        self.pause.as_mut().reset(Instant::now() + PAUSE);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.fate.breaks.load(Ordering::Relaxed) {
            // Without it the other side still sees an end without an answer.
            self.stream.set_zero_linger().ok();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.fate.drips.load(Ordering::Relaxed) {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        ready!(self.poll_turn(cx));
        let mut bytes = [0; DROP];
        let mut drop = ReadBuf::new(bytes.get_mut(..DROP.min(buffer.remaining())).unwrap_or_default());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut drop))?;
        buffer.put_slice(drop.filled());
        self.rest();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.fate.drips.load(Ordering::Relaxed) {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        ready!(self.poll_turn(cx));
        let drop = bytes.get(..DROP.min(bytes.len())).unwrap_or_default();
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, drop))?;
        self.rest();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
