//! Schemas of what is written as text or number and has a form of its own: names, parameters.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::api::query::{Number, Slots, Wait, Which};
use crate::names::{Address, AppName, ClusterName, Generation, Slot, Uid};

const APP: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$";
/// 1 to 1024.
const SLOT: &str = "([1-9][0-9]{0,2}|10[01][0-9]|102[0-4])";

fn uid() -> String {
    format!("^[A-Za-z0-9][A-Za-z0-9_.-]{{0,63}}:0?{SLOT}$")
}

macro_rules! shape {
    ([$($generics:tt)*] $type:ty, $name:literal, $schema:expr) => {
        impl<$($generics)*> JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

shape!([] ClusterName, "ClusterName", json_schema!({ "type": "string", "pattern": "^[a-z][a-z0-9-]{0,30}$" }));
shape!([] AppName, "AppName", json_schema!({ "type": "string", "pattern": APP }));
shape!([] Uid, "Uid", json_schema!({ "type": "string", "pattern": uid(), "examples": ["api:01"] }));
shape!([] Generation, "Generation", json_schema!({ "type": "integer", "minimum": 0 }));
shape!([] Address, "Address", json_schema!({ "type": "string", "examples": ["[::]:3000", "/run/shop/api.sock"] }));
shape!([] Wait, "Wait", json_schema!({ "type": "string", "pattern": "^([0-9]{1,9}(ms|s|m|h)){1,4}$", "examples": ["30s"] }));
shape!([] Slots, "Slots", json_schema!({ "type": "string", "pattern": format!("^{SLOT}(,{SLOT})*$"), "examples": ["1,3"] }));
shape!([] Which, "Which", json_schema!({
    "type": "string", "pattern": format!("^(all|{SLOT}(,{SLOT})*)$"), "examples": ["2", "all"]
}));
shape!([const MIN: u16, const MAX: u16] Number<MIN, MAX>, "Number", json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX }));

/// The parts of a path: name, meaning, schema.
pub(super) fn of_path() -> [(&'static str, &'static str, Value); 4] {
    [
        ("app", "The app's name.", json!({ "type": "string", "pattern": APP, "examples": ["api"] })),
        (
            "uid",
            "What people call a worker: app and slot, 01 to 1024.",
            json!({ "type": "string", "pattern": uid(), "examples": ["api:01"] }),
        ),
        ("id", "The roll's number.", sequence()),
        ("entry", "The entry's number.", sequence()),
    ]
}

/// A number that grows.
pub(super) fn sequence() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX })
}

/// A parameter is there or not, never null.
pub(super) fn without_null(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else { return schema };
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            schema.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(either)) = schema.remove("anyOf") {
        for (key, value) in either.into_iter().filter(|one| one["type"] != "null").filter_map(|one| one.as_object().cloned()).flatten() {
            schema.entry(key).or_insert(value);
        }
    }
    Value::Object(schema)
}

#[test]
fn patterns_are_those_of_the_code() {
    // Slots at the edges, as the code reads them.
    for (slot, good) in [(0, false), (1, true), (999, true), (1009, true), (1024, true), (1025, false)] {
        assert_eq!(Slot::new(slot).is_some(), good);
        assert_eq!(format!("api:{slot:02}").parse::<Uid>().is_ok(), good);
    }
}
