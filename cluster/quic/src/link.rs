//! One connection: its handshake and its streams as tasks, which talk to the engine through one bounded queue.
//!
//! The side that opened the link opens two streams, the first for reports, the second for control. The other side learns of
//! both with the first byte of the second, which is the hello; each is used in both directions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::{Chunk, Connecting, Connection, ConnectionError, RecvStream, SendStream, VarInt};
use ratelimit_protocol::{LinkId, Stream};
use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::accept::Slot;
use crate::event::HandshakeRefusal;
use crate::tls;

/// Bytes that a stream holds back for a slow connection, beside QUIC's own window; what is beyond stays with the protocol.
pub(crate) const QUEUE: usize = 64 * 1024;
/// Bytes read at once.
const CHUNK: usize = 16 * 1024;
/// How long a link that is closed waits for its last bytes to arrive.
const FLUSH: Duration = Duration::from_millis(500);
/// The number a link is closed with when it ends as it should; others are the protocol's refusals.
pub(crate) const CLOSED: u32 = 0;
/// The other side's certificate names no node.
pub(crate) const NAMELESS: u32 = 256;

/// What tasks tell the engine.
pub(crate) enum Message {
    /// A connection to a node whose certificate is good.
    Up(Box<Up>),
    /// A connection to a node with this node's own name: itself, or another process that uses it.
    Namesake(Connection, Option<SocketAddr>),
    /// A handshake came to nothing.
    Failed {
        address: SocketAddr,
        dialled: bool,
        reason: HandshakeRefusal,
    },
    /// Bytes of a stream, in order.
    Bytes(LinkId, Stream, Chunk),
    /// So many bytes left the queue of a stream.
    Written(LinkId, Stream, usize),
    /// A connection is gone.
    Down(LinkId, ConnectionError),
    /// A place was resolved.
    Resolved(u64, Result<Vec<SocketAddr>, String>),
}

pub(crate) struct Up {
    pub(crate) connection: Connection,
    pub(crate) name: String,
    /// The address that was called, if this side called.
    pub(crate) dialled: Option<SocketAddr>,
    pub(crate) report: (SendStream, RecvStream),
    pub(crate) control: (SendStream, RecvStream),
}

/// Counts a panic of the task that holds it. The link it served falls silent, which the protocol notices.
pub(crate) struct Watch(pub(crate) Arc<AtomicU64>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Relaxed: a counter.
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Brings a handshake to its end, whatever that is.
pub(crate) async fn shake(
    connecting: Connecting,
    dialled: Option<SocketAddr>,
    own_name: Arc<str>,
    patience: Duration,
    slot: Option<Slot>,
    engine: Sender<Message>,
) {
    let address = dialled.unwrap_or_else(|| connecting.remote_address());
    let shaken = tokio::time::timeout(patience, handshake(connecting, dialled, &own_name)).await;
    let message = match shaken {
        Ok(Ok(message)) => message,
        Ok(Err(reason)) => Message::Failed {
            address,
            dialled: dialled.is_some(),
            reason,
        },
        Err(_) => Message::Failed {
            address,
            dialled: dialled.is_some(),
            reason: HandshakeRefusal::Timeout,
        },
    };
    drop(slot);
    // Without an engine there is nobody to tell.
    let _ended = engine.send(message).await;
}

async fn handshake(
    connecting: Connecting,
    dialled: Option<SocketAddr>,
    own_name: &str,
) -> Result<Message, HandshakeRefusal> {
    let failed = |error: ConnectionError| tls::refusal(&error);
    let connection = connecting.await.map_err(failed)?;
    let Some(name) = tls::peer_name(&connection) else {
        connection.close(VarInt::from_u32(NAMELESS), b"the certificate names no node");
        return Err(HandshakeRefusal::Name);
    };
    if name == own_name {
        return Ok(Message::Namesake(connection, dialled));
    }
    let (report, control) = if dialled.is_some() {
        (
            connection.open_bi().await.map_err(failed)?,
            connection.open_bi().await.map_err(failed)?,
        )
    } else {
        (
            connection.accept_bi().await.map_err(failed)?,
            connection.accept_bi().await.map_err(failed)?,
        )
    };
    // Leases must not wait behind reports.
    let _closed = control.0.set_priority(1);
    Ok(Message::Up(Box::new(Up {
        connection,
        name,
        dialled,
        report,
        control,
    })))
}

enum Out {
    Bytes(Vec<u8>),
    Finish,
}

/// A connection with its tasks. Dropping it closes the connection at once.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) dialled: Option<SocketAddr>,
    pub(crate) closing: bool,
    out: [UnboundedSender<Out>; 2],
    queued: [usize; 2],
    tasks: [Option<JoinHandle<()>>; 2],
}

impl Link {
    pub(crate) fn start(id: LinkId, up: Up, engine: &Sender<Message>, panics: &Arc<AtomicU64>) -> Link {
        let connection = up.connection;
        let (control, control_task) = serve(id, Stream::Control, up.control, engine, panics);
        let (report, report_task) = serve(id, Stream::Report, up.report, engine, panics);
        let closed = connection.clone();
        let to = engine.clone();
        let watch = Watch(Arc::clone(panics));
        tokio::spawn(async move {
            let _watch = watch;
            let why = closed.closed().await;
            let _ended = to.send(Message::Down(id, why)).await;
        });
        Link {
            address: crate::dial::canonical(connection.remote_address()),
            connection,
            name: up.name,
            dialled: up.dialled,
            closing: false,
            out: [control, report],
            queued: [0, 0],
            tasks: [Some(control_task), Some(report_task)],
        }
    }

    /// Takes bytes that the protocol gives, never more than it was told there is room for.
    pub(crate) fn send(&mut self, stream: Stream, bytes: Vec<u8>) {
        self.queued[stream as usize] += bytes.len();
        // A task that has ended belongs to a connection that is gone, as will be told.
        let _gone = self.out[stream as usize].send(Out::Bytes(bytes));
    }

    /// Bytes left the queue; returns the room there is now.
    pub(crate) fn written(&mut self, stream: Stream, count: usize) -> usize {
        let queued = &mut self.queued[stream as usize];
        *queued = queued.saturating_sub(count);
        QUEUE.saturating_sub(*queued)
    }

    /// Closes the link once what was given to it has arrived, or after half a second.
    pub(crate) fn close(&mut self, code: u32) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        for out in &self.out {
            let _gone = out.send(Out::Finish);
        }
        let tasks = std::mem::take(&mut self.tasks);
        let connection = self.connection.clone();
        tokio::spawn(async move {
            let flushed = async {
                for task in tasks.into_iter().flatten() {
                    let _panicked = task.await;
                }
            };
            let _in_time = tokio::time::timeout(FLUSH, flushed).await;
            connection.close(VarInt::from_u32(code), b"");
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.closing {
            self.connection.close(VarInt::from_u32(CLOSED), b"");
        }
    }
}

fn serve(
    id: LinkId,
    stream: Stream,
    (mut send, mut receive): (SendStream, RecvStream),
    engine: &Sender<Message>,
    panics: &Arc<AtomicU64>,
) -> (UnboundedSender<Out>, JoinHandle<()>) {
    let to = engine.clone();
    let watch = Watch(Arc::clone(panics));
    tokio::spawn(async move {
        let _watch = watch;
        // The queue to the engine is short: while it is full nothing is read, and QUIC's window stops the other side.
        while let Ok(Some(chunk)) = receive.read_chunk(CHUNK, true).await {
            if to.send(Message::Bytes(id, stream, chunk)).await.is_err() {
                return;
            }
        }
    });
    let (out, mut queue): (_, UnboundedReceiver<Out>) = unbounded_channel();
    let to = engine.clone();
    let watch = Watch(Arc::clone(panics));
    let task = tokio::spawn(async move {
        let _watch = watch;
        while let Some(Out::Bytes(bytes)) = queue.recv().await {
            if send.write_all(&bytes).await.is_err() {
                return;
            }
            if to.send(Message::Written(id, stream, bytes.len())).await.is_err() {
                return;
            }
        }
        if send.finish().is_ok() {
            let _arrived_or_gone = send.stopped().await;
        }
    });
    (out, task)
}
