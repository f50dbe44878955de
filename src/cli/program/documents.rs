//! `completions` and `man`: what is made from the definition of the commands.

use std::path::PathBuf;

use clap::Subcommand;
use clap_complete::Shell;

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::Output;

/// What helps with the program itself.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Document {
    /// Print what makes a shell complete the commands
    ///
    /// For bash: source <(procrastinate completions bash); for other shells see their manuals.
    Completions {
        /// bash, zsh, fish, elvish or powershell
        #[arg(value_parser = clap::value_parser!(Shell))]
        shell: Shell,
    },
    /// Write the manual pages into a directory: one for the program, and one for each command
    Man {
        /// The directory, which is there
        #[arg(default_value = ".")]
        directory: PathBuf,
    },
}

impl Document {
    /// Makes it from the definition of the program.
    pub(crate) fn write(self, mut program: clap::Command, output: &mut Output<'_>) -> Result<(), Failure> {
        match self {
            Self::Completions { shell } => {
                let name = program.get_name().to_owned();
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut program, name, &mut script);
                output.text(String::from_utf8_lossy(&script))
            }
            Self::Man { directory } => {
                let written = clap_mangen::generate_to(program, &directory);
                written.map_err(|source| {
                    let message = format!("could not write the manual pages into {}: {source}", directory.display());
                    Failure::failed(message, "the directory has to be there, and to be yours to write to")
                })?;
                output.line(directory.display())
            }
        }
    }
}
