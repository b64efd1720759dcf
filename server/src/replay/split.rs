//! Chunks of bytes into lines, with a bound on what an endless line can hold.

use memchr::memchr;

/// The longest line that is taken, in bytes: far above what servers write, far below what would hurt.
pub const LONGEST_LINE: usize = 1 << 20;
/// How much of a longer line is kept, to show it.
const HEAD: usize = 256;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line, without its ending.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole line of at most [`LONGEST_LINE`] bytes.
    Line(&'a [u8]),
    /// The beginning of a longer one; the rest was dropped.
    TooLong(&'a [u8]),
}

/// Splits one input into lines.
///
/// Drive it with [`feed`](Splitter::feed) for each chunk, in order, then once with [`finish`](Splitter::finish).
/// Memory: at most one line.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The beginning of a line whose end is in a later chunk.
    carry: Vec<u8>,
    /// The line is too long; `carry` is only its head, and all up to the next newline is dropped.
    dropping: bool,
    number: u64,
}

impl Splitter {
    /// Calls `each` with the number (from 1) and the bytes of every line that ends in `chunk`.
    pub fn feed<E>(
        &mut self,
        mut chunk: &[u8],
        mut each: impl FnMut(u64, Piece<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = memchr(b'\n', chunk) {
            let (line, rest) = (&chunk[..end], &chunk[end + 1..]);
            chunk = rest;
            if self.carry.is_empty() && !self.dropping && line.len() <= LONGEST_LINE {
                // The usual line lies in one chunk and is never copied.
                self.number += 1;
                each(self.number, Piece::Line(trimmed(self.number, line)))?;
            } else {
                self.keep(line);
                self.finish(&mut each)?;
            }
        }
        self.keep(chunk);
        Ok(())
    }

    /// Hands out a last line that has no newline, and gets ready for another input's lines to continue the count.
    pub fn finish<E>(&mut self, mut each: impl FnMut(u64, Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        if self.carry.is_empty() && !self.dropping {
            return Ok(());
        }
        self.number += 1;
        let line = trimmed(self.number, &self.carry);
        let done = each(
            self.number,
            if self.dropping {
                Piece::TooLong(line)
            } else {
                Piece::Line(line)
            },
        );
        self.carry.clear();
        self.dropping = false;
        done
    }

    fn keep(&mut self, part: &[u8]) {
        if self.dropping {
            return;
        }
        if self.carry.len() + part.len() > LONGEST_LINE {
            self.dropping = true;
            let room = HEAD.saturating_sub(self.carry.len()).min(part.len());
            self.carry.extend_from_slice(&part[..room]);
            self.carry.truncate(HEAD);
            self.carry.shrink_to(HEAD);
        } else {
            self.carry.extend_from_slice(part);
        }
    }
}

/// Without the carriage return of a file from Windows, and the byte order mark of a file's first line.
fn trimmed(number: u64, line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if number == 1 {
        line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], chunk: usize) -> Vec<(u64, String)> {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        let mut each = |number, piece: Piece<'_>| {
            found.push((number, format!("{piece:?}")));
            Ok::<(), ()>(())
        };
        for part in input.chunks(chunk) {
            splitter.feed(part, &mut each).unwrap();
        }
        splitter.finish(&mut each).unwrap();
        found
    }

    #[test]
    fn chunk_borders_do_not_matter() {
        let input = b"\xef\xbb\xbfone\r\n\ntwo\nthree";
        let whole = lines(input, input.len());
        assert_eq!(
            whole.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        assert_eq!(whole[0].1, format!("{:?}", Piece::Line(b"one")));
        assert_eq!(whole[3].1, format!("{:?}", Piece::Line(b"three")));
        for chunk in 1..input.len() {
            assert_eq!(lines(input, chunk), whole, "chunks of {chunk}");
        }
    }

    #[test]
    fn the_last_newline_ends_a_line_and_begins_none() {
        assert_eq!(lines(b"a\n", 1).len(), 1);
        assert_eq!(lines(b"", 1).len(), 0);
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_one_is_whole() {
        let mut input = vec![b'x'; LONGEST_LINE + 1];
        input.extend_from_slice(b"\nnext\n");
        for chunk in [1000, 65_536, input.len()] {
            let found = lines(&input, chunk);
            assert_eq!(
                found[0],
                (1, format!("{:?}", Piece::TooLong(&[b'x'; HEAD]))),
                "chunks of {chunk}"
            );
            assert_eq!(found[1], (2, format!("{:?}", Piece::Line(b"next"))));
        }
    }

    #[test]
    fn an_endless_line_holds_no_memory() {
        let mut splitter = Splitter::default();
        for _ in 0..64 {
            splitter.feed(&[b'x'; 65_536], |_, _| Ok::<(), ()>(())).unwrap();
        }
        assert!(
            splitter.carry.capacity() <= LONGEST_LINE,
            "{} bytes",
            splitter.carry.capacity()
        );
    }

    #[test]
    fn the_longest_line_is_whole() {
        let mut input = vec![b'x'; LONGEST_LINE];
        input.push(b'\n');
        for chunk in [1000, input.len()] {
            assert!(lines(&input, chunk)[0].1.starts_with("Line"), "chunks of {chunk}");
        }
    }
}
