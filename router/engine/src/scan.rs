//! Reads JSON text without decoding it: every byte is checked (RFC 8259), strings and
//! numbers stay as they are written.

/// The deepest nesting of values.
const MAX_DEPTH: usize = 128;

/// A result, or what is wrong at the scanner's position.
pub type Scan<T> = Result<T, &'static str>;

pub struct Scanner<'a> {
    /// UTF-8.
    pub bytes: &'a [u8],
    pub at: usize,
    pub depth: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            depth: 0,
        }
    }

    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    pub fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    pub fn expect_byte(&mut self, byte: u8) -> Scan<()> {
        if self.next() == Some(byte) {
            Ok(())
        } else {
            Err("unexpected character")
        }
    }

    /// The start and end of a string, with its quotes.
    pub fn string(&mut self) -> Scan<(usize, usize)> {
        let start = self.at;
        self.expect_byte(b'"')?;
        loop {
            self.at += plain_bytes(&self.bytes[self.at..]);
            match self.next() {
                Some(b'"') => return Ok((start, self.at)),
                Some(b'\\') => match self.next() {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                    Some(b'u') => {
                        for _ in 0..4 {
                            if !self.next().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                                return Err("a malformed escape");
                            }
                        }
                    }
                    _ => return Err("a malformed escape"),
                },
                Some(0..=0x1f) => return Err("a control character in a string"),
                Some(_) => {}
                None => return Err("the text is cut off"),
            }
        }
    }

    fn digits(&mut self) -> Scan<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > start {
            Ok(())
        } else {
            Err("a malformed number")
        }
    }

    pub fn number(&mut self) -> Scan<(usize, usize)> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok((start, self.at))
    }

    /// Enters an object or a list, at its first byte; false if it is empty, and so has
    /// ended.
    pub fn open(&mut self, close: u8) -> Scan<bool> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("values nest too deep");
        }
        self.at += 1;
        self.skip_whitespace();
        let is_empty = self.peek() == Some(close);
        if is_empty {
            self.at += 1;
            self.depth -= 1;
        }
        Ok(!is_empty)
    }

    /// After an entry of an object or a list: whether another follows; if not, it has
    /// ended.
    pub fn another(&mut self, close: u8) -> Scan<bool> {
        self.skip_whitespace();
        match self.next() {
            Some(b',') => {
                self.skip_whitespace();
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.depth -= 1;
                Ok(false)
            }
            _ => Err("expected a comma or a closing bracket"),
        }
    }

    /// Reads the colon between a key and its value.
    pub fn colon(&mut self) -> Scan<()> {
        self.skip_whitespace();
        self.expect_byte(b':')?;
        self.skip_whitespace();
        Ok(())
    }

    /// Skips a value.
    pub fn skip(&mut self) -> Scan<()> {
        match self.peek() {
            Some(open @ (b'{' | b'[')) => {
                let close = if open == b'{' { b'}' } else { b']' };
                let mut has_entry = self.open(close)?;
                while has_entry {
                    if open == b'{' {
                        self.string()?;
                        self.colon()?;
                    }
                    self.skip()?;
                    has_entry = self.another(close)?;
                }
                Ok(())
            }
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            _ => self.word(b"null"),
        }
    }

    /// Reads `true`, `false` or `null`.
    pub fn word(&mut self, word: &[u8]) -> Scan<()> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err("expected a value")
        }
    }
}

/// How many bytes of a string come before its end, an escape or a control character.
/// Strings are most of a response, so eight bytes are looked at at a time.
fn plain_bytes(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = ONES << 7;
    // Each sets the high bit of the first byte that it looks for, and perhaps of later
    // bytes, never of earlier ones.
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word & HIGH_BITS;
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let mut at = 0;
    while let Some(eight) = bytes[at..].first_chunk() {
        let word = u64::from_le_bytes(*eight);
        let found = equal(word, b'"') | equal(word, b'\\') | below(word, 0x20);
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    let is_plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | 0..0x20);
    at + rest.iter().take_while(is_plain).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_bytes_end_at_each_special_byte_wherever_it_is() {
        for special in (0..=255).filter(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
            for length in 0..20 {
                for ordinary in [0x20, 0x21, b'a', 0x5b, 0x7f, 0x80, 0xa2, 0xff] {
                    let mut bytes = vec![ordinary; length];
                    assert_eq!(plain_bytes(&bytes), length);
                    bytes.push(special);
                    bytes.extend([ordinary, special, 0, b'"', ordinary, b'\\', ordinary]);
                    assert_eq!(plain_bytes(&bytes), length, "{bytes:?}");
                }
            }
        }
    }
}
