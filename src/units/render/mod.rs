//! Settings in, tree of files out: every unit, drop-in and rule of a cluster.
//!
//! Pure: the same settings and host give the same bytes. It must not look at the machine.

mod access;
mod handle;
mod hook;
mod ini;
mod master;
mod sandbox;
mod sockets;
mod worker;

use std::collections::BTreeMap;

use crate::config::settings::{App, Listen, Settings};
use crate::names::{AppName, AppUnits, ClusterName};

use super::model::{File, Host, Owner, Tree};

/// Addresses that an app no longer declares and that workers of an older generation still use.
pub type Kept = BTreeMap<AppName, Vec<Listen>>;

/// Everything that `install` writes for these settings.
pub fn render(settings: &Settings, host: &Host) -> Tree {
    render_beside(settings, host, &Kept::new())
}

/// The same beside the sockets of older generations.
pub fn render_beside(settings: &Settings, host: &Host, kept: &Kept) -> Tree {
    let cluster = &settings.name;
    let mut tree = Tree::new(cluster);
    let mut unit = |name: String, contents: String| {
        tree.files.insert(host.units.join(name), File::public(host.place.manager.comments(contents)));
    };

    unit(cluster.master(), master::service(cluster, &settings.api, host));
    unit(cluster.api_socket(), master::socket(cluster, host));
    if settings.api.enabled {
        unit(cluster.tcp_socket(), master::tcp_socket(cluster, &settings.api));
    }
    unit(cluster.target(), master::target(settings, kept, host));
    unit(format!("{cluster}@.service"), handle::service(cluster, host));
    unit(format!("{cluster}-first@.service"), handle::trigger(cluster, host));
    for (name, app) in &settings.apps {
        let units = AppUnits::new(cluster, name);
        let kept = kept.get(name).map_or(&[][..], Vec::as_slice);
        let one = One { cluster, name, app, units: &units, kept };
        unit(format!("{}.d/{APP_DROP_IN}", units.handle()), handle::drop_in(&one));
        unit(format!("{}@.service", units.prefix()), worker::service(&one, host));
        for kind in app.hooks.kinds() {
            unit(units.hook_template(kind), hook::service(&one, kind, host));
        }
        for listen in app.listen.iter().chain(kept) {
            unit(units.socket(&listen.address), sockets::socket(&one, listen));
        }
        if !app.limits.is_empty() {
            let manager = host.place.manager;
            unit(format!("{}.d/{LIMITS_DROP_IN}", units.slice(manager)), worker::limits(&one));
            if app.hooks.kinds().next().is_some() {
                unit(format!("{}.d/{LIMITS_DROP_IN}", units.hook_slice(manager)), hook::limits(&one));
            }
        }
    }

    if !host.is_user() {
        tree.files.insert(host.sysusers_file(cluster), File::public(access::sysusers(cluster)));
        tree.files.insert(host.polkit_file(cluster), File::public(access::polkit(settings)));
    }
    settings_files(settings, host, &mut tree);
    tree
}

/// Name of the drop-in of a handle that says which app it stands for.
pub const APP_DROP_IN: &str = "50-app.conf";

/// Name of the drop-in of an app's slice.
pub const LIMITS_DROP_IN: &str = "50-limits.conf";

/// One app and its names, as the files of this room need them.
struct One<'a> {
    cluster: &'a ClusterName,
    name: &'a AppName,
    app: &'a App,
    units: &'a AppUnits<'a>,
    kept: &'a [Listen],
}

/// What master and `prepare` are told: the same settings, without and with `env`.
fn settings_files(settings: &Settings, host: &Host, tree: &mut Tree) {
    let (cluster, paths, mode) = (&settings.name, host.paths(), |mode| host.place.manager.mode(mode));
    let json = |settings: &Settings| {
        #[expect(clippy::expect_used, reason = "every map key is a string, and paths come from a configuration that is UTF-8")]
        let mut text = serde_json::to_string_pretty(settings).expect("settings are JSON");
        text.push('\n');
        text
    };
    tree.directories.insert(paths.var(cluster), mode(0o755));
    tree.directories.insert(paths.pins(cluster), 0o700);
    tree.directories.insert(paths.operators(cluster), mode(0o755));
    let told = File { contents: json(&settings.without_env()), mode: mode(0o640), owner: Owner::RootAndCluster, secret: false };
    tree.files.insert(paths.master_settings(cluster), told);
    let kept = File { contents: json(settings), mode: 0o600, owner: Owner::Root, secret: true };
    tree.files.insert(paths.prepare_settings(cluster), kept);
}
