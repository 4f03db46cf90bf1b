//! What the scripts of a distribution's package call: every cluster of this machine is written anew by the version that was
//! unpacked, or put away before the program goes. docs/operations.md says what that does to what runs.

use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

use super::args::Step;
use super::live::Running;
use super::setup::{host, root_only};
use super::{Context, Failure, complain};
use crate::units::install::{self, Live, Options, Report};

/// There where systemd is this machine's (`sd_booted(3)`), and not in a chroot or an image that is being built.
const BOOTED: &str = "/run/systemd/system";

/// One cluster that fails is told and keeps no other from its turn.
pub(crate) fn run(context: &Context, step: Step, runtime: &Runtime) -> Result<(), Failure> {
    root_only(context, "package")?;
    let failed = |why: install::Error| Failure::Failed(why.to_string());
    let booted = Path::new(BOOTED).is_dir();
    let options = Options { root: PathBuf::from("/"), host: host(context, true)?, now: false };
    let clusters = install::clusters(&options).map_err(failed)?;
    // In a chroot nothing runs that could begin anew, and units of before work with this version too.
    if clusters.is_empty() || step == Step::Upgrade && !booted {
        return Ok(());
    }
    let running =
        if booted { Some(Running::connect(context.place, runtime).map_err(|why| Failure::Failed(why.to_string()))?) } else { None };
    let live = running.as_ref().map(|running| running as &dyn Live);
    let mut all_well = true;
    for cluster in clusters {
        let done = match step {
            Step::Upgrade => install::upgrade(&cluster, &options, live),
            Step::Remove => install::retire(&cluster, &options, live),
        };
        match done {
            Ok(report) => context.say(&told(&report)),
            Err(why) => {
                all_well = false;
                complain(&format!("project-cluster: cluster {cluster}: {why}\n"));
            }
        }
    }
    if all_well { Ok(()) } else { Err(Failure::Failed(String::new())) }
}

/// Nothing of a cluster to which nothing was done; of the others what they stand at, and no list of files.
fn told(report: &Report) -> String {
    let files = match report.actions.len() {
        0 => String::new(),
        1 => "1 file changed".into(),
        many => format!("{many} files changed"),
    };
    let notes = report.notes.iter().chain(&report.advice).cloned();
    let lines: Vec<String> = Some(files).into_iter().filter(|files| !files.is_empty()).chain(notes).collect();
    lines.iter().map(|line| format!("cluster {}: {line}\n", report.cluster)).collect()
}
