//! Bytes: numbers of variable length, texts, and frames cut out of an ordered stream.
//!
//! A number is written in groups of seven bits, the lowest first, with the top bit set in all bytes but the last. It has
//! exactly one form: a longer one is refused, so that what was decoded encodes to the same bytes. Nothing here believes a
//! length before the bytes are there.

use alloc::vec::Vec;
use core::fmt;

/// The longest frame, with its length in front: 64 KiB.
pub const MAX_FRAME: usize = 1 << 16;
/// The longest frame without its length, which takes up to three bytes.
pub const MAX_BODY: usize = MAX_FRAME - 3;

/// Why bytes were not understood. The link they came over is closed; what was applied before them stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// A frame longer than [`MAX_FRAME`], or an empty one.
    FrameLength,
    /// The frame ends within a field.
    Short,
    /// A number that is longer than it needs to be, or above 64 bits.
    Number,
    /// A value that its field cannot have.
    Value(&'static str),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::FrameLength => f.write_str("a frame is empty or longer than 64 KiB"),
            WireError::Short => f.write_str("a frame ends within a field"),
            WireError::Number => {
                f.write_str("a number is written in more bytes than it needs or has more than 64 bits")
            }
            WireError::Value(field) => write!(f, "the field {field} has a value that it cannot have"),
        }
    }
}

impl core::error::Error for WireError {}

/// Reads fields from one frame.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// Bytes that are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    /// Eight bytes, the lowest first.
    pub fn fixed(&mut self) -> Result<u64, WireError> {
        let (head, rest) = self.rest.split_first_chunk::<8>().ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*head))
    }

    /// A number of variable length.
    pub fn number(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(WireError::Short)?;
            self.rest = rest;
            let group = u64::from(byte & 0x7f);
            if shift == 63 && group > 1 {
                return Err(WireError::Number);
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                // A last group of zeros would say the same in fewer bytes.
                return if byte == 0 && shift > 0 {
                    Err(WireError::Number)
                } else {
                    Ok(value)
                };
            }
        }
        Err(WireError::Number)
    }

    /// A number of variable length that fits 32 bits.
    pub fn number32(&mut self, field: &'static str) -> Result<u32, WireError> {
        u32::try_from(self.number()?).map_err(|_| WireError::Value(field))
    }

    /// A count of things that take at least `least` bytes each: never more than the frame can hold, so that it may be
    /// allocated for.
    pub fn count(&mut self, least: usize) -> Result<usize, WireError> {
        let count = self.number()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.left() / least => Ok(count),
            _ => Err(WireError::Short),
        }
    }

    /// A text of at most `longest` bytes.
    pub fn text(&mut self, longest: usize, field: &'static str) -> Result<&'a str, WireError> {
        let length = self.count(1)?;
        if length > longest {
            return Err(WireError::Value(field));
        }
        core::str::from_utf8(self.bytes(length)?).map_err(|_| WireError::Value(field))
    }
}

/// Appends a number of variable length.
pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that a number takes: 1 to 10.
#[must_use]
pub const fn number_len(value: u64) -> usize {
    // Seven bits a byte; zero takes one.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Appends a text with its length in front.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Cuts frames out of an ordered stream that arrives in any pieces.
///
/// Sizes: holds at most one frame, allocated when its length is known and legal.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The length in front of the frame, as far as it is known.
    length: usize,
    length_bytes: u8,
    length_known: bool,
    frame: Vec<u8>,
    complete: bool,
}

impl FrameReader {
    /// Takes bytes off the front of `input` until a frame is complete, and returns it without its length; `None` when the
    /// input is used up. After an error the stream cannot be understood any more.
    pub fn next<'a>(&'a mut self, input: &mut &[u8]) -> Result<Option<&'a [u8]>, WireError> {
        if self.complete {
            self.frame.clear();
            (self.length, self.length_bytes, self.length_known, self.complete) = (0, 0, false, false);
        }
        while !self.length_known {
            let Some((&byte, rest)) = input.split_first() else {
                return Ok(None);
            };
            *input = rest;
            self.length |= usize::from(byte & 0x7f) << (7 * self.length_bytes);
            self.length_bytes += 1;
            if byte & 0x80 == 0 {
                let padded = byte == 0;
                if padded || self.length > MAX_BODY {
                    return Err(WireError::FrameLength);
                }
                self.length_known = true;
                self.frame.reserve_exact(self.length);
            } else if self.length_bytes == 3 {
                return Err(WireError::FrameLength);
            }
        }
        let (head, rest) = input.split_at((self.length - self.frame.len()).min(input.len()));
        self.frame.extend_from_slice(head);
        *input = rest;
        if self.frame.len() < self.length {
            return Ok(None);
        }
        self.complete = true;
        Ok(Some(&self.frame))
    }

    /// Bytes held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.frame.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn numbers_have_one_form() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            u64::from(u32::MAX),
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, value);
            assert_eq!(bytes.len(), number_len(value), "{value}");
            let mut reader = Reader::new(&bytes);
            assert_eq!((reader.number(), reader.left()), (Ok(value), 0));
        }
        assert_eq!(
            Reader::new(&[0x80, 0]).number(),
            Err(WireError::Number),
            "zero in two bytes"
        );
        assert_eq!(Reader::new(&[0xff; 10]).number(), Err(WireError::Number), "no end");
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).number(),
            Err(WireError::Number),
            "65 bits"
        );
        assert_eq!(Reader::new(&[0x80]).number(), Err(WireError::Short));
    }

    #[test]
    fn a_count_is_never_more_than_the_frame_can_hold() {
        let mut bytes = Vec::new();
        put_number(&mut bytes, u64::MAX);
        bytes.extend([0; 16]);
        assert_eq!(Reader::new(&bytes).count(8), Err(WireError::Short));
        assert_eq!(Reader::new(&[2, 0, 0, 0, 0]).count(2), Ok(2));
        assert_eq!(Reader::new(&[3, 0, 0, 0, 0]).count(2), Err(WireError::Short));
    }

    #[test]
    fn frames_without_sense_are_refused_before_anything_is_allocated() {
        for bytes in [&[0u8][..], &[0xff, 0xff, 0xff, 0xff], &[0xff, 0xff, 0x7f], &[0x81, 0]] {
            let mut frames = FrameReader::default();
            assert_eq!(frames.next(&mut &bytes[..]), Err(WireError::FrameLength), "{bytes:?}");
            assert_eq!(frames.held(), 0);
        }
    }

    proptest! {
        #[test]
        fn any_number_comes_back(value: u64) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, value);
            prop_assert_eq!(bytes.len(), number_len(value));
            prop_assert_eq!(Reader::new(&bytes).number(), Ok(value));
        }

        /// However the stream is cut, the same frames come out.
        #[test]
        fn cuts_do_not_matter(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
            cuts in prop::collection::vec(1usize..40, 1..20),
        ) {
            let mut stream = Vec::new();
            for frame in &frames {
                put_number(&mut stream, frame.len() as u64);
                stream.extend_from_slice(frame);
            }
            let (mut reader, mut found, mut rest, mut cut) = (FrameReader::default(), vec![], &stream[..], 0);
            while !rest.is_empty() {
                let (mut head, tail) = rest.split_at(cuts[cut % cuts.len()].min(rest.len()));
                (rest, cut) = (tail, cut + 1);
                while let Some(frame) = reader.next(&mut head).expect("legal frames") {
                    found.push(frame.to_vec());
                }
            }
            prop_assert_eq!(found, frames);
        }
    }
}
