//! Sockets that systemd has opened and hands over, so that a restart refuses nobody and the node needs no right to open them.

use listenfd::ListenFd;
use tokio::net::TcpListener;

use crate::failure::Failure;

/// The sockets handed over. Both are `None` if the node was not started that way.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    pub(crate) http: Option<TcpListener>,
    pub(crate) resp: Option<TcpListener>,
}

impl Handed {
    /// Takes the sockets over, by the names that their units give them.
    ///
    /// Errors: one has another name, two have one, or one cannot be used. Texts say what to do.
    pub(crate) fn take() -> Result<Self, Failure> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut sockets = ListenFd::from_env();
        let mut handed = Handed::default();
        let mut names = names.split(':');
        for index in 0..sockets.len() {
            let name = names.next().unwrap_or_default();
            let place = match name {
                "http" => &mut handed.http,
                "resp" => &mut handed.resp,
                other => {
                    return Err(Failure::Usage(format!(
                        "a socket handed over is called \"{}\": call it http or resp with FileDescriptorName= in its unit",
                        other.escape_debug()
                    )));
                }
            };
            if place.is_some() {
                return Err(Failure::Usage(format!(
                    "two sockets handed over are called {name}: leave one"
                )));
            }
            let refused = |error| {
                Failure::Io(format!(
                    "the socket {name} that was handed over cannot be used: {error}"
                ))
            };
            let socket = sockets.take_tcp_listener(index).map_err(refused)?;
            if let Some(socket) = socket {
                socket.set_nonblocking(true).map_err(refused)?;
                *place = Some(TcpListener::from_std(socket).map_err(refused)?);
            }
        }
        Ok(handed)
    }
}
