//! Locks on single bytes of a file that belong to an *open file description*: the kernel gives them back when the last
//! descriptor of it is closed, so at the latest when the process is gone. Unlike the older locks of `fcntl` they are
//! not lost when any other descriptor of the file is closed, and unlike those of `flock` there are many in one file.
//!
//! The bytes need not exist. Source: `fcntl(2)`, "Open file description locks".

use std::io;
use std::os::fd::RawFd;

#[cfg(not(target_env = "gnu"))]
use libc::flock as Flock;
#[cfg(target_env = "gnu")]
use libc::flock64 as Flock;

fn lock_of(start: usize, len: usize) -> Flock {
    // Safety: it is a struct of integers, for which zeros are valid; a pid of 0 is what these locks demand.
    let mut lock: Flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock.l_start = start as _;
    lock.l_len = len as _;
    lock
}

/// Takes the lock on byte `at`, without waiting. False if another description has it.
pub(super) fn try_lock(fd: RawFd, at: usize) -> io::Result<bool> {
    let lock = lock_of(at, 1);
    // Safety: `fd` is open while its owner lends it, and `lock` is a lock.
    if unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &raw const lock) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

/// The first byte from `start` on, of `len`, that another description has locked.
pub(super) fn first_locked(fd: RawFd, start: usize, len: usize) -> io::Result<Option<usize>> {
    let mut lock = lock_of(start, len);
    // Safety: as in `try_lock`; the kernel writes an answer of the same type into `lock`.
    if unsafe { libc::fcntl(fd, libc::F_OFD_GETLK, &raw mut lock) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if i32::from(lock.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    Ok(Some((lock.l_start.max(start as _)) as usize))
}
