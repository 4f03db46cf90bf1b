#!/usr/bin/python3
"""Finds each mistake of mutants.txt: `make mutants`, from anywhere.

A copy of src/roll and explore/ is made below target/, with all mistakes in it, each behind a switch, so that one build serves all. The
tests must pass with no switch, and one at least must fail with each. The report is docs/mutants.md; exit 1 where one was missed.

`mutants.py copy` only makes the copy, `mutants.py PROGRAM` runs what was built of it."""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
COPY = TARGET / "mutants"
REPORT = ROOT / "docs" / "mutants.md"
# Seconds for all tests with one mistake. Some mistakes never end.
LIMIT = int(os.environ.get("MUTANT_SECONDS", "120"))
# How many at once.
JOBS = int(os.environ.get("MUTANT_JOBS", str(os.cpu_count())))
SWITCH = """
/// Whether this mistake is made.
#[must_use]
pub fn mistake(number: usize) -> bool {
    static ASKED: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    *ASKED.get_or_init(|| std::env::var("MUTANT").ok().and_then(|text| text.parse().ok())) == Some(number)
}
"""


def listed():
    """The mistakes: file, what it comes to, the piece with the place, what stands there instead."""
    found = []
    text = (HERE / "mutants.txt").read_text()
    for paragraph in re.split(r"\n\n+", text.strip()):
        lines = [line for line in paragraph.splitlines() if not line.startswith("#")]
        if not lines:
            continue
        if len(lines) != 3 or not lines[1].startswith("- ") or not lines[2].startswith("+ "):
            sys.exit(f"mutants.txt: three lines are wanted, `FILE: ...`, `- ...` and `+ ...`:\n{paragraph}")
        name, title = lines[0].split(": ", 1)
        found.append((name, title, lines[1][2:].replace("\\n", "\n"), lines[2][2:]))
    return found


def place(text, name, piece):
    """Where the expression begins and ends."""
    before, old, after = re.fullmatch(r"(.*)«(.*)»(.*)", piece, re.DOTALL).groups()
    whole = before + old + after
    if text.count(whole) != 1:
        sys.exit(f"mutants.txt: {name} has this {text.count(whole)} times: {whole}")
    begin = text.index(whole) + len(before)
    return begin, begin + len(old)


def switched(old, number, new):
    branches = f"if crate::mistake({number}) {{ {new} }} else {{ {old} }}"
    return f"{{ {branches} }}" if old.endswith(";") else f"({branches})"


def make_copy(mistakes):
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(ROOT / "src" / "roll", COPY / "src" / "roll")
    shutil.copytree(HERE, COPY / "explore", symlinks=True)
    (COPY / "docs").symlink_to(ROOT / "docs")
    shutil.copy(ROOT / "Cargo.lock", COPY / "explore" / "Cargo.lock")
    manifest = (COPY / "explore" / "Cargo.toml").read_text().replace('path = ".."', f'path = "{ROOT}"')
    manifest += "\n[workspace]\n\n[profile.dev]\ndebug = false\n\n[profile.dev.package.explore]\nopt-level = 2\n"
    (COPY / "explore" / "Cargo.toml").write_text(manifest)
    lib = COPY / "explore" / "src" / "lib.rs"
    lib.write_text(lib.read_text() + SWITCH)
    for name in sorted({name for name, _, _, _ in mistakes}):
        path = COPY / "src" / "roll" / name
        text = path.read_text()
        places = [(*place(text, name, piece), number, new) for number, (of, _, piece, new) in enumerate(mistakes, 1) if of == name]
        places.sort(reverse=True)
        for (begin, _, _, _), (_, end, _, _) in zip(places, places[1:]):
            if end > begin:
                sys.exit(f"mutants.txt: two mistakes in {name} overlap: {text[begin:end]}")
        for begin, end, number, new in places:
            text = text[:begin] + switched(text[begin:end], number, new) + text[end:]
        path.write_text(text)


def build():
    command = [os.environ.get("CARGO", "cargo"), "test", "--offline", "--lib", "--no-run", "--message-format=short"]
    result = subprocess.run(command, cwd=COPY / "explore", env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)}, capture_output=True, text=True, check=False)
    program = re.search(r"Executable .*\((.*)\)", result.stderr)
    if result.returncode or not program:
        sys.exit(result.stderr)
    return COPY / "explore" / program.group(1)


def failed(program, number):
    """The tests that fail with this mistake, the first words of each."""
    environment = {**os.environ, "EXPLORE": "few", "MUTANT": str(number), "RUST_BACKTRACE": "0"}
    try:
        result = subprocess.run([program], cwd=COPY / "explore", env=environment, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return [("no test", f"it does not end within {LIMIT} s")]
    found = []
    for test, what in re.findall(r"^---- (\S+) stdout ----\n(.*?)(?=^---- |^failures:)", result.stdout, re.DOTALL | re.MULTILINE):
        lines = [line for line in what.splitlines() if line and not line.startswith("thread ")]
        found.append((test.removeprefix("roll::"), lines[0] if lines else ""))
    if result.returncode and not found:
        found.append(("the program", f"ended with {result.returncode}"))
    return found


def main():
    mistakes = listed()
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    if asked in ("", "copy"):
        make_copy(mistakes)
    if asked == "copy":
        return
    program = asked or build()
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        runs = [pool.submit(failed, program, number) for number in range(len(mistakes) + 1)]
        if told := runs[0].result():
            sys.exit(f"mutants: without any mistake: {told}")
        rows, missed = [], 0
        for number, ((name, title, piece, new), run) in enumerate(zip(mistakes, runs[1:]), 1):
            found = run.result()
            missed += not found
            old = re.search("«(.*)»", piece, re.DOTALL).group(1)
            by = "; ".join(f"`{test}`" + (f": {cell(words)}" if "every_state" in test else "") for test, words in found)
            rows.append(f"| {number} | `{name}` | {title} | `{cell(old)}` | `{cell(new)}` | {by or '**nobody**'} |")
            print(number, title, "->", ", ".join(test for test, _ in found) or "NOBODY", flush=True)
    report(rows)
    print(f"mutants: {len(mistakes) - missed} of {len(mistakes)} found")
    sys.exit(1 if missed else 0)


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


def report(rows):
    head = REPORT.read_text().split("| | file")[0] if REPORT.exists() else "# Mistakes\n\n"
    REPORT.write_text(head + "| | file | mistake | as it is | as it would be | found by |\n|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n")


main()
