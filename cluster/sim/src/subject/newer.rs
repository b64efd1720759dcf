//! A node of a version that does not exist yet: it says so, adds fields at the end of every message, and sends messages that
//! nobody knows. Whoever keeps to today's rules must not be troubled by it.

use std::collections::BTreeMap;

use super::{LinkId, Stream, Transmit};

/// The kind of a message that no version knows, with a body of two bytes.
const UNKNOWN: [u8; 4] = [3, 99, 1, 2];
const HELLO: u8 = 1;
/// Everything in a report up to its end is entries, so it can gain no fields: a new kind of report is a new message.
const REPORT: u8 = 2;
const NEW_FIELD: [u8; 2] = [5, 0];

/// Turns what today's node sends into what a later one might.
#[derive(Default)]
pub struct Newer {
    /// Bytes of frames that are not complete.
    partial: BTreeMap<(LinkId, usize), Vec<u8>>,
}

impl Newer {
    /// The same bytes as a later version would send them. Bytes of an incomplete frame come with its end.
    #[must_use]
    pub fn rewrite(&mut self, transmit: Transmit) -> Option<Transmit> {
        let key = (transmit.link, transmit.stream.index());
        let mut bytes = self.partial.remove(&key).unwrap_or_default();
        bytes.extend(transmit.bytes);
        let mut rest = &bytes[..];
        let mut out = Vec::new();
        while let Some((body, after)) = frame(rest) {
            let mut body = body.to_vec();
            if body[0] == HELLO && body.len() > 1 {
                // The version is the first field and has one byte until there are 128 of them.
                body[1] += 1;
            }
            if body[0] != REPORT {
                body.extend(NEW_FIELD);
            }
            number(&mut out, body.len());
            out.extend(body);
            if transmit.stream == Stream::Control {
                out.extend(UNKNOWN);
            }
            rest = after;
        }
        if !rest.is_empty() {
            self.partial.insert(key, rest.to_vec());
        }
        (!out.is_empty()).then_some(Transmit { bytes: out, ..transmit })
    }

    /// The link is gone.
    pub fn forget(&mut self, link: LinkId) {
        self.partial.retain(|(of, _), _| *of != link);
    }
}

/// The body of the first frame, and what follows it.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(3).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let body = bytes.get(index + 1..index + 1 + length)?;
            return (!body.is_empty()).then_some((body, &bytes[index + 1 + length..]));
        }
    }
    None
}

fn number(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_grow_wherever_they_are_cut() {
        let mut newer = Newer::default();
        let hello = [&[200, 1, HELLO, 1][..], &[7; 198]].concat();
        let mut sent = Vec::new();
        for piece in hello.chunks(70) {
            let transmit = Transmit {
                link: 1,
                stream: Stream::Control,
                bytes: piece.to_vec(),
            };
            sent.extend(newer.rewrite(transmit).map_or_else(Vec::new, |transmit| transmit.bytes));
        }
        let (body, rest) = frame(&sent).expect("a frame");
        assert_eq!((body.len(), &body[..2], rest), (202, &[HELLO, 2][..], &UNKNOWN[..]));
    }
}
