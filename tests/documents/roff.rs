//! Markdown to the man macros: what these documents use of it, and a panic for what they do not.
//!
//! Own lines: the crates that do this are either programs with a language of their own or end at the first table, and the
//! tables are most of what there is to say. A row becomes a paragraph with its first cell as the tag.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// The body of a man page. Headings of the first level are the document's own name and left out.
pub fn roff(markdown: &str) -> String {
    let mut page = Page::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        page.take(event);
    }
    page.out
}

#[derive(Default)]
struct Page {
    out: String,
    /// The text of the block or cell that is being read.
    inline: String,
    /// A block of code, verbatim, and whether it is shown.
    code: Option<bool>,
    /// Depth of lists; numbers of ordered ones.
    lists: Vec<Option<u64>>,
    /// Whether the next paragraph continues the line that began its item.
    begun: bool,
    rows: Vec<Vec<String>>,
    link: Option<String>,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.code.is_some() => self.inline.push_str(&text),
            Event::Text(text) => self.inline.push_str(&escaped(&text, false)),
            Event::Code(text) => self.inline.push_str(&format!("\\fB{}\\fR", escaped(&text, true))),
            Event::SoftBreak => self.inline.push('\n'),
            Event::Html(_) | Event::InlineHtml(_) => {}
            other => panic!("man pages have no form for {other:?}"),
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::CodeBlock(kind) => {
                self.code = Some(!matches!(kind, CodeBlockKind::Fenced(info) if &*info == "mermaid"));
            }
            Tag::List(first) => {
                self.flush();
                if !self.lists.is_empty() {
                    self.out.push_str(".RS 2\n");
                }
                self.lists.push(first);
            }
            Tag::Item => {
                match self.lists.last_mut() {
                    Some(Some(number)) => {
                        self.out.push_str(&format!(".IP {number}. 4\n"));
                        *number += 1;
                    }
                    _ => self.out.push_str(".IP \\(bu 2\n"),
                }
                self.begun = true;
            }
            Tag::TableHead | Tag::TableRow => self.rows.push(Vec::new()),
            Tag::Emphasis => self.inline.push_str("\\fI"),
            Tag::Strong => self.inline.push_str("\\fB"),
            Tag::Link { dest_url, .. } => self.link = Some(dest_url.into_string()),
            Tag::Paragraph | Tag::Heading { .. } | Tag::Table(_) | Tag::TableCell | Tag::HtmlBlock => {}
            other => panic!("man pages have no form for {other:?}"),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let text = std::mem::take(&mut self.inline).replace('"', "\\(dq");
                match level as usize {
                    1 => {}
                    2 => self.out.push_str(&format!(".SH \"{}\"\n", capitals(&text))),
                    _ => self.out.push_str(&format!(".SS \"{text}\"\n")),
                }
            }
            TagEnd::Paragraph => {
                if self.lists.is_empty() {
                    self.paragraph();
                } else if !std::mem::take(&mut self.begun) {
                    self.out.push_str(".IP \"\" 2\n");
                }
                self.flush();
            }
            TagEnd::CodeBlock => {
                let code = std::mem::take(&mut self.inline);
                if self.code.take() == Some(true) {
                    self.paragraph();
                    self.out.push_str(".RS 4\n.EX\n");
                    // An empty line would be a warning of its own.
                    for line in code.lines() {
                        let line = if line.is_empty() { "\\&".to_owned() } else { escaped(line, true) };
                        self.out.push_str(&guarded(&line));
                    }
                    self.out.push_str(".EE\n.RE\n");
                }
            }
            TagEnd::Item => {
                self.flush();
                self.begun = false;
            }
            TagEnd::List(_) => {
                self.lists.pop();
                if !self.lists.is_empty() {
                    self.out.push_str(".RE\n");
                }
            }
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.inline);
                self.rows.last_mut().unwrap().push(cell);
            }
            TagEnd::Table => self.table(),
            TagEnd::Emphasis | TagEnd::Strong => self.inline.push_str("\\fR"),
            TagEnd::Link => {
                let link = self.link.take().unwrap();
                if link.starts_with("http") {
                    self.inline.push_str(&format!(" <{}>", escaped(&link, true)));
                }
            }
            _ => {}
        }
    }

    /// A new paragraph, unless a heading has begun one.
    fn paragraph(&mut self) {
        let last = self.out.lines().next_back().unwrap_or(".SH");
        if !last.starts_with(".SH") && !last.starts_with(".SS") {
            self.out.push_str(".PP\n");
        }
    }

    /// The text read so far, as lines.
    fn flush(&mut self) {
        for line in std::mem::take(&mut self.inline).lines() {
            self.out.push_str(&guarded(line));
        }
    }

    fn table(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        let (head, rows) = rows.split_first().unwrap();
        // A last column without a heading, or with that of prose, is the text itself.
        let prose = head.last().is_some_and(|name| name.is_empty() || name == "meaning");
        for row in rows {
            self.out.push_str(".TP\n");
            self.out.push_str(&guarded(if row[0].is_empty() { "\\&" } else { &row[0] }));
            let told = |at: usize| (at + 1 < row.len() || !prose) && row.len() > 2 && !head[at].is_empty();
            let facts: Vec<String> =
                (1..row.len()).filter(|at| told(*at) && !row[*at].is_empty()).map(|at| format!("{}: {}", head[at], row[at])).collect();
            let texts: Vec<&String> = (1..row.len()).filter(|at| !told(*at) && !row[*at].is_empty()).map(|at| &row[at]).collect();
            if !facts.is_empty() {
                self.out.push_str(&guarded(&format!("{}.", facts.join("; "))));
                if !texts.is_empty() {
                    self.out.push_str(".br\n");
                }
            }
            for text in &texts {
                self.out.push_str(&guarded(text));
            }
            if facts.is_empty() && texts.is_empty() {
                self.out.push_str("\\&\n");
            }
        }
    }
}

/// As text that roff shows as it is; `code` is typed, so that its dashes and quotes are those of a keyboard.
fn escaped(text: &str, code: bool) -> String {
    let mut out = String::new();
    for ch in text.chars() {
        match ch {
            '\\' => out.push_str("\\e"),
            '-' if code => out.push_str("\\-"),
            '\'' if code => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            ch if ch.is_ascii() => out.push(ch),
            ch => out.push_str(&format!("\\[u{:04X}]", u32::from(ch))),
        }
    }
    out
}

/// A line that is text, whatever it begins with.
fn guarded(line: &str) -> String {
    let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
    format!("{guard}{}\n", line.trim_end())
}

/// In capitals, but for escapes such as `\fB`.
fn capitals(text: &str) -> String {
    text.split_inclusive("\\f").fold(String::new(), |mut out, part| {
        if out.ends_with("\\f") {
            let (font, rest) = part.split_at(1);
            out.push_str(font);
            out.push_str(&upper(rest));
        } else {
            out.push_str(&upper(part));
        }
        out
    })
}

fn upper(text: &str) -> String {
    match text.strip_suffix("\\f") {
        Some(text) => text.to_uppercase() + "\\f",
        None => text.to_uppercase(),
    }
}

#[test]
fn what_begins_like_a_request_is_text() {
    let page = roff(
        "# t\n\n## A `b` c\n\n.x and `'y`\n'z\n\n- one\n- `--two`\n\n| key | type | meaning |\n|---|---|---|\n| `a` | b | c |\n\n```sh\n.d\n\n\\e\n```\n",
    );
    assert_eq!(
        page,
        ".SH \"A \\fBB\\fR C\"\n\\&.x and \\fB\\(aqy\\fR\n\\&'z\n.IP \\(bu 2\none\n.IP \\(bu 2\n\\fB\\-\\-two\\fR\n.TP\n\\fBa\\fR\ntype: b.\n.br\nc\n\
         .PP\n.RS 4\n.EX\n\\&.d\n\\&\n\\ee\n.EE\n.RE\n"
    );
}
