//! Whether an older pin can be brought about as it was, asked by a rollback before anything of it starts.
//!
//! A pin holds what a worker becomes, and its units what is around it. Where these say something else by now, the worker would
//! be neither the old nor the new one: it would listen nowhere, say, or never be called ready. Then nothing is begun.

use std::collections::BTreeSet;
use std::io;

use super::error::{CHDIR, Error};
use super::pin::Pin;
use super::release::{self, Owner};
use crate::config::settings::{App, Listen, Ready};
use crate::names::{Address, AppName};

/// Whether workers of `app`, whose settings are `now`, can become what `pin` says.
///
/// # Errors
/// Why not, with what to do.
pub fn can_be(app: &AppName, pin: &Pin, now: &App, owner: Owner) -> Result<(), Error> {
    release_is_there(app, pin, now, owner)?;
    if let Some(key) = differs(pin, now) {
        return Err(Error::new(format!(
            "generation {0} of {app} had another `{key}`, and the units have that of now: what was configured for it has to be installed again. Write `{key}` of `[apps.{app}]` as it was, then `sudo project-cluster apply`",
            pin.generation
        )));
    }
    Ok(())
}

/// A path that was resolved once leads to itself, unless somebody has put something else there.
fn release_is_there(app: &AppName, pin: &Pin, now: &App, owner: Owner) -> Result<(), Error> {
    let others = format!("or go back to another: `project-cluster show {app}` lists them");
    let why = match release::lookup(&pin.cwd, now, owner) {
        Ok(found) if found == pin.cwd => return Ok(()),
        Ok(found) => format!("leads to {} now: put the old one back, {others}", found.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => format!("was deleted: put it back, {others}"),
        Err(error) => format!("cannot be used: {error}; mend that, {others}"),
    };
    Err(Error::new(format!("the release of generation {} of {app}, {}, {why}", pin.generation, pin.cwd.display())).with_code(CHDIR))
}

/// The key by which the units would not fit: sockets that are not there or that nobody would answer, another way to be ready.
fn differs(pin: &Pin, now: &App) -> Option<&'static str> {
    let addresses = |listens: &[Listen]| listens.iter().map(|listen| listen.address.clone()).collect::<BTreeSet<Address>>();
    // Of these a unit has a step or a type of its own; the others are judged by the pin.
    let kind = |ready: &Ready| match ready {
        Ready::Notify => 1,
        Ready::Exec(_) => 2,
        Ready::Listen | Ready::Http(_) | Ready::None => 0,
    };
    if addresses(&pin.listen) != addresses(&now.listen) {
        Some("listen")
    } else if kind(&pin.ready) != kind(&now.ready) {
        Some("ready")
    } else {
        None
    }
}
