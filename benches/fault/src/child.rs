//! Child processes. The campaigns have no threads, so a child may do all that its parent may.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How a child ended, or that it stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Code(i32),
    Killed(i32),
    Stopped(i32),
}

/// A child; killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
    ended: bool,
}

impl Child {
    /// Runs `body` in a forked child, which ends with 0 if that is `Ok`, and says on its standard error what is not.
    pub(crate) fn fork(body: impl FnOnce() -> Result<(), String>) -> Result<Self, String> {
        // Safety: the campaigns have one thread, so nothing is left locked or half done in the child.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(format!("no fork: {}", std::io::Error::last_os_error()));
        }
        if pid == 0 {
            let code = match catch_unwind(AssertUnwindSafe(body)) {
                Ok(Ok(())) => 0,
                Ok(Err(text)) => {
                    eprintln!("a child: {text}");
                    1
                }
                Err(_) => 2,
            };
            // Safety: ends the child, without running what the parent has to run.
            unsafe { libc::_exit(code) };
        }
        Ok(Child { pid, ended: false })
    }

    pub(crate) fn kill(&self) {
        if !self.ended {
            // Safety: it was not waited for, so the number is still this child's.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
    }

    fn poll(&mut self, flags: libc::c_int) -> Result<Option<State>, String> {
        let mut status = 0;
        // Safety: a child of ours that was not waited for; `status` is a place for its status.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, flags) };
        match waited {
            0 => Ok(None),
            pid if pid == self.pid => Ok(Some(if libc::WIFSTOPPED(status) {
                State::Stopped(libc::WSTOPSIG(status))
            } else {
                self.ended = true;
                if libc::WIFSIGNALED(status) {
                    State::Killed(libc::WTERMSIG(status))
                } else {
                    State::Code(libc::WEXITSTATUS(status))
                }
            })),
            _ => Err(format!("waiting failed: {}", std::io::Error::last_os_error())),
        }
    }

    /// Waits until it ends or stops.
    pub(crate) fn wait(&mut self) -> Result<State, String> {
        self.poll(0)?.ok_or_else(|| "waiting returned nothing".to_owned())
    }

    /// Waits until it ends; an error if that takes longer than `within`.
    pub(crate) fn wait_within(&mut self, within: Duration) -> Result<State, String> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(state) = self.poll(libc::WNOHANG)? {
                return Ok(state);
            }
            if Instant::now() > deadline {
                return Err(format!("a process has not ended after {within:?}: it is blocked"));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Lets a traced child run one instruction, and waits for that.
    pub(crate) fn step(&mut self) -> Result<State, String> {
        // Safety: a stopped child that asked to be traced by us; no address or data is used.
        let stepped = unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.pid, 0, 0) };
        if stepped != 0 {
            return Err(format!(
                "single steps are not allowed here: {}",
                std::io::Error::last_os_error()
            ));
        }
        self.wait()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            let _ = self.poll(0);
        }
    }
}

/// In a child: asks to be traced by the parent, and stops.
pub(crate) fn stop_for_tracing() -> Result<(), String> {
    // Safety: neither call uses memory of ours.
    let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
    if traced != 0 {
        return Err(format!(
            "tracing is not allowed here: {}",
            std::io::Error::last_os_error()
        ));
    }
    // Safety: stops this process until its parent goes on with it.
    unsafe { libc::raise(libc::SIGSTOP) };
    Ok(())
}
