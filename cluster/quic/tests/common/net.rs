//! A network between namespaces: each node has one of its own with a TUN device, and a thread of the test carries packets
//! between the devices, late, not at all, or one way only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How packets go from one node to another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    pub cut: bool,
    pub delay: Duration,
    /// Of a hundred packets.
    pub loss_percent: u64,
}

type Ways = Arc<Mutex<Vec<Vec<Way>>>>;

pub struct Net {
    ways: Ways,
    stop: Arc<AtomicBool>,
    carried: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    carrier: Option<JoinHandle<()>>,
}

pub const PORT: u16 = 7001;

/// The address of node number `n`.
pub fn address(n: usize) -> SocketAddr {
    let host = u8::try_from(n + 1).expect("a few nodes");
    SocketAddr::from(([10, 99, 0, host], PORT))
}

/// Makes the namespaces, and in each what `start` makes, on a thread that lives in it: its sockets are there, and the threads
/// that it starts are, too.
///
/// `None` with a word if this process may not do that.
pub fn build<T: Send>(nodes: usize, start: impl Fn(usize) -> T + Sync) -> Option<(Net, Vec<T>)> {
    let mut devices = Vec::new();
    let mut made = Vec::new();
    let start = &start;
    for n in 0..nodes {
        let inside = std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let device = enter(n)?;
                Ok::<_, String>((device, start(n)))
            });
            inside.join().expect("a thread of the test")
        });
        match inside {
            Ok((device, one)) => {
                devices.push(device);
                made.push(one);
            }
            Err(why) => {
                let word = format!("skipped: network namespaces are needed, and {why}\n");
                let _closed = io::stderr().write_all(word.as_bytes());
                return None;
            }
        }
    }
    let ways: Ways = Arc::new(Mutex::new(vec![vec![Way::default(); nodes]; nodes]));
    let stop = Arc::new(AtomicBool::new(false));
    let (carried, lost) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let carrier = {
        let (ways, stop) = (Arc::clone(&ways), Arc::clone(&stop));
        let counts = (Arc::clone(&carried), Arc::clone(&lost));
        std::thread::spawn(move || carry(devices, &ways, &stop, &counts))
    };
    let net = Net {
        ways,
        stop,
        carried,
        lost,
        carrier: Some(carrier),
    };
    Some((net, made))
}

impl Net {
    /// Sets all ways from one node to another.
    pub fn set(&self, way: impl Fn(usize, usize) -> Way) {
        let mut ways = self.ways.lock().expect("ways");
        for (from, row) in ways.iter_mut().enumerate() {
            for (to, place) in row.iter_mut().enumerate() {
                *place = way(from, to);
            }
        }
    }

    /// Packets carried, and packets lost.
    pub fn counts(&self) -> (u64, u64) {
        (self.carried.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            let _panicked = carrier.join();
        }
    }
}

/// Puts this thread into a namespace of its own with one device; returns the device's other end.
fn enter(n: usize) -> Result<File, String> {
    // Safety: it changes only which network this thread sees.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(format!(
            "this process may not make them ({})",
            io::Error::last_os_error()
        ));
    }
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(|error| format!("there are no TUN devices ({error})"))?;
    // Safety: plain numbers, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"rl0") {
        *place = byte.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // Safety: the request is one of the kind that this call reads, with a name that ends in zeros.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw const request) } != 0 {
        return Err(format!("a TUN device cannot be made ({})", io::Error::last_os_error()));
    }
    let host = format!("{}/24", address(n).ip());
    for args in [
        &["link", "set", "lo", "up"][..],
        &["address", "add", &host, "dev", "rl0"],
        &["link", "set", "rl0", "up"],
    ] {
        let status = Command::new("ip").args(args).status();
        if !status.is_ok_and(|status| status.success()) {
            return Err("the program `ip` (of iproute2) cannot set up a device".to_owned());
        }
    }
    Ok(device)
}

/// When a packet arrives, in which order of equals, where, and the packet.
type Late = Reverse<(Instant, u64, usize, Vec<u8>)>;

fn carry(devices: Vec<File>, ways: &Ways, stop: &AtomicBool, (carried, lost): &(Arc<AtomicU64>, Arc<AtomicU64>)) {
    let mut waiting: BinaryHeap<Late> = BinaryHeap::new();
    let mut number = 0;
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        while waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            if let Some(Reverse((_, _, to, packet))) = waiting.pop() {
                // A device whose queue is full loses a packet, as networks do.
                let _full = (&devices[to]).write(&packet);
            }
        }
        let next = waiting
            .peek()
            .map_or(Duration::from_millis(20), |Reverse((due, ..))| *due - now);
        let mut polls: Vec<libc::pollfd> = devices
            .iter()
            .map(|device| libc::pollfd {
                fd: device.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        let timeout = i32::try_from(next.as_millis().min(20)).expect("a short time");
        // Safety: a place for as many as it is told of.
        unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, timeout) };
        for (from, mut device) in devices.iter().enumerate() {
            while let Ok(len) = device.read(&mut buffer) {
                // IPv4 to one of the nodes; a device also says things of its own, which go nowhere.
                let packet = &buffer[..len];
                if len < 20 || packet[0] >> 4 != 4 || packet[16..19] != [10, 99, 0] {
                    continue;
                }
                let to = usize::from(packet[19]).wrapping_sub(1);
                let way = ways.lock().expect("ways")[from].get(to).copied();
                let Some(way) = way else {
                    continue;
                };
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if way.cut || (random >> 32) % 100 < way.loss_percent {
                    lost.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                carried.fetch_add(1, Ordering::Relaxed);
                number += 1;
                waiting.push(Reverse((Instant::now() + way.delay, number, to, packet.to_vec())));
            }
        }
    }
}
