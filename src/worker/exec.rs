//! Becomes the app: reads the worker's copy of its pin, sets up environment, directory, sockets and swap, and executes.
//!
//! The PID stays what systemd knows, so `LISTEN_PID`, `MAINPID` and the journal fit. Runs as the worker's user inside its
//! sandbox, with one thread: main() calls it before any runtime is made.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::error::{self, Error, Priority, say};
use super::inherited::{self, Sockets};
use super::pin::Copy;
use super::{swap, sys};
use crate::config::settings::{DEFAULT_PATH, Ready};
use crate::names::Uid;

/// Becomes the app that `$RUNTIME_DIRECTORY/pin.json` describes. Returns only when that failed, with the reason.
///
/// Must be called with one thread and before any descriptor is opened.
pub fn run() -> Error {
    match become_app() {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Leaves the shared sockets as the app's workers want them, before anything else: the flag is theirs too. The unit says
/// `NonBlocking=yes`, so for event loops systemd never changes it. One that found its listener blocking would hang after a
/// lost race for a connection until the next comes; one that blocks in accept and found it non-blocking would see EAGAIN.
fn settle(passed: &[OwnedFd], copy: &Copy) -> Result<(), Error> {
    let failed = |error: io::Error| Error::new(format!("the inherited sockets cannot be made ready for the app: {error}"));
    // What nobody knows yet is blocking, as from any systemd; event loops set the flag by themselves.
    let wanted = copy.nonblocking.unwrap_or(false);
    let mut changed = false;
    for socket in passed {
        if sys::sockets::is_nonblocking(socket.as_fd()).map_err(failed)? != wanted {
            sys::sockets::set_nonblocking(socket.as_fd(), wanted).map_err(failed)?;
            changed = true;
        }
    }
    if changed && copy.nonblocking == Some(false) {
        say(
            Priority::Notice,
            &format!(
                "{} accepts from blocking sockets, which its workers see non-blocking for some milliseconds whenever one of them starts: write `NonBlocking = false` in [apps.{}.systemd], then `project-cluster install`",
                copy.app, copy.app
            ),
        );
    }
    Ok(())
}

fn become_app() -> Result<Infallible, Error> {
    let (fds, pid) = (std::env::var("LISTEN_FDS").ok(), std::env::var("LISTEN_PID").ok());
    let count = inherited::count(fds.as_deref(), pid.as_deref(), std::process::id())?;
    // First of all: later the numbers of descriptors that were promised and not passed would be others'.
    let passed = sys::files::take_inherited(count);
    let directory = runtime_directory()?;
    let copy = inherited::read_copy(&directory)?;
    let places: Vec<_> = passed.iter().map(|socket| inherited::bound_to(socket.as_fd())).collect();
    let order = inherited::order(&places, &std::env::var("LISTEN_FDNAMES").unwrap_or_default(), &copy)?;
    let passed: Vec<_> = {
        // What is not in the order is closed here: the app would hold it, unknowing, for as long as it lives.
        let mut passed: Vec<_> = passed.into_iter().map(Some).collect();
        order.iter().filter_map(|place| passed[*place].take()).collect()
    };
    settle(&passed, &copy)?;

    enter(&copy)?;
    let mut environment = environment(std::env::vars_os(), &copy);
    let path = environment.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let program = find(&copy, &path)?;
    environment.insert("LISTEN_FDS".into(), passed.len().to_string().into());
    if let Some(names) = environment.get_mut(OsStr::new("LISTEN_FDNAMES")) {
        *names = inherited::reorder_names(&names.to_string_lossy(), &order).into();
    }

    if !copy.pin.listen.is_empty() {
        tell_ready(&copy, &passed, &directory)?;
    }
    sys::files::leave_inherited(passed).map_err(|error| Error::new(format!("the inherited sockets cannot be put in order: {error}")))?;

    let arguments = copy.pin.command.iter().map(|argument| c_string(argument.as_bytes(), "command")).collect::<Result<Vec<_>, _>>()?;
    let variables = environment.into_iter().map(|(name, value)| {
        let mut text = name.into_vec();
        text.push(b'=');
        text.extend(value.into_vec());
        c_string(&text, "env")
    });
    let variables = variables.collect::<Result<Vec<_>, _>>()?;
    let error = sys::process::execute(&c_string(program.as_os_str().as_bytes(), "command")?, &arguments, &variables);
    Err(refused(&copy, &program, &error))
}

fn c_string(bytes: &[u8], key: &str) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error::new(format!("`{key}` holds a NUL character, which no program can be given: remove it")))
}

/// `$RUNTIME_DIRECTORY`.
pub fn runtime_directory() -> Result<PathBuf, Error> {
    match std::env::var_os("RUNTIME_DIRECTORY") {
        Some(directory) if Path::new(&directory).is_absolute() => Ok(directory.into()),
        _ => Err(Error::new(
            "RUNTIME_DIRECTORY is not set: this command is a unit's, systemd runs it; start the app with `project-cluster start`",
        )),
    }
}

/// Enters the release.
pub fn enter(copy: &Copy) -> Result<(), Error> {
    let cwd = &copy.pin.cwd;
    std::env::set_current_dir(cwd).map_err(|why| {
        let app = &copy.app;
        let next = match (why.kind(), hidden_by(cwd)) {
            (_, Some(key)) => format!("it may be there and hidden by the sandbox: write `{key} = false` under `[apps.{app}.sandbox]`, run `project-cluster install` and reload, or move it to /srv"),
            (io::ErrorKind::NotFound, None) => format!("the release of generation {} was deleted: put it back, or `project-cluster reload {app}` for the current one", copy.pin.generation),
            (io::ErrorKind::PermissionDenied, None) => format!("the user of {app} may not enter it: give it the right to (`chmod o+x` on each directory of the path), or write another `user`"),
            _ => format!("make it a directory, then `project-cluster reload {app}`"),
        };
        Error::new(format!("the working directory {} cannot be entered: {why}; {next}", cwd.display())).with_code(error::CHDIR)
    })
}

/// The switch of the sandbox that may hide a path.
fn hidden_by(path: &Path) -> Option<&'static str> {
    let below = |roots: &[&str]| roots.iter().any(|root| path.starts_with(root));
    if crate::place::here().is_user() {
        // Nothing is hidden in a user's own systemd.
        None
    } else if below(&["/home", "/root", "/run/user"]) {
        Some("home")
    } else if below(&["/tmp", "/var/tmp"]) {
        Some("tmp")
    } else {
        None
    }
}

/// The app's environment: what systemd set, what we add, what the configuration says, the later winning.
pub fn environment(systemd: impl IntoIterator<Item = (OsString, OsString)>, copy: &Copy) -> BTreeMap<OsString, OsString> {
    let mut all: BTreeMap<OsString, OsString> = systemd.into_iter().collect();
    // For the step that drains; the app has no use for it, and would find nobody there.
    if copy.pin.ready != Ready::Notify && !all.contains_key(OsStr::new("WATCHDOG_USEC")) && !all.contains_key(OsStr::new("FDSTORE")) {
        all.remove(OsStr::new("NOTIFY_SOCKET"));
    }
    let uid = Uid { app: copy.app.clone(), slot: copy.instance.slot };
    let port = copy.port.map(|port| ("PORT", port.to_string()));
    let ours = [
        ("PATH", DEFAULT_PATH.to_owned()),
        ("PROJECT_CLUSTER_NAME", copy.cluster.to_string()),
        ("PROJECT_CLUSTER_APP", copy.app.to_string()),
        ("PROJECT_CLUSTER_UID", uid.to_string()),
        ("PROJECT_CLUSTER_SLOT", copy.instance.slot.get().to_string()),
        ("PROJECT_CLUSTER_GENERATION", copy.instance.generation.to_string()),
        // The original's name for the app type.
        ("WORKER_TYPE", copy.app.to_string()),
    ];
    all.extend(ours.into_iter().chain(port).map(|(name, value)| (name.into(), value.into())));
    all.extend(copy.pin.env.iter().map(|(name, value)| (name.into(), value.into())));
    all
}

/// The file of the app's program. Without a slash it is looked for in `path`, else it lies relative to the current directory.
fn find(copy: &Copy, path: &OsStr) -> Result<PathBuf, Error> {
    let (cwd, app) = (&copy.pin.cwd, &copy.app);
    let Some(name) = copy.pin.command.first() else { return Err(Error::new("the pin holds no command: reload the app")) };
    let fail = |text: String| Error::new(text).with_code(error::EXEC);
    let look = |file: &Path| match fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => {
            let executable = CString::new(file.as_os_str().as_bytes()).is_ok_and(|file| sys::files::may_execute(&file));
            if executable { Look::Found } else { Look::NotExecutable }
        }
        Ok(_) => Look::NoFile,
        Err(error) => Look::Missing(error),
    };
    if name.contains('/') {
        let file = cwd.join(name);
        return match look(&file) {
            Look::Found => Ok(file),
            Look::NotExecutable => Err(fail(not_executable(&file, app))),
            Look::NoFile => Err(fail(format!("the program {} is no file: correct `command` of `[apps.{app}]` and reload", file.display()))),
            Look::Missing(error) => {
                let hidden = hidden_by(&file).map_or_else(String::new, |key| {
                    format!(" (or hidden by the sandbox: `{key} = false` under `[apps.{app}.sandbox]` shows it)")
                });
                Err(fail(format!(
                    "the program {} was not found: {error}{hidden}; correct `command` or `cwd` of `[apps.{app}]` and reload",
                    file.display()
                )))
            }
        };
    }
    let mut refused = None;
    for directory in path.as_bytes().split(|byte| *byte == b':') {
        let file = cwd.join(OsStr::from_bytes(directory)).join(name);
        match look(&file) {
            Look::Found => return Ok(file),
            Look::NotExecutable => refused = refused.or(Some(file)),
            Look::NoFile | Look::Missing(_) => {}
        }
    }
    Err(fail(match refused {
        Some(file) => not_executable(&file, app),
        None => format!(
            "the program `{name}` was not found in {}: install it, write its absolute path in `command` of `[apps.{app}]`, or set `PATH` in its `env`, and reload",
            path.to_string_lossy()
        ),
    }))
}

enum Look {
    Found,
    NotExecutable,
    NoFile,
    Missing(io::Error),
}

fn not_executable(file: &Path, app: &crate::names::AppName) -> String {
    format!(
        "the program {0} may not be executed by the user of {app}: `chmod +x {0}`, or begin `command` with its interpreter (`node {0}`), and reload",
        file.display()
    )
}

/// Why the kernel did not execute a file that is there and executable.
fn refused(copy: &Copy, program: &Path, why: &io::Error) -> Error {
    let app = &copy.app;
    let text = match why.raw_os_error() {
        Some(libc::ENOENT) => match interpreter(program) {
            Some(name) => format!("its first line names the interpreter {name}, which is not there: install it or correct the line"),
            None => {
                "the loader that it was linked for is not there (another libc or architecture?): install that, or a build for this system"
                    .into()
            }
        },
        Some(libc::ENOEXEC) => format!(
            "it is neither a binary for this machine nor a script with a `#!` line: begin `command` of `[apps.{app}]` with its interpreter"
        ),
        Some(libc::EACCES) => "its file system is mounted noexec, or a rule (SELinux, AppArmor) forbids it: move it, or label it".into(),
        Some(libc::E2BIG) => "arguments and environment are too long together: shorten `command` or `env`".into(),
        _ => "correct `command` and reload".into(),
    };
    Error::new(format!("{} cannot be executed: {why}; {text}", program.display())).with_code(error::EXEC)
}

/// The interpreter of a script, at most the 255 bytes that the kernel looks at.
fn interpreter(program: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut line = Vec::new();
    File::open(program).ok()?.take(255).read_to_end(&mut line).ok()?;
    let line = line.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    String::from_utf8_lossy(line).split_ascii_whitespace().next().map(Into::into)
}

/// Installs swap where it is wanted and possible, and writes `sockets.json`.
fn tell_ready(copy: &Copy, passed: &[std::os::fd::OwnedFd], directory: &Path) -> Result<(), Error> {
    let described = inherited::describe(passed, &copy.pin.listen);
    let sockets = described.map_err(|error| Error::new(format!("the inherited sockets cannot be looked at: {error}")))?;
    let opened = File::open(directory).map_err(|error| Error::new(format!("{} cannot be opened: {error}", directory.display())))?;
    let supervisor = if copy.pin.swap { start_swap(copy, passed, &sockets, &opened)? } else { None };
    let told = Sockets { format: 1, pid: std::process::id(), supervisor, sockets };
    let write = || -> io::Result<()> {
        let flags = libc::O_CREAT | libc::O_TRUNC | libc::O_WRONLY | libc::O_NOFOLLOW;
        let mut file = sys::files::open_at(opened.as_fd(), c".sockets.json.new", flags, 0o600)?;
        file.write_all(&serde_json::to_vec(&told)?)?;
        sys::files::rename_at(opened.as_fd(), c".sockets.json.new", c"sockets.json")?;
        sys::files::ring(opened.as_fd(), Sockets::BELL);
        Ok(())
    };
    write().map_err(|error| Error::new(format!("{} cannot be written: {error}", directory.join(Sockets::FILE).display())))
}

fn start_swap(copy: &Copy, passed: &[std::os::fd::OwnedFd], sockets: &[inherited::Socket], directory: &File) -> Result<Option<u32>, Error> {
    let shared = passed.iter().zip(&copy.pin.listen).zip(sockets).map(|((socket, listen), described)| {
        Ok(swap::Shared { socket: socket.try_clone()?, address: listen.address.clone(), inode: described.inode, backlog: listen.backlog })
    });
    let shared: Vec<_> = shared
        .collect::<io::Result<_>>()
        .map_err(|error| Error::new(format!("the inherited sockets cannot be duplicated: {error}; raise `LimitNOFILE=`")))?;
    match swap::install(&shared, directory) {
        Ok(supervisor) => Ok(Some(supervisor)),
        Err(swap::Refusal::Without(why)) => {
            say(
                Priority::Warning,
                &format!(
                    "{} starts without swap at bind: {why}. An app that takes its sockets from LISTEN_FDS does not need it (`swap = false` silences this); one that binds by itself will find the address in use",
                    copy.app
                ),
            );
            Ok(None)
        }
        Err(swap::Refusal::Fatal(why)) => Err(Error::new(format!("{why}; systemd starts this worker again"))),
    }
}

#[cfg(test)]
mod tests;
