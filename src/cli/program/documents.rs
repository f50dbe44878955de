//! `completions` and `man`: documents that are generated from the commands.

use std::path::PathBuf;

use clap::Subcommand;
use clap_complete::Shell;

use crate::cli::terminal::failure::Failure;
use crate::cli::terminal::output::Output;

/// A document about the program.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Document {
    /// Print shell completions
    ///
    /// For bash: source <(procrastinate completions bash). For other shells, see their manuals.
    Completions {
        /// bash, zsh, fish, elvish or powershell
        #[arg(value_parser = clap::value_parser!(Shell))]
        shell: Shell,
    },
    /// Write the manual pages, one for each command
    Man {
        /// The directory, which must exist
        #[arg(default_value = ".")]
        directory: PathBuf,
    },
}

impl Document {
    /// Generates the document.
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
                    Failure::failed(message, "the directory must exist and be writable")
                })?;
                output.line(directory.display())
            }
        }
    }
}
