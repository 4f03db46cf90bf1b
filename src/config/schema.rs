//! The JSON Schema and the documentation's tables, generated from the shapes of [`fragment`].
//!
//! Pure. Both are committed, `docs/cluster.schema.json` and `docs/config.md`; a test compares them with what
//! is generated here and, with `UPDATE_DOCS=1`, writes them.

use std::fmt::Write;

use schemars::generate::SchemaSettings;

use super::fragment;
use super::key::KeyDoc;

/// Where the generated tables begin in `docs/config.md`.
pub const BEGIN: &str = "<!-- keys: generated from src/config/fragment.rs by `UPDATE_DOCS=1 cargo test --lib config::schema` -->";
/// Where they end.
pub const END: &str = "<!-- end of keys -->";

/// The JSON Schema (draft 2020-12) of the configuration, as text with a line break at its end.
pub fn schema() -> String {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<fragment::Cluster>();
    schema.insert("title".into(), "project-cluster: cluster.toml".into());
    format!("{:#}\n", schema.to_value())
}

/// The tables of all keys, in Markdown.
pub fn tables() -> String {
    let tables: [(&str, &str, &[KeyDoc]); 9] = [
        ("Top level", "", fragment::Cluster::KEYS),
        ("`[api]`", "The REST API's TCP listener.", fragment::Api::KEYS),
        (
            "`[timeout]`, `[apps.X.timeout]`",
            "A number is milliseconds; a string is numbers with `ms`, `s`, `m`, `h`: `\"1m30s\"`.",
            fragment::Timeout::KEYS,
        ),
        ("`[reload]`, `[apps.X.reload]`", "How a roll goes.", fragment::Reload::KEYS),
        (
            "`[reload.hooks]`, `[apps.X.reload.hooks]`",
            "Commands that run once for each new generation ([operations.md](operations.md#migrations-and-other-hooks)).",
            fragment::Hooks::KEYS,
        ),
        ("`[apps.X]`", "One app type.", fragment::App::KEYS),
        ("`listen = { ... }`", "An address with options; one of `path` and `address`.", fragment::ListenTable::KEYS),
        ("`ready = { ... }`", "A probe; one of `http` and `exec`.", fragment::ReadyTable::KEYS),
        ("`[apps.X.sandbox]`", "True means that the restriction holds.", fragment::Sandbox::KEYS),
    ];
    let mut out = String::new();
    for (title, text, keys) in tables {
        // Writing to a string cannot fail.
        let _ = write!(out, "### {title}\n\n{text}{}", if text.is_empty() { "" } else { "\n\n" });
        out.push_str("| key | type | default | unit, range | meaning |\n|---|---|---|---|---|\n");
        for key in keys {
            let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
            let cells = [format!("`{}`", key.name), (key.type_name)(), default, (key.range)(), key.meaning()];
            let _ = writeln!(out, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;

    /// Compares a committed file with what is generated, or writes it.
    pub(crate) fn committed(name: &str, generate: impl Fn(&str) -> String) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        let current = std::fs::read_to_string(&path).unwrap_or_default();
        let generated = generate(&current);
        if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &generated).unwrap();
        } else {
            assert!(current == generated, "docs/{name} is not what the types say; run UPDATE_DOCS=1 cargo test --lib");
        }
    }

    #[test]
    fn the_committed_schema_is_the_types() {
        committed("cluster.schema.json", |_| schema());
    }

    #[test]
    fn the_committed_tables_are_the_types() {
        committed("config.md", |current| {
            let (before, rest) = current.split_once(BEGIN).unwrap();
            let (_, after) = rest.split_once(END).unwrap();
            format!("{before}{BEGIN}\n\n{}{END}{after}", tables())
        });
    }

    #[test]
    fn every_key_is_in_the_schema_with_its_meaning() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        let properties = |pointer: &str, keys: &[KeyDoc]| {
            let table = schema.pointer(pointer).unwrap();
            assert_eq!(table["additionalProperties"], false, "{pointer}");
            assert_eq!(table["properties"].as_object().unwrap().len(), keys.len());
            for key in keys {
                assert!(!key.meaning().is_empty());
                assert_eq!(table["properties"][key.name]["description"], key.meaning(), "{}", key.name);
            }
        };
        properties("", fragment::Cluster::KEYS);
        properties("/$defs/App", fragment::App::KEYS);
        properties("/$defs/Timeout", fragment::Timeout::KEYS);
        properties("/$defs/ListenTable", fragment::ListenTable::KEYS);
        assert_eq!(schema.pointer("/$defs/Timeout/properties/kill/default").unwrap(), "5s");
    }
}
