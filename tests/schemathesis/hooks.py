"""What schemathesis may not ask of a small cluster: a thousand workers, a stream without an end, only apps that are none."""

import re

import schemathesis

APPS = ["api", "bg", "rare"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


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
