//! Where lines come from: files, standard input or the sample, plain or gzip, read by a thread of its own.
//!
//! The thread is there for two reasons. Unpacking runs beside parsing; and a read that blocks (a pipe nobody writes to)
//! cannot keep Ctrl-C from being seen, since the main thread waits on a channel with a time-out, never on the input.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;

use super::sample::{Sample, SampleConfig};
use crate::failure::Failure;

/// Bytes per chunk: enough that the channel costs nothing, small enough to stay in the cache between the threads.
const CHUNK: usize = 64 << 10;
/// Chunks that may wait for the parser.
const QUEUE: usize = 8;
/// How long a stop can go unseen while no input comes.
const PATIENCE: Duration = Duration::from_millis(50);

const GZIP: &[u8] = b"\x1f\x8b";
/// Packers we do not unpack: a clear word beats a million malformed lines.
const OTHER_PACKERS: [(&[u8], &str); 3] = [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ", "xz"), (b"BZh", "bzip2")];

/// One input.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, or anything else with a name: a pipe works.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// Made-up traffic.
    Sample(SampleConfig),
}

impl Source {
    /// The source that a command line argument names.
    #[must_use]
    pub fn from_argument(path: &Path) -> Self {
        if path == Path::new("-") {
            Source::Stdin
        } else {
            Source::File(path.to_owned())
        }
    }

    /// The name for messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Stdin => "standard input".to_owned(),
            Source::Sample(_) => "the sample".to_owned(),
        }
    }

    /// Bytes to read, where that is known before. Fails on a file that is missing or a folder, so that the third of three
    /// logs does not end an hour of work on the first two.
    pub fn size(&self) -> Result<Option<u64>, Failure> {
        let Source::File(path) = self else { return Ok(None) };
        let about = fs::metadata(path).map_err(|error| Failure::file("read", path, &error))?;
        if about.is_dir() {
            return Err(Failure::Io(format!(
                "{} is a folder: name the log files in it",
                path.display()
            )));
        }
        Ok(about.is_file().then_some(about.len()))
    }

    /// The bytes of the log, unpacked; `taken` counts the bytes taken from the disk or pipe.
    fn open(&self, taken: Arc<AtomicU64>) -> io::Result<Box<dyn Read>> {
        let raw: Box<dyn Read> = match self {
            Source::File(path) => Box::new(File::open(path)?),
            Source::Stdin => Box::new(io::stdin()),
            Source::Sample(config) => return Ok(Box::new(Sample::new(config))),
        };
        unpacked(Counted { inner: raw, taken })
    }
}

/// Unpacks gzip, however many members it has, and passes everything else on as it is.
fn unpacked(mut raw: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut head = Vec::with_capacity(8);
    raw.by_ref().take(8).read_to_end(&mut head)?; // A pipe can give one byte at a time.
    if let Some((_, name)) = OTHER_PACKERS.iter().find(|(magic, _)| head.starts_with(magic)) {
        let message = format!("it is packed with {name}; unpack it into a pipe and read that with the argument -");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let packed = head.starts_with(GZIP);
    let whole = io::Cursor::new(head).chain(raw);
    if packed {
        let whole = io::BufReader::with_capacity(CHUNK, whole);
        Ok(Box::new(Gzip(MultiGzDecoder::new(whole))))
    } else {
        Ok(Box::new(whole))
    }
}

/// Unpacks gzip; its errors say what to do.
struct Gzip<R>(MultiGzDecoder<R>);

impl<R: io::BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        self.0.read(buffer).map_err(|error| match error.kind() {
            InvalidData | InvalidInput | UnexpectedEof => io::Error::new(
                error.kind(),
                format!(
                    "its gzip data is cut or damaged, or something follows it ({error}); unpack what is whole into a pipe, as \
                     with gzip -dc, and read that with the argument -"
                ),
            ),
            _ => error,
        })
    }
}

/// Counts what passes, for the progress line.
struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        // Relaxed: a figure for the eye.
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// What the reading thread reports, in order: chunks of a source, then its end, then the next source.
#[derive(Debug)]
pub enum Event {
    /// The next bytes of the source with this index.
    Chunk(usize, Vec<u8>),
    /// The source with this index has no more.
    End(usize),
    /// The source with this index failed; nothing follows.
    Failed(usize, io::Error),
}

/// The reading thread, seen from the thread that parses.
#[derive(Debug)]
pub struct Reader {
    events: Receiver<Event>,
    taken: Arc<AtomicU64>,
}

impl Reader {
    /// Starts reading `sources`, one after the other. Dropping the reader ends the thread at its next chunk.
    #[must_use]
    pub fn start(sources: Vec<Source>) -> Self {
        let (sender, events) = sync_channel(QUEUE);
        let taken = Arc::new(AtomicU64::new(0));
        let reader = Reader {
            events,
            taken: Arc::clone(&taken),
        };
        // Never joined: a blocked read cannot be woken, and the thread owns nothing that must be put in order.
        thread::spawn(move || read_all(&sources, &sender, &taken));
        reader
    }

    /// Bytes taken from disks and pipes so far, before unpacking.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The next event; `None` at the end, or as soon as `stop` says so.
    pub fn next(&self, stop: impl Fn() -> bool) -> Option<Event> {
        loop {
            if stop() {
                return None;
            }
            match self.events.recv_timeout(PATIENCE) {
                Ok(event) => return Some(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

/// Sends everything. An error of sending means that nobody listens any more: then there is nothing left to do.
fn read_all(sources: &[Source], events: &SyncSender<Event>, taken: &Arc<AtomicU64>) {
    for (index, source) in sources.iter().enumerate() {
        let done = source
            .open(Arc::clone(taken))
            .and_then(|mut input| send_chunks(index, &mut input, events));
        let event = match done {
            Ok(true) => Event::End(index),
            Ok(false) => return,
            Err(error) => Event::Failed(index, error),
        };
        let failed = matches!(event, Event::Failed(..));
        if events.send(event).is_err() || failed {
            return;
        }
    }
}

/// Sends one input to its end; false if nobody listens any more.
fn send_chunks(index: usize, input: &mut dyn Read, events: &SyncSender<Event>) -> io::Result<bool> {
    loop {
        let mut chunk = vec![0; CHUNK];
        let count = match input.read(&mut chunk) {
            Ok(0) => return Ok(true),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        chunk.truncate(count);
        if events.send(Event::Chunk(index, chunk)).is_err() {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        unpacked(io::Cursor::new(bytes))?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn plain_gzip_and_several_members() {
        assert_eq!(unpack(b"plain text".to_vec()).unwrap(), b"plain text");
        assert_eq!(unpack(Vec::new()).unwrap(), b"");
        assert_eq!(unpack(b"x".to_vec()).unwrap(), b"x");
        assert_eq!(unpack(gzip(b"packed")).unwrap(), b"packed");
        assert_eq!(
            unpack([gzip(b"one "), gzip(b""), gzip(b"two")].concat()).unwrap(),
            b"one two"
        );
    }

    #[test]
    fn a_cut_gzip_is_an_error() {
        let mut bytes = gzip(&[b'x'; 10_000]);
        bytes.truncate(bytes.len() - 6);
        assert!(unpack(bytes).is_err());
    }

    #[test]
    fn other_packers_are_named() {
        let error = unpack(b"\x28\xb5\x2f\xfd....".to_vec()).unwrap_err();
        assert!(error.to_string().contains("zstd"), "{error}");
    }

    #[test]
    fn a_reader_stops_when_told() {
        let reader = Reader::start(vec![Source::Sample(SampleConfig {
            seed: 1,
            requests: u64::MAX / 1_000_000,
        })]);
        assert!(reader.next(|| false).is_some());
        assert!(reader.next(|| true).is_none());
    }

    #[test]
    fn a_missing_file_and_a_folder_are_told_before_reading() {
        let missing = Source::File(PathBuf::from("/no/such/log"));
        assert!(
            missing
                .size()
                .unwrap_err()
                .to_string()
                .starts_with("cannot read /no/such/log: ")
        );
        let folder = Source::File(std::env::temp_dir());
        assert!(folder.size().unwrap_err().to_string().contains("is a folder"));
    }
}
