//! The OpenAPI 3.1 document, made from the types that travel, the table of operations and the list of codes.
//!
//! Tests alone know how: the document is committed, `docs/openapi.json`, and served as it lies there. Its schemas come from
//! `schemars`, as those of the configuration do; OpenAPI 3.1 takes JSON Schema as it is.

mod examples;
mod operations;
mod shapes;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::caller::Role;
use super::error::Code;
use super::types::Problem;

/// Makes a schema.
type Shape = fn(&mut SchemaGenerator) -> Value;

/// One operation of a path.
struct Operation {
    method: &'static str,
    path: &'static str,
    /// Unique, for generated clients.
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    text: &'static str,
    /// The role that it takes; none where it is for all.
    role: Option<Role>,
    query: Shape,
    /// Resumes a stream.
    header: Option<(&'static str, &'static str)>,
    answers: Vec<Answer>,
    /// What it may be refused with, beside what any may.
    codes: &'static [Code],
}

/// An answer that is what was asked for.
struct Answer {
    status: u16,
    text: &'static str,
    /// Content types, with schema and example.
    content: Vec<(&'static str, Shape, Option<Value>)>,
    /// `Location`, `Link`.
    header: Option<&'static str>,
}

/// What any operation may be refused with.
const ANY: [Code; 11] = [
    Code::BadRequest,
    Code::UnexpectedBody,
    Code::Unauthorized,
    Code::ForeignOrigin,
    Code::Forbidden,
    Code::TooSlow,
    Code::LengthRequired,
    Code::TooLarge,
    Code::UrlTooLong,
    Code::ForeignHost,
    Code::Busy,
];

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

const ABOUT: &str = "Over the cluster's unix socket, `/run/NAME/api.sock`, and over TCP with a token. GET reads, POST orders. No route takes a body; what a route does not know, it \
refuses. A field whose name ends in `_ms` is milliseconds, in `_bytes` bytes. Times of day are milliseconds of Unix time.\n\nAn order without `wait` is answered \
with 202 as soon as it is begun: its header `Location` is the roll to watch, where one carries it out. With `?wait=30s` it is answered with 200 when it is \
done, with 500 when it failed, with 202 when it is still under way then. It goes on whether or not somebody waits.\n\nLists are arrays; where there is more than \
one answer holds, its header `Link` has the way to the next (`rel=\"next\"`).\n\nWhat is not as asked for is `application/problem+json` with a stable `code`; `/v1/problems` \
explains them. Beside those that an operation names, an unknown route is answered with 404 (`not-found`) and a method that a route does not take \
with 405 (`method-not-allowed`).";

fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.contract = Contract::Serialize;
        })
        .into_generator();
    // What is read, and inline: a parameter has its schema beside it.
    let mut parameters = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .into_generator();
    schema::<Problem>(&mut generator);
    let (mut paths, mut problems) = (BTreeMap::<&str, Map<String, Value>>::new(), Map::new());
    for operation in operations::all() {
        let told = told(&operation, &mut generator, &mut parameters, &mut problems);
        let path = paths.entry(operation.path).or_default();
        assert!(path.insert(operation.method.into(), told).is_none(), "{} {} twice", operation.method, operation.path);
    }
    let schemas: BTreeMap<String, Value> = generator.take_definitions(true).into_iter().collect();
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "project-cluster",
            "summary": "The REST API of a cluster's master",
            "description": ABOUT,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/", "description": "the unix socket /run/NAME/api.sock, or http://127.0.0.1:8887" }],
        "tags": operations::TAGS.map(|(name, text)| json!({ "name": name, "description": text })),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "Over TCP: a token that `install` or `project-cluster token add` made. Its role is `view`, `operate` or `admin`, each of which includes those before it; an operation says which it takes. Over the unix socket no token is asked for.",
            } },
            "responses": problems,
            "headers": {
                "Project-Cluster-Version": {
                    "description": "The version of the master, as its program says with `--version`. Every answer has it, but over TCP those to requests without a token that is known.",
                    "schema": { "type": "string" },
                    "required": false,
                },
                "Location": { "description": "The roll that carries the order out, where one does: watch it there.", "schema": { "type": "string" } },
                "Link": {
                    "description": "Where there is more: `</v1/rolls?limit=20&after=1764000000000>; rel=\"next\"`.",
                    "schema": { "type": "string" },
                },
                "Allow": { "description": "The methods that the route takes.", "schema": { "type": "string" } },
            },
        },
    })
}

fn version() -> Value {
    json!({ "$ref": "#/components/headers/Project-Cluster-Version" })
}

fn told(
    operation: &Operation,
    generator: &mut SchemaGenerator,
    parameters: &mut SchemaGenerator,
    problems: &mut Map<String, Value>,
) -> Value {
    let mut responses = Map::new();
    for answer in &operation.answers {
        let content = answer.content.iter().map(|(form, schema, example)| {
            let mut media = json!({ "schema": schema(generator) });
            if let Some(example) = example {
                media["example"] = example.clone();
            }
            ((*form).to_owned(), media)
        });
        let content: Map<String, Value> = content.collect();
        let mut headers = json!({ "Project-Cluster-Version": version() });
        if let Some(name) = answer.header {
            headers[name] = json!({ "$ref": format!("#/components/headers/{name}") });
        }
        let response = json!({ "description": answer.text, "headers": headers, "content": content });
        assert!(responses.insert(answer.status.to_string(), response).is_none(), "{}", operation.id);
    }
    let mut refused: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    let needless = [Code::Unauthorized, Code::Forbidden].as_slice();
    let any = |code: &Code| ANY.contains(code) && (operation.role.is_some() || !needless.contains(code));
    for code in Code::ALL.into_iter().filter(|code| any(code) || operation.codes.contains(code)) {
        refused.entry(code.meaning().status.as_u16()).or_default().push(code);
    }
    for (status, codes) in refused {
        let words: Vec<&str> = codes.iter().map(|code| code.meaning().word).collect();
        let name = words.join("_or_");
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{name}") }));
        problems.entry(name).or_insert_with(|| problem(&codes, &words));
    }
    let security: Vec<Value> = operation.role.map(|role| json!({ "token": [role.word()] })).into_iter().collect();
    json!({
        "operationId": operation.id,
        "security": security,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.text,
        "parameters": all_parameters(operation, parameters),
        "responses": responses,
    })
}

/// The refusals of one status.
fn problem(codes: &[Code], words: &[&str]) -> Value {
    let text: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.meaning().word, code.text())).collect();
    let examples: Map<String, Value> =
        codes.iter().map(|code| (code.meaning().word.to_owned(), json!({ "value": examples::problem(*code) }))).collect();
    json!({
        "description": text.join("\n\n"),
        "headers": { "Project-Cluster-Version": version() },
        "content": { "application/problem+json": {
            "schema": { "allOf": [{ "$ref": "#/components/schemas/Problem" }, { "properties": { "code": { "enum": words } } }] },
            "examples": examples,
        } },
    })
}

/// Those of the path, of the query and of the header.
fn all_parameters(operation: &Operation, generator: &mut SchemaGenerator) -> Vec<Value> {
    let mut all = Vec::new();
    for (name, text, schema) in shapes::of_path() {
        if operation.path.contains(&format!("{{{name}}}")) {
            all.push(json!({ "name": name, "in": "path", "required": true, "description": text, "schema": schema }));
        }
    }
    let query = (operation.query)(generator);
    let required: Vec<&str> = query["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, schema) in query["properties"].as_object().into_iter().flatten() {
        let mut schema = shapes::without_null(schema.clone());
        let text = schema.as_object_mut().and_then(|schema| schema.remove("description")).unwrap_or_default();
        assert!(text.as_str().is_some_and(|text| text.len() > 10), "{}: `{name}` has no text", operation.id);
        all.push(json!({
            "name": name, "in": "query", "required": required.contains(&name.as_str()), "description": text, "schema": schema
        }));
    }
    if let Some((name, text)) = operation.header {
        all.push(json!({ "name": name, "in": "header", "required": false, "description": text, "schema": shapes::sequence() }));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::v1;
    use crate::config::schema::tests::committed;

    #[test]
    fn the_committed_document_is_that_of_the_code() {
        committed("openapi.json", |_| format!("{:#}\n", document()));
    }

    #[test]
    fn every_route_is_told_and_nothing_else() {
        let told: BTreeSet<_> = operations::all()
            .into_iter()
            .filter_map(|operation| Some((operation.path, operation.method.to_owned(), operation.role?)))
            .collect();
        assert_eq!(told, v1::tests::paths());
        let open: Vec<_> =
            operations::all().into_iter().filter(|operation| operation.role.is_none()).map(|operation| operation.path).collect();
        assert_eq!(open, ["/healthz"], "what the door lets in without a token");
    }

    #[test]
    fn every_field_is_explained_and_every_reference_leads_somewhere() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for (name, schema) in schemas {
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                assert!(schema["description"].as_str().is_some_and(|text| text.len() > 5), "{name}.{field}: {schema}");
            }
        }
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50);
        for reference in found {
            assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
        }
    }
}
