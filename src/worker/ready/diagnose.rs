//! What a worker that did not get ready does instead.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::look;
use super::members::members;
use crate::worker::inherited::Socket;

/// Where the worker listens beside the sockets it was given, at most eight of them: the first say what went wrong.
pub fn elsewhere(main: u32, given: &[Socket]) -> Vec<String> {
    let mut found: Vec<_> = look::listeners(main, &members(main))
        .into_iter()
        .filter(|(_, inode)| given.iter().all(|socket| socket.inode != *inode))
        .map(|(address, _)| address)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.truncate(8);
    found
}

/// Whether some process of the worker listens on this TCP port, at whatever address.
pub fn port_is_open(main: u32, members: &BTreeSet<u32>, port: u16) -> bool {
    look::listeners(main, members).iter().any(|(address, _)| address.parse::<SocketAddr>().is_ok_and(|address| address.port() == port))
}

/// Of shared sockets: a clause behind the unit's name.
pub fn shared(declared: &[String], missing: &[String], elsewhere: &[String], limit: Duration) -> String {
    let (all, lacking) = (declared.join(", "), missing.join(", "));
    if !elsewhere.is_empty() {
        let elsewhere = elsewhere.join(", ");
        return format!(
            "listens on {elsewhere}; declared was {lacking}: make the app listen there (its port setting, or `env`), or declare in `listen` what it opens"
        );
    }
    if missing.len() < declared.len() {
        let got = declared.len() - missing.len();
        return format!(
            "listens on {got} of {} declared addresses after {limit:?}: missing {lacking}; remove it from `listen`, or make the app open it",
            declared.len()
        );
    }
    format!(
        "does not listen at all after {limit:?}; declared was {all}: raise `timeout.start` if it needs longer, write `ready = \"none\"` if it never listens (or waits by io_uring, which cannot be seen)"
    )
}

/// Of an own port.
pub fn own_port(port: u16, elsewhere: &[String], limit: Duration) -> String {
    if elsewhere.is_empty() {
        format!("does not listen at all after {limit:?}; its PORT is {port}: raise `timeout.start` if it needs longer")
    } else {
        format!("listens on {}; its PORT is {port}: make the app listen on the port that the variable PORT names", elsewhere.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_told_apart() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (limit, one) = (Duration::from_secs(30), texts(&["[::]:3000"]));
        assert!(shared(&one, &one, &texts(&["0.0.0.0:3001"]), limit).starts_with("listens on 0.0.0.0:3001; declared was [::]:3000:"));
        assert!(shared(&one, &one, &[], limit).starts_with("does not listen at all after 30s; declared was [::]:3000"));
        let two = texts(&["[::]:3000", "/run/x.sock"]);
        assert!(shared(&two, &two[1..], &[], limit).starts_with("listens on 1 of 2 declared addresses after 30s: missing /run/x.sock"));
        assert!(own_port(3001, &texts(&["[::]:3000"]), limit).starts_with("listens on [::]:3000; its PORT is 3001"));
        assert!(own_port(3001, &[], limit).starts_with("does not listen at all"));
    }
}
