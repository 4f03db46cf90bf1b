//! The book of addresses and ports: nothing is taken twice within a cluster.

use crate::config::finding::Findings;
use crate::config::source::Place;
use crate::names::Address;

/// What is taken so far, by whom, and where that is written (nowhere for a default).
#[derive(Debug, Default)]
pub(super) struct Book {
    addresses: Vec<(Address, Option<Place>, String)>,
    ports: Vec<((u16, u16), Place, String)>,
}

impl Book {
    /// Takes an address without looking.
    pub(super) fn take(&mut self, address: Address, place: Option<Place>, owner: String) {
        self.addresses.push((address, place, owner));
    }

    /// Takes an address for an app, unless it overlaps with what is taken.
    pub(super) fn listen(&mut self, address: Address, place: &Place, app: &str, findings: &mut Findings) {
        let taken = self.addresses.iter().find(|(other, ..)| other.overlaps(&address));
        if let Some((other, other_place, owner)) = taken {
            tell(place, &format!("`{address}`"), &format!("`{other}`"), owner, other_place.as_ref(), findings);
        } else if let Address::Tcp(socket) = &address
            && let Some((range, other_place, owner)) = self.ports.iter().find(|((a, z), ..)| (*a..=*z).contains(&socket.port()))
        {
            tell(place, &format!("`{address}`"), &spell(*range), owner, Some(other_place), findings);
        }
        self.take(address, Some(place.clone()), format!("app `{app}`'s"));
    }

    /// Takes a range of ports, on every address, for an app.
    pub(super) fn range(&mut self, range: (u16, u16), place: &Place, app: &str, findings: &mut Findings) {
        let taken = self.addresses.iter().find_map(|(address, other_place, owner)| match address {
            Address::Tcp(socket) if (range.0..=range.1).contains(&socket.port()) => Some((address, other_place, owner)),
            _ => None,
        });
        if let Some((address, other_place, owner)) = taken {
            tell(place, &spell(range), &format!("`{address}`"), owner, other_place.as_ref(), findings);
        } else if let Some((other, other_place, owner)) = self.ports.iter().find(|((a, z), ..)| *a <= range.1 && range.0 <= *z) {
            tell(place, &spell(range), &spell(*other), owner, Some(other_place), findings);
        }
        self.ports.push((range, place.clone(), format!("app `{app}`'s")));
    }
}

fn spell((first, last): (u16, u16)) -> String {
    if first == last { format!("port {first}") } else { format!("ports {first}-{last}") }
}

fn tell(place: &Place, what: &str, other: &str, owner: &str, other_place: Option<&Place>, findings: &mut Findings) {
    let message = if what == other { format!("{what} is already {owner}") } else { format!("{what} overlaps with {other}, {owner}") };
    let help = "write another port or path here or there";
    match other_place {
        Some(other_place) => findings.error_also("address-taken", place, message, help, (other_place, "taken here")),
        None => findings.error("address-taken", place, message, help),
    }
}
