//! Forking the test, and waiting for what comes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
    /// It was still there at the deadline, and was killed.
    Late,
}

/// Runs `body` in a forked child, which ends with its result as exit code, without running anything else.
pub(crate) fn fork(body: impl FnOnce() -> u8) -> libc::pid_t {
    // Safety: the child runs `body` and leaves; the C library makes memory usable in it, and `body` takes no lock that a thread of
    // the parent may have had.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "no fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let code = catch_unwind(AssertUnwindSafe(body)).map_or(255, i32::from);
        // Safety: ends this process at once.
        unsafe { libc::_exit(code) };
    }
    pid
}

/// Waits for a child until the deadline.
pub(crate) fn wait(pid: libc::pid_t, within: Duration) -> Ended {
    let deadline = Instant::now() + within;
    loop {
        let mut status = 0;
        // Safety: `pid` is a child of ours that was not waited for yet; `status` is a place for its status.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if waited == pid {
            if libc::WIFSIGNALED(status) {
                return Ended::Signal(libc::WTERMSIG(status));
            }
            return Ended::Code(libc::WEXITSTATUS(status));
        }
        assert_eq!(waited, 0, "{}", std::io::Error::last_os_error());
        if Instant::now() > deadline {
            // Safety: it is our child, and not waited for, so the number is still its.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            // Safety: as above.
            unsafe { libc::waitpid(pid, &raw mut status, 0) };
            return Ended::Late;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
