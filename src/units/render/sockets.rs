//! The socket units: one per address, named by it, so that a changed address is another unit and no live one is
//! ever rewritten to listen elsewhere (systemd drops such a descriptor without a word).

use std::net::{IpAddr, Ipv6Addr};

use crate::config::settings::Listen;
use crate::names::Address;
use crate::units::text;

use super::One;
use super::ini::Ini;

/// `NAME-APP-ADDRESS.socket`. No ordering on the handle or the master.
pub(super) fn socket(one: &One<'_>, listen: &Listen) -> String {
    let One { cluster, name, .. } = one;
    let address = text::visible(&listen.address.to_string());
    let mut ini = Ini::new(cluster);
    ini.say(&format!("{address} for all workers of {name}. PID 1 holds it: it outlives workers, master and upgrades."))
        .say(&format!("Do not stop or restart it by itself; a stop, then a start of {cluster}@{name} mends what that breaks."))
        .section("Unit")
        .set("Description", format!("project-cluster: {name} of {cluster} listens on {}", text::percent(&address)))
        .set("StartLimitIntervalSec", "0");
    if one.app.on_demand {
        ini.say("On demand: the socket is there without the handle, so it ends with the target by itself.")
            .set("StopPropagatedFrom", cluster.target());
    }
    ini.section("Socket");
    match &listen.address {
        Address::Tcp(tcp) => {
            ini.set("ListenStream", tcp.to_string());
            bind_options(&mut ini, tcp.ip());
            ini.set("FileDescriptorName", listen.address.fd_name());
        }
        Address::Unix(path) => {
            ini.set("ListenStream", text::percent(&path.to_string_lossy()))
                .set("SocketMode", format!("{:04o}", listen.mode.unwrap_or(if listen.group.is_some() { 0o660 } else { 0o666 })));
            if let Some(owner) = &listen.owner {
                ini.set("SocketUser", text::percent(owner));
            }
            if let Some(group) = &listen.group {
                ini.set("SocketGroup", text::percent(group));
            }
            ini.set("RemoveOnStop", "yes").set("FileDescriptorName", listen.address.fd_name());
        }
    }
    ini.set("Backlog", listen.backlog.to_string())
        .say("Not the handle: a socket is ordered before its service, so the handle could not stop it.")
        .set("Service", one.units.trigger())
        .say("Each end of a worker lets the next connection trigger again; that is harmless and must not close the port.")
        .set("TriggerLimitIntervalSec", "0");
    ini.finish()
}

/// What a TCP address asks of its socket.
pub(super) fn bind_options(ini: &mut Ini, ip: IpAddr) {
    if ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        ini.say("IPv4 and IPv6, whatever net.ipv6.bindv6only says.").set("BindIPv6Only", "both");
    } else if !ip.is_unspecified() && !ip.is_loopback() {
        ini.say("The address may come later than this socket at boot.").set("FreeBind", "yes");
    }
}
