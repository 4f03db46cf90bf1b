//! What a request to the first version asks for, by Express's rules: verbs in any case, a slash more at the end, a
//! selector percent-encoded.
//!
//! Pure. It must not know which apps there are.

use axum::http::Method;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What `POST /{selector}/{verb}` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// A worker more of a type.
    Add,
    /// Those that are stopped.
    Start,
    /// New before old.
    Restart,
    /// Those that run.
    Stop,
    /// Their counts.
    Reset,
    /// Those that are stopped, for good.
    Remove,
}

impl Verb {
    const ALL: [(&'static str, Self); 6] = [
        ("add", Self::Add),
        ("start", Self::Start),
        ("restart", Self::Restart),
        ("stop", Self::Stop),
        ("reset", Self::Reset),
        ("remove", Self::Remove),
    ];
}

/// A request, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// `GET /stat`.
    Stat,
    /// `POST /{selector}/{verb}`.
    Change(String, Verb),
    /// A route whose selector is no text.
    Undecodable,
    /// No route.
    Nothing,
}

/// Reads method and path.
pub fn read(method: &Method, path: &str) -> Asked {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.eq_ignore_ascii_case("stat") && matches!(*method, Method::GET | Method::HEAD) {
        return Asked::Stat;
    }
    let Some((selector, word)) = path.split_once('/').filter(|(selector, _)| !selector.is_empty()) else { return Asked::Nothing };
    let Some((_, verb)) = Verb::ALL.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)) else { return Asked::Nothing };
    // Express takes the path apart before it looks at the method.
    match decode(selector) {
        None => Asked::Undecodable,
        Some(selector) if *method == Method::POST => Asked::Change(selector, *verb),
        Some(_) => Asked::Nothing,
    }
}

/// As `decodeURIComponent`, which refuses a `%` without two digits behind it.
fn decode(text: &str) -> Option<String> {
    let digits = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(digits) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

/// What Node's `encodeurl` escapes of what an HTTP parser lets through.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}');

/// Express's page for a route that is none.
pub fn not_found(method: &Method, path: &str) -> String {
    page(&format!("Cannot {method} {}", utf8_percent_encode(path, ESCAPED)))
}

/// Express's page for an error, as it looks in production.
pub fn page(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('"', "&quot;").replace('\'', "&#39;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n<body>\n<pre>{text}</pre>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_express_reads_them() {
        let change = |selector: &str, verb| Asked::Change(selector.into(), verb);
        for (method, path, expected) in [
            ("GET", "/stat", Asked::Stat),
            ("HEAD", "/STAT/", Asked::Stat),
            ("POST", "/stat", Asked::Nothing),
            ("GET", "/stat//", Asked::Nothing),
            ("GET", "/", Asked::Nothing),
            ("POST", "/api/add", change("api", Verb::Add)),
            ("POST", "/api:01/STOP/", change("api:01", Verb::Stop)),
            ("POST", "/a%2Fb%3A1/remove", change("a/b:1", Verb::Remove)),
            ("POST", "/all/restart", change("all", Verb::Restart)),
            ("POST", "/API/reset", change("API", Verb::Reset)),
            ("POST", "/%c3%a9/start", change("\u{e9}", Verb::Start)),
            ("POST", "/stat/stop", change("stat", Verb::Stop)),
            ("POST", "//stop", Asked::Nothing),
            ("POST", "/stop", Asked::Nothing),
            ("POST", "/api/stop/now", Asked::Nothing),
            ("POST", "/api/reload", Asked::Nothing),
            ("GET", "/api/stop", Asked::Nothing),
            ("PUT", "/api/stop", Asked::Nothing),
            ("POST", "/%ff/stop", Asked::Undecodable),
            ("GET", "/%zz/stop", Asked::Undecodable),
            ("POST", "/a%2/stop", Asked::Undecodable),
            ("POST", "/%ff/reload", Asked::Nothing),
        ] {
            assert_eq!(read(&method.parse().unwrap(), path), expected, "{method} {path}");
        }
    }

    #[test]
    fn what_stands_on_a_page_is_text() {
        let page = not_found(&Method::GET, "/a'<b>&{\"\u{e9}%20");
        assert!(page.contains("<pre>Cannot GET /a&#39;%3Cb%3E&amp;%7B%22%C3%A9%20</pre>"), "{page}");
    }
}
