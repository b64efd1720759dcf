//! Ctrl-C and SIGTERM as a flag that long work looks at.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code after Ctrl-C or SIGTERM, as shells number it for SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Whether the user asked us to stop. Clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    requested: Arc<AtomicBool>,
}

impl Stop {
    /// Lets SIGINT and SIGTERM raise the flag. A second signal ends the process at once, for whoever cannot wait.
    ///
    /// Errors: the system refuses the handler; signals then end the process as if never asked.
    pub fn listen(&self) -> io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::flag;

        for signal in [SIGINT, SIGTERM] {
            // The order matters: actions run as registered, so the first signal finds the flag down, the second finds it up.
            flag::register_conditional_shutdown(signal, i32::from(EXIT_INTERRUPTED), Arc::clone(&self.requested))?;
            flag::register(signal, Arc::clone(&self.requested))?;
        }
        Ok(())
    }

    /// Whether the flag is up.
    #[must_use]
    pub fn requested(&self) -> bool {
        // Relaxed: the flag guards no other data; seeing it some events later is fine.
        self.requested.load(Ordering::Relaxed)
    }

    /// Raises the flag, as a signal would.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Relaxed);
    }
}
