//! Parts of documents that programs write: what stands between `<!-- NAME -->` and `<!-- end of NAME -->`.

use std::fs;
use std::path::PathBuf;

/// What stands there now.
pub fn part(document: &str, name: &str) -> Result<String, String> {
    split(document, name).map(|(_, part, _)| part)
}

/// Puts this there instead, an empty line around it.
pub fn replace(document: &str, name: &str, text: &str) -> Result<(), String> {
    let (before, _, after) = split(document, name)?;
    let path = place(document);
    fs::write(&path, format!("{before}\n{}\n\n{after}", text.trim())).map_err(|why| format!("{}: {why}", path.display()))
}

fn place(document: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(document)
}

/// The document up to the part, the part, and what is behind it.
fn split(document: &str, name: &str) -> Result<(String, String, String), String> {
    let path = place(document);
    let text = fs::read_to_string(&path).map_err(|why| format!("{}: {why}", path.display()))?;
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let at = text.find(&begin).map(|at| at + begin.len()).ok_or_else(|| format!("{document} has no {begin}"))?;
    let until = text[at..].find(&end).map(|until| at + until).ok_or_else(|| format!("{document} has no {end}"))?;
    Ok((text[..at].to_owned(), text[at..until].to_owned(), text[until..].to_owned()))
}
