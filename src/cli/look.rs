//! How this run speaks: decided once, from the flags as typed, the environment and what the descriptors are.
//!
//! Pure but for [`Around::here`]. It must not know what is said.

use std::io::IsTerminal;

use clap::ValueEnum;

use super::args::Cli;

/// When there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set; `CLICOLOR_FORCE` has them elsewhere, too.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is around this process.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub struct Around {
    /// Whether each of stdin, stdout and stderr is a terminal.
    pub terminals: [bool; 3],
    /// `NO_COLOR` is set and not empty (no-color.org).
    pub no_color: bool,
    /// `CLICOLOR_FORCE` is set and neither empty nor `0`.
    pub force: bool,
    /// `TERM=dumb`: a terminal that cannot move its cursor.
    pub dumb: bool,
}

impl Around {
    /// Of this process.
    pub fn here() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            terminals: [std::io::stdin().is_terminal(), std::io::stdout().is_terminal(), std::io::stderr().is_terminal()],
            no_color: set("NO_COLOR").is_some(),
            force: set("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
            dumb: set("TERM").is_some_and(|value| value == "dumb"),
        }
    }
}

/// How this run speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "answers to questions that are independent of each other")]
pub struct Look {
    /// Colours on stdout.
    pub colours: bool,
    /// Colours on stderr.
    pub error_colours: bool,
    /// Lines that are drawn again while something goes on.
    pub live: bool,
    /// There is a person who can be asked: stdin is a terminal, wherever the rest goes.
    pub asks: bool,
    /// What goes on, and that it went well, is said. Answers (`ls`, `show`, `logs`) and errors always are.
    pub says: bool,
}

impl Look {
    /// Of these flags, there.
    pub fn new(cli: &Cli, around: Around) -> Self {
        let [stdin, stdout, stderr] = around.terminals;
        let colours = |terminal: bool| match cli.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => !around.no_color && (around.force || terminal && !around.dumb),
        };
        let says = !cli.json && !cli.quiet;
        Self {
            colours: colours(stdout) && !cli.json,
            error_colours: colours(stderr) && !cli.json,
            live: says && stdout && !around.dumb,
            asks: stdin,
            says,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn look(arguments: &str, around: Around) -> Look {
        let words = ["project-cluster"].into_iter().chain(arguments.split_whitespace());
        Look::new(&Cli::try_parse_from(words).unwrap(), around)
    }

    #[test]
    fn colours_by_flag_then_environment_then_terminal() {
        let terminal = Around { terminals: [true; 3], ..Around::default() };
        let pipe = Around { terminals: [true, false, true], ..Around::default() };
        let cases = [
            ("ls", terminal, true),
            ("ls", pipe, false),
            ("ls", Around { no_color: true, force: true, ..terminal }, false),
            ("ls", Around { force: true, ..pipe }, true),
            ("ls", Around { dumb: true, ..terminal }, false),
            ("--color always ls", Around { no_color: true, ..pipe }, true),
            ("ls --color never", Around { force: true, ..terminal }, false),
            ("ls --json --color always", terminal, false),
        ];
        for (arguments, around, colours) in cases {
            assert_eq!(look(arguments, around).colours, colours, "{arguments} {around:?}");
        }
        assert!(look("ls", pipe).error_colours, "each stream for itself");
    }

    #[test]
    fn live_and_asking_take_a_terminal() {
        let terminal = Around { terminals: [true; 3], ..Around::default() };
        let live = |arguments: &str, around| look(arguments, around).live;
        assert!(live("reload api", terminal));
        assert!(!live("reload api", Around { dumb: true, ..terminal }));
        assert!(!live("reload api --json", terminal) && !live("reload api -q", terminal));
        assert!(!live("reload api", Around { terminals: [true, false, true], ..terminal }));
        let asks = |terminals| look("stop all", Around { terminals, ..Around::default() }).asks;
        assert!(asks([true, false, true]) && !asks([false, true, true]));
        assert!(asks([true, false, false]), "`2>&1 | tee log` takes the question away, not who answers");
        assert!(look("start api", terminal).says && !look("start api --quiet", terminal).says);
    }
}
