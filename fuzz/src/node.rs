//! Damaged streams into a whole node that has an honest peer as well.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use ratelimit_model::Limit;
use ratelimit_protocol::message::Message;
use ratelimit_protocol::{
    Event, Incarnation, LimitId, LimitSpec, LinkId, MapStore, Mode, Node, NodeConfig, NodeId, Stream, WINDOW,
};

use crate::{corpus, damage};

fn node(seed: u64) -> Result<(Node, u64), String> {
    let mut config = NodeConfig::new("honest");
    config.owners = vec!["honest".into()];
    config.max_nodes = 8;
    config.caps.accounts = 64;
    config.caps.leases = 64;
    config.caps.answers_per_peer = 64;
    config.first_start = true;
    let limit = Limit::new(1000, std::time::Duration::from_secs(1)).map_err(|error| error.to_string())?;
    for (id, mode) in [
        Mode::Eventual,
        Mode::Bounded { units: 5 },
        Mode::Strict { floor_ppm: 0 },
    ]
    .into_iter()
    .enumerate()
    {
        config.limits.push(LimitSpec {
            id: LimitId(id as u32),
            version: 1,
            author: NodeId(0),
            limit: limit.burst(100),
            mode,
        });
    }
    let configuration = config.fingerprint();
    let node = Node::new(config, Incarnation(1), seed, 0).map_err(|error| error.to_string())?;
    Ok((node, configuration))
}

/// One life of a node that is sent a few hundred damaged messages.
fn story(rng: &mut Rng) -> Result<u64, String> {
    let (mut node, configuration) = node(rng.u64(..))?;
    let mut store = MapStore::new(64);
    let mut now_ns = 1;
    let mut sent = 0;
    for number in 0..rng.u64(1..20) {
        let link = LinkId(number);
        let name = format!("evil-{}", rng.u8(0..3));
        node.handle_link_up(link, &name, rng.bool(), now_ns);
        let mut hello = Vec::new();
        corpus::hello(rng, &name, configuration).encode(&mut hello);
        node.handle_bytes(link, Stream::Control, &hello, now_ns, &mut store);
        for _ in 0..rng.usize(0..30) {
            let message = corpus::message(rng);
            let stream = if matches!(message, Message::Report(_)) {
                Stream::Report
            } else {
                Stream::Control
            };
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            if rng.u8(..) < 40 {
                let other = bytes.clone();
                damage::damage(rng, &mut bytes, &other);
            }
            node.handle_bytes(link, stream, &bytes, now_ns, &mut store);
            sent += 1;
            now_ns += rng.u64(0..50_000_000);
            store.decide(
                LimitId(rng.u32(0..3)),
                ratelimit_protocol::Key(rng.u64(0..200) << 52),
                rng.u64(0..3),
                now_ns,
            );
            node.handle_tick(now_ns, &mut store);
            while node.poll_transmit().is_some() {}
            while let Some(event) = node.poll_event() {
                if let Event::CloseLink { link, .. } = event {
                    node.handle_link_down(link, now_ns);
                }
            }
            let stats = node.stats();
            if stats.accounts > 64 || stats.leases > 64 || stats.members > 8 || stats.links > 16 {
                return Err(format!("a structure outgrew its cap: {stats:?}"));
            }
            if let Some(peer) = stats
                .peers
                .values()
                .find(|peer| peer.unacked_batches > WINDOW || peer.waiting_answers > 4 * 4096)
            {
                return Err(format!("a peer's queue outgrew its cap: {peer:?}"));
            }
        }
        if rng.bool() {
            node.handle_link_down(link, now_ns);
        }
    }
    Ok(sent)
}

pub(crate) fn campaign(count: u64, seed: u64) -> Result<String, String> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut sent = 0;
    for execution in 0..count {
        let mut rng = Rng::with_seed(seed.wrapping_add(execution));
        match catch_unwind(AssertUnwindSafe(|| story(&mut rng))) {
            Ok(Ok(messages)) => sent += messages,
            Ok(Err(text)) => return Err(format!("seed {}: {text}", seed.wrapping_add(execution))),
            Err(_) => return Err(format!("seed {}: a node panics", seed.wrapping_add(execution))),
        }
    }
    Ok(format!("no panic, every structure within its cap; {sent} messages"))
}
