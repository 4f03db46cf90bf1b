//! Who speaks to the API: a client that means ill, a page in somebody's browser, and who has stolen the token.

use super::Tries;
use crate::cluster::{Cluster, SOON, app, cluster};

const TOKEN: &str = "/var/lib/project-cluster/operators/token";
const MASTER: &str = "project-cluster.service";

/// Status of a request over TCP by curl with these arguments, and the answer's body.
fn curl(cluster: &Cluster, arguments: &str) -> (u16, String) {
    let said = cluster.sh(&format!("curl -sS --path-as-is -m 20 -w '\\n%{{http_code}}' {arguments} || true")).ok();
    let (body, status) = said.rsplit_once('\n').unwrap_or(("", &said));
    (status.parse().unwrap_or_default(), body.to_owned())
}

fn shop() -> Cluster {
    cluster(&app("api", 1, "node /srv/apps/hello.js 3000", "listen = 3000\nenv = { KEY = \"a-secret-of-the-app\" }"))
}

#[test]
fn a_hostile_client_is_refused() {
    let cluster = shop();
    let pid = cluster.pids("api");
    let mut by = Tries::by("a hostile client of the API");
    let stop = "-X POST http://127.0.0.1:8887/v1/apps/api/stop";
    let token = format!("-H \"Authorization: Bearer $(cat {TOKEN})\"");
    let rows = [
        ("orders without a token", "401", stop.to_owned(), 401),
        ("shows a token of the right length", "401", format!("-H 'Authorization: Bearer {}' {stop}", "a".repeat(64)), 401),
        (
            "a page in the browser of somebody who has the token: another origin",
            "403",
            format!("{token} -H 'Origin: http://evil.example' {stop}"),
            403,
        ),
        ("the same, with what browsers say of it", "403", format!("{token} -H 'Sec-Fetch-Site: cross-site' {stop}"), 403),
        ("a name of somebody else's DNS that leads here", "421", format!("{token} -H 'Host: evil.example' {stop}"), 421),
        ("a path that climbs out", "404", format!("{token} 'http://127.0.0.1:8887/v1/apps/..%2f..%2f..%2fetc%2fpasswd'"), 404),
        (
            "a name that is no app's, with escape sequences",
            "404",
            format!("{token} -X POST 'http://127.0.0.1:8887/v1/apps/%1b%5b31mred%0aforged/stop'"),
            404,
        ),
        (
            "a command or an environment in an order's body",
            "400: routes take no body that they do not know",
            format!(
                "{token} -H 'Content-Type: application/json' -d '{{\"command\":\"sh\",\"env\":{{\"A\":\"b\"}}}}' http://127.0.0.1:8887/v1/apps/api/rolls"
            ),
            400,
        ),
        (
            "a body of 100 KB",
            "413, unread",
            format!(
                "{token} -H 'Content-Type: application/json' -d \"$(head -c 100000 /dev/zero | tr '\\0' a)\" http://127.0.0.1:8887/v1/apps/api/rolls"
            ),
            413,
        ),
        (
            "a chunked body, which proxies read in other ways",
            "411",
            format!(
                "{token} -H 'Transfer-Encoding: chunked' -H 'Content-Type: application/json' -d x http://127.0.0.1:8887/v1/apps/api/rolls"
            ),
            411,
        ),
        (
            "headers of 20 KiB",
            "431",
            format!("{token} -H \"X: $(head -c 20000 /dev/zero | tr '\\0' a)\" http://127.0.0.1:8887/v1/apps"),
            431,
        ),
    ];
    for (what, happens, arguments, wanted) in rows {
        let seen = curl(&cluster, &arguments);
        by.row(what, happens, seen.0 == wanted, seen);
    }
    // Two lengths, by hand: curl would not.
    let smuggled = "POST /v1/apps/api/stop HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\nContent-Length: 44\\r\\n\\r\\nGET /v1/apps HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n";
    let script = format!(
        "import socket\nclient = socket.create_connection(('127.0.0.1', 8887), 10)\nclient.sendall(b'{smuggled}')\nanswer = b''\nwhile piece := client.recv(9999): answer += piece\nprint(answer.decode())"
    );
    let said = cluster.run(&["python3", "-c", &script]).ok();
    by.row(
        "a request in the body of another, by two lengths",
        "one answer, 400, and the connection is closed",
        said.starts_with("HTTP/1.1 400") && said.matches("HTTP/1.1").count() == 1,
        said,
    );
    let journal = cluster.journal_of(MASTER);
    by.row(
        "writes into the master's log by what it asks for",
        "one line an order, no control character",
        !journal.contains('\u{1b}') && !journal.lines().any(|line| line.starts_with("forged")),
        journal,
    );
    assert_eq!(cluster.pids("api"), pid, "nothing was carried out");
    by.end();
}

#[test]
fn a_stolen_token_steers_and_no_more() {
    let cluster = shop();
    let mut by = Tries::by("who has the token");
    let token = cluster.read(TOKEN).trim_end().to_owned();
    let ask = |arguments: &str| curl(&cluster, &format!("-H 'Authorization: Bearer {token}' {arguments}"));
    let address = "http://127.0.0.1:8887";
    let command = || cluster.read(format!("/proc/{}/cmdline", cluster.pids("api").first().copied().unwrap_or(1))).replace('\0', " ");
    let before = command();
    let rolled = ask(&format!("-X POST '{address}/v1/apps/api/rolls?wait=30s'"));
    by.row(
        "rolls, stops, starts, scales what is installed",
        "it may, and the journal says from which address",
        rolled.0 == 200 && cluster.journal_of(MASTER).contains(" orders POST /v1/apps/api/rolls"),
        rolled,
    );
    let everything = ["/v1/apps", "/v1/apps/api", "/v1/workers", "/v1/config", "/v1/events?wait=0s", "/stat"]
        .map(|path| ask(&format!("-m 2 '{address}{path}'")).1);
    by.row(
        "reads all that there is to read",
        "names, numbers, commands; no value of any `env`",
        everything.concat().contains("hello.js") && !everything.concat().contains("a-secret-of-the-app"),
        everything.concat().len(),
    );
    let changed = [("PUT", "/v1/apps/api"), ("PATCH", "/v1/apps/api"), ("POST", "/v1/apps"), ("PUT", "/v1/config"), ("POST", "/v1/config")]
        .map(|(method, path)| {
            ask(&format!("-X {method} -d '{{\"command\":\"id\"}}' -H 'Content-Type: application/json' {address}{path}")).0
        });
    by.row(
        "changes a command, an environment, a user; adds an app",
        "there is no such route (404, 405)",
        changed.iter().all(|status| [404, 405].contains(status)) && command() == before,
        changed,
    );
    let slots = ask(&format!("-X POST '{address}/v1/apps/api/rolls?slots=1025'"));
    by.row("names a worker beyond the last slot", "400 or 404", [400, 404].contains(&slots.0), slots);
    let many = ask(&format!("-X POST '{address}/v1/apps/api/scale?count=5000'"));
    by.row("asks for 5000 workers", "400: 1024 is the most", many.0 == 400 && cluster.workers("api").len() == 1, many);
    cluster.sh(&format!("rm {TOKEN}; project-cluster install")).ok();
    cluster.wait_until("it opens nothing any more", SOON, || ask(&format!("{address}/v1/apps")).0 == 401);
    by.row("uses it when it was renewed", "401 from that moment on", true, ());
    by.end();
}

/// Every order about an app that the API's document has: a route that is new is tried, too.
fn orders(app: &str) -> impl Iterator<Item = String> + use<> {
    let document: serde_json::Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap().clone();
    let app = app.to_owned();
    let needs = |path: &str| match path.rsplit('/').next() {
        Some("scale" | "add") => "?count=9",
        Some("remove") => "?slots=1",
        _ => "",
    };
    let orders = paths.into_iter().filter(|(path, item)| path.starts_with("/v1/apps/{app}/") && item.get("post").is_some());
    orders.map(move |(path, _)| path.replace("{app}", &app).replace("{id}", "1") + needs(&path))
}

#[test]
fn a_stolen_token_of_a_role_opens_that_alone() {
    let other = app("bg", 1, "sleep infinity", "ready = \"none\"\nreload.min_ready = \"1ms\"");
    let cluster = cluster(&(app("api", 1, "node /srv/apps/hello.js 3000", "listen = 3000") + &other));
    let mut by = Tries::by("who has a token of a role, for one app");
    let [view, operate] =
        ["view", "operate"].map(|role| cluster.cli(&["token", "add", role, "--role", role, "--app", "bg"]).ok().trim_end().to_owned());
    let ask = |token: &str, method: &str, path: &str| {
        curl(&cluster, &format!("-X {method} -H 'Authorization: Bearer {token}' 'http://127.0.0.1:8887{path}'"))
    };
    let pids = || [cluster.pids("api"), cluster.pids("bg")];
    let before = pids();
    let post = |token: &str, app: &str| orders(app).map(|order| (ask(token, "POST", &order).0, order)).collect::<Vec<_>>();
    let seen = post(&view, "bg");
    assert!(seen.len() >= 12, "the document has them: {seen:?}");
    by.row(
        "orders anything with the role `view`",
        "403, and nothing changes",
        seen.iter().all(|(status, _)| *status == 403) && pids() == before,
        (seen, pids()),
    );
    let numbers = |seen: &[(u16, String)]| seen.iter().map(|(status, _)| *status).collect::<Vec<_>>();
    let seen = post(&operate, "api");
    let as_none = numbers(&post(&operate, "none"));
    let seen = numbers(&seen);
    by.row("orders anything of an app that is not the token's", "as of one that does not exist", seen == as_none && pids() == before, seen);
    let first = [("POST", "/bg/stop"), ("POST", "/bg/remove"), ("POST", "/bg/add")].map(|(method, path)| ask(&view, method, path).0);
    by.row("the same by the first version's routes", "403", first == [403; 3] && pids() == before, first);
    let seen = ["/v1/apps", "/v1/workers", "/stat", "/v1/events?wait=0s", "/v1/history", "/v1/rolls"].map(|path| ask(&view, "GET", path).1);
    by.row("reads what other apps do", "it is left out", !seen.concat().contains("api") && seen[1].contains("bg"), seen);
    let seen = [&view, &operate].map(|token| ask(token, "GET", "/v1/config").0);
    by.row("reads the configuration", "403: that is `admin`'s", seen == [403; 2], seen);
    let seen = ask(&operate, "POST", "/v1/apps/bg/apply").0;
    by.row("brings about what is installed with the role `operate`", "403: that is `admin`'s", seen == 403 && pids() == before, seen);
    cluster.cli(&["token", "revoke", "operate"]).ok();
    let seen = ask(&operate, "POST", "/v1/apps/bg/rolls").0;
    by.row("uses it when it was revoked", "401, at the next request", seen == 401 && pids() == before, seen);
    by.end();
}
