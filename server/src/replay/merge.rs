//! Sorted runs on disk, and their merge.
//!
//! A run is a sequence of records: the time since the record before, the length of the key (both as LEB128: seven bits a
//! byte, lowest first, the top bit set on all but the last), the key. Runs are private to one process and never outlive it,
//! so that they carry neither version nor checksum.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

const WRITE_BUFFER: usize = 64 << 10;
/// A smaller buffer makes a system call of every few records; a larger one gains nothing.
const READ_BUFFER: std::ops::RangeInclusive<usize> = 4 << 10..=128 << 10;

/// A finished run. Its file has no name: closing it, by whatever end, frees the space.
#[derive(Debug)]
pub struct Run {
    file: File,
    records: u64,
}

/// Writes a run; records must come by time.
pub struct RunWriter {
    file: BufWriter<File>,
    records: u64,
    last_ns: u64,
}

impl RunWriter {
    /// An empty run in a nameless file in `folder`.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(WRITE_BUFFER, tempfile::tempfile_in(folder)?);
        Ok(RunWriter {
            file,
            records: 0,
            last_ns: 0,
        })
    }

    /// Appends a record that is not before the last one.
    pub fn write(&mut self, time_ns: u64, key: &[u8]) -> io::Result<()> {
        write_number(&mut self.file, time_ns - self.last_ns)?;
        write_number(&mut self.file, key.len() as u64)?;
        self.file.write_all(key)?;
        self.last_ns = time_ns;
        self.records += 1;
        Ok(())
    }

    /// Flushes the run, and rewinds it for reading.
    pub fn finish(self) -> io::Result<Run> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Run {
            file,
            records: self.records,
        })
    }
}

/// Reads a run; holds one record at a time.
struct RunReader {
    file: BufReader<File>,
    left: u64,
    time_ns: u64,
    key: Vec<u8>,
}

impl RunReader {
    fn new(run: Run, buffer: usize) -> Self {
        let file = BufReader::with_capacity(buffer, run.file);
        RunReader {
            file,
            left: run.records,
            time_ns: 0,
            key: Vec::new(),
        }
    }

    /// Moves to the next record; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        self.time_ns += read_number(&mut self.file)?;
        let length = read_number(&mut self.file)? as usize;
        self.key.resize(length, 0);
        self.file.read_exact(&mut self.key)?;
        Ok(true)
    }
}

/// Hands the records of all runs to `each`, by time and, at equal times, by the place of their run, until it returns false.
///
/// Memory: `budget` bytes shared out as buffers, but at least 4 KiB for each run.
pub fn merge(runs: Vec<Run>, budget: usize, mut each: impl FnMut(u64, &[u8]) -> io::Result<bool>) -> io::Result<()> {
    let buffer = (budget / runs.len().max(1)).clamp(*READ_BUFFER.start(), *READ_BUFFER.end());
    let mut readers: Vec<_> = runs.into_iter().map(|run| RunReader::new(run, buffer)).collect();
    // The smallest (time, place) is on top.
    let mut heads = BinaryHeap::with_capacity(readers.len());
    for (place, reader) in readers.iter_mut().enumerate() {
        if reader.advance()? {
            heads.push(Reverse((reader.time_ns, place)));
        }
    }
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((time_ns, place)) = *head;
        let reader = &mut readers[place];
        if !each(time_ns, &reader.key)? {
            return Ok(());
        }
        // Changing the top in place sifts once; taking it off and pushing it back would sift twice.
        if reader.advance()? {
            *head = Reverse((reader.time_ns, place));
        } else {
            std::collections::binary_heap::PeekMut::pop(head);
        }
    }
    Ok(())
}

fn write_number(file: &mut impl Write, mut number: u64) -> io::Result<()> {
    let mut bytes = [0; 10];
    let mut length = 0;
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes[length] = if number == 0 { low } else { low | 0x80 };
        length += 1;
        if number == 0 {
            return file.write_all(&bytes[..length]);
        }
    }
}

fn read_number(file: &mut impl BufRead) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        number |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            return Ok(number);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "a temporary file was changed by someone else",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            write_number(&mut bytes, number).unwrap();
            assert_eq!(read_number(&mut bytes.as_slice()).unwrap(), number);
        }
        assert!(read_number(&mut [0xff; 20].as_slice()).is_err());
        assert!(read_number(&mut [0xff; 3].as_slice()).is_err());
    }

    #[test]
    fn a_run_comes_back() {
        let mut writer = RunWriter::create(&std::env::temp_dir()).unwrap();
        let records = [
            (0, b"".to_vec()),
            (7, b"a".to_vec()),
            (7, vec![b'x'; 300]),
            (u64::MAX, b"z".to_vec()),
        ];
        for (time_ns, key) in &records {
            writer.write(*time_ns, key).unwrap();
        }
        let mut found = Vec::new();
        merge(vec![writer.finish().unwrap()], 0, |time_ns, key| {
            found.push((time_ns, key.to_vec()));
            Ok(true)
        })
        .unwrap();
        assert_eq!(found, records);
    }
}
