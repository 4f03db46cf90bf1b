//! Server-sent events as they come in pieces (WHATWG HTML, "Interpreting an event stream").
//!
//! Pure. Names, ids and comments are passed over: the data of our events holds all of it. So is the id without data with
//! which a stream begins that was asked for without a number: this client always has one.

/// An event is some hundred bytes; what grows beyond this is none of ours.
const LIMIT: usize = 1024 * 1024;

/// What came so far of the event that is not whole yet.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    data: String,
}

impl Parser {
    /// Takes the next bytes; the data of each event that they complete.
    ///
    /// # Errors
    /// When an event is too large or is no text.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<String>, String> {
        let mut whole = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() + self.data.len() > LIMIT {
                    return Err(format!("an event of more than {LIMIT} bytes"));
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = std::str::from_utf8(&line).map_err(|why| why.to_string())?.trim_end_matches('\r');
            if line.is_empty() {
                if !self.data.is_empty() {
                    whole.push(std::mem::take(&mut self.data));
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let text = ": hello\n\nid: 7\nevent: start\ndata: {\"a\":1}\n\n: there\n\ndata:two\r\ndata: lines\r\n\r\nid: 9\n\n".as_bytes();
        for cut in 0..=text.len() {
            let mut parser = Parser::default();
            let mut got = parser.take(&text[..cut]).unwrap();
            got.extend(parser.take(&text[cut..]).unwrap());
            assert_eq!(got, ["{\"a\":1}", "two\nlines"], "cut at {cut}");
        }
    }

    #[test]
    fn what_is_too_large_or_no_text_is_refused() {
        assert!(Parser::default().take(&vec![b'x'; LIMIT + 1]).is_err());
        let mut parser = Parser::default();
        assert!((0..LIMIT).any(|_| parser.take(b"data: 0123456789\n").is_err()));
        assert!(Parser::default().take(b"data: \xff\n\n").is_err());
    }
}
