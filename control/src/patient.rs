//! A connection whose other end has to take what is sent to it, and not by the drop.
//!
//! A peer that reads nothing still acknowledges: its kernel says that there is no room, again and again, and that counts as an answer for
//! keepalive and for `TCP_USER_TIMEOUT`. So the time is measured here, in which a write finds no room. Bytes that go out and times in which nothing
//! waits make up for it:
//!
//! ```text
//! behind   +1 s for each second in which a write waits   −1 s for each second in which none does   −1 s for each 16 KiB that went out
//! behind for the whole patience ──► cut
//! ```
//!
//! Who reads nothing is cut when the patience ends, who reads a trickle soon after, and who takes 16 KiB a second, which is what flagsd asks of us,
//! is not. A kernel tells of room in pieces, though, of up to a third of what it holds (`tcp_wmem`): a piece has to go within the patience.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How many bytes make up for a second.
const SLOWEST: u64 = 16 << 10;

/// Ends with an error where writes find no room for a time.
pub(crate) struct Patient<S> {
    stream: S,
    patience: Duration,
    /// How far the other end was behind, when that was last worked out.
    behind: Duration,
    worked_out: Instant,
    /// While a write waits: when the patience ends.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, behind: Duration::ZERO, worked_out: Instant::now(), until: None }
    }

    /// What a write came to, unless the other end is too far behind.
    fn judge(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Pending, Some(until)) = (&written, &mut self.until) {
            ready!(until.as_mut().poll(context));
            return Poll::Ready(Err(cut()));
        }
        let now = Instant::now();
        let passed = now.duration_since(std::mem::replace(&mut self.worked_out, now));
        self.behind = match self.until.take() {
            Some(_) => self.behind + passed,
            None => self.behind.saturating_sub(passed),
        };
        match written {
            Poll::Ready(written) => {
                let bytes = written.as_ref().map_or(0, |bytes| *bytes as u64);
                self.behind = self.behind.saturating_sub(Duration::from_micros(bytes * 1_000_000 / SLOWEST));
                Poll::Ready(written)
            }
            Poll::Pending => {
                let mut until = Box::pin(sleep(self.patience.saturating_sub(self.behind)));
                if until.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(cut()));
                }
                self.until = Some(until);
                Poll::Pending
            }
        }
    }
}

fn cut() -> io::Error {
    counter!("flags_control_connections_cut_total").increment(1);
    io::Error::new(io::ErrorKind::TimedOut, "what was sent was not read, or too slowly")
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.judge(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const PATIENCE: Duration = Duration::from_millis(600);

    /// Whether `bytes` go out to somebody who takes so many each 20 ms, of whom sockets hold 1 KiB; and how long it took.
    async fn sent(bytes: usize, at_once: usize) -> (bool, Duration) {
        let (own, mut other) = duplex(1 << 10);
        let reader = tokio::spawn(async move {
            let mut taken = vec![0; at_once];
            while other.read(&mut taken).await.is_ok_and(|length| length > 0) {
                sleep(Duration::from_millis(20)).await;
            }
        });
        let start = Instant::now();
        let result = Patient::new(own, PATIENCE).write_all(&vec![7; bytes]).await;
        let took = start.elapsed();
        reader.abort();
        if let Err(error) = &result {
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        (result.is_ok(), took)
    }

    #[tokio::test]
    async fn who_takes_a_trickle_is_cut_though_no_write_waits_for_long() {
        // 50 bytes each time: 2.5 KB/s at most.
        let (went_out, took) = sent(64 << 10, 50).await;
        assert!(!went_out && took >= PATIENCE, "{took:?}");
        assert!(took < PATIENCE * 8, "{took:?}");
    }

    #[tokio::test]
    async fn who_takes_enough_is_not_cut_however_long_it_takes() {
        // Up to 1 KiB each time: 50 KB/s at most, and on a machine that is three times too slow still enough.
        let (went_out, took) = sent(80 << 10, 1 << 10).await;
        assert!(went_out && took > PATIENCE * 2, "{took:?}");
    }

    #[tokio::test]
    async fn who_takes_nothing_is_cut_when_the_patience_ends() {
        let (own, _other) = duplex(1 << 10);
        let start = Instant::now();
        let error = Patient::new(own, PATIENCE).write_all(&[7; 4 << 10]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= PATIENCE);
    }

    #[tokio::test]
    async fn what_was_waited_for_once_is_made_up_for_by_time() {
        let (own, mut other) = duplex(1 << 10);
        let mut own = Patient::new(own, PATIENCE);
        let mut taken = vec![0; 1 << 10];
        for _ in 0..3 {
            let read = async {
                sleep(PATIENCE * 2 / 3).await;
                other.read_exact(&mut taken).await.expect("is there");
            };
            let (written, ()) = tokio::join!(own.write_all(&[7; 1_100]), read);
            written.expect("in time");
            other.read_exact(&mut taken[..76]).await.expect("is there");
            sleep(PATIENCE).await;
        }
    }
}
