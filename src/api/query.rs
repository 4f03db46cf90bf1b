//! Parameters that several routes take, each of its own form and bounded.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer, Serialize};

use super::server::LONGEST_WAIT;
use crate::config::settings::Amount;
use crate::config::values::milliseconds;
use crate::names::{Generation, Slot};

/// The most entries of one answer, and how many there are where nothing is said.
const MOST: u16 = 1000;

/// How long to wait, `30s`: numbers with `ms`, `s`, `m`, `h`. More than an hour is an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub Duration);

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let limit = milliseconds(&text).map(Duration::from_millis);
        let limit = limit.ok_or_else(|| serde::de::Error::custom("a time, such as 30s, 5m or 1m30s (ms, s, m, h)"))?;
        Ok(Self(limit.min(LONGEST_WAIT)))
    }
}

/// Slots of an app, `1,3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots(pub BTreeSet<Slot>);

fn slots(text: &str) -> Option<BTreeSet<Slot>> {
    text.split(',').map(|text| text.parse::<u16>().ok().and_then(Slot::new)).collect()
}

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = slots(&String::deserialize(deserializer)?);
        read.map(Self).ok_or_else(|| serde::de::Error::custom(format!("numbers from 1 to {}, as in 1,3", Slot::MAX)))
    }
}

/// Slots of an app, `1,3`, or `all`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// These.
    Slots(BTreeSet<Slot>),
    /// Whatever there are.
    All,
}

impl<'de> Deserialize<'de> for Which {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = if text == "all" { Some(Self::All) } else { slots(&text).map(Self::Slots) };
        read.ok_or_else(|| {
            serde::de::Error::custom(format!("numbers from 1 to {}, as in 1,3, or all, with which the port closes", Slot::MAX))
        })
    }
}

/// Where a rollback goes: a generation's number, or `previous`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// This generation.
    Generation(Generation),
    /// The one that was current before the present one.
    Previous,
}

impl<'de> Deserialize<'de> for To {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = || text.parse().ok().filter(|number| *number > 0).map(|number| Self::Generation(Generation(number)));
        let read = if text == "previous" { Some(Self::Previous) } else { number() };
        read.ok_or_else(|| serde::de::Error::custom("the number of a generation, or previous, the one that was current before"))
    }
}

/// A number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<const MIN: u16, const MAX: u16>(pub u16);

impl<'de, const MIN: u16, const MAX: u16> Deserialize<'de> for Number<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = String::deserialize(deserializer)?.parse().ok().filter(|number| (MIN..=MAX).contains(number));
        read.map(Self).ok_or_else(|| serde::de::Error::custom(format!("a number from {MIN} to {MAX}")))
    }
}

/// A number of workers or a share of them, `2` or `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(pub Amount);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Amount::parse(&String::deserialize(deserializer)?, Slot::MAX, 100);
        read.map(Self).ok_or_else(|| serde::de::Error::custom(format!("a number from 0 to {}, or 0% to 100%", Slot::MAX)))
    }
}

/// How many entries of a list.
pub type Limit = Number<1, MOST>;

/// Part of a list, with the way to the rest: an array, and a header `Link: <...>; rel="next"` where there is more.
#[derive(Debug)]
pub struct Page<T> {
    entries: Vec<T>,
    next: Option<String>,
}

impl<T> Page<T> {
    /// At most `limit` of the entries, but never part of those with the same key; `path` is of the list itself.
    pub fn new<K: PartialEq + std::fmt::Display>(mut entries: Vec<T>, limit: Option<Limit>, path: &str, key: impl Fn(&T) -> K) -> Self {
        let limit = limit.map_or(MOST, |limit| limit.0);
        let mut end = usize::from(limit).min(entries.len());
        while let [.., before] = &entries[..end]
            && let Some(next) = entries.get(end)
            && key(before) == key(next)
        {
            end += 1;
        }
        let more = end < entries.len();
        entries.truncate(end);
        let behind = if path.contains('?') { '&' } else { '?' };
        let next = entries.last().filter(|_| more).map(|last| format!("<{path}{behind}limit={limit}&after={}>; rel=\"next\"", key(last)));
        Self { entries, next }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.entries).into_response();
        // Names and numbers: never what a header cannot hold.
        if let Some(next) = self.next.and_then(|next| HeaderValue::try_from(next).ok()) {
            response.headers_mut().insert(header::LINK, next);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'a> Deserialize<'a>>(text: &str) -> Result<T, String> {
        let text = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
        T::deserialize(text).map_err(|why| why.to_string())
    }

    #[test]
    fn parameters_are_bounded() {
        assert_eq!(read::<Wait>("1m30s").unwrap().0, Duration::from_secs(90));
        assert_eq!(read::<Wait>("99h").unwrap().0, LONGEST_WAIT);
        for text in ["", "30", "-1s", "true", "s"] {
            assert!(read::<Wait>(text).is_err(), "{text}");
        }
        assert_eq!(read::<Slots>("3,1").unwrap().0.into_iter().map(Slot::get).collect::<Vec<_>>(), [1, 3]);
        for text in ["", "0", "1,", "1025", "a", "all"] {
            assert!(read::<Slots>(text).is_err(), "{text}");
        }
        assert_eq!(read::<Which>("all").unwrap(), Which::All);
        assert!(read::<Which>("2").is_ok() && read::<Which>("").is_err());
        assert_eq!(read::<To>("previous").unwrap(), To::Previous);
        assert_eq!(read::<To>("7").unwrap(), To::Generation(Generation(7)));
        for text in ["", "0", "-1", "last", "7-4", "18446744073709551616"] {
            assert!(read::<To>(text).is_err(), "{text}");
        }
        assert_eq!(read::<Share>("10%").unwrap().0, Amount::Percent(10));
        assert_eq!(read::<Share>("2").unwrap().0, Amount::Count(2));
        for text in ["", "%", "101%", "1025", "-1", "+1", "01", "05%", "1.5", "a"] {
            assert!(read::<Share>(text).is_err(), "{text}");
        }
        assert!(read::<Limit>("0").is_err() && read::<Limit>("1001").is_err() && read::<Limit>("1000").is_ok());
    }

    #[test]
    fn a_page_tells_the_next_and_keeps_together_what_has_one_key() {
        let page = |entries: &[u16], limit| {
            let page = Page::new(entries.to_vec(), Some(Number(limit)), "/v1/x", |entry| entry / 10);
            (page.entries, page.next)
        };
        let next = |after| Some(format!("</v1/x?limit=2&after={after}>; rel=\"next\""));
        assert_eq!(page(&[10, 20, 30], 2), (vec![10, 20], next(2)));
        assert_eq!(page(&[10, 20, 21, 30], 2), (vec![10, 20, 21], next(2)));
        assert_eq!(page(&[10, 20, 21], 2), (vec![10, 20, 21], None));
        assert_eq!(page(&[10, 20], 2), (vec![10, 20], None));
        assert_eq!(page(&[], 2), (vec![], None));
    }
}
