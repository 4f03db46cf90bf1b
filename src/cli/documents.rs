//! `docs/cli.md`: the fields of what the command line alone answers with are those of its types.

use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use super::entry::Entry;
use super::outcome::{End, Outcome};
use super::show::Facts;
use crate::config::schema::tests::committed;

/// The fields of a type and of those that it consists of, in Markdown; what the API answers with stands in rest.md.
fn fields<T: JsonSchema>(parts: &[&str]) -> String {
    let schema = serde_json::to_value(schema_for!(T)).unwrap();
    let mut out = table(schema["title"].as_str().unwrap(), &schema);
    parts.iter().for_each(|part| out.push_str(&table(part, &schema["$defs"][part])));
    out
}

/// The values of a choice.
fn choice<T: JsonSchema>() -> String {
    let schema = serde_json::to_value(schema_for!(T)).unwrap();
    let mut out = format!("### {}\n\n{}\n\n| value | meaning |\n|---|---|\n", schema["title"].as_str().unwrap(), text(&schema));
    for value in schema["oneOf"].as_array().unwrap_or_else(|| panic!("values: {schema}")) {
        out.push_str(&format!("| `{}` | {} |\n", value["const"].as_str().unwrap(), text(value)));
    }
    out + "\n"
}

fn text(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn table(name: &str, schema: &Value) -> String {
    let mut out = format!("### {name}\n\n{}\n\n| field | meaning |\n|---|---|\n", text(schema));
    for (field, schema) in schema["properties"].as_object().unwrap_or_else(|| panic!("{name} has fields: {schema}")) {
        assert!(!text(schema).is_empty(), "{name}.{field} says what it is");
        out.push_str(&format!("| `{field}` | {} |\n", text(schema)));
    }
    out + "\n"
}

#[test]
fn the_fields_of_the_command_line_are_those_of_its_types() {
    let generated = fields::<Outcome>(&[]) + &choice::<End>() + &fields::<Facts>(&["Connections", "Unit", "Ended"]) + &fields::<Entry>(&[]);
    let (begin, end) = ("<!-- fields: generated, `UPDATE_DOCS=1 cargo test --lib` writes it -->", "<!-- end of fields -->");
    committed("cli.md", |current| {
        let (before, rest) = current.split_once(begin).expect("a place for the fields");
        let (_, after) = rest.split_once(end).expect("an end of the fields");
        format!("{before}{begin}\n\n{generated}{end}{after}")
    });
}
