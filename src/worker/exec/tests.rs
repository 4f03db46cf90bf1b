use super::*;
use crate::worker::inherited::tests::copy;

fn in_directory(command: &str, env: &[(&str, &str)]) -> (tempfile::TempDir, Copy) {
    let directory = tempfile::tempdir().unwrap();
    let mut copy = copy(&[]);
    copy.pin.cwd = directory.path().into();
    copy.pin.command = vec![command.into()];
    copy.pin.env = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    (directory, copy)
}

#[test]
fn the_later_word_wins() {
    let (_directory, mut copy) = in_directory("x", &[("NODE_ENV", "production"), ("HOME", "/srv"), ("QUOTED", "a \"b\" $c\n%d é")]);
    copy.port = Some(3001);
    let systemd = [("PATH", "/odd"), ("HOME", "/"), ("LISTEN_FDS", "1"), ("WORKER_TYPE", "odd")];
    let all = environment(systemd.map(|(name, value)| (name.into(), value.into())), &copy);
    for (name, value) in [
        ("PATH", DEFAULT_PATH),
        ("HOME", "/srv"),
        ("LISTEN_FDS", "1"),
        ("PROJECT_CLUSTER_NAME", "shop"),
        ("PROJECT_CLUSTER_APP", "api"),
        ("PROJECT_CLUSTER_UID", "api:02"),
        ("PROJECT_CLUSTER_SLOT", "2"),
        ("PROJECT_CLUSTER_GENERATION", "7"),
        ("WORKER_TYPE", "api"),
        ("PORT", "3001"),
        ("QUOTED", "a \"b\" $c\n%d é"),
    ] {
        assert_eq!(all[OsStr::new(name)], value, "{name}");
    }
    copy.port = None;
    assert!(!environment([], &copy).contains_key(OsStr::new("PORT")));
    // A hook is no worker.
    copy.hook = Some(crate::names::HookKind::Before);
    let hook = environment([], &copy);
    assert_eq!(
        (hook[OsStr::new("PROJECT_CLUSTER_HOOK")].to_str(), hook[OsStr::new("PROJECT_CLUSTER_GENERATION")].to_str()),
        (Some("before"), Some("7"))
    );
    assert!(!hook.contains_key(OsStr::new("PROJECT_CLUSTER_UID")) && hook.contains_key(OsStr::new("PROJECT_CLUSTER_RELEASE_OF")));
}

#[test]
fn programs_are_found_where_a_shell_would() {
    use std::os::unix::fs::PermissionsExt as _;
    let (directory, mut copy) = in_directory("tool", &[]);
    fs::create_dir(directory.path().join("bin")).unwrap();
    let tool = directory.path().join("bin/tool");
    fs::write(&tool, "#!/nowhere/sh\n").unwrap();
    let path = OsStr::new("/nowhere:bin");
    let error = find(&copy, path).unwrap_err();
    assert!(error.to_string().contains("chmod +x") && error.code() == error::EXEC, "{error}");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(find(&copy, path).unwrap(), tool);
    copy.pin.command = vec!["bin/tool".into()];
    assert_eq!(find(&copy, OsStr::new("")).unwrap(), tool);
    assert!(refused(&copy, &tool, &io::Error::from_raw_os_error(libc::ENOENT)).to_string().contains("/nowhere/sh"));
    copy.pin.command = vec!["bin".into()];
    let error = find(&copy, OsStr::new("/usr/nowhere:/opt/nowhere")).unwrap_err().to_string();
    assert!(error.contains("`bin` was not found in /usr/nowhere:/opt/nowhere"), "{error}");
    copy.pin.command = vec!["/home/x/bin/node".into()];
    assert!(find(&copy, OsStr::new("")).unwrap_err().to_string().contains("`home = false`"));
}

#[test]
fn a_directory_that_is_gone_says_what_to_do() {
    let (_directory, mut copy) = in_directory("x", &[]);
    copy.pin.cwd = "/srv/nowhere/releases/7".into();
    let error = enter(&copy).unwrap_err();
    assert!(error.to_string().contains("was deleted") && error.to_string().contains("reload api"), "{error}");
    assert_eq!(error.code(), error::CHDIR);
    copy.pin.cwd = "/home/nobody-here/app".into();
    assert!(enter(&copy).unwrap_err().to_string().contains("home = false"));
    assert_eq!(hidden_by(Path::new("/homework")), None);
}
