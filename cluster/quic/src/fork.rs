//! The sockets that a forked child does not keep.
//!
//! A child has no thread that would read them, and while it held them open the port would stay taken after the parent's end.

use std::io;
use std::net::UdpSocket;

#[cfg(unix)]
use ratelimit_core::process::{InThisProcess, open_in_this_process};

/// Says that a socket is closed in every forked child. To be dropped before the socket is.
#[derive(Debug)]
pub(crate) struct Kept {
    #[cfg(unix)]
    _in_this_process: InThisProcess,
}

/// Opens a socket that only this process has.
///
/// What is opened must stay on the driver's thread, or with tasks of its runtime: in a child neither exists.
#[cfg(unix)]
#[allow(unsafe_code, reason = "the fact below is what only this crate can know")]
pub(crate) fn open(open: impl FnOnce() -> io::Result<UdpSocket>) -> io::Result<(Kept, UdpSocket)> {
    // Safety: the socket lives in a `Prepared`, which forgets it in a child, and then in values of the driver's thread alone, which
    // a child does not have; all callers keep the first value in a place that is dropped before the socket is closed.
    let (socket, in_this_process) = unsafe { open_in_this_process(open)? };
    let kept = Kept {
        _in_this_process: in_this_process,
    };
    Ok((kept, socket))
}

/// Opens a socket. Where there is no fork nobody inherits it.
#[cfg(not(unix))]
pub(crate) fn open(open: impl FnOnce() -> io::Result<UdpSocket>) -> io::Result<(Kept, UdpSocket)> {
    open().map(|socket| (Kept {}, socket))
}
