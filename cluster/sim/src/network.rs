//! Connections as QUIC would give them, over a network that misbehaves.
//!
//! A connection has two ordered streams each way. Nothing on a stream is lost or doubled: loss is delay, as a transport that
//! repeats makes it. A cut holds what is sent until it heals or the connection dies; a connection dies at an end that has
//! heard nothing for four seconds, and a little after its other end has, once a word gets through. A reader that is slow
//! closes the window, and the sender learns of room only when a window update comes back.
//!
//! What is counted: payload plus 60 bytes for each packet of up to 1,400; acknowledgements are not.

use std::collections::{BTreeSet, VecDeque};

use crate::clock::TrueNs;
use crate::queue::Queue;
use crate::rng::{Rng, mix};
use crate::subject::{LinkId, Stream};
use crate::world::Event;

/// A millisecond.
pub const MS: TrueNs = 1_000_000;
/// A second.
pub const SECOND: TrueNs = 1_000_000_000;
/// A connection that heard nothing for so long is given up.
pub const IDLE_TIMEOUT: TrueNs = 4 * SECOND;
/// An end that lost its connection without knowing learns of it when its next keep-alive is refused.
const KEEP_ALIVE: TrueNs = SECOND;
const PACKET: usize = 1_400;
const PACKET_OVERHEAD: usize = 60;
/// Bytes of a stream that may be on the way or unread.
pub const WINDOW: usize = 256 << 10;

/// How the links of a run behave.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// One-way delay: each pair of nodes has its own between these, the same both ways.
    pub delay: (TrueNs, TrueNs),
    /// Added to each message, evenly from 0 to this.
    pub jitter: TrueNs,
    /// Packets of 1,000 that have to be repeated.
    pub loss_per_mille: u32,
}

/// Which way along a connection: from the side that dialled, or to it.
type Way = usize;

struct Flowing {
    /// In the order in which it was sent; a delivery takes the first, so that no fault can change the order.
    messages: VecDeque<Vec<u8>>,
    /// Bytes of them, and the most that there were: what the window limits.
    on_the_way: usize,
    last_arrival: TrueNs,
    /// Deliveries that a cut holds up, and ones that wait for a slow reader.
    held: usize,
    unread: usize,
    update_planned: bool,
}

struct Direction {
    streams: [Flowing; 2],
    silent_since: Option<TrueNs>,
    packet_at: TrueNs,
    packet_room: usize,
}

struct Connection {
    id: LinkId,
    /// The dialler, then the listener.
    nodes: [usize; 2],
    up: [bool; 2],
    ways: [Direction; 2],
}

/// What one node sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Bytes with packet overhead.
    pub bytes: u64,
    /// Packets that carried them.
    pub packets: u64,
}

/// All connections of a run, and what is wrong with the network now.
pub struct Network {
    /// How links behave; may change at any time, for what is sent afterwards.
    pub conditions: Conditions,
    /// What each node sent.
    pub traffic: Vec<Traffic>,
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    made: u64,
    /// Nodes of different groups do not hear each other.
    groups: Vec<u8>,
    /// Further pairs of which the second does not hear the first.
    cuts: BTreeSet<(usize, usize)>,
    /// Whether the node's process runs; what does not run sends nothing.
    running: Vec<bool>,
    /// Whether the node reads what comes.
    reads: Vec<bool>,
    seed: u64,
    rng: Rng,
}

impl Network {
    /// A network of `nodes` without connections, in order.
    #[must_use]
    pub fn new(nodes: usize, conditions: Conditions, seed: u64) -> Self {
        Network {
            conditions,
            traffic: vec![Traffic::default(); nodes],
            slots: Vec::new(),
            free: Vec::new(),
            made: 0,
            groups: vec![0; nodes],
            cuts: BTreeSet::new(),
            running: vec![false; nodes],
            reads: vec![true; nodes],
            seed,
            rng: Rng::new(seed),
        }
    }

    /// The one-way delay between two nodes, without jitter.
    #[must_use]
    pub fn delay(&self, a: usize, b: usize) -> TrueNs {
        let (low, high) = self.conditions.delay;
        let pair = ((a.min(b) as u64) << 32) | a.max(b) as u64;
        low + ((u128::from(mix(self.seed ^ mix(pair))) * u128::from(high - low + 1)) >> 64) as u64
    }

    /// Whether `to` does not hear `from`.
    #[must_use]
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.groups[from] != self.groups[to] || self.cuts.contains(&(from, to))
    }

    /// The largest one-way delay that a lossless message can have.
    #[must_use]
    pub fn longest_delay(&self) -> TrueNs {
        self.conditions.delay.1 + self.conditions.jitter
    }

    /// Makes a connection. Both ends are up; the world tells them.
    pub fn connect(&mut self, dialler: usize, listener: usize, now: TrueNs) -> LinkId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.made += 1;
        let id = (self.made << 24) | slot as u64;
        // Nothing overtakes the handshake.
        let arrival = [now + self.delay(dialler, listener), now];
        let ways = arrival.map(|last_arrival| Direction {
            streams: [(), ()].map(|()| Flowing {
                messages: VecDeque::new(),
                on_the_way: 0,
                last_arrival,
                held: 0,
                unread: 0,
                update_planned: false,
            }),
            silent_since: None,
            packet_at: TrueNs::MAX,
            packet_room: 0,
        });
        self.slots[slot] = Some(Connection {
            id,
            nodes: [dialler, listener],
            up: [true, true],
            ways,
        });
        id
    }

    fn get(&mut self, link: LinkId) -> Option<&mut Connection> {
        let slot = (link & 0xff_ffff) as usize;
        self.slots
            .get_mut(slot)?
            .as_mut()
            .filter(|connection| connection.id == link)
    }

    /// The node at the other end.
    #[must_use]
    pub fn peer(&self, link: LinkId, node: usize) -> Option<usize> {
        let connection = self.slots.get((link & 0xff_ffff) as usize)?.as_ref()?;
        (connection.id == link).then(|| connection.nodes[usize::from(connection.nodes[0] == node)])
    }

    /// Whether this node's end stands.
    #[must_use]
    pub fn is_up(&self, link: LinkId, node: usize) -> bool {
        let connection = self.slots.get((link & 0xff_ffff) as usize).and_then(Option::as_ref);
        connection.is_some_and(|c| c.id == link && c.up[usize::from(c.nodes[0] != node)])
    }

    /// A delay drawn for a message of `packets` from one node to another.
    fn travel(&mut self, from: usize, to: usize, packets: usize) -> TrueNs {
        let delay = self.delay(from, to);
        let loss = self.conditions.loss_per_mille;
        let mut worst = 0;
        // The slowest packet holds up those behind it. Beyond a few, one more hardly changes the slowest.
        for _ in 0..packets.min(8) {
            let mut time = delay + self.rng.below(self.conditions.jitter + 1);
            // A probe timeout: a round trip and the 25 ms by which an acknowledgement may be late, doubled each time. QUIC
            // then sends the packet twice (RFC 9002, 6.2.4), so that both have to be lost.
            let mut timeout = 2 * delay + 25 * MS;
            let mut lost = loss > 0 && self.rng.chance(loss);
            while lost && timeout < SECOND {
                time += timeout;
                timeout *= 2;
                lost = self.rng.chance(loss) && self.rng.chance(loss);
            }
            worst = worst.max(time);
        }
        worst
    }

    /// Sends bytes on a stream. Those of a connection that is gone are gone with it.
    pub fn send(&mut self, link: LinkId, from: usize, stream: Stream, bytes: Vec<u8>, queue: &mut Queue<Event>) {
        let now = queue.now();
        let Some(connection) = self.get(link) else { return };
        let way: Way = usize::from(connection.nodes[0] != from);
        if !connection.up[way] {
            return;
        }
        let to = connection.nodes[1 - way];
        let direction = &mut connection.ways[way];
        // What is sent in one instant shares a packet, whatever stream it is on.
        if direction.packet_at != now {
            direction.packet_at = now;
            direction.packet_room = 0;
        }
        let packets = bytes.len().saturating_sub(direction.packet_room).div_ceil(PACKET);
        direction.packet_room = (direction.packet_room + packets * PACKET).saturating_sub(bytes.len());
        self.traffic[from].packets += packets as u64;
        self.traffic[from].bytes += (bytes.len() + packets * PACKET_OVERHEAD) as u64;
        let cut = self.is_cut(from, to);
        let arrival = now + self.travel(from, to, packets.max(1));
        let Some(flowing) = self.flowing(link, way, stream) else {
            return;
        };
        flowing.on_the_way += bytes.len();
        flowing.messages.push_back(bytes);
        if cut {
            flowing.held += 1;
        } else {
            flowing.last_arrival = flowing.last_arrival.max(arrival);
            queue.plan(flowing.last_arrival, Event::Deliver { link, to, stream });
        }
    }

    fn flowing(&mut self, link: LinkId, way: Way, stream: Stream) -> Option<&mut Flowing> {
        self.get(link)
            .map(|connection| &mut connection.ways[way].streams[stream.index()])
    }

    /// Bytes arrive, and are read unless nobody is there or nobody reads. A cut that began while they travelled holds them
    /// up like those sent later.
    pub fn deliver(&mut self, link: LinkId, to: usize, stream: Stream, queue: &mut Queue<Event>) -> Option<Vec<u8>> {
        let reads = self.reads[to];
        let connection = self.get(link)?;
        let way: Way = usize::from(connection.nodes[1] != to);
        if !connection.up[1 - way] {
            return None;
        }
        let from = connection.nodes[way];
        let cut = self.is_cut(from, to);
        let flowing = self.flowing(link, way, stream)?;
        if cut {
            flowing.held += 1;
            return None;
        }
        if !reads {
            flowing.unread += 1;
            return None;
        }
        self.read(link, way, stream, queue)
    }

    /// The reader took bytes: a window update goes back once half of the window is free again, as transports do it.
    fn read(&mut self, link: LinkId, way: Way, stream: Stream, queue: &mut Queue<Event>) -> Option<Vec<u8>> {
        let connection = self.get(link)?;
        let (from, to) = (connection.nodes[way], connection.nodes[1 - way]);
        let flowing = &mut connection.ways[way].streams[stream.index()];
        let bytes = flowing.messages.pop_front()?;
        let before = flowing.on_the_way;
        flowing.on_the_way -= bytes.len();
        if before > WINDOW / 2 && !flowing.update_planned {
            flowing.update_planned = true;
            let back = self.delay(from, to);
            queue.plan(
                queue.now() + back,
                Event::Writable {
                    link,
                    node: from,
                    stream,
                },
            );
        }
        Some(bytes)
    }

    /// A window update arrived: how many bytes the stream takes now.
    pub fn updated(&mut self, link: LinkId, node: usize, stream: Stream) -> Option<usize> {
        let connection = self.get(link)?;
        let way: Way = usize::from(connection.nodes[0] != node);
        if !connection.up[way] {
            return None;
        }
        let flowing = &mut connection.ways[way].streams[stream.index()];
        flowing.update_planned = false;
        Some(WINDOW.saturating_sub(flowing.on_the_way))
    }

    /// Closes one end. The other learns of it at once if `politely`, else by silence.
    pub fn close_end(&mut self, link: LinkId, node: usize, politely: bool, queue: &mut Queue<Event>) {
        let now = queue.now();
        let Some(connection) = self.get(link) else { return };
        let side = usize::from(connection.nodes[0] != node);
        connection.up[side] = false;
        let other = connection.nodes[1 - side];
        if connection.up == [false, false] {
            let slot = (link & 0xff_ffff) as usize;
            self.slots[slot] = None;
            self.free.push(slot);
        } else if politely && !self.is_cut(node, other) {
            // Behind whatever is still on the way.
            let last = self.get(link).map_or(now, |c| {
                c.ways[side].streams.iter().map(|s| s.last_arrival).max().unwrap_or(now)
            });
            let arrival = last.max(now + self.delay(node, other));
            queue.plan(arrival, Event::Closed { link, node: other });
        } else {
            self.look_for_silence(link, queue);
        }
    }

    /// Something changed that may have made a direction fall silent, or heard again.
    fn look_for_silence(&mut self, link: LinkId, queue: &mut Queue<Event>) {
        let now = queue.now();
        let Some(connection) = self.get(link) else { return };
        let (nodes, up) = (connection.nodes, connection.up);
        for way in 0..2 {
            let (from, to) = (nodes[way], nodes[1 - way]);
            let open = !self.is_cut(from, to);
            let both_open = open && !self.is_cut(to, from);
            let heard = up[way] && self.running[from] && open;
            // A machine that runs and knows nothing of the connection says so to whoever speaks to it.
            let refused = !up[way] && self.running[from] && both_open;
            let wait = KEEP_ALIVE + 2 * self.delay(from, to);
            let wait = self.rng.between(2 * self.delay(from, to), wait);
            let Some(connection) = self.get(link) else { return };
            let silent = &mut connection.ways[way].silent_since;
            if heard {
                *silent = None;
                continue;
            }
            let since = *silent.get_or_insert(now);
            if up[1 - way] {
                let due = since + IDLE_TIMEOUT;
                let due = if refused { due.min(now + wait) } else { due };
                queue.plan(
                    due,
                    Event::Idle {
                        link,
                        node: to,
                        since,
                        refused,
                    },
                );
            }
        }
    }

    /// Whether an end that was to be given up for silence since `since` has indeed heard nothing.
    #[must_use]
    pub fn is_silent(&self, link: LinkId, node: usize, since: TrueNs) -> bool {
        let connection = self.slots.get((link & 0xff_ffff) as usize).and_then(Option::as_ref);
        connection.is_some_and(|connection| {
            let way = usize::from(connection.nodes[1] != node);
            connection.id == link && connection.up[1 - way] && connection.ways[way].silent_since == Some(since)
        })
    }

    /// The links whose end at `node` stands, in the order in which they were made.
    #[must_use]
    pub fn links_of(&self, node: usize) -> Vec<LinkId> {
        let mut links: Vec<LinkId> = (self.slots.iter().flatten())
            .filter(|c| (c.nodes[0] == node && c.up[0]) || (c.nodes[1] == node && c.up[1]))
            .map(|c| c.id)
            .collect();
        links.sort_unstable();
        links
    }

    fn all_links(&self) -> Vec<LinkId> {
        let mut links: Vec<LinkId> = self.slots.iter().flatten().map(|connection| connection.id).collect();
        links.sort_unstable();
        links
    }

    /// The node's process starts, stops, sleeps or wakes.
    pub fn set_running(&mut self, node: usize, running: bool, queue: &mut Queue<Event>) {
        self.running[node] = running;
        for link in self.all_links() {
            if self
                .get(link)
                .is_some_and(|connection| connection.nodes.contains(&node))
            {
                self.look_for_silence(link, queue);
            }
        }
    }

    /// Puts each node into a group; nodes hear only their own. All equal: no partition.
    pub fn set_groups(&mut self, groups: Vec<u8>, queue: &mut Queue<Event>) {
        self.groups = groups;
        self.changed(queue);
    }

    /// From now on `to` does not hear `from`, or does again.
    pub fn set_cut(&mut self, from: usize, to: usize, cut: bool, queue: &mut Queue<Event>) {
        if cut {
            self.cuts.insert((from, to));
        } else {
            self.cuts.remove(&(from, to));
        }
        self.changed(queue);
    }

    fn changed(&mut self, queue: &mut Queue<Event>) {
        for link in self.all_links() {
            self.look_for_silence(link, queue);
            for way in 0..2 {
                let Some(connection) = self.get(link) else { continue };
                let (from, to) = (connection.nodes[way], connection.nodes[1 - way]);
                if self.is_cut(from, to) {
                    continue;
                }
                // The sender's timer has backed off; its next try may be that far away.
                let late = self.rng.below(SECOND);
                for stream in [Stream::Control, Stream::Report] {
                    let held = self
                        .flowing(link, way, stream)
                        .map_or(0, |flowing| std::mem::take(&mut flowing.held));
                    for _ in 0..held {
                        let arrival = queue.now() + late + self.travel(from, to, 1);
                        let Some(flowing) = self.flowing(link, way, stream) else {
                            break;
                        };
                        flowing.last_arrival = flowing.last_arrival.max(arrival);
                        queue.plan(flowing.last_arrival, Event::Deliver { link, to, stream });
                    }
                }
            }
        }
    }

    /// The node stops or goes on reading. Returns what had come in between, to be handled now.
    pub fn set_reading(
        &mut self,
        node: usize,
        reads: bool,
        queue: &mut Queue<Event>,
    ) -> Vec<(LinkId, Stream, Vec<u8>)> {
        self.reads[node] = reads;
        let mut came = Vec::new();
        if !reads {
            return came;
        }
        for link in self.all_links() {
            for stream in [Stream::Control, Stream::Report] {
                let Some(connection) = self.get(link) else { continue };
                if !connection.nodes.contains(&node) {
                    continue;
                }
                let way: Way = usize::from(connection.nodes[1] != node);
                let there = connection.up[1 - way];
                let unread = std::mem::take(&mut connection.ways[way].streams[stream.index()].unread);
                for _ in 0..if there { unread } else { 0 } {
                    if let Some(bytes) = self.read(link, way, stream, queue) {
                        came.push((link, stream, bytes));
                    }
                }
            }
        }
        came
    }

    /// Whether the node's process runs.
    #[must_use]
    pub fn is_running(&self, node: usize) -> bool {
        self.running[node]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes with one connection, and a queue.
    fn pair(loss_per_mille: u32) -> (Network, Queue<Event>, LinkId) {
        let conditions = Conditions {
            delay: (MS, 2 * MS),
            jitter: 3 * MS,
            loss_per_mille,
        };
        let mut network = Network::new(2, conditions, 9);
        let mut queue = Queue::default();
        network.set_running(0, true, &mut queue);
        network.set_running(1, true, &mut queue);
        let link = network.connect(1, 0, 0);
        (network, queue, link)
    }

    /// Lets everything happen; faults as given, each before the first event not before its time. Returns the bytes that
    /// node 0 read and when its end of the connection was given up.
    fn drive(
        network: &mut Network,
        queue: &mut Queue<Event>,
        mut faults: Vec<(TrueNs, bool)>,
    ) -> (Vec<(TrueNs, u8)>, Option<TrueNs>) {
        let (mut read, mut gone) = (Vec::new(), None);
        for (at, _) in &faults {
            queue.plan(*at, Event::Every100Ms);
        }
        while let Some((now, event)) = queue.take() {
            match event {
                Event::Every100Ms => {
                    let (_, cut) = faults.remove(0);
                    network.set_cut(1, 0, cut, queue);
                }
                Event::Deliver { link, to, stream } => {
                    if let Some(bytes) = network.deliver(link, to, stream, queue) {
                        read.extend(bytes.iter().map(|byte| (now, *byte)));
                    }
                }
                Event::Idle { link, node, since, .. } if network.is_silent(link, node, since) => {
                    network.close_end(link, node, false, queue);
                    if node == 0 {
                        gone = Some(now);
                    }
                }
                _ => {}
            }
        }
        (read, gone)
    }

    #[test]
    fn a_stream_keeps_its_order_through_loss_and_cuts() {
        for loss in [0, 300] {
            let (mut network, mut queue, link) = pair(loss);
            for byte in 0..200 {
                network.send(link, 1, Stream::Report, vec![byte], &mut queue);
            }
            // The first cut begins while all is on the way, the second while what it held is sent again.
            let faults = vec![(2 * MS, true), (50 * MS, false), (100 * MS, true), (900 * MS, false)];
            let (read, gone) = drive(&mut network, &mut queue, faults);
            assert_eq!(
                read.iter().map(|(_, byte)| *byte).collect::<Vec<_>>(),
                (0..200).collect::<Vec<_>>()
            );
            assert_eq!(gone, None, "no cut was longer than the idle timeout");
        }
    }

    #[test]
    fn a_one_way_cut_ends_both_ends_each_in_its_time() {
        let (mut network, mut queue, link) = pair(0);
        let (_, gone) = drive(&mut network, &mut queue, vec![(SECOND, true)]);
        assert_eq!(gone, Some(SECOND + IDLE_TIMEOUT));
        assert!(!network.is_up(link, 0) && !network.is_up(link, 1));
    }

    #[test]
    fn a_restarted_machine_refuses_the_old_connection() {
        let (mut network, mut queue, link) = pair(0);
        network.close_end(link, 1, false, &mut queue);
        let (_, gone) = drive(&mut network, &mut queue, Vec::new());
        assert!(gone.is_some_and(|at| at <= KEEP_ALIVE + 8 * MS), "{gone:?}");
    }

    #[test]
    fn a_slow_reader_closes_the_window_and_opens_it_again() {
        let (mut network, mut queue, link) = pair(0);
        assert!(network.set_reading(0, false, &mut queue).is_empty());
        for _ in 0..8 {
            network.send(link, 1, Stream::Report, vec![0; WINDOW / 8], &mut queue);
        }
        assert_eq!(network.updated(link, 1, Stream::Report), Some(0));
        let (read, _) = drive(&mut network, &mut queue, Vec::new());
        assert!(read.is_empty());
        let came = network.set_reading(0, true, &mut queue);
        assert_eq!(came.iter().map(|(_, _, bytes)| bytes.len()).sum::<usize>(), WINDOW);
        assert!(matches!(queue.take(), Some((_, Event::Writable { node: 1, .. }))));
        assert_eq!(network.updated(link, 1, Stream::Report), Some(WINDOW));
    }

    #[test]
    fn what_is_sent_at_once_shares_packets() {
        let (mut network, mut queue, link) = pair(0);
        for _ in 0..3 {
            network.send(link, 1, Stream::Control, vec![0; 600], &mut queue);
        }
        assert_eq!(
            (network.traffic[1].packets, network.traffic[1].bytes),
            (2, 1_800 + 2 * 60)
        );
    }
}
