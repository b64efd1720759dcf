//! RESP, the protocol of Redis: `CL.THROTTLE` with the replies of redis-cell, and what clients say before they ask for it.
//!
//! A connection is one task. It reads what has come, answers all whole requests in it and sends the answers at once, so that a
//! pipeline costs two system calls. Everything it holds is bounded: one request and the answers to one read. It waits as long as its
//! client likes between requests, and not in the middle of one.

mod commands;
mod reply;
mod request;

#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use self::commands::Session;
use self::reply::Replies;
use self::request::{Found, Reader};
use super::ServeArgs;
use super::config::Config;
use super::node::Node;
use crate::failure::Failure;

/// How long the rest of a request may take to come.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to accept replies.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Replies are sent when there are so many bytes of them, also in the middle of a pipeline.
const SEND_BYTES: usize = 64 * 1024;
/// Room for input of a connection that sends small requests.
const INPUT_BYTES: usize = 16 * 1024;

/// Why a connection was closed by this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// What it sent cannot be read.
    Protocol,
    /// It sent half a request and then nothing.
    HalfRequest,
    /// It did not take its replies.
    SlowReader,
}

/// Serves a connection until it ends, `stopping` turns true, or it breaks the rules.
pub(crate) async fn serve(
    mut stream: TcpStream,
    node: &Node,
    id: i64,
    mut stopping: watch::Receiver<bool>,
) -> Option<Dropped> {
    let mut session = Session::new(id);
    let mut reader = Reader::default();
    let mut replies = Replies::default();
    let mut input: Vec<u8> = Vec::new();
    let mut deadline = None;
    loop {
        input.reserve(INPUT_BYTES);
        let read = stream.read_buf(&mut input);
        let outcome = match deadline {
            Some(deadline) => tokio::select! {
                outcome = timeout_at(deadline, read) => match outcome {
                    Ok(outcome) => outcome,
                    Err(_) => return Some(Dropped::HalfRequest),
                },
                _ = stopping.wait_for(|stopping| *stopping) => return None,
            },
            None => tokio::select! {
                outcome = read => outcome,
                _ = stopping.wait_for(|stopping| *stopping) => return None,
            },
        };
        match outcome {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return None,
        }
        let mut at = 0;
        let broken = loop {
            match step(&mut session, node, &mut reader, &input[at..], &mut replies) {
                Step::Took(taken) => at += taken,
                Step::Unfinished => break false,
                Step::Broken => break true,
            }
            if session.ends {
                break false;
            }
            if replies.bytes.len() >= SEND_BYTES {
                if send(&mut stream, &mut replies).await.is_err() {
                    return Some(Dropped::SlowReader);
                }
                if *stopping.borrow() {
                    break false;
                }
            }
        };
        if send(&mut stream, &mut replies).await.is_err() {
            return Some(Dropped::SlowReader);
        }
        if broken {
            return Some(Dropped::Protocol);
        }
        if session.ends {
            return None;
        }
        input.drain(..at);
        if input.is_empty() {
            deadline = None;
            if input.capacity() > 2 * INPUT_BYTES {
                input.shrink_to(INPUT_BYTES);
                reader.shrink();
            }
        } else if at > 0 || deadline.is_none() {
            deadline = Some(Instant::now() + REQUEST_TIMEOUT);
        }
    }
}

/// What became of the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// So many bytes were understood, and answered if they asked for anything.
    Took(usize),
    /// A request begins there that is not whole yet.
    Unfinished,
    /// It can never become a request; that is answered.
    Broken,
}

fn step(session: &mut Session, node: &Node, reader: &mut Reader, input: &[u8], replies: &mut Replies) -> Step {
    match reader.find(input) {
        Ok(Found::Request(request, taken)) => {
            node.figures.commands.add();
            session.execute(node, request, replies);
            Step::Took(taken)
        }
        Ok(Found::Nothing(taken)) => Step::Took(taken),
        Ok(Found::Unfinished) => Step::Unfinished,
        Err(error) => {
            replies.error(&format!("ERR {}", error.0));
            Step::Broken
        }
    }
}

/// A node and a client of it without a socket, for campaigns of damaged bytes.
#[derive(Debug)]
pub struct Conversation {
    node: Node,
    session: Session,
    reader: Reader,
}

/// What a client was told.
#[derive(Debug)]
pub struct Heard {
    /// How many bytes of the input were understood.
    pub taken: usize,
    /// All replies.
    pub replies: Vec<u8>,
    /// Whether the node would end the connection.
    pub ends: bool,
}

impl Conversation {
    /// With a node that keeps its state in this directory.
    ///
    /// Errors: the directory cannot be used.
    pub fn new(state: &Path) -> Result<Self, Failure> {
        let args = ServeArgs {
            state: Some(state.into()),
            ..ServeArgs::default()
        };
        Ok(Conversation {
            node: Node::new(Config::load(&args)?)?,
            session: Session::new(1),
            reader: Reader::default(),
        })
    }

    /// Has the node answer all whole requests of the input, on a connection of their own.
    pub fn hear(&mut self, input: &[u8]) -> Heard {
        self.session = Session::new(1);
        let mut replies = Replies::default();
        let mut taken = 0;
        let mut ends = false;
        while !ends {
            match step(
                &mut self.session,
                &self.node,
                &mut self.reader,
                &input[taken..],
                &mut replies,
            ) {
                Step::Took(more) => taken += more,
                Step::Unfinished => break,
                Step::Broken => ends = true,
            }
            ends |= self.session.ends;
        }
        Heard {
            taken,
            replies: replies.bytes,
            ends,
        }
    }
}

/// Sends all replies. A client that is gone ends the same way as one that does not take them.
async fn send(stream: &mut TcpStream, replies: &mut Replies) -> Result<(), ()> {
    if replies.bytes.is_empty() {
        return Ok(());
    }
    let outcome = timeout(REPLY_TIMEOUT, stream.write_all(&replies.bytes)).await;
    replies.bytes.clear();
    replies.bytes.shrink_to(2 * SEND_BYTES);
    match outcome {
        Ok(Ok(())) => Ok(()),
        _ => Err(()),
    }
}
