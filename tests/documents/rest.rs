//! `docs/rest.md`: its routes and fields are those of `docs/openapi.json`, which is that of the code.

use serde_json::{Map, Value};

use crate::{between, committed, row, text};

fn openapi() -> Value {
    serde_json::from_str(&text("docs/openapi.json")).unwrap()
}

/// What a reference leads to, or the value itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(path) => document.pointer(path.trim_start_matches('#')).unwrap_or_else(|| panic!("{path} leads somewhere")),
        None => value,
    }
}

/// As one line of a cell.
fn line(value: &Value) -> String {
    value.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As paragraphs.
fn paragraphs(value: &Value) -> String {
    value.as_str().unwrap_or_default().split("\n\n").map(|text| text.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

/// The type of a field or parameter, for people.
fn form(schema: &Value) -> String {
    if let Some(path) = schema["$ref"].as_str() {
        let name = path.rsplit('/').next().unwrap();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(all) = schema[key].as_array() {
            return all.iter().map(form).filter(|form| !form.is_empty()).collect::<Vec<_>>().join(" or ");
        }
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" or ");
    }
    let of = |name: &str| match name {
        "array" if schema["prefixItems"].is_array() => "array".to_owned(),
        "array" => format!("array of {}", form(&schema["items"])),
        "integer" | "number" => match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
            (Some(least), Some(most)) if most < 65535 => format!("{least} to {most}"),
            _ => "number".to_owned(),
        },
        "boolean" => "true or false".to_owned(),
        "object" => match &schema["additionalProperties"] {
            Value::Object(_) => format!("object of {}", form(&schema["additionalProperties"])),
            _ => "object".to_owned(),
        },
        name => name.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => of(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(of).collect::<Vec<_>>().join(" or "),
        _ => String::new(),
    }
}

fn parameters(operation: &Value) -> String {
    let mut out = String::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let told = line(&parameter["description"]);
        assert!(!told.is_empty(), "{parameter}");
        let required = if parameter["required"] == true { ", required" } else { "" };
        let place = format!("{}{required}", parameter["in"].as_str().unwrap());
        out.push_str(&row(&[format!("`{}`", parameter["name"].as_str().unwrap()), place, form(&parameter["schema"]), told]));
    }
    if out.is_empty() { out } else { format!("| parameter | in | type | meaning |\n|---|---|---|---|\n{out}\n") }
}

fn answers(document: &Value, operation: &Value) -> String {
    let mut out = String::from("| answer | meaning |\n|---|---|\n");
    for (status, response) in operation["responses"].as_object().unwrap() {
        let response = resolved(document, response);
        let empty = Map::new();
        let content = response["content"].as_object().unwrap_or(&empty);
        let told = match content.get("application/problem+json") {
            Some(problem) => {
                // What each means stands in problems.md once, not at each of forty routes.
                let codes = problem.pointer("/schema/allOf/1/properties/code/enum").and_then(Value::as_array);
                let codes = codes.unwrap_or_else(|| panic!("{status} says its codes: {problem}"));
                let words = codes.iter().map(|code| code.as_str().unwrap());
                words.map(|word| format!("[`{word}`](problems.md#{word})")).collect::<Vec<_>>().join(", ")
            }
            None => {
                let forms: Vec<String> = content
                    .iter()
                    .map(|(kind, media)| {
                        let form = form(&media["schema"]);
                        if kind == "application/json" { form } else { format!("`{kind}`") }
                    })
                    .collect();
                format!("{} {}", line(&response["description"]), forms.join("; ")).trim().to_owned()
            }
        };
        out.push_str(&row(&[status.clone(), told]));
    }
    out + "\n"
}

/// The role that an operation takes.
fn role(operation: &Value) -> String {
    match operation["security"][0]["token"][0].as_str() {
        Some(role) => format!("Role: `{role}`.\n\n"),
        None => "No token.\n\n".to_owned(),
    }
}

fn routes(document: &Value) -> String {
    let mut out = paragraphs(&document["info"]["description"]) + "\n\n";
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = tag["name"].as_str().unwrap();
        out.push_str(&format!("### {}\n\n", line(&tag["description"]).trim_end_matches('.')));
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                if operation["tags"][0] != name {
                    continue;
                }
                let told = paragraphs(&operation["description"]);
                out.push_str(&format!("#### {} `{path}`\n\n{}.", method.to_uppercase(), line(&operation["summary"]).trim_end_matches('.')));
                out.push_str(&if told.is_empty() { "\n\n".to_owned() } else { format!(" {told}\n\n") });
                out.push_str(&role(operation));
                out.push_str(&parameters(operation));
                out.push_str(&answers(document, operation));
            }
        }
    }
    out
}

/// The values of a choice with what they mean, or the fields of an object.
fn fields(document: &Value) -> String {
    let mut out = String::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        out.push_str(&format!("### {name}\n\n{}\n\n", paragraphs(&schema["description"])));
        let choices = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        if let Some(properties) = schema["properties"].as_object() {
            out.push_str("| field | type | meaning |\n|---|---|---|\n");
            for (field, schema) in properties {
                out.push_str(&row(&[format!("`{field}`"), form(schema), line(&schema["description"])]));
            }
            out.push('\n');
        } else if let Some(choices) = choices {
            out.push_str("| value | meaning |\n|---|---|\n");
            for choice in choices {
                out.push_str(&row(&[form(choice).replace('"', ""), line(&choice["description"])]));
            }
            out.push('\n');
        } else {
            out.push_str(&format!("{}\n\n", form(schema).replace('"', "")));
        }
    }
    out
}

#[test]
fn the_routes_are_those_of_the_openapi_document() {
    let document = openapi();
    committed("docs/rest.md", |current| between(&between(current, "routes", &routes(&document)), "fields", &fields(&document)));
}

/// The first version's routes stand in the table of twins, each with a route that exists.
#[test]
fn every_twin_is_a_route() {
    let document = openapi();
    let markdown = text("docs/rest.md");
    let twins: Vec<(&str, &str)> = markdown
        .lines()
        .filter(|line| line.starts_with("| `GET /stat`") || line.starts_with("| `POST /"))
        .map(|line| (line.split('`').nth(1).unwrap(), line.rsplit('`').nth(1).unwrap()))
        .collect();
    assert_eq!(twins.len(), 7, "{twins:?}");
    for (old, twin) in twins {
        let (method, path) = twin.split_once(' ').unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let operation = &document["paths"][path.replace("TYPE", "{app}")][method.to_lowercase()];
        assert!(operation.is_object(), "the twin of `{old}`, `{twin}`, is a route");
        for key in query.split('&').filter_map(|pair| pair.split('=').next()).filter(|key| !key.is_empty()) {
            let known = operation["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == key);
            assert!(known, "`{twin}` takes `{key}`");
        }
        // Who copies it gets what it says, and no refusal.
        let required = |parameter: &&Value| parameter["in"] == "query" && parameter["required"] == true;
        for parameter in operation["parameters"].as_array().unwrap().iter().filter(required) {
            let name = parameter["name"].as_str().unwrap();
            assert!(query.split('&').any(|pair| pair.starts_with(&format!("{name}="))), "`{twin}` lacks `{name}`, which it must have");
        }
    }
}
