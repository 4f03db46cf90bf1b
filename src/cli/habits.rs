//! What people type who come from another process manager, and what it is called here.
//!
//! Pure. A verb of the same meaning would be one way more to do a thing; a hint is none.

/// What to type instead of a verb of pm2's or supervisorctl's; none of a word that is neither's.
pub(super) fn hint(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "list" | "l" | "ps" | "avail" => "`project-cluster ls` lists the workers",
        "describe" | "desc" | "info" => "`project-cluster show all` shows apps in full, `show api` one",
        "log" | "tail" => "`project-cluster logs -f` follows what workers write",
        "monit" | "dash" | "dashboard" => {
            "`project-cluster ls` has memory and CPU of each worker, `project-cluster events -f` what happens"
        }
        "gracefulReload" | "startOrReload" | "startOrRestart" | "update" | "reread" => {
            "`project-cluster apply` makes what runs what is configured, without losing a request; `project-cluster reload all` replaces all workers so"
        }
        "undo" | "revert" => "`project-cluster rollback api` goes back to the generation that was current before, `--to 7` to another",
        "delete" | "del" => {
            "take the app out of the configuration and `project-cluster apply`; `project-cluster stop all` stops without forgetting, `stop api` one app"
        }
        "startup" | "save" | "resurrect" | "dump" => {
            "nothing is to be saved: what `project-cluster install --now` has enabled systemd starts at boot"
        }
        "kill" | "shutdown" => "`project-cluster stop all` stops the apps, `project-cluster uninstall` removes the cluster",
        "ecosystem" | "generate" => "`project-cluster init` writes a commented starter configuration",
        "flush" | "reloadLogs" => "journald keeps the lines and bounds them: `journalctl --disk-usage`, `journalctl --vacuum-time=7d`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn a_hint_stands_in_nobodys_way() {
        let command = Cli::command();
        let verbs = command.get_subcommands().flat_map(|verb| std::iter::once(verb.get_name()).chain(verb.get_all_aliases()));
        let hidden: Vec<&str> = verbs.filter(|verb| hint(verb).is_some()).collect();
        assert!(hidden.is_empty(), "{hidden:?} are verbs here");
        assert!(hint("list").is_some() && hint("relaod").is_none());
    }
}
