"""What schemathesis may not ask of a small cluster: a thousand workers, a stream without an end, only apps that are none."""

import re

import schemathesis

APPS = ["api", "bg", "rare"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
ROLL = {
    "to": re.compile(r"(previous|[1-9][0-9]{0,18})\Z"),
    "canary": re.compile(r"([0-9]{1,3}|10[01][0-9]|102[0-4]|(100|[0-9]{1,2})%)\Z"),
    "bake": re.compile(r"([0-9]{1,9}(ms|s|m|h)){1,4}\Z"),
}


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query or {}
    # As good a number as any; one that is none, or out of bounds, stays what it is.
    count = str(query.get("count", ""))
    if count.isdigit() and 3 < int(count) <= 1024:
        query["count"] = int(count) % 4
    if case.path == "/v1/events" and str(query.get("follow", "true")).lower() == "true":
        case.query = query = {**query, "follow": "false"}
    # Three of four names are those of apps; what is none, since it breaks the rules, stays so.
    app = str((case.path_parameters or {}).get("app", ""))
    if NAME.match(app) and len(app) % 4 < 3:
        case.path_parameters["app"] = APPS[len(app) % 4]
    # What the document cannot say: a roll is of some slots, a rollback, or tries canaries. What breaks a rule by itself stays.
    if case.path == "/v1/apps/{app}/rolls":
        others = ["canary", "bake"] + (["to"] if "slots" in query else [])
        if "slots" in query or "to" in query:
            for name in others:
                if name in query and ROLL[name].match(str(query[name])):
                    del query[name]
