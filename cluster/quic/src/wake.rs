//! Waking the thread from the path that decides, without a lock or an allocation.
//!
//! The thread says that it is about to sleep, and looks at the table once more; a decision marks its cell urgent, and looks
//! whether the thread sleeps. Each writes, fences, and reads what the other wrote, so at least one of them sees the other.

mod flag;

use std::io;
#[cfg(not(unix))]
use std::net::UdpSocket as Rope;
#[cfg(unix)]
use std::os::unix::net::UnixDatagram as Rope;
use std::sync::Arc;

use ratelimit_core::process;

use self::flag::Flag;

#[derive(Debug)]
struct Bell {
    flag: Flag,
    /// Written to once for each sleep at most, so it never fills.
    rope: Rope,
    generation: u64,
}

/// Wakes the driver's thread because a cell became urgent.
#[derive(Clone, Debug)]
pub struct Kicker(Arc<Bell>);

impl Kicker {
    /// Call this after a cell was marked urgent, wherever that happens: [`Table::is_urgent`](crate::Table::is_urgent) must
    /// be true by now. Without it the cell waits for the next regular turn, up to an interval.
    ///
    /// Cost: a fence and a load, and one write of a byte to a socket if the thread sleeps, at most about fifty times a
    /// second. No lock, no allocation. In a forked child it does nothing.
    pub fn kick(&self) {
        if self.0.flag.must_ring() && self.0.generation == process::generation() {
            // A full socket wakes as well as one more byte does.
            let _full = self.0.rope.send(&[1]);
        }
    }
}

/// The thread's side.
#[derive(Debug)]
pub(crate) struct Sleeper {
    bell: Arc<Bell>,
    heard: Rope,
}

/// What the thread waits on, beside its sockets and timers.
pub(crate) struct Heard(
    #[cfg(unix)] tokio::net::UnixDatagram,
    #[cfg(not(unix))] tokio::net::UdpSocket,
);

impl Heard {
    /// Waits until the bell was rung.
    pub(crate) async fn rung(&self) -> io::Result<()> {
        self.0.readable().await?;
        // One ring a sleep; more than a few that came late wake once more.
        let mut byte = [0; 1];
        for _ in 0..8 {
            if self.0.try_recv(&mut byte).is_err() {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn ropes() -> io::Result<(Rope, Rope)> {
    Rope::pair()
}

/// Where there are no pairs, two sockets that know only each other.
#[cfg(not(unix))]
fn ropes() -> io::Result<(Rope, Rope)> {
    let [one, other] = [Rope::bind("127.0.0.1:0")?, Rope::bind("127.0.0.1:0")?];
    one.connect(other.local_addr()?)?;
    other.connect(one.local_addr()?)?;
    Ok((one, other))
}

/// Both sides.
pub(crate) fn pair() -> io::Result<(Kicker, Sleeper)> {
    let (rope, heard) = ropes()?;
    rope.set_nonblocking(true)?;
    heard.set_nonblocking(true)?;
    let bell = Arc::new(Bell {
        flag: Flag::new(),
        rope,
        generation: process::generation(),
    });
    let sleeper = Sleeper {
        bell: Arc::clone(&bell),
        heard,
    };
    Ok((Kicker(bell), sleeper))
}

impl Sleeper {
    /// For the runtime that this is called in.
    pub(crate) fn listen(&self) -> io::Result<Heard> {
        let heard = self.heard.try_clone()?;
        #[cfg(unix)]
        let heard = tokio::net::UnixDatagram::from_std(heard)?;
        #[cfg(not(unix))]
        let heard = tokio::net::UdpSocket::from_std(heard)?;
        Ok(Heard(heard))
    }

    /// Announces a sleep. False if the table turned urgent meanwhile: then there is none.
    pub(crate) fn try_sleep(&self, is_urgent: impl FnOnce() -> bool) -> bool {
        self.bell.flag.try_sleep(is_urgent)
    }

    /// The sleep is over; true if it was ended by a kick.
    pub(crate) fn wake(&self) -> bool {
        self.bell.flag.wake()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sleep_takes_one_byte_and_a_waking_thread_none() {
        let (kicker, sleeper) = pair().expect("a pair of sockets");
        let mut bytes = [0; 8];
        kicker.kick();
        assert!(sleeper.heard.recv(&mut bytes).is_err(), "nobody sleeps");
        assert!(sleeper.try_sleep(|| false));
        kicker.kick();
        kicker.kick();
        assert_eq!(sleeper.heard.recv(&mut bytes).expect("a byte"), 1);
        assert!(sleeper.wake(), "it was kicked");
        assert!(!sleeper.try_sleep(|| true), "urgent meanwhile");
        kicker.kick();
        assert!(sleeper.heard.recv(&mut bytes).is_err(), "nobody sleeps");
    }
}
