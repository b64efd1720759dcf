//! A real disk.
//!
//! The new file is given its room window by window, each window is mapped and filled, and only then is it synced and renamed. So
//! a full disk is an error of the call that asks for room and never a signal in the middle of a copy. That holds where
//! the file system keeps what it promised; elsewhere (copy on write, network, stacked) the file is written by plain writes.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::storage::{Storage, Temp, Which};
use crate::process;

/// The files of one snapshot: `NAME`, `NAME.1`, and while it is open `NAME.lock`.
///
/// Only the process that opened it writes: a forked child gets an error from every call, whatever it inherited.
#[derive(Debug)]
pub struct Disk {
    name: PathBuf,
    temp: PathBuf,
    /// Which process opened it.
    generation: u64,
    /// Held while this lives. Never the snapshot itself: a rename would leave the lock on the file before.
    lock: File,
}

/// Why the place of a snapshot cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The path cannot be the name of a file.
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another process, or another limiter of this one, writes there.
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    System {
        /// The file it refused.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Path { path, reason } => write!(f, "no snapshot can be kept at {}: {reason}", path.display()),
            OpenError::Busy { path } => write!(
                f,
                "another limiter keeps its snapshot at {} already: give each its own path, or share one table",
                path.display()
            ),
            OpenError::System { path, error } => {
                write!(
                    f,
                    "the system refused {} ({error}): give a path that this user may write",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::System { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl Disk {
    /// Takes the place of a snapshot for this process, and removes what earlier ones left half done. A directory that does
    /// not exist is made, for this user alone.
    ///
    /// Errors: see [`OpenError`]; nothing is left behind but that directory and an empty `NAME.lock`.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let wrong = |reason| {
            Err(OpenError::Path {
                path: path.to_owned(),
                reason,
            })
        };
        if path.file_name().is_none() || path.as_os_str().is_empty() {
            return wrong("it names no file; give a path like state/api.snapshot");
        }
        make_directory(directory(path)).map_err(|error| OpenError::System {
            path: directory(path).to_owned(),
            error,
        })?;
        for name in [path.to_owned(), suffixed(path, ".1"), suffixed(path, ".lock")] {
            match fs::symlink_metadata(&name) {
                Ok(found) if !found.is_file() => {
                    return wrong("there is something else than an ordinary file; move it away");
                }
                _ => {}
            }
        }
        let lock_path = suffixed(path, ".lock");
        let system = |error| OpenError::System {
            path: lock_path.clone(),
            error,
        };
        let lock = ours(OpenOptions::new().create(true).truncate(false).read(true).write(true))
            .open(&lock_path)
            .map_err(system)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(system(error)),
        }
        let disk = Disk {
            name: path.to_owned(),
            temp: suffixed(path, &format!(".tmp.{}", std::process::id())),
            generation: process::generation(),
            lock,
        };
        disk.sweep();
        Ok(disk)
    }

    /// The path of the newest generation.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.name
    }

    /// Whether this is the process that opened it, and so the one that may write.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.generation == process::generation()
    }

    /// Removes what writers that died left behind: all of it, since this process now is the only one.
    fn sweep(&self) {
        let (Ok(entries), Some(name)) = (fs::read_dir(directory(&self.name)), self.name.file_name()) else {
            return;
        };
        let prefixes = [".tmp.", ".1.tmp.", ".key.tmp."].map(|suffix| {
            let mut prefix = name.to_owned();
            prefix.push(suffix);
            prefix
        });
        for entry in entries.flatten() {
            let found = entry.file_name();
            let left = prefixes.iter().any(|prefix| {
                let number = found.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
                number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
            });
            if left {
                // What cannot be removed is in nobody's way: names carry the process.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn checked(&self) -> io::Result<()> {
        if self.is_ours() {
            Ok(())
        } else {
            Err(io::Error::other("a forked child does not write its parent's snapshot"))
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_ours() {
            // Closing would not do: a forked child may have the same open file, and with it the lock.
            let _ = self.lock.unlock();
        }
    }
}

impl Storage for Disk {
    fn create(&mut self, bytes: u64) -> io::Result<Box<dyn Temp + '_>> {
        self.checked()?;
        remove_if_there(&self.temp)?;
        let file = ours(OpenOptions::new().read(true).write(true).create_new(true)).open(&self.temp)?;
        let mapped = window::keeps_promises(&file);
        Ok(Box::new(window::Writer::new(file, bytes, mapped)?))
    }

    fn keep_previous(&mut self) -> io::Result<()> {
        self.checked()?;
        let (previous, between) = (
            suffixed(&self.name, ".1"),
            suffixed(&self.name, &format!(".1.tmp.{}", std::process::id())),
        );
        remove_if_there(&between)?;
        match fs::hard_link(&self.name, &between) {
            Ok(()) => fs::rename(&between, &previous).inspect_err(|_| {
                let _ = fs::remove_file(&between);
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // No hard links here. For a moment there is only the previous generation, which a restore would take.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
                ) =>
            {
                fs::rename(&self.name, &previous)
            }
            Err(error) => Err(error),
        }
    }

    fn publish(&mut self) -> io::Result<()> {
        self.checked()?;
        fs::rename(&self.temp, &self.name)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.checked()?;
        sync_directory_of(&self.name)
    }

    fn discard(&mut self) {
        if self.is_ours() {
            let _ = fs::remove_file(&self.temp);
        }
    }

    fn read(&mut self, which: Which) -> io::Result<Option<Vec<u8>>> {
        let path = match which {
            Which::Newest => self.name.clone(),
            Which::Previous => suffixed(&self.name, ".1"),
        };
        read_file(&path)
    }
}

/// The content of a file; `None` if there is none. Plainly read: a file that is cut off meanwhile is then damaged, where a
/// mapping of it would end the process.
pub(super) fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = match ours(OpenOptions::new().read(true)).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let length = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    bytes.try_reserve_exact(length.saturating_add(1))?;
    file.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Makes a new file of ours whole or not at all, and durable.
pub(super) fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let temp = suffixed(path, &format!(".tmp.{}", std::process::id()));
    remove_if_there(&temp)?;
    let written = (|| {
        let mut file = ours(OpenOptions::new().write(true).create_new(true)).open(&temp)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temp, path)?;
        sync_directory_of(path)
    })();
    written.inspect_err(|_| {
        let _ = fs::remove_file(&temp);
    })
}

pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a directory and those above it, as far as they are missing.
fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// For this user alone, and never through a link that someone else laid.
fn ours(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    }
    options
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened as a file, and names are as durable as the system makes them.
    #[cfg(unix)]
    File::open(directory(path))?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

mod window {
    //! A file that is filled through mapped windows, or by plain writes where a promise of room is worth nothing.

    use std::fs::File;
    use std::io::{self, Write};

    use super::super::storage::Temp;

    /// The most that is mapped at once.
    #[cfg(target_os = "linux")]
    const LARGEST: usize = 16 << 20;
    /// The least: a small table's snapshot.
    #[cfg(target_os = "linux")]
    const SMALLEST: usize = 128 << 10;

    pub(super) struct Writer {
        file: File,
        length: u64,
        #[cfg(target_os = "linux")]
        mapping: Option<Mapping>,
    }

    #[cfg(target_os = "linux")]
    struct Mapping {
        size: usize,
        /// The window under way and how much of it is filled.
        window: Option<(memmap2::MmapRaw, usize)>,
    }

    impl Writer {
        /// Of about `expected` bytes. Mapped only where room that was promised is there.
        pub(super) fn new(file: File, expected: u64, mapped: bool) -> io::Result<Self> {
            #[cfg(target_os = "linux")]
            {
                let size = usize::try_from(expected).unwrap_or(LARGEST);
                let size = size.clamp(SMALLEST, LARGEST).next_multiple_of(SMALLEST);
                let mapping = mapped.then_some(Mapping { size, window: None });
                let mut writer = Writer {
                    file,
                    length: 0,
                    mapping,
                };
                writer.next_window()?;
                Ok(writer)
            }
            #[cfg(not(target_os = "linux"))]
            {
                let _ = (expected, mapped);
                Ok(Writer { file, length: 0 })
            }
        }

        /// Asks for room for the next window and maps it. Falls back to plain writes where there is no asking.
        #[cfg(target_os = "linux")]
        fn next_window(&mut self) -> io::Result<()> {
            use rustix::fs::{FallocateFlags, fallocate};
            use rustix::io::Errno;

            let Some(mapping) = &mut self.mapping else {
                return Ok(());
            };
            loop {
                match fallocate(&self.file, FallocateFlags::empty(), self.length, mapping.size as u64) {
                    Ok(()) => break,
                    Err(Errno::INTR) => {}
                    Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                        self.mapping = None;
                        // Writes go on where the windows ended.
                        return io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.length)).map(drop);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let window = memmap2::MmapOptions::new()
                .offset(self.length)
                .len(mapping.size)
                .map_raw(&self.file)?;
            mapping.window = Some((window, 0));
            Ok(())
        }

        #[cfg(target_os = "linux")]
        fn append_mapped(&mut self, mut bytes: &[u8]) -> io::Result<()> {
            while !bytes.is_empty() {
                let Some(mapping) = &mut self.mapping else {
                    return self.append_plainly(bytes);
                };
                let full = match &mut mapping.window {
                    Some((window, filled)) => {
                        let count = bytes.len().min(window.len() - *filled);
                        // Safety: `filled + count` is within the mapping; the file behind it has its room (`fallocate`), on a
                        // file system that keeps to it, and is ours alone: created with O_EXCL, named by nobody else, never
                        // cut while it is mapped. Nothing refers to the mapped bytes but this copy.
                        unsafe {
                            std::ptr::copy_nonoverlapping(bytes.as_ptr(), window.as_mut_ptr().add(*filled), count);
                        }
                        *filled += count;
                        self.length += count as u64;
                        bytes = &bytes[count..];
                        *filled == window.len()
                    }
                    None => true,
                };
                if full {
                    self.end_window()?;
                    if !bytes.is_empty() {
                        self.next_window()?;
                    }
                }
            }
            Ok(())
        }

        #[cfg(target_os = "linux")]
        fn end_window(&mut self) -> io::Result<()> {
            match self.mapping.as_mut().and_then(|mapping| mapping.window.take()) {
                // Waits for the disk, so that no more than one window is ever behind.
                Some((window, filled)) => window.flush_range(0, filled),
                None => Ok(()),
            }
        }

        fn append_plainly(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.file.write_all(bytes)?;
            self.length += bytes.len() as u64;
            Ok(())
        }
    }

    impl Temp for Writer {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            #[cfg(target_os = "linux")]
            if self.mapping.is_some() {
                return self.append_mapped(bytes);
            }
            self.append_plainly(bytes)
        }

        fn sync(mut self: Box<Self>) -> io::Result<()> {
            #[cfg(target_os = "linux")]
            if self.mapping.is_some() {
                self.end_window()?;
                // What was asked for and not used.
                self.file.set_len(self.length)?;
            }
            self.file.sync_all()
        }
    }

    /// Whether room that was promised is there when it is written to. Known of these; others may copy on write, lie on a network
    /// or on another file system.
    #[cfg(target_os = "linux")]
    pub(super) fn keeps_promises(file: &File) -> bool {
        const EXT: u64 = 0xef53;
        const XFS: u64 = 0x5846_5342;
        const TMPFS: u64 = 0x0102_1994;
        rustix::fs::fstatfs(file).is_ok_and(|fs| [EXT, XFS, TMPFS].contains(&(fs.f_type as u64)))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn keeps_promises(_file: &File) -> bool {
        false
    }

    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    mod tests {
        use std::fs;

        use super::super::super::storage::Temp;
        use super::Writer;

        /// Parts that end before, at and behind the ends of windows.
        const PARTS: [usize; 9] = [4_096, 65_536, 65_536, 1, 131_071, 400_000, 0, 65_536, 64];

        #[test]
        fn mapped_and_plain_files_are_the_same() {
            let directory = tempfile::tempdir().unwrap();
            for expected in [0, 1, 70_000, 700_000, u64::MAX] {
                for mapped in [false, true] {
                    let path = directory.path().join(format!("{expected}-{mapped}"));
                    let options = fs::OpenOptions::new()
                        .read(true)
                        .write(true)
                        .create_new(true)
                        .open(&path);
                    let mut writer = Box::new(Writer::new(options.unwrap(), expected, mapped).unwrap());
                    let mut all = Vec::new();
                    for (number, &part) in PARTS.iter().enumerate() {
                        let bytes: Vec<u8> = (0..part).map(|i| (i * 31 + number) as u8).collect();
                        writer.append(&bytes).unwrap();
                        all.extend(bytes);
                    }
                    writer.sync().unwrap();
                    assert!(fs::read(&path).unwrap() == all, "{expected} expected, mapped: {mapped}");
                }
            }
        }
    }
}
