//! Certificates while the node runs: read anew when they change, and said to expire in time.

use std::time::{Duration, Instant, SystemTime};

use super::Engine;
use crate::config::Identity;
use crate::driver::Table;
use crate::error::CertificateError;
use crate::event::Event;
use crate::tls::{self, Source};
use crate::transport;

/// Between two warnings that the certificate expires.
const WARN_EVERY: Duration = Duration::from_secs(86_400);

/// When to look, and what was found wrong already.
pub(super) struct Schedule {
    due: Instant,
    /// What did not fit at the last look: a certificate and its key are two files, and one is written first.
    unfit: Option<Source>,
    told: bool,
    warned: Option<Instant>,
    expired: bool,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Schedule {
            due: now,
            unfit: None,
            told: false,
            warned: None,
            expired: false,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }
}

impl<T, C, E> Engine<'_, T, C, E>
where
    T: Table,
    C: Fn() -> u64,
    E: Fn(Event),
{
    pub(super) fn look_at_certificates(&mut self, now: Instant) {
        if now >= self.reload.due {
            self.reload.due = now + self.lasting.config.tuning.reload_every;
            self.look(false);
            self.warn_in_time(now);
        }
    }

    /// Someone asked: he is told at once what is wrong.
    pub(super) fn reload_now(&mut self) {
        self.look(true);
        self.warn_in_time(Instant::now());
    }

    pub(super) fn set_identity(&mut self, identity: Identity) -> Result<(), CertificateError> {
        let source = Source::read(&identity)?;
        let credentials = tls::load(&identity, source, &self.own_name)?;
        self.lasting.config.identity = identity;
        self.use_credentials(credentials);
        Ok(())
    }

    fn look(&mut self, asked: bool) {
        let identity = &self.lasting.config.identity;
        let source = match Source::read(identity) {
            Ok(source) => source,
            Err(error) => return self.fail(None, &error, asked),
        };
        if source == self.lasting.credentials.source {
            (self.reload.unfit, self.reload.told) = (None, false);
            return;
        }
        match tls::load(identity, source.clone(), &self.own_name) {
            Ok(credentials) => self.use_credentials(credentials),
            Err(error) => self.fail(Some(source), &error, asked),
        }
    }

    fn fail(&mut self, source: Option<Source>, error: &CertificateError, asked: bool) {
        let as_before = self.reload.unfit == source;
        // The first time it may be half written. Later it is told once.
        let tell = asked || (as_before && !self.reload.told);
        self.reload.told = tell || (as_before && self.reload.told);
        self.reload.unfit = source;
        if tell {
            self.lasting.counters.certificates_failed += 1;
            self.lasting.journal.tell(Event::CertificatesFailed {
                reason: error.to_string(),
            });
        }
    }

    fn use_credentials(&mut self, credentials: tls::Credentials) {
        let tuning = &self.lasting.config.tuning;
        self.endpoint
            .set_server_config(Some(transport::server(&credentials, tuning)));
        self.client = transport::client(&credentials, tuning);
        let not_after = credentials.not_after;
        self.lasting.credentials = credentials;
        (self.reload.unfit, self.reload.told) = (None, false);
        (self.reload.warned, self.reload.expired) = (None, false);
        self.lasting.counters.certificates_reloaded += 1;
        self.lasting.journal.tell(Event::CertificatesReloaded { not_after });
        self.publish.soon(Instant::now());
    }

    fn warn_in_time(&mut self, now: Instant) {
        let not_after = self.lasting.credentials.not_after;
        let left = not_after.duration_since(SystemTime::now()).unwrap_or_default();
        if left > self.lasting.config.tuning.expiry_warning {
            return;
        }
        let expired = left.is_zero();
        let again = self
            .reload
            .warned
            .is_none_or(|at| now.saturating_duration_since(at) >= WARN_EVERY);
        if again || expired && !self.reload.expired {
            (self.reload.warned, self.reload.expired) = (Some(now), expired);
            self.lasting.journal.tell(Event::CertificateExpires { left });
        }
    }
}
