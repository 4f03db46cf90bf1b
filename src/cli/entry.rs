//! A journal entry as `logs` shows it: when, which worker, what; foreign text cannot steer the terminal.
//!
//! Pure. Whose line it is comes from fields that journald sets itself: anyone may write the others.

use serde::{Deserialize, Serialize};

use super::table::{self, Tone};
use super::time;
use crate::names::{AppName, ClusterName, HookInstance, HookKind, Instance, Uid};
use crate::place::Manager;
use crate::units::text::hidden;

/// One of `logs --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Entry {
    /// When it was written, microseconds of Unix time.
    pub time_us: u64,
    /// The worker, as people call it; null where the unit is none.
    pub uid: Option<Uid>,
    /// The hook, where the unit is one; else null.
    pub hook: Option<HookKind>,
    /// The app of either.
    pub app: Option<AppName>,
    /// Its unit.
    pub unit: String,
    /// The process that wrote it; null where journald does not know it.
    pub pid: Option<u32>,
    /// 0 (emergency) to 7 (debug), `syslog(3)`.
    pub priority: u8,
    /// systemd says it of the worker; else the worker wrote it.
    pub systemd: bool,
    /// What it says; what is no UTF-8 is replaced.
    pub message: String,
    /// Where it lies in the journal: `journalctl --after-cursor=` takes it.
    pub cursor: String,
}

/// As journalctl prints it.
#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time: String,
    #[serde(rename = "_PID")]
    pid: Option<String>,
    #[serde(rename = "_SYSTEMD_UNIT")]
    own: Option<String>,
    #[serde(rename = "UNIT")]
    told: Option<Text>,
    #[serde(rename = "_SYSTEMD_USER_UNIT")]
    user_own: Option<String>,
    #[serde(rename = "USER_UNIT")]
    user_told: Option<Text>,
    #[serde(rename = "PRIORITY")]
    priority: Option<Text>,
    #[serde(rename = "MESSAGE")]
    message: Option<Text>,
}

/// A field: characters, bytes where they are no plain text, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Bytes(Vec<u8>),
    Several(Vec<Text>),
}

impl Text {
    fn text(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Several(texts) => texts.iter().map(Self::text).collect::<Vec<_>>().join("\n"),
        }
    }
}

impl Entry {
    /// The fields that are asked for.
    pub const FIELDS: &str = "--output-fields=MESSAGE,PRIORITY,_PID,_SYSTEMD_UNIT,UNIT,_SYSTEMD_USER_UNIT,USER_UNIT";

    /// Of a line that journalctl printed; none of what is no entry.
    pub fn parse(cluster: &ClusterName, manager: Manager, line: &[u8]) -> Option<Self> {
        let raw: Raw = serde_json::from_slice(line).ok()?;
        let (systemd, own, told) = match manager {
            Manager::System => (raw.pid.as_deref() == Some("1"), raw.own, raw.told),
            // A user's systemd lives in this scope of its own.
            Manager::User => (raw.user_own.as_deref() == Some("init.scope"), raw.user_own, raw.user_told),
        };
        let unit = if systemd { told.map(|unit| unit.text()) } else { own }.unwrap_or_default();
        let (uid, hook) = (uid(cluster, &unit), hook(cluster, &unit));
        Some(Self {
            time_us: raw.time.parse().ok()?,
            app: uid.as_ref().map(|uid| uid.app.clone()).or_else(|| hook.as_ref().map(|(app, _)| app.clone())),
            uid,
            hook: hook.map(|(_, kind)| kind),
            unit,
            pid: raw.pid.and_then(|pid| pid.parse().ok()),
            priority: raw.priority.and_then(|text| text.text().parse().ok()).unwrap_or(6),
            systemd,
            message: raw.message.map(|text| text.text()).unwrap_or_default(),
            cursor: raw.cursor,
        })
    }

    /// For people, a line for each of the message's; the worker's name takes `wide` columns.
    pub fn line(&self, wide: usize, colours: bool) -> String {
        let who = match (&self.uid, &self.app, self.hook) {
            (Some(uid), ..) => uid.to_string(),
            (None, Some(app), Some(kind)) => format!("{app}:{kind}"),
            _ => self.unit.clone(),
        };
        let gap = " ".repeat(wide.saturating_sub(table::width(&who)));
        let hue = Tone::Hue(self.uid.as_ref().map_or(0, |uid| u8::try_from((uid.slot.get() - 1) % 251).unwrap_or(0)));
        let time = Tone::Grey.paint(&time::second(self.time_us / 1000), colours);
        let who = hue.paint(&who, colours);
        let (tone, by) = match self.priority {
            _ if self.systemd => (Tone::Grey, "systemd: "),
            0..=3 => (Tone::Red, ""),
            4 => (Tone::Yellow, ""),
            _ => (Tone::Plain, ""),
        };
        // Its colours go with the rest: they would hide whose line it is.
        let plain = without_sequences(&self.message);
        let mut lines: Vec<&str> = plain.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            lines.push("");
        }
        let line =
            |text: &&str| format!("{time}  {who}{gap}  {}", tone.paint(&format!("{by}{text}"), colours)).trim_end().to_owned() + "\n";
        lines.iter().map(line).collect()
    }
}

/// `api:01` of `NAME-api@1.7.1.service`.
fn uid(cluster: &ClusterName, unit: &str) -> Option<Uid> {
    let (app, instance) = unit.strip_prefix(cluster.as_str())?.strip_prefix('-')?.strip_suffix(".service")?.split_once('@')?;
    let instance: Instance = instance.parse().ok()?;
    Some(Uid { app: app.parse().ok()?, slot: instance.slot })
}

/// `api` and `before` of `NAME-api:before@7.service`.
fn hook(cluster: &ClusterName, unit: &str) -> Option<(AppName, HookKind)> {
    let (hook, instance) = unit.strip_prefix(cluster.as_str())?.strip_prefix('-')?.strip_suffix(".service")?.split_once('@')?;
    instance.parse::<HookInstance>().ok()?;
    let (app, kind) = hook.split_once(':')?;
    Some((app.parse().ok()?, kind.parse().ok()?))
}

/// The text without escape sequences (`ECMA-48`), of one or two bytes' introducer, and without hidden characters.
fn without_sequences(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(ch) = rest.next() {
        let kind = match ch {
            '\u{1b}' => rest.next_if(|next| ('\u{40}'..='\u{5f}').contains(next)).unwrap_or('\0'),
            '\u{80}'..='\u{9f}' => char::from_u32(u32::from(ch) - 0x40).unwrap_or('\0'),
            _ => {
                if ch == '\n' || ch == '\t' || !hidden(ch) {
                    out.push(ch);
                }
                continue;
            }
        };
        match kind {
            // Control sequence: parameters, then one final character.
            '[' => {
                while rest.next_if(|next| ('\u{20}'..='\u{3f}').contains(next)).is_some() {}
                let _ = rest.next_if(|next| ('\u{40}'..='\u{7e}').contains(next));
            }
            // Strings (DCS, SOS, OSC, PM, APC) up to their end; one without an end leaves its line.
            'P' | 'X' | ']' | '^' | '_' => {
                while let Some(next) = rest.next_if(|next| *next != '\n') {
                    let ends = next == '\u{7}' || next == '\u{9c}' || next == '\u{1b}' && rest.next_if_eq(&'\\').is_some();
                    if ends {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &str) -> Entry {
        let text = format!(r#"{{"__CURSOR":"c","__REALTIME_TIMESTAMP":"1764000000000000",{fields}}}"#);
        Entry::parse(&ClusterName::default(), Manager::System, text.as_bytes()).unwrap()
    }

    #[test]
    fn whose_line_it_is_comes_from_what_journald_sets() {
        let own = entry(
            r#""_PID":"42","_SYSTEMD_UNIT":"project-cluster-api-v2@3.7.1.service","UNIT":"project-cluster-bg@1.1.1.service","MESSAGE":"x""#,
        );
        assert_eq!((own.uid.unwrap().to_string().as_str(), own.pid, own.systemd), ("api-v2:03", Some(42), false));
        let told = entry(r#""_PID":"1","_SYSTEMD_UNIT":"init.scope","UNIT":"project-cluster-bg@1.1.1.service","MESSAGE":"Started.""#);
        assert_eq!((told.uid.unwrap().to_string().as_str(), told.systemd), ("bg:01", true));
        assert_eq!(entry(r#""_SYSTEMD_UNIT":"sshd.service""#).uid, None);
        let hook = entry(r#""_PID":"42","_SYSTEMD_UNIT":"project-cluster-api-v2:before@9-7.service","MESSAGE":"x""#);
        assert_eq!((hook.uid, hook.hook, hook.app.as_ref().map(AppName::as_str)), (None, Some(HookKind::Before), Some("api-v2")));
        assert_eq!(entry(r#""_SYSTEMD_UNIT":"project-cluster-api:before@x.service""#).app, None);
        assert!(Entry::parse(&ClusterName::default(), Manager::System, b"{}").is_none());
    }

    #[test]
    fn a_line_says_who_and_steers_nothing() {
        let bytes = r#""_SYSTEMD_UNIT":"project-cluster-api@2.1.1.service","PRIORITY":"3","MESSAGE":[27,91,51,49,109,114,101,100,255,10,116,119,111]"#;
        let shown = entry(bytes).line(8, false);
        let lines: Vec<&str> = shown.lines().map(|line| line.split_once("  ").unwrap().1).collect();
        assert_eq!(lines, ["api:02    red\u{fffd}", "api:02    two"]);
        assert!(entry(bytes).line(0, true).contains("\u{1b}[35mapi:02\u{1b}[0m  \u{1b}[31mred"));
        let systemd = entry(r#""_PID":"1","UNIT":"project-cluster-api@2.1.1.service","MESSAGE":"Started it.""#).line(0, false);
        assert!(systemd.ends_with("api:02  systemd: Started it.\n"), "{systemd}");
    }

    #[test]
    fn sequences_go_whole() {
        for (text, left) in [
            ("a\u{1b}[2J\u{1b}[1;31mb", "ab"),
            ("a\u{9b}31mb\u{9d}0;title\u{9c}c", "abc"),
            ("a\u{1b}]0;title\u{7}b\u{1b}]8;;http://x\u{1b}\\c", "abc"),
            ("a\u{1b}Pdevice\nb", "a\nb"),
            // ESC c resets: of what is no sequence known here the escape alone goes.
            ("a\u{1b}cb\u{1b}", "acb"),
            ("a\u{202e}b\u{2066}c\r\u{7f}\u{200b}d\te", "abcd\te"),
        ] {
            assert_eq!(without_sequences(text), left, "{text:?}");
        }
    }
}
