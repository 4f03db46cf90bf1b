//! The files of a sandbox as a list that can be compared: what lies where, whose it is, what is in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::support::Sandbox;

/// What is systemd's, the journal's or the account tools' own and comes and goes without us: control sockets and state of
/// running daemons, stamps, and the copies that `useradd` and `userdel` keep of the former account files.
const NOT_OURS: &str = r"^/run/(systemd|log|udev|user|utmp|lock|credentials)(/|$)|^/var/lib/systemd(/|$)|^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$|^/etc/\.pwd\.lock$";

/// Everything in /etc, /var/lib, /home and /run: path, then kind, mode, owner, link and a hash of the contents.
#[track_caller]
pub fn tree(sandbox: &Sandbox) -> BTreeMap<String, String> {
    list(sandbox, "%p\t%y %04m %U:%G %l")
}

/// As [`tree`], with the time of the last change as well.
#[track_caller]
pub fn tree_with_times(sandbox: &Sandbox) -> BTreeMap<String, String> {
    list(sandbox, "%p\t%y %04m %U:%G %l %T@ %C@ %i")
}

#[track_caller]
fn list(sandbox: &Sandbox, format: &str) -> BTreeMap<String, String> {
    let roots = "/etc /var/lib /home";
    let script = format!("find {roots} /run -xdev -printf '{format}\\n'; echo ---; find {roots} -xdev -type f -exec sha256sum {{}} +");
    let text = sandbox.root(&script).exits(0).stdout;
    let (entries, hashes) = text.split_once("---\n").unwrap();
    let mut tree: BTreeMap<String, String> =
        entries.lines().filter_map(|line| line.split_once('\t')).map(|(path, what)| (path.to_owned(), what.to_owned())).collect();
    for (hash, path) in hashes.lines().filter_map(|line| line.split_once("  ")) {
        // sha256sum marks a name with a backslash in it by one in front of the line, and doubles it.
        let path = if hash.starts_with('\\') { path.replace(r"\\", r"\") } else { path.to_owned() };
        let entry = tree.get_mut(&path).unwrap_or_else(|| panic!("{path} was listed once and not again"));
        let _ = write!(entry, " {hash}");
    }
    let ignored = ignored(sandbox, tree.keys());
    tree.retain(|path, _| !ignored.contains(path));
    assert!(tree.len() > 100 && tree.contains_key("/etc/passwd"), "this is no list of a system: {tree:?}");
    tree
}

#[track_caller]
fn ignored<'a>(sandbox: &Sandbox, paths: impl Iterator<Item = &'a String>) -> Vec<String> {
    let all = paths.fold(String::new(), |all, path| all + path + "\n");
    let found = sandbox.run_with_input(&["sh", "-c", r#"grep -E "$1" || :"#, "ignored", NOT_OURS], all.as_bytes());
    found.exits(0).stdout.lines().map(String::from).collect()
}

/// Panics with every difference, a line each.
#[track_caller]
pub fn same(what: &str, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) {
    let differences = differences(before, after);
    assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
}

/// Every difference, a line each.
pub fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let gone = before.iter().filter(|(path, _)| !after.contains_key(*path)).map(|(path, what)| format!("- {path} {what}"));
    let changed = after.iter().filter_map(|(path, now)| match before.get(path) {
        None => Some(format!("+ {path} {now}")),
        Some(then) if then != now => Some(format!("~ {path} {then} -> {now}")),
        Some(_) => None,
    });
    gone.chain(changed).collect()
}
