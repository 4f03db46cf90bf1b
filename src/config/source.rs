//! The text of the configuration's files, and places in it.
//!
//! Pure. A place is a file's number and a byte range; a [`Source`] turns it into line and column. It must not know
//! what the text means.

use std::ops::Range;
use std::path::PathBuf;

/// A byte range of one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Number of the file in [`Sources`].
    pub file: usize,
    /// First byte.
    pub start: usize,
    /// Byte behind the last one.
    pub end: usize,
}

impl Place {
    /// The range in file number `file`.
    pub fn new(file: usize, span: Range<usize>) -> Self {
        Self { file, start: span.start, end: span.end.max(span.start) }
    }
}

/// One file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path as the person would write it.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    starts: Vec<usize>,
}

impl Source {
    /// A file's text.
    pub fn new(path: PathBuf, text: String) -> Self {
        let starts = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1)).collect();
        Self { path, text, starts }
    }

    /// The nearest character boundary at or before `offset`, inside the text.
    pub fn boundary(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    /// Line and column of an offset, both from 1; a column is a character.
    pub fn locate(&self, offset: usize) -> (usize, usize) {
        let offset = self.boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        (line, self.text[self.line(line).start..offset].chars().count() + 1)
    }

    /// Byte range of a line (from 1), without its line break.
    pub fn line(&self, line: usize) -> Range<usize> {
        let start = line.checked_sub(1).and_then(|at| self.starts.get(at)).copied().unwrap_or(self.text.len());
        let end = self.starts.get(line).map_or(self.text.len(), |next| next - 1);
        let end = if self.text[start..end].ends_with('\r') { end - 1 } else { end };
        start..end
    }
}

/// All files of one configuration, in the order read.
#[derive(Debug, Clone, Default)]
pub struct Sources(pub Vec<Source>);

impl Sources {
    /// Takes a file in; returns its number.
    pub fn add(&mut self, source: Source) -> usize {
        self.0.push(source);
        self.0.len() - 1
    }
}
