//! Names that others write: in a configuration, a URL, a file, a unit's name.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use super::{Address, AppName, AppUnits, ClusterName, HookInstance, HookKind, Instance, UNIT_NAME_MAX, Uid, escape_unit};

/// A name that is taken says the same when it is written, and is small.
fn name<T: FromStr + Display + Debug + PartialEq>(text: &str, longest: usize) -> Option<T> {
    let name: T = text.parse().ok()?;
    let written = name.to_string();
    assert!(written.len() <= longest, "{written:?}");
    assert_eq!(written.parse::<T>().ok().as_ref(), Some(&name), "{text:?} is written {written:?}");
    assert!(!written.chars().any(char::is_control), "{written:?}");
    Some(name)
}

/// The bytes of a unit's name, as `unit_name_is_valid()` of systemd takes them.
fn is_unit_name(name: &str) -> bool {
    name.len() <= UNIT_NAME_MAX && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
}

/// What `escape_unit` made, taken apart again; `/` and `-` are one.
fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'-' => out.push(b'/'),
            b'\\' => {
                let code = behind.get(1..3).and_then(|code| std::str::from_utf8(code).ok());
                let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
                assert!(behind.first() == Some(&b'x') && code.is_some(), "{text:?}");
                out.extend(code);
                rest = behind.get(3..).unwrap_or_default();
            }
            byte => out.push(*byte),
        }
    }
    out
}

/// The whole text as each kind of name, and, cut at blanks, as cluster, app, instance and address of one worker.
pub fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let escaped = escape_unit(&text);
    assert!(escaped.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte)) && !escaped.starts_with('.'));
    assert_eq!(unescape(&escaped), text.as_bytes());
    name::<ClusterName>(&text, 31);
    name::<AppName>(&text, 64);
    name::<Uid>(&text, 64 + 1 + 4);
    name::<Address>(&text, 107);
    if let Some(instance) = name::<Instance>(&text, 4 + 1 + 20 + 1 + 20 + 1 + 4) {
        assert_eq!(instance.to_string(), text, "one instance has one spelling");
    }
    name::<HookKind>(&text, 6);
    if let Some(hook) = name::<HookInstance>(&text, 20 + 1 + 20) {
        assert_eq!(hook.to_string(), text, "one hook has one spelling");
    }
    let mut parts = text.split(' ').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    let (Ok(cluster), Ok(app)) = (part().parse::<ClusterName>(), part().parse::<AppName>()) else { return };
    let units = AppUnits::new(&cluster, &app);
    for unit in
        [units.handle(), units.trigger(), units.template(), cluster.master(), cluster.target(), units.slice(crate::place::Manager::System)]
    {
        // A slice of dashes alone may be longer: `install` refuses it.
        assert!(is_unit_name(&unit) || unit.ends_with(".slice"), "{unit:?}");
    }
    // The unit is whoever's its name says, and nobody else's.
    assert_eq!(units.instance(&text), None, "a unit's name holds no blank");
    if let Ok(instance) = part().parse::<Instance>() {
        let unit = units.worker(&instance);
        assert!(is_unit_name(&unit), "{unit:?}");
        assert_eq!(units.instance(&unit), Some(instance), "{unit:?}");
        let hook = HookInstance { generation: instance.generation, pin: instance.pin };
        assert_eq!(hook.to_string().parse(), Ok(hook));
        for unit in HookKind::ALL.map(|kind| units.hook(kind, hook)) {
            assert!(is_unit_name(&unit) && unit.parse::<AppName>().is_err(), "{unit:?}");
            assert_eq!(units.instance(&unit), None, "{unit:?}");
        }
    }
    if let (Ok(address), other) = (part().parse::<Address>(), part()) {
        let socket = units.socket(&address);
        assert!(is_unit_name(&socket) && !socket.contains(['\\', '@']), "{socket:?}");
        assert!(address.overlaps(&address) && !address.fd_name().contains(':'));
        if let Ok(other) = other.parse::<Address>() {
            assert_eq!(address == other, socket == units.socket(&other), "{address} and {other} are {socket}");
            assert_eq!(address.overlaps(&other), other.overlaps(&address), "{address} and {other}");
        }
    }
}
