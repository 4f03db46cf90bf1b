//! Names, paths and commands that try to break out of their line.

use proptest::prelude::*;

use project_cluster::config::settings::{App, Listen};
use project_cluster::names::Address;
use project_cluster::units::model::{Host, Tree};
use project_cluster::units::render::render;

use crate::samples;
use crate::unit::directives;

/// The keys of every unit, in order: what no value may change.
fn shape(tree: &Tree) -> Vec<(String, Vec<(String, String)>)> {
    let units = tree.files.iter().filter(|(path, _)| path.starts_with("/etc/systemd"));
    units
        .map(|(path, file)| {
            let keys = directives(&file.contents).into_iter().map(|(section, key, _)| (section, key)).collect();
            (path.display().to_string(), keys)
        })
        .collect()
}

fn with(change: impl FnOnce(&mut App)) -> Tree {
    let mut settings = samples::minimal();
    let app = settings.apps.values_mut().next().unwrap();
    app.env.insert("A".into(), "b".into());
    change(app);
    render(&settings, &Host::default())
}

/// Text with more than its share of what systemd, a shell or a terminal would take for something else.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\\".to_owned()),
        Just("%".to_owned()),
        Just("$HOME".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\n[Service]\nUser=root\n".to_owned()),
        Just("\u{1b}[2J\r".to_owned()),
        Just("\u{202e}\u{fffe}\u{feff}".to_owned()),
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn command_cwd_and_env_change_no_directive(words in prop::collection::vec(nasty(), 1..4), cwd in nasty(), value in nasty()) {
        let plain = with(|_| {});
        let tree = with(|app| {
            app.command.clone_from(&words);
            app.cwd = format!("/{cwd}").into();
            app.env.insert("A".into(), value.clone());
        });
        prop_assert_eq!(shape(&tree), shape(&plain));
        for file in tree.files.values() {
            for line in file.contents.lines() {
                prop_assert!(!line.ends_with('\\'), "{line:?} joins the next line");
                prop_assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
        for (_, file) in tree.files.iter().filter(|(path, _)| path.starts_with("/etc/systemd")) {
            for (_, key, value) in directives(&file.contents) {
                let rest = value.replace("%%", "").replace("%i", "");
                prop_assert!(!rest.contains('%'), "{key}={value} would be expanded");
            }
        }
    }

    #[test]
    fn settings_come_back_from_their_file(words in prop::collection::vec(nasty(), 1..4), value in nasty()) {
        let mut settings = samples::minimal();
        let app = settings.apps.values_mut().next().unwrap();
        app.command = words;
        app.env.insert("A".into(), value);
        let tree = render(&settings, &Host::default());
        let read = |path| serde_json::from_str::<project_cluster::config::settings::Settings>(&tree.files[&path].contents).unwrap();
        prop_assert_eq!(read(Host::default().paths().prepare_settings(&settings.name)), settings.clone());
        prop_assert_eq!(read(Host::default().paths().master_settings(&settings.name)), settings.without_env());
    }

    #[test]
    fn a_verbatim_value_stays_in_its_directive(value in nasty()) {
        let tree = with(|app| { app.systemd.insert("CPUWeight".into(), vec![value.clone(), "7".into()]); });
        let unit = &tree.files[&Host::default().units.join("project-cluster-web@.service")];
        let all = directives(&unit.contents);
        prop_assert_eq!(all.iter().filter(|(_, key, _)| key == "CPUWeight").count(), 2);
        prop_assert_eq!(all.last().map(|(_, key, value)| (key.as_str(), value.as_str())), Some(("CPUWeight", "7")));
        prop_assert_eq!(all.iter().filter(|(_, key, _)| key == "User").count(), 1);
    }

    #[test]
    fn any_socket_path_makes_a_unit_name(path in "/[^/\\p{Cc}]{1,30}") {
        prop_assume!(!["/.", "/.."].contains(&path.as_str()));
        let Ok(address) = path.parse::<Address>() else { return Ok(()) };
        let tree = with(|app| app.listen = vec![Listen { address: address.clone(), ..samples::listen("1") }]);
        let name = tree.units(&Host::default()).find(|name| name.contains(":")).unwrap().to_owned();
        prop_assert!(name.len() <= 255);
        prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.".contains(&b)), "{name}");
        let line = format!("\nSockets={name}\n");
        prop_assert!(tree.files.values().any(|file| file.contents.contains(&line)));
    }
}
