//! Writing replies, in the second and the third version of the protocol.

/// Replies that were not sent yet.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// The bytes to send.
    pub(crate) bytes: Vec<u8>,
}

impl Replies {
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.bytes.push(kind);
        // A line break in it would be read as the start of another reply.
        let clean = text
            .iter()
            .map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
        self.bytes.extend(clean);
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn number(&mut self, kind: u8, number: i64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = number.unsigned_abs();
        loop {
            at -= 1;
            // A digit fits in a byte.
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.bytes.push(kind);
        if number < 0 {
            self.bytes.push(b'-');
        }
        self.bytes.extend_from_slice(&digits[at..]);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// A word like OK.
    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error. Its first word is its kind.
    pub(crate) fn error(&mut self, text: &str) {
        self.line(b'-', text.as_bytes());
    }

    /// A whole number.
    pub(crate) fn integer(&mut self, number: i64) {
        self.number(b':', number);
    }

    /// Any bytes.
    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.number(b'$', bytes.len() as i64);
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// The start of an array of so many replies.
    pub(crate) fn array(&mut self, elements: usize) {
        self.number(b'*', elements as i64);
    }

    /// The start of so many pairs: a map where the protocol has one, else an array.
    pub(crate) fn map(&mut self, protocol: u8, pairs: usize) {
        if protocol >= 3 {
            self.number(b'%', pairs as i64);
        } else {
            self.array(pairs * 2);
        }
    }

    /// Nothing.
    pub(crate) fn null(&mut self, protocol: u8) {
        self.bytes
            .extend_from_slice(if protocol >= 3 { b"_\r\n" } else { b"$-1\r\n" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_as_the_protocol_has_them() {
        let mut replies = Replies::default();
        replies.simple("OK");
        replies.error("ERR a\r\nb");
        for number in [0, 7, -1, 1234567890, i64::MAX, i64::MIN] {
            replies.integer(number);
        }
        replies.bulk(b"a\r\n");
        replies.map(2, 1);
        replies.map(3, 1);
        replies.null(2);
        replies.null(3);
        let expected = "+OK\r\n-ERR a  b\r\n:0\r\n:7\r\n:-1\r\n:1234567890\r\n:9223372036854775807\r\n:-9223372036854775808\r\n\
                        $3\r\na\r\n\r\n*2\r\n%1\r\n$-1\r\n_\r\n";
        assert_eq!(String::from_utf8(replies.bytes).unwrap(), expected);
    }
}
