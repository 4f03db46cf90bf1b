//! The API over TCP: the token that guards it, and its listener, which takes effect only with a new master.

use crate::api::token::Token;
use crate::config::settings::{Auth, Settings};
use crate::names::ClusterName;
use crate::units::diff::{self, Access, Change, Disk, Found, Plan};
use crate::units::model::{Host, Owner};

use super::disk::Root;
use super::report::{Action, Report};
use super::{Error, Live};

/// Who may read either file beside root: the group of the operators, or the master by the same group.
pub(super) const MODE: u32 = 0o640;

/// The same where nobody is beside the user.
fn mode(root: &Root) -> u32 {
    root.manager().mode(MODE)
}

/// Whether a token guards it.
fn guarded(settings: &Settings) -> bool {
    settings.api.enabled && settings.api.auth == Auth::Token
}

/// Whether token and hash are as they should be. One that is not needed is left alone: who returns to it finds it again.
pub(super) fn in_order(root: &Root, settings: &Settings, disk: &Disk) -> Result<bool, Error> {
    if !guarded(settings) {
        return Ok(true);
    }
    let cluster = &settings.name;
    let (Some(token), Some((hash, true))) = (kept(root, cluster, disk)?, open(root, root.find(&root.paths().token_hash(cluster))?, disk))
    else {
        return Ok(false);
    };
    let (token, access) = token;
    Ok(access && token.hash().text().as_bytes() == hash.trim_ascii_end())
}

/// Makes a token where there is none, and the hash of the one there is. Not for a directory that only stands for `/`: who
/// copies it would copy the secret.
pub(super) fn make(root: &Root, settings: &Settings, disk: &Disk, report: &mut Report) -> Result<(), Error> {
    if in_order(root, settings, disk)? {
        return Ok(());
    }
    let (cluster, gid) = (&settings.name, diff::group(Owner::RootAndCluster, disk.group));
    let token_path = root.paths().token(cluster);
    let current = match kept(root, cluster, disk)? {
        Some((token, true)) => token,
        Some((token, false)) => {
            root.set_access(&token_path, mode(root), gid)?;
            report.did(Action::Updated, &token_path);
            token
        }
        None => {
            let fresh = Token::fresh().map_err(|why| Error::File {
                what: "make the token for",
                path: token_path.clone(),
                source: std::io::Error::other(why),
            })?;
            root.write(&token_path, format!("{}\n", fresh.as_str()).as_bytes(), mode(root), gid)?;
            report.did(Action::Created, &token_path);
            fresh
        }
    };
    let hash_path = root.paths().token_hash(cluster);
    let action = if root.find(&hash_path)?.is_some() { Action::Updated } else { Action::Created };
    root.write(&hash_path, format!("{}\n", current.hash().text()).as_bytes(), mode(root), gid)?;
    report.did(action, &hash_path);
    Ok(())
}

/// The token on disk, and whether its owner and mode are right.
fn kept(root: &Root, cluster: &ClusterName, disk: &Disk) -> Result<Option<(Token, bool)>, Error> {
    let found = open(root, root.find(&root.paths().token(cluster))?, disk);
    Ok(found.and_then(|(contents, access)| Some((Token::read(&contents)?, access))))
}

fn open(root: &Root, found: Option<Found>, disk: &Disk) -> Option<(Vec<u8>, bool)> {
    let Some(Found::File { contents, access }) = found else { return None };
    let wanted = Access { mode: mode(root), uid: 0, gid: diff::group(Owner::RootAndCluster, disk.group) };
    Some((contents, access.mode == wanted.mode && (!disk.owners || access == wanted)))
}

/// Brings a changed listener about: a socket does not start beside its running service, so the master starts anew, which
/// touches no worker and carries on what it was at.
pub(super) fn listen(settings: &Settings, plan: &Plan, host: &Host, live: &dyn Live, report: &mut Report) -> Result<(), Error> {
    let cluster = &settings.name;
    let (socket, master) = (cluster.tcp_socket(), cluster.master());
    if plan.change(&host.units.join(&socket)) == Change::Unchanged {
        return Ok(());
    }
    let failed = |what: String| move |source| Error::Live { what, source };
    let running = live.running(std::slice::from_ref(&master)).map_err(failed(format!("looking at {master}")))?;
    if running.is_empty() {
        return Ok(());
    }
    live.stop(&[socket.clone(), master.clone()]).map_err(failed(format!("stopping {socket} and {master}")))?;
    live.start(&master).map_err(failed(format!("starting {master}")))?;
    report.restarted = true;
    report.note(format!("restarted {master}, which touches no worker: its TCP listener changed"));
    tell(settings, live, report)
}

/// Notes where the API's TCP listener is wanted and does not listen, with what to do.
///
/// # Errors
/// systemd did not answer.
pub fn tell(settings: &Settings, live: &dyn Live, report: &mut Report) -> Result<(), Error> {
    let (cluster, socket) = (&settings.name, settings.name.tcp_socket());
    if !settings.api.enabled {
        return Ok(());
    }
    let running =
        live.running(std::slice::from_ref(&socket)).map_err(|source| Error::Live { what: format!("looking at {socket}"), source })?;
    if running.is_empty() {
        report.note(format!(
            "the API does not listen on {}:{}, its unix socket does: `systemctl status {socket}` says why. If another program has the port (`ss -lptn`), write another `port` in [api], or `enabled = false`; then `systemctl restart {cluster}`",
            settings.api.host, settings.api.port
        ));
    }
    Ok(())
}
