//! The folder: who may read what, and nothing half written.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Made;
use crate::error::Error;

/// Larger files are no PEM of ours.
const MAX_FILE: u64 = 1 << 20;

pub(crate) struct Folder(PathBuf);

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    Owner,
    All,
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::File {
        what,
        path: path.to_owned(),
        error,
    }
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(failed("make", path))?;
        Ok(Folder(path.to_owned()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file's text; `None` if there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.path(name);
        let read = || {
            let file = File::open(&path)?;
            if file.metadata()?.len() > MAX_FILE {
                return Err(io::Error::other("it is larger than 1 MiB"));
            }
            io::read_to_string(file)
        };
        match read() {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Writes a file whole. Without `replace` one that is there is an error, also if it appeared a moment ago.
    pub(crate) fn write(&self, name: &str, text: &str, readers: Readers, replace: bool) -> Result<(), Error> {
        let path = self.path(name);
        let write = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix(".ratelimit-certs-");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let mode = if readers == Readers::Owner { 0o600 } else { 0o644 };
                builder.permissions(Permissions::from_mode(mode));
            }
            let mut file = builder.tempfile_in(&self.0)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            let kept = if replace {
                file.persist(&path)
            } else {
                file.persist_noclobber(&path)
            };
            kept.map_err(|error| error.error)?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(failed("write", &path))
    }

    /// The cluster's secret, if it has none yet.
    pub(crate) fn make_secret(&self) -> Result<Made, Error> {
        if let Some(text) = self.read("secret")? {
            let text = text.trim();
            if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Error::Damaged {
                    path: self.path("secret"),
                    reason: "it is no 128-bit secret, which is 32 hexadecimal digits".to_owned(),
                });
            }
            return Ok(Made::Kept);
        }
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(|error| Error::Making(error.to_string()))?;
        let text = format!("{:032x}\n", u128::from_be_bytes(secret));
        self.write("secret", &text, Readers::Owner, false)?;
        Ok(Made::New)
    }
}
