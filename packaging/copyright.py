#!/usr/bin/python3
"""Who holds the copyright of what is linked into the program, in the format of Debian (DEP-5): packaging/copyright.

    packaging/copyright.py > packaging/copyright     after a change of Cargo.lock
    packaging/copyright.py --check                   `make lint`: fails where the file is not what this would write

Own code, since what is wanted is one format of Debian's and the notices of 130 crates: cargo-about would bring 300 crates of
its own and a template. The crates are those of `cargo metadata` that are linked on Linux; what only builds, derives or tests
is none of them. A licence with alternatives is taken as the first of PREFERRED. What the toolchain links beside them is in
copyright.toml.
"""

import fnmatch
import json
import pathlib
import re
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
PLATFORM = "x86_64-unknown-linux-gnu"
PREFERRED = ["MIT", "BSD-3-Clause", "ISC", "Zlib", "Unicode-3.0", "BSL-1.0", "Apache-2.0"]
# Debian's names.
NAMES = {"MIT": "Expat"}
# Those that apply to anything that is linked.
ALL = {"MIT"}
# What a crate brings that is not its own, by the crate: files below it, whose, licence (SPDX), and the words of that.
BROUGHT = {
    "libsqlite3-sys": ("sqlite3/*", "none is claimed: D. Richard Hipp and the authors of SQLite have given it to all", "blessing"),
}
NAMES["blessing"] = "public-domain"
TOOLCHAIN = tomllib.loads((HERE / "copyright.toml").read_text())
NAMES.update({licence["spdx"]: licence["debian"] for licence in TOOLCHAIN["license"]})
BLESSING = """ The author disclaims copyright to this source code. In place of a legal notice, here is a blessing:
 .
    May you do good and not evil.
    May you find forgiveness for yourself and forgive others.
    May you share freely, never taking more than you give."""
# Whom a notice of years alone means, by the crate.
MEANT = {"equivalent": "the authors of equivalent", "indexmap": "the authors of indexmap"}
# What a compiler other than Rust's makes of a crate is seldom the crate's own.
FOREIGN = {".c", ".cc", ".cpp", ".cxx", ".S", ".s", ".asm"}
# What begins like a notice and is the text of a licence.
TEXT = re.compile(r"copyright (notice|owner|holder|license|law|statement|interest)|\[yyyy\]|\{yyyy\}", re.IGNORECASE)


def linked():
    """The crates that are linked, this one left out, by name and version."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={PLATFORM}"]
    metadata = json.loads(subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    found, open_ids = set(), [root]
    while open_ids:
        current = open_ids.pop()
        for dependency in nodes[current]["deps"]:
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            macro = any("proc-macro" in target["kind"] for target in packages[dependency["pkg"]]["targets"])
            if normal and not macro and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                open_ids.append(dependency["pkg"])
    return sorted((packages[found_id] for found_id in found), key=lambda package: (package["name"], package["version"]))


def licences(expression, name):
    """Those that apply, of an SPDX expression whose ANDs stand outside of its ORs."""
    chosen = []
    for part in re.split(r"\s+AND\s+", expression):
        alternatives = [alternative.strip("() ") for alternative in re.split(r"\s+OR\s+|/", part)]
        best = [licence for licence in PREFERRED if licence in alternatives]
        if not best:
            sys.exit(f"copyright: {name} is under {expression!r}, of which nothing is in PREFERRED")
        chosen.append(best[0])
    return chosen


def files(package):
    directory = pathlib.Path(package["manifest_path"]).parent
    return sorted(path for path in directory.iterdir() if re.match(r"(?i)(licen[cs]e|copying|copyright|notice|unlicense)", path.name) and path.is_file())


def notices(package):
    """The lines of its licence files that say whose it is; else its authors."""
    found = []
    for path in files(package):
        for line in path.read_text(errors="replace").splitlines():
            line = re.sub(r"\s+", " ", line).strip(" *#;")
            if re.match(r"(?i)copyright\b.*(\d{4}|\(c\)|©)|(?i:copyright) [^ ]+ ", line) and not TEXT.search(line) and line not in found:
                found.append(line)
    authors = [re.sub(r" *<.*?>", "", author) for author in package["authors"]]
    whose = list(dict.fromkeys(re.sub(r"(?i)^copyright( \(c\)| ©)?:? *", "", line) for line in found)) or authors or [f"the authors of {package['name']}"]
    return [holder if re.search(r"[^\W\d_]", holder) else f"{holder} {meant(package['name'], holder)}" for holder in whose]


def meant(name, notice):
    return MEANT.get(name) or sys.exit(f"copyright: {name} is of {notice!r}, which names nobody: MEANT is to say who")


def brought(package):
    """What of the crate is others', as BROUGHT has it; ends where it has not all."""
    below, whose, licence = BROUGHT.get(package["name"], (None, None, None))
    directory = pathlib.Path(package["manifest_path"]).parent
    for path in sorted(path.relative_to(directory) for path in directory.rglob("*") if path.suffix in FOREIGN):
        if not below or not fnmatch.fnmatch(str(path), below):
            sys.exit(f"copyright: {package['name']} brings {path}: BROUGHT is to say whose it is")
    return below, whose, licence


def text(licence, packages):
    """The words of a licence, as a crate that is under it has them, without its notice."""
    if licence == "blessing":
        return BLESSING
    for known in TOOLCHAIN["license"]:
        if known["spdx"] == licence:
            return "\n".join(f" {line}" if line.strip() else " ." for line in known["text"].strip().splitlines())
    if licence == "Apache-2.0":
        # Debian has it, and wants no copy; other packages bring packaging/LICENSE.Apache-2.0.
        return " The full text is in /usr/share/common-licenses/Apache-2.0, or beside this file."
    for package in packages:
        for path in files(package):
            contents = path.read_text(errors="replace")
            head = {"MIT": "Permission is hereby granted, free", "BSD-3-Clause": "Redistribution and use in source and binary",
                    "ISC": "Permission to use, copy, modify, and", "Zlib": "This software is provided 'as-is'", "Unicode-3.0": "UNICODE LICENSE V3",
                    "BSL-1.0": "Boost Software License", "Apache-2.0": "Apache License"}[licence]
            begin = contents.find(head)
            # Some files hold several, and one ends in the first words of another.
            ends = [contents.find(word, begin) for word in ("Apache License", "UNICODE LICENSE V3") if word != head]
            words = contents[begin : min([end for end in ends if end > begin], default=None)].strip()
            if begin >= 0 and len(words) > 500:
                lines = [line.rstrip() for line in words.splitlines()]
                if licence == "Unicode-3.0":
                    lines = [line for line in lines if not line.startswith("Copyright ©")]
                return "\n".join(f" {line}" if line.strip() else " ." for line in lines)
    sys.exit(f"copyright: no crate under {licence} has its text")


def stanza(files_, holders, licence, comment=None):
    lines = [f"Files: {files_}", "Copyright: " + "\n           ".join(holders), f"License: {licence}"]
    return "\n".join(lines + ([f"Comment: {comment}"] if comment else []))


def document():
    packages = linked()
    ours = (HERE.parent / "LICENSE").read_text()
    holder = re.search(r"Copyright \(c\) (.*)", ours).group(1)
    parts = ["\n".join([
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
        "Upstream-Name: project-cluster",
        "Comment: Made by packaging/copyright.py from Cargo.lock. The stanzas below crates/, and those behind",
        " them, are of the libraries that are linked into usr/bin/project-cluster.",
    ]), stanza("*", [holder], "Expat")]
    used = {"MIT": []}
    for package in packages:
        chosen = licences(package["license"], package["name"])
        for licence in chosen:
            used.setdefault(licence, []).append(package)
        ALL.update(chosen)
        names = " and ".join(dict.fromkeys(NAMES.get(licence, licence) for licence in chosen))
        place = f"crates/{package['name']}-{package['version']}"
        parts.append(stanza(f"{place}/*", notices(package), names))
        below, whose, licence = brought(package)
        if below:
            used.setdefault(licence, []).append(package)
            ALL.add(licence)
            parts.append(stanza(f"{place}/{below}", [whose], NAMES[licence]))
    for part in TOOLCHAIN["linked"]:
        for licence in part["license"]:
            used.setdefault(licence, [])
        if part.get("packaged", True):
            ALL.update(part["license"])
        names = " and ".join(NAMES.get(licence, licence) for licence in part["license"])
        parts.append(stanza(part["files"], part["copyright"], names, part.get("comment")))
    for licence in sorted(used):
        parts.append(f"License: {NAMES.get(licence, licence)}\n{text(licence, used[licence])}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    written = document()
    if sys.argv[1:] == ["--check"]:
        if (HERE / "copyright").read_text() != written:
            sys.exit("copyright: packaging/copyright is not of this Cargo.lock: packaging/copyright.py > packaging/copyright")
        of_rpm = tomllib.loads((HERE.parent / "Cargo.toml").read_text())["package"]["metadata"]["generate-rpm"]["license"]
        if set(of_rpm.split(" AND ")) != ALL:
            sys.exit(f"copyright: the licence of the .rpm in Cargo.toml is not {' AND '.join(sorted(ALL))}")
    else:
        sys.stdout.write(written)
