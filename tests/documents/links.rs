//! Links lead somewhere.

use std::collections::BTreeSet;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::{documents, repository};

/// What a heading is called in a link, as code forges make it.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let title = heading.take().unwrap().to_lowercase();
                let word = |ch: char| ch.is_alphanumeric() || matches!(ch, ' ' | '-' | '_');
                found.insert(title.chars().filter(|ch| word(*ch)).collect::<String>().replace(' ', "-"));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut count = 0;
    for (path, markdown) in documents() {
        let place = repository(&path);
        for event in Parser::new_ext(&markdown, Options::ENABLE_TABLES) {
            let Event::Start(Tag::Link { dest_url, .. }) = event else { continue };
            if dest_url.starts_with("http") {
                continue;
            }
            count += 1;
            let (file, anchor) = dest_url.split_once('#').map_or((&*dest_url, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { place.clone() } else { place.parent().unwrap().join(file) };
            assert!(target.exists(), "{path}: {dest_url} leads nowhere");
            if let Some(anchor) = anchor {
                let there = anchors(&std::fs::read_to_string(&target).unwrap());
                assert!(there.contains(anchor), "{path}: {dest_url}: the headings are {there:?}");
            }
        }
    }
    assert!(count > 10, "the documents link to each other: {count}");
}
