//! One life: the node, its links, its table, in turns.
//!
//! A turn takes in what has happened, looks at the table if that is due, carries out what the node says, and sleeps until
//! something happens or is due. Only here the node and the table are touched, so nothing of it needs a lock.

mod credentials;
mod events;
mod publish;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use quinn::{ClientConfig, Connection, Endpoint, Incoming, VarInt};
use ratelimit_protocol::{Incarnation, LinkId, Node};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::accept::{Gate, Verdict};
use crate::dial::{Book, Resolution, canonical};
use crate::driver::{Command, Table};
use crate::event::{Event, HandshakeRefusal, ModeOfWork};
use crate::fork::{self, Kept};
use crate::incarnation::Life;
use crate::link::{self, CLOSED, Link, Message, Up};
use crate::thread::{Ending, Lasting};
use crate::transport;

/// Messages of tasks that wait to be taken in: at most a mebibyte.
const MESSAGES: usize = 64;
/// Messages taken in before the table is looked at again.
const BATCH: usize = 64;
/// While a cell is urgent, and for a while after.
const URGENT_EVERY: Duration = Duration::from_millis(1);
/// So long after a cell was urgent the next is expected, and looked for without being called.
const STAY_AWAKE: Duration = Duration::from_millis(20);
/// The table is not looked at for urgent cells more often than this.
const URGENT_APART_NS: u64 = 500_000;
/// The longest sleep: clocks of tables may be set by hand.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// How long both ends of a connection to itself take to be known as such.
const NAMESAKES: Duration = Duration::from_secs(2);
const MAX_NAMESAKES: usize = 16;
/// How long the end of a life waits for what was said last.
const FAREWELL: Duration = Duration::from_secs(1);
const CLOSING: Duration = Duration::from_millis(100);

/// A connection to a node of the same name, until it is known whether that is this node.
struct Namesake {
    /// Keying material of the connection: both ends of one have the same.
    material: [u8; 32],
    dialled: Option<SocketAddr>,
    until: Instant,
    /// Held, or the other end would not complete.
    connection: Connection,
}

pub(crate) struct Engine<'a, T, C, E> {
    /// First, so that it is dropped before the endpoint's socket is closed.
    _kept: Kept,
    lasting: &'a mut Lasting<T, C, E>,
    node: Node,
    incarnation: Incarnation,
    endpoint: Endpoint,
    client: ClientConfig,
    gate: Gate,
    book: Book,
    own_name: Arc<str>,
    links: BTreeMap<LinkId, Link>,
    /// Peers that said hello on a link that is up, with their life.
    joined: BTreeMap<String, Incarnation>,
    namesakes: VecDeque<Namesake>,
    messages: Sender<Message>,
    last_tick_ns: u64,
    awake_until: Instant,
    mode_of_work: Option<ModeOfWork>,
    left: bool,
    publish: publish::Schedule,
    reload: credentials::Schedule,
}

/// Lives until the driver leaves or is dropped.
pub(crate) async fn live<T, C, E>(
    lasting: &mut Lasting<T, C, E>,
    life: Life,
    started: &mut Option<SyncSender<io::Result<()>>>,
) -> io::Result<Ending>
where
    T: Table,
    C: Fn() -> u64,
    E: Fn(Event),
{
    let (messages, mut inbox) = mpsc::channel(MESSAGES);
    let heard = lasting.sleeper.listen()?;
    let mut engine = Engine::new(lasting, life, messages)?;
    if let Some(started) = started.take() {
        let _ended = started.send(Ok(()));
    }
    let ending = loop {
        engine.turn();
        if engine.left {
            break Ending::Left;
        }
        let (sleep, announced) = engine.sleep();
        let woken = Instant::now();
        engine.publish.rest(woken);
        let endpoint = engine.endpoint.clone();
        let mut command = None;
        tokio::select! {
            asked = engine.lasting.commands.recv() => command = Some(asked.unwrap_or(Command::Stop)),
            message = inbox.recv() => engine.take_in(message, &mut inbox),
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => engine.accept(incoming),
                None => return Err(io::Error::other("the socket failed")),
            },
            rung = heard.rung() => rung?,
            () = tokio::time::sleep(sleep) => {}
        }
        engine.publish.work(Instant::now());
        engine.lasting.counters.wakes += 1;
        if announced && engine.lasting.sleeper.wake() {
            engine.lasting.counters.kicks += 1;
            engine.awake_until = Instant::now() + STAY_AWAKE;
        }
        match command {
            Some(Command::Stop) => break Ending::Stopped,
            Some(command) => engine.obey(command),
            None => {}
        }
    };
    engine.end(ending, &mut inbox).await;
    Ok(ending)
}

impl<'a, T, C, E> Engine<'a, T, C, E>
where
    T: Table,
    C: Fn() -> u64,
    E: Fn(Event),
{
    fn new(lasting: &'a mut Lasting<T, C, E>, life: Life, messages: Sender<Message>) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let [seed, jitter] = [0, 8].map(|at| {
            let bytes = random[at..at + 8].try_into();
            u64::from_le_bytes(bytes.unwrap_or([1; 8]))
        });
        let now_ns = (lasting.clock)();
        let mut config = lasting.config.node.clone();
        config.first_start = life.first;
        let node = Node::new(config, life.incarnation, seed, now_ns).map_err(io::Error::other)?;
        let tuning = &lasting.config.tuning;
        let (kept, socket) = fork::open(|| lasting.socket.try_clone())?;
        let endpoint = Endpoint::new(
            transport::endpoint(),
            Some(transport::server(&lasting.credentials, tuning)),
            socket,
            Arc::new(quinn::TokioRuntime),
        )?;
        let own = canonical(endpoint.local_addr()?);
        let now = Instant::now();
        Ok(Engine {
            _kept: kept,
            client: transport::client(&lasting.credentials, tuning),
            gate: Gate::new(tuning),
            book: Book::new(
                &lasting.config.seeds,
                own,
                lasting.config.node.max_nodes,
                tuning,
                jitter,
                now,
            ),
            own_name: Arc::from(lasting.config.node.name.as_str()),
            incarnation: life.incarnation,
            node,
            endpoint,
            links: BTreeMap::new(),
            joined: BTreeMap::new(),
            namesakes: VecDeque::new(),
            messages,
            last_tick_ns: now_ns,
            awake_until: now,
            mode_of_work: None,
            left: false,
            publish: publish::Schedule::new(now),
            reload: credentials::Schedule::new(now),
            lasting,
        })
    }

    fn now_ns(&self) -> u64 {
        (self.lasting.clock)()
    }

    /// Everything that is due, and everything that the node says.
    fn turn(&mut self) {
        let now_ns = self.now_ns();
        let now = Instant::now();
        let urgent = self.lasting.table.is_urgent();
        if urgent {
            self.awake_until = now + STAY_AWAKE;
        }
        let due = self.node.poll_timeout().is_some_and(|at| at <= now_ns);
        if due || urgent && now_ns.saturating_sub(self.last_tick_ns) >= URGENT_APART_NS {
            self.last_tick_ns = now_ns;
            self.node.handle_tick(now_ns, &mut self.lasting.table);
            self.lasting.table.tidy(now_ns);
        }
        self.carry_out();
        self.call(now);
        self.end_namesakes(now);
        self.look_at_certificates(now);
        self.publish(now);
    }

    /// How long there is nothing to do, and whether the deciding path was told of the sleep.
    fn sleep(&self) -> (Duration, bool) {
        let now_ns = self.now_ns();
        let now = Instant::now();
        let until = |at: Instant| at.saturating_duration_since(now);
        let node = self.node.poll_timeout();
        let mut sleep = node.map_or(LONGEST_SLEEP, |at| Duration::from_nanos(at.saturating_sub(now_ns)));
        sleep = sleep
            .min(LONGEST_SLEEP)
            .min(until(self.publish.due()))
            .min(until(self.reload.due()));
        if let Some(at) = self.book.next_due() {
            sleep = sleep.min(until(at));
        }
        if let Some(namesake) = self.namesakes.front() {
            sleep = sleep.min(until(namesake.until));
        }
        if now < self.awake_until {
            return (sleep.min(URGENT_EVERY), false);
        }
        if self.lasting.sleeper.try_sleep(|| self.lasting.table.is_urgent()) {
            (sleep, true)
        } else {
            (Duration::ZERO, false)
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::SetLimit(id, limit, mode, answer) => {
                let now_ns = self.now_ns();
                let outcome = self.node.set_limit(id, limit, mode);
                if outcome.is_ok() {
                    // Whoever asked finds the limit in the table when the answer comes.
                    self.node.handle_tick(now_ns, &mut self.lasting.table);
                }
                let outcome = outcome.map(|in_force_ns| Duration::from_nanos(in_force_ns.saturating_sub(now_ns)));
                // Whoever asked may have stopped waiting.
                let _gone = answer.send(outcome);
            }
            Command::Reload => self.reload_now(),
            Command::SetIdentity(identity, answer) => {
                let outcome = self.set_identity(*identity);
                let _gone = answer.send(outcome);
            }
            Command::Leave => {
                let now_ns = self.now_ns();
                self.node.leave(now_ns);
            }
            // Ends the loop before it comes here.
            Command::Stop => {}
        }
    }

    fn take_in(&mut self, first: Option<Message>, inbox: &mut Receiver<Message>) {
        let mut next = first;
        for _ in 0..BATCH {
            let Some(message) = next else {
                return;
            };
            self.take(message);
            next = inbox.try_recv().ok();
        }
        if let Some(message) = next {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        let now_ns = self.now_ns();
        let now = Instant::now();
        match message {
            Message::Up(up) => self.link_up(*up, now_ns, now),
            Message::Namesake(connection, dialled) => self.meet_namesake(connection, dialled, now),
            Message::Failed {
                address,
                dialled,
                reason,
            } => {
                if dialled {
                    self.book.failed(address, now);
                }
                // That nobody is there (yet) is no refusal.
                if !(dialled && matches!(reason, HandshakeRefusal::Timeout | HandshakeRefusal::Other)) {
                    self.refused(address, reason);
                }
            }
            Message::Bytes(id, stream, chunk) => {
                self.node
                    .handle_bytes(id, stream, &chunk.bytes, now_ns, &mut self.lasting.table);
            }
            Message::Written(id, stream, count) => {
                if let Some(link) = self.links.get_mut(&id) {
                    let room = link.written(stream, count);
                    self.node.handle_writable(id, stream, room);
                }
            }
            Message::Down(id, why) => self.link_down(id, &why, now_ns, now),
            Message::Resolved(place, found) => {
                if let Resolution::SeedFailed { seed, reason } = self.book.resolved(place, found, now) {
                    self.lasting.journal.tell(Event::SeedUnresolved { seed, reason });
                }
                self.publish.soon(now);
            }
        }
    }

    fn refused(&mut self, address: SocketAddr, reason: HandshakeRefusal) {
        self.lasting.counters.refuse(reason);
        self.lasting.journal.tell(Event::HandshakeRefused { address, reason });
    }

    fn accept(&mut self, incoming: Incoming) {
        let address = canonical(incoming.remote_address());
        match self.gate.judge(address, incoming.remote_address_validated()) {
            Verdict::Accept(slot) => match incoming.accept() {
                Ok(connecting) => {
                    let patience = self.lasting.config.tuning.handshake;
                    let (name, messages) = (Arc::clone(&self.own_name), self.messages.clone());
                    tokio::spawn(link::shake(connecting, None, name, patience, Some(slot), messages));
                }
                Err(error) => self.refused(address, crate::tls::refusal(&error)),
            },
            Verdict::Retry => {
                self.lasting.counters.retries_asked += 1;
                if incoming.retry().is_err() {
                    // It has been asked already, so its address is proved: the gate does not say this of such a one.
                    self.lasting.counters.refuse(HandshakeRefusal::Other);
                }
            }
            Verdict::Refuse => {
                incoming.refuse();
                self.refused(address, HandshakeRefusal::TooMany);
            }
        }
    }

    /// Resolves places and calls targets that are due.
    fn call(&mut self, now: Instant) {
        for (place, text) in self.book.due_places(now) {
            if let Ok(address) = text.parse() {
                let _seeds_only = self.book.resolved(place, Ok(vec![address]), now);
                continue;
            }
            let messages = self.messages.clone();
            tokio::spawn(async move {
                let found = tokio::net::lookup_host(text).await;
                let found = found.map(Iterator::collect).map_err(|error| error.to_string());
                let _ended = messages.send(Message::Resolved(place, found)).await;
            });
        }
        let links = &self.links;
        let is_linked = |name: &str| links.values().any(|link| link.name == name && !link.closing);
        for address in self.book.due_calls(now, is_linked) {
            // The name is not looked at: whoever has a certificate of the cluster is a node of it.
            match self.endpoint.connect_with(self.client.clone(), address, "node") {
                Ok(connecting) => {
                    let patience = self.lasting.config.tuning.handshake;
                    let (name, messages) = (Arc::clone(&self.own_name), self.messages.clone());
                    tokio::spawn(link::shake(connecting, Some(address), name, patience, None, messages));
                }
                Err(_) => self.book.failed(address, now),
            }
        }
    }

    fn link_up(&mut self, up: Up, now_ns: u64, now: Instant) {
        self.lasting.next_link += 1;
        let id = LinkId(self.lasting.next_link);
        let link = Link::start(id, up, &self.messages, &self.lasting.counters.task_panics);
        if let Some(address) = link.dialled {
            self.book.answered(address, &link.name, id, now);
        }
        self.lasting.counters.links_up += 1;
        self.node.handle_link_up(id, &link.name, link.dialled.is_some(), now_ns);
        self.links.insert(id, link);
    }

    fn link_down(&mut self, id: LinkId, why: &quinn::ConnectionError, now_ns: u64, now: Instant) {
        self.node.handle_link_down(id, now_ns);
        let Some(mut link) = self.links.remove(&id) else {
            return;
        };
        // It closed the connection itself: dropping it must not do so once more.
        link.closing = true;
        self.lasting.counters.links_down += 1;
        self.keep_bytes(&link);
        self.book.down(id, &link.name, now);
        if !self.links.values().any(|other| other.name == link.name) {
            self.joined.remove(&link.name);
        }
        // The side that called hears only now that its own certificate was found wrong.
        if link.dialled.is_some() && crate::tls::refusal(why) == HandshakeRefusal::OurCertificate {
            self.refused(link.address, HandshakeRefusal::OurCertificate);
        }
        self.publish.soon(now);
    }

    /// Somebody has this node's name: this node itself, called at an address of its own, or another process.
    fn meet_namesake(&mut self, connection: Connection, dialled: Option<SocketAddr>, now: Instant) {
        let mut material = [0; 32];
        let exported = connection.export_keying_material(&mut material, b"EXPORTER-ratelimit-self", b"");
        if exported.is_err() {
            return;
        }
        let other_end = |other: &Namesake| other.material == material && other.dialled.is_some() != dialled.is_some();
        if let Some(place) = self.namesakes.iter().position(other_end) {
            let other = self.namesakes.remove(place);
            if let Some(address) = dialled.or(other.and_then(|other| other.dialled)) {
                self.book.is_own(address, now);
            }
            self.publish.soon(now);
            return;
        }
        if self.namesakes.len() >= MAX_NAMESAKES {
            self.namesakes.pop_front();
        }
        self.namesakes.push_back(Namesake {
            material,
            dialled,
            until: now + NAMESAKES,
            connection,
        });
    }

    /// Those whose other end did not show up here are other processes.
    fn end_namesakes(&mut self, now: Instant) {
        while let Some(namesake) = self.namesakes.pop_front_if(|namesake| namesake.until <= now) {
            if let Some(address) = namesake.dialled {
                self.book.is_own(address, now);
            }
            let refusal = ratelimit_protocol::message::Refusal::Name.code();
            let code = VarInt::from_u64(refusal).unwrap_or_default();
            namesake.connection.close(code, b"this name is used by another process");
            let name = self.own_name.to_string();
            self.lasting.journal.tell(Event::DuplicateName { name });
        }
    }

    /// Says what is left to say, and closes everything.
    async fn end(&mut self, ending: Ending, inbox: &mut Receiver<Message>) {
        if ending == Ending::Left {
            self.carry_out();
            for link in self.links.values_mut() {
                link.close(CLOSED);
            }
            let until = tokio::time::Instant::now() + FAREWELL;
            while !self.links.is_empty() {
                match tokio::time::timeout_at(until, inbox.recv()).await {
                    Ok(Some(Message::Down(id, _))) => {
                        if let Some(link) = self.links.remove(&id) {
                            self.keep_bytes(&link);
                        }
                    }
                    // Nothing is decided by what else comes, but it must not stop who brings it.
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break,
                }
            }
        }
        self.publish_now();
        self.links.clear();
        self.endpoint.close(VarInt::from_u32(CLOSED), b"");
        // A moment for the last datagrams to leave; nothing is lost if they do not.
        let _closed = tokio::time::timeout(CLOSING, self.endpoint.wait_idle()).await;
    }

    fn task_panics(&self) -> u64 {
        // Relaxed: a counter.
        self.lasting.counters.task_panics.load(Ordering::Relaxed)
    }
}
